// One cell, model or task: why it is as it is, how its network learned, what the attack did.

import { addressOf, isCopy } from "./api.js";
import { taskList } from "./attempts.js";
import { command } from "./controls.js";
import { el } from "./dom.js";
import { accuracy, counted } from "./format.js";
import { draw } from "./plot.js";
import { retryBox } from "./retry.js";
import { epsText, titleOf } from "./square_view.js";
import { badge } from "./states.js";

const PICTURES = 6;
let more = { id: "", shown: PICTURES };

export function cellView(cell, { axes, status, redraw }) {
  const place = cell.place ?? {};
  const failed = cell.tasks.filter((task) => task.state === "failed").map((task) => task.key);
  const tasks = el("section", { class: "block", "data-key": "tasks" }, el("h3", {}, "Tasks and attempts"), taskList(cell.tasks, status.at_s));
  const results = [historyBlock(cell.history), picturesBlock(cell, redraw)];
  return [
    el("div", { class: "block cell-head" },
      el("p", { class: "cell-line" }, badge(cell.state),
        cell.value !== null && el("span", { class: "figure" }, `${accuracy(cell.value)} %`, el("small", {}, place.attack ? "robust accuracy" : "accuracy"))),
      el("p", { class: "why" }, sentence(cell.why)),
      placeList(cell, place, axes)),
    failed.length > 0 || ["failed", "blocked"].includes(cell.state)
      ? retryBox({ tasks: failed.length ? failed : [cell.id], text: cell.retry, status, what: failed.length > 1 ? "the failed tasks" : "this task" })
      : null,
    cell.state === "done" ? [results, tasks] : [tasks, results],
    !(failed.length > 0 || ["failed", "blocked"].includes(cell.state)) && el("section", { class: "block", "data-key": "command" },
      el("h3", {}, cell.state === "done" ? "Make its result again" : "Try again"), command(cell.retry)),
  ];
}

function sentence(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

function placeList(cell, place, axes) {
  const rows = [
    ["seed", place.seed],
    ["attack", place.attack && titleOf(axes, place.attack)],
    ["ε", place.attack && epsText(axes, place.attack, place.eps)],
    ["protocol", place.protocol],
    ["variant", place.variant !== "standard" && place.variant],
    ["name", cell.id],
  ].filter(([, value]) => value !== undefined && value !== null && value !== false && value !== "");
  return el("dl", { class: "place" }, rows.map(([name, value]) => el("div", { "data-key": name }, el("dt", {}, name), el("dd", { class: name === "name" ? "mono" : null }, String(value)))));
}

function historyBlock(history) {
  if (!history || !history.epoch.length) return null;
  const last = history.epoch.length - 1;
  const at = (name) => history[name]?.[last];
  const spoken = `Learning curves over ${history.epoch.length} epochs; in the last, validation accuracy ${accuracy(at("val_accuracy"))} per cent`;
  return el("section", { class: "block", "data-key": "history" }, el("h3", {}, "Learning curves"),
    el("p", { class: "note" }, `${history.epoch.length} epochs; the last: validation accuracy ${accuracy(at("val_accuracy"))} %, loss ${at("val_loss")?.toPrecision(3) ?? "–"}`),
    el("div", { class: "plot plot-history", role: "img", "aria-label": spoken, own: (node) => draw(node, curves(history), layoutOf(history)) }));
}

function curves(history) {
  const line = (name, title, axis, dash, colour) => ({
    x: history.epoch, y: history[name], name: title, yaxis: axis, type: "scatter", mode: history.epoch.length < 3 ? "lines+markers" : "lines",
    line: { dash, color: colour, width: 2 }, hovertemplate: "%{y:.4g}",
  });
  return [
    line("accuracy", "training accuracy", "y", "dot", "--series-1"),
    line("val_accuracy", "validation accuracy", "y", "solid", "--series-1"),
    line("loss", "training loss", "y2", "dot", "--series-2"),
    line("val_loss", "validation loss", "y2", "solid", "--series-2"),
  ].filter((one) => one.y?.some((value) => value !== null));
}

const layoutOf = ({ epoch }) => ({
  height: 250,
  margin: { l: 44, r: 44, t: 8, b: 64 },
  hovermode: "x unified",
  xaxis: { title: { text: "epoch", standoff: 4, font: { size: 12 } }, tick0: 1, dtick: Math.max(1, Math.round(epoch.length / 10)) },
  yaxis: { title: { text: "accuracy", font: { size: 12 } }, range: [0, 1.02], tickformat: ".0%", nticks: 6 },
  yaxis2: { title: { text: "loss", font: { size: 12 } }, overlaying: "y", side: "right", rangemode: "tozero", tickmode: "auto", nticks: 5, showgrid: false },
  legend: { orientation: "h", y: -0.28, x: 0 },
});

function picturesBlock(cell, redraw) {
  if (!cell.adversarials) return null;
  if (more.id !== cell.id) more = { id: cell.id, shown: PICTURES };
  const kinds = cell.adversarials_clean ? ["clean", "adversarial", "perturbation"] : ["adversarial"];
  const title = `${counted(cell.adversarials, "image")} that the attack broke`;
  return el("section", { class: "block", "data-key": "pictures" }, el("h3", {}, title),
    isCopy ? el("p", { class: "note" }, "A copy does not hold them; the live dashboard shows them.") : [
      el("p", { class: "note" }, kinds.length > 1 ? "Clean, adversarial, and what changed: grey where nothing did, its largest change black or white." : "Clean images were not kept."),
      el("div", { class: ["pictures", kinds.length === 1 && "alone"] }, Array.from({ length: Math.min(more.shown, cell.adversarials) }, (_, i) =>
        el("figure", { "data-key": `${cell.id} ${i}` }, kinds.map((kind) => el("img", {
          src: addressOf("adversarial", { task: cell.adversarials_task, index: i, kind }).replace(".json", ".png"),
          alt: `image ${i + 1}, ${kind}`, title: kind, loading: "lazy", width: "84", height: "84",
        }))))),
      more.shown < cell.adversarials && el("button", { type: "button", class: "button", onclick: () => { more.shown += PICTURES; redraw(); } }, "Show more"),
    ]);
}
