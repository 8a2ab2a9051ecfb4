// A square of the grid: its models by seed, and its cells by attack and seed.

import { link } from "./address.js";
import { empty } from "./controls.js";
import { el, icon } from "./dom.js";
import { accuracy } from "./format.js";
import { retryBox } from "./retry.js";
import { STATES, legend } from "./states.js";

export function squareView(square, { axes, state, status }) {
  if (!square.models.length) return empty("Nothing is planned here.");
  const seeds = [...new Set(square.models.map((model) => model.seed))].sort((a, b) => a - b);
  const counts = Object.fromEntries(STATES.map((name) => [name, (square.cells.length ? square.cells : square.models).filter((one) => one.state === name).length]));
  const failed = [...new Set([...square.models, ...square.cells].filter((one) => one.state === "failed").flatMap((one) => one.tasks))];
  const values = square.models.map((model) => model.value).filter((value) => value !== null);
  return [
    el("div", { class: "block" }, legend(counts),
      values.length > 0 && el("p", { class: "note" }, `accuracy ${accuracy(mean(values))} % over ${values.length} of ${square.models.length} models`)),
    el("section", { class: "block", "data-key": "models" }, el("h3", {}, "Models, by seed"),
      matrix("Models by seed", seeds, [{ title: "accuracy", find: (seed) => square.models.find((model) => model.seed === seed), at: (seed) => ({ seed: String(seed) }) }], state)),
    square.cells.length > 0 && el("section", { class: "block", "data-key": "cells" },
      el("h3", {}, "Robust accuracy, by attack and seed"),
      byProtocol(square.cells).map(([protocol, cells, many]) => [
        many && el("h4", {}, protocol),
        matrix(`Cells under ${protocol}`, seeds, threatsOf(cells).map(([attack, eps]) => ({
          group: titleOf(axes, attack),
          title: `ε = ${epsText(axes, attack, eps)}`,
          find: (seed) => cells.find((cell) => cell.attack === attack && cell.eps === eps && cell.seed === seed),
          at: (seed) => ({ seed: String(seed), attack, eps: String(eps), protocol }),
        })), state),
      ])),
    square.cut > 0 && el("p", { class: "note" }, `${square.cut} more are not shown; filter by seed.`),
    failed.length > 0 && retryBox({ tasks: failed, status, what: failed.length === 1 ? "the failed task" : "the failed tasks of this square" }),
  ];
}

function matrix(caption, seeds, rows, state) {
  let group = null;
  return el("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: "matrix" }, el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "seed"), seeds.map((seed) => el("th", { scope: "col" }, String(seed))))),
      el("tbody", {}, rows.map((row) => {
        const head = row.group && row.group !== group;
        group = row.group;
        return el("tr", { class: head ? "first" : null }, el("th", { scope: "row" }, row.group && el("span", { class: head ? "strong" : "unseen" }, row.group), ` ${row.title}`),
          seeds.map((seed) => {
            const one = row.find(seed);
            const later = one?.diverged_later && "diverged later, judged by weights kept from before";
            const said = one?.diverged ? "diverged, no accuracy" : later || one?.state;
            return el("td", {}, one && el("a", {
              ...link({ id: "", at: { ...state.at, ...row.at(seed) } }),
              class: `entry is-${one.state}`,
              "aria-label": `${row.group ?? "model"} ${row.title}, seed ${seed}: ${one.value === null ? said : `${accuracy(one.value)} per cent${later ? `, ${later}` : ""}`}`,
              title: said,
            }, one.value === null ? icon(one.state) : accuracy(one.value)));
          }));
      }))));
}

function byProtocol(cells) {
  const names = [...new Set(cells.map((cell) => cell.protocol))];
  return names.map((name) => [name, cells.filter((cell) => cell.protocol === name), names.length > 1]);
}

function threatsOf(cells) {
  const found = new Map(cells.map((cell) => [`${cell.attack} ${cell.eps}`, [cell.attack, cell.eps]]));
  return [...found.values()];
}

export function titleOf(axes, attack) {
  return axes.attack?.find(([name]) => name === attack)?.[1] ?? attack;
}

export function epsText(axes, attack, eps) {
  return axes.threats?.find(([name, value]) => name === attack && value === String(eps))?.[2] ?? String(eps);
}

function mean(values) {
  return values.reduce((total, value) => total + value, 0) / values.length;
}

