// Security curves: accuracy under attack against the compression rate, for what is finished so far.

import { empty } from "./controls.js";
import { el, svgEl } from "./dom.js";
import { passes } from "./filters.js";
import { accuracy } from "./format.js";
import { facetTitle } from "./heatmap.js";
import { draw } from "./plot.js";
import { titleOf } from "./square_view.js";

const hidden = new Set();
const SYMBOLS = { circle: "M4 0A4 4 0 1 1-4 0 4 4 0 1 1 4 0", square: "M-3.4-3.4H3.4V3.4H-3.4Z", diamond: "M0-4.6 4.6 0 0 4.6-4.6 0Z", x: "M-4-2-2-4 0-2 2-4 4-2 2 0 4 2 2 4 0 2-2 4-4 2-2 0Z", "triangle-up": "M0-4.4 4.2 3H-4.2Z" };
const DASHES = { solid: "", dash: "6 3", dot: "2 3", dashdot: "7 3 2 3", longdash: "10 4" };
/** Okabe and Ito's, brighter on a dark ground. */
const BRIGHTER = { "#0072B2": "#56b4e9", "#009E73": "#2fc79a", "#D55E00": "#ff8c42", "#7a6a9a": "#b5a6d6" };

export function curvesView(curves, axes, state, redraw) {
  const panels = curves.panels.filter((panel) => passes(state.filters, panel));
  if (!panels.length) return empty("Nothing is finished yet.", "Curves grow here as models and cells are done.");
  const methods = [...new Set(panels.flatMap((panel) => panel.lines.map((line) => line.method)))]
    .filter((method) => passes(state.filters, { method }));
  const groups = new Map();
  for (const panel of panels) {
    const title = facetTitle({ architecture: panel.architecture, variant: several(axes.variant) && panel.variant }, axes);
    if (!groups.has(title)) groups.set(title, []);
    groups.get(title).push(panel);
  }
  return [legendBar(methods, curves.looks ?? {}, redraw),
    [...groups].map(([title, own]) => el("section", { class: "curve-group", "data-key": title }, el("h2", {}, title), rows(own, axes, methods, curves, state)))];
}

function several(choices) {
  return (choices ?? []).length > 1;
}

/** A row per attack and protocol; clean accuracy alone in the first. */
function rows(panels, axes, methods, curves, state) {
  const byAttack = new Map();
  for (const panel of panels) {
    const key = panel.attack === null ? "Clean images" : [titleOf(axes, panel.attack), several(axes.protocol) && panel.protocol].filter(Boolean).join(" · ");
    if (!byAttack.has(key)) byAttack.set(key, []);
    byAttack.get(key).push(panel);
  }
  return [...byAttack].map(([title, own]) => el("section", { class: "curve-row", "data-key": title }, el("h3", {}, title),
    el("div", { class: "curve-panels" }, own.map((panel) => panelFigure(panel, title, axes, methods, curves, state)))));
}

function panelFigure(panel, title, axes, methods, curves, state) {
  const lines = panel.lines.filter((line) => methods.includes(line.method));
  const shown = lines.filter((line) => !hidden.has(line.method));
  const name = panel.attack === null ? "accuracy" : `ε = ${panel.eps_text ?? panel.eps}`;
  const label = `${title}, ${name}: ${shown.map((line) => `${line.method} from ${accuracy(line.mean[0])} per cent at rate ${line.rate[0]} to ${accuracy(line.mean.at(-1))} at rate ${line.rate.at(-1)}`).join("; ")}`;
  const seeds = state.filters.seed?.length ?? (axes.seed ?? []).length;
  return el("figure", { class: "curve", "data-key": name },
    el("figcaption", {}, name),
    el("div", { class: "plot plot-curve", role: "img", "aria-label": label, own: (node) => draw(node, traces(shown, panel, methods, curves.looks ?? {}, seeds), layout(panel, axes)) }),
    dataTable(lines, title, name));
}

function traces(lines, panel, methods, looks, seeds) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return lines.map((line) => {
    const look = looks[line.method] ?? { colour: "#7a6a9a", dash: "longdash", symbol: "triangle-up" };
    const colour = dark ? BRIGHTER[look.colour] ?? look.colour : look.colour;
    const aside = 1 + 0.018 * (methods.indexOf(line.method) - (methods.length - 1) / 2);
    return {
      type: "scatter", mode: "lines+markers", name: line.method,
      x: line.rate.map((rate) => rate * aside),
      y: line.mean,
      customdata: line.rate.map((rate, i) => [rate, line.n[i], line.low[i] === null ? (line.n[i] > 1 ? "no spread over seeds, so no interval" : "no interval of one seed") : `95 %: ${accuracy(line.low[i])} to ${accuracy(line.high[i])}`]),
      error_y: { type: "data", symmetric: false, array: line.high.map((high, i) => (high === null ? 0 : high - line.mean[i])), arrayminus: line.low.map((low, i) => (low === null ? 0 : line.mean[i] - low)), thickness: 1, width: 2.5, color: faded(colour) },
      line: { color: colour, dash: look.dash, width: 1.8 },
      marker: { color: colour, size: 7, symbol: line.n.map((n) => (n < seeds ? `${look.symbol}-open` : look.symbol)) },
      hovertemplate: "rate %{customdata[0]}: %{y:.1%}<br>%{customdata[2]}<br>n = %{customdata[1]}<extra>%{fullData.name}</extra>",
    };
  });
}

function faded(colour) {
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return `rgba(${red},${green},${blue},.5)`;
}

function layout(panel, axes) {
  const rates = (axes.rate ?? []).map(([value]) => Number(value));
  const [low, high] = [Math.min(...rates, 1), Math.max(...rates, 2)];
  const dense = panel.dense === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: panel.dense, y1: panel.dense, line: { color: "--muted", width: 1, dash: "dot" } }];
  return {
    height: 210, showlegend: false, hovermode: "closest", shapes: dense,
    margin: { l: 44, r: 8, t: 4, b: 26 },
    xaxis: { type: "log", range: [Math.log10(low) - 0.08, Math.log10(high) + 0.08], tickvals: rates, ticktext: rates.map(String), showgrid: true },
    yaxis: panel.attack === null ? cleanAxis(panel) : { range: [-0.02, 1.02], tickvals: [0, 0.25, 0.5, 0.75, 1], tickformat: ".0%" },
  };
}

/** Accuracy on clean images often differs by few per cent alone: from the tens below the lowest. */
function cleanAxis({ lines }) {
  const lowest = Math.min(0.9, ...lines.flatMap((line) => line.mean));
  const from = Math.max(0, Math.floor(10 * (lowest - 0.02)) / 10);
  return { range: [from - 0.02 * (1 - from), 1 + 0.02 * (1 - from)], tickformat: ".0%", nticks: 6 };
}

function legendBar(methods, looks, redraw) {
  return el("div", { class: "curve-legend", role: "group", "aria-label": "Methods; press to hide or show", "data-key": "legend" },
    methods.map((method) => el("button", {
      type: "button", class: "bare", "data-key": method, "aria-pressed": String(!hidden.has(method)),
      onclick: () => { if (!hidden.delete(method)) hidden.add(method); redraw(); },
    }, sample(looks[method]), method)),
    el("span", { class: "note" }, "bars: 95 % intervals over seeds · hollow: not all seeds are done · dotted: the dense networks"));
}

function sample(look) {
  const { colour, dash, symbol } = look ?? { colour: "#7a6a9a", dash: "longdash", symbol: "triangle-up" };
  const svg = svgEl("svg", { class: "sample", viewBox: "-16 -6 32 12", "aria-hidden": "true", style: `--line: ${colour}; --line-dark: ${BRIGHTER[colour] ?? colour}` });
  svg.append(svgEl("path", { class: "sample-line", d: "M-16 0H16", "stroke-dasharray": DASHES[dash] ?? "" }), svgEl("path", { class: "sample-mark", d: SYMBOLS[symbol] ?? SYMBOLS.circle }));
  return svg;
}

/** The same numbers for who can't see the figure, or wants to copy them. */
function dataTable(lines, title, name) {
  const rates = [...new Set(lines.flatMap((line) => line.rate))].sort((a, b) => a - b);
  return el("details", { class: "numbers", "data-key": "numbers" }, el("summary", {}, "Numbers"),
    el("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": `${title}, ${name}` },
      el("table", { class: "table" }, el("caption", { class: "unseen" }, `${title}, ${name}, per cent`),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "method"), rates.map((rate) => el("th", { scope: "col", class: "number" }, String(rate))))),
        el("tbody", {}, lines.map((line) => el("tr", {}, el("th", { scope: "row" }, line.method), rates.map((rate) => {
          const i = line.rate.indexOf(rate);
          return el("td", { class: "number" }, i < 0 ? "–" : accuracy(line.mean[i]));
        })))))));
}
