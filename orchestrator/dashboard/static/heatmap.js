// The grid: method by rate, a facet per architecture, one square per pair. A real table, so that
// keyboards and screen readers have it too.

import { go } from "./address.js";
import { cividis } from "./colours.js";
import { empty, segmented, select } from "./controls.js";
import { el, icon } from "./dom.js";
import { filterQuery, passes } from "./filters.js";
import { accuracy, count } from "./format.js";
import { mosaic, valueOf } from "./mosaic.js";
import { MEANING, STATES, totalOf } from "./states.js";
import { hideTip, showTip } from "./tooltip.js";

/** What the view asks the server for. */
export function gridQuery(state) {
  return { ...filterQuery(state.filters), value: state.value, each: state.each };
}

export function gridView(grid, axes, state) {
  const facets = grid.facets.filter((facet) => passes(state.filters, facet));
  if (!facets.length) return [controls(axes, state), empty("No model fits these filters.", "Clear them to see the whole grid.")];
  const domain = state.value ? domainOf(facets) : null;
  return [controls(axes, state), legendOf(state, domain),
    el("div", { class: ["facets", facets.length === 1 && "single", grid.rates.length > 8 && "wide"] },
      facets.map((facet) => facetTable(facet, grid, axes, state, domain)))];
}

function controls(axes, state) {
  const threats = axes.threats ?? [];
  const shown = state.value.startsWith("robust:") ? "robust" : state.value || "state";
  const first = threats[0] ? threatValue(threats[0]) : "";
  const pick = (value) => go({ value: value === "state" ? "" : value === "robust" ? first : value });
  const attacks = [...new Set(threats.map(([attack]) => attack))];
  return el("div", { class: "controls", "data-key": "controls" },
    segmented("Colour by", [["state", "State"], ["accuracy", "Accuracy"], threats.length && ["robust", "Robust accuracy"]].filter(Boolean), shown, pick),
    shown === "robust" && select("under", attacks.map((attack) => ({
      label: titleOf(axes, attack),
      choices: threats.filter(([one]) => one === attack).map((threat) => [threatValue(threat), `${titleOf(axes, attack)}, ε = ${threat[2]}`]),
    })), state.value, (value) => go({ value })),
    segmented("One square per", [["", "method × rate"], ["model", "model"], threats.length && ["cell", "cell"]].filter(Boolean), state.each, (each) => go({ each })));
}

function threatValue([attack, eps]) {
  return `robust:${attack}:${eps}`;
}

function titleOf(axes, attack) {
  return axes.attack.find(([name]) => name === attack)?.[1] ?? attack;
}

function legendOf(state, domain) {
  if (domain) {
    return el("div", { class: "map-legend", "data-key": "legend" },
      el("span", {}, `${accuracy(domain[0], 0)} %`), el("span", { class: "ramp ramp-value", role: "img", "aria-label": "from low to high" }), el("span", {}, `${accuracy(domain[1], 0)} %`),
      el("span", { class: "quiet" }, state.each ? "each model by itself, seeds side by side; grey: no value yet" : "mean over the seeds that are done; an open corner: not all are"));
  }
  if (state.each) {
    return el("ul", { class: "map-legend", "data-key": "legend" }, STATES.map((name) =>
      el("li", { class: `is-${name}` }, el("span", { class: `swatch is-${name}` }), name)));
  }
  return el("div", { class: "map-legend", "data-key": "legend" },
    el("span", {}, "0 %"), el("span", { class: "ramp ramp-done", role: "img", "aria-label": "darker: more is done" }), el("span", {}, "100 % done"),
    el("span", { class: "is-running" }, icon("running"), "running"),
    el("span", { class: "is-failed" }, icon("failed"), "failed"),
    el("span", {}, el("span", { class: "swatch stuck" }), "can’t finish: all the rest failed or is blocked"));
}

/** Tens of per cent around the values, so that colours do not jump at each refresh. */
function domainOf(facets) {
  const valuesOf = (square) => (square.shades ? [...square.shades].map(valueOf) : [square.value]);
  const values = facets.flatMap((facet) => facet.squares.flatMap(valuesOf)).filter((v) => v !== null && v !== undefined);
  if (!values.length) return [0, 1];
  const low = Math.floor(Math.min(...values) * 10 - 1e-9) / 10;
  const high = Math.ceil(Math.max(...values) * 10 + 1e-9) / 10;
  return [Math.max(0, low), Math.min(1, Math.max(high, low + 0.1))];
}

function facetTable(facet, grid, axes, state, domain) {
  const title = facetTitle(facet, axes);
  const squares = new Map(facet.squares.map((square) => [`${square.method} ${square.rate}`, square]));
  const methods = grid.methods.filter((method) => passes(state.filters, { method }) && facet.squares.some((s) => s.method === method));
  const rates = grid.rates.filter((rate) => passes(state.filters, { rate }));
  const counts = sum(facet.squares.map(countsOf));
  return el("section", { class: "facet", "data-key": title },
    el("h2", {}, title, el("small", {}, `${count(counts.done)} of ${count(totalOf(counts))} ${facet.squares.some((s) => totalOf(s.cells)) ? "cells" : "models"}`)),
    el("table", { class: "map", role: "grid", "aria-label": `${title}: methods by rates`, style: { "--rates": String(rates.length) }, onkeydown: moveFocus },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
        el("th", { role: "columnheader", scope: "col", class: "corner" }, "compression rate"),
        rates.map((rate) => el("th", { role: "columnheader", scope: "col" }, String(rate))))),
      el("tbody", { role: "rowgroup" }, methods.map((method, m) => el("tr", { role: "row", "data-key": method },
        el("th", { role: "rowheader", scope: "row", title: method }, methodName(method)),
        rates.map((rate, r) => {
          const square = squares.get(`${method} ${rate}`);
          return el("td", { role: "gridcell", "data-key": String(rate) },
            square && squareButton(square, facet, state, domain, m === 0 && r === 0));
        }))))));
}

/** `magnitude-global-unstructured`, its parts told apart; other names as they are. */
function methodName(method) {
  const parts = method.split("-");
  if (parts.length !== 3) return method;
  return [el("span", {}, `${parts[0]}-${parts[1]}`), el("span", { class: "structure" }, `-${parts[2]}`)];
}

export function facetTitle(facet, axes) {
  const name = axes.architecture?.find(([value]) => value === facet.architecture)?.[1] ?? facet.architecture;
  return [name, facet.variant, facet.protocol].filter(Boolean).join(" · ");
}

/** Of cells, or of models where a grid attacks nothing. */
function countsOf(square) {
  return totalOf(square.cells) ? square.cells : square.models;
}

function sum(all) {
  return Object.fromEntries(STATES.map((state) => [state, all.reduce((total, one) => total + one[state], 0)]));
}

function squareButton(square, facet, state, domain, first) {
  const counts = countsOf(square);
  const total = totalOf(counts);
  const at = { architecture: facet.architecture, method: square.method, rate: String(square.rate), ...(facet.protocol && { protocol: facet.protocol }), ...(facet.variant && { variant: facet.variant }) };
  const chosen = state.at && Object.entries(at).every(([axis, value]) => state.at[axis] === value);
  const stuck = counts.failed + counts.blocked > 0 && counts.waiting + counts.running === 0;
  const failed = Math.max(counts.failed, square.models.failed);
  const lines = tipLines(square, counts, total, state);
  const look = state.each ? { class: "square drawn" } : state.value ? valueLook(square, domain) : stateLook(counts, total, stuck);
  return el("button", {
    type: "button",
    ...look,
    class: [look.class, chosen && "chosen"],
    "aria-label": lines.join(", "),
    "aria-pressed": chosen ? "true" : null,
    tabindex: chosen || (first && !state.at) ? "0" : "-1",
    "data-id": Object.values(at).join(" "),
    onclick: () => go({ at, id: "" }),
    onpointermove: (event) => showTip(event.currentTarget, lines),
    onpointerleave: (event) => hideTip(event.currentTarget),
    onfocus: (event) => { if (event.currentTarget.matches(":focus-visible")) showTip(event.currentTarget, lines); },
    onblur: (event) => hideTip(event.currentTarget),
  },
  state.each ? mosaic(square, facet, state, domain, at)
    : el("span", { class: "square-text" }, state.value ? valueText(square) : doneText(counts, total)),
  !state.each && el("span", { class: "glyphs" },
    counts.running + square.models.running > 0 && icon("running"),
    failed > 0 && icon("failed")));
}

function stateLook(counts, total, stuck) {
  const share = total ? counts.done / total : 0;
  return { class: ["square", stuck && "stuck", share >= 0.55 && !stuck && "dark"].filter(Boolean).join(" "), style: { "--share": (100 * share).toFixed(1) } };
}

function valueLook(square, domain) {
  const { value } = square;
  if (value === null || value === undefined) return { class: "square none" };
  const at = (value - domain[0]) / (domain[1] - domain[0]);
  const partial = square.n < totalOf(square.models);
  return { class: ["square valued", partial && "partial", at < 0.5 && "dark"].filter(Boolean).join(" "), style: { "--fill": cividis(at) } };
}

function doneText(counts, total) {
  if (!counts.done) return "";
  return counts.done === total ? "100" : String(Math.max(1, Math.floor((100 * counts.done) / total)));
}

function valueText(square) {
  return square.value === null || square.value === undefined ? "" : accuracy(square.value, 0);
}

function tipLines(square, counts, total, state) {
  const noun = totalOf(square.cells) ? "cells" : "models";
  const parts = STATES.filter((name) => counts[name] > 0).map((name) => `${count(counts[name])} ${name}`);
  return [
    `${square.method}, rate ${square.rate}`,
    `${count(total)} ${noun}: ${parts.join(", ")}`,
    square.models.failed > 0 && noun === "cells" && `${square.models.failed} models failed`,
    square.accuracy !== null && `accuracy ${accuracy(square.accuracy)} % (${square.accuracy_n} of ${totalOf(square.models)} models)`,
    state.value.startsWith("robust:") && square.value !== null && `robust accuracy ${accuracy(square.value)} % (n = ${square.n})`,
  ].filter(Boolean);
}

/** Arrow keys, Home and End, as in any grid. */
function moveFocus(event) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -99], End: [0, 99] };
  const step = steps[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  const rows = [...event.currentTarget.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")]);
  const r = rows.findIndex((row) => row.some((cell) => cell.contains(event.target)));
  if (r < 0) return;
  const c = rows[r].findIndex((cell) => cell.contains(event.target));
  const clip = (value, length) => Math.min(Math.max(0, value), length - 1);
  const target = rows[clip(r + step[0], rows.length)]?.[clip(c + step[1], rows[r].length)]?.querySelector("button");
  event.preventDefault();
  if (!target) return;
  for (const one of event.currentTarget.querySelectorAll("button")) one.tabIndex = -1;
  target.tabIndex = 0;
  target.focus();
}
