// Who ran what when, and where a worker had nothing to do.

import { go } from "./address.js";
import { isCopy } from "./api.js";
import { empty, meter, segmented, table } from "./controls.js";
import { el } from "./dom.js";
import { filterQuery } from "./filters.js";
import { clock, count, duration, percent } from "./format.js";
import { draw } from "./plot.js";
import { badge } from "./states.js";

const WINDOWS = [["", "this run"], ["86400", "1 day"], ["21600", "6 hours"], ["3600", "1 hour"], ["900", "15 min"]];
/** So that viewers of one window ask the same. */
const ROUND_S = 10;
const KINDS = { train: ["train", "--kind-train"], prune: ["prune and fine-tune", "--kind-prune"], attack: ["attack", "--kind-attack"] };
const ROW_PX = 26;
const LISTED = 60;

/** `nowS`: of the store's data. */
export function timelineQuery(state, nowS) {
  const query = filterQuery(state.filters);
  const windowS = Number(state.window);
  if (windowS > 0 && !isCopy && nowS) query.since_s = Math.floor((nowS - windowS) / ROUND_S) * ROUND_S;
  return query;
}

export function timelineView(timeline, state) {
  const { bars, workers } = timeline;
  const choice = isCopy ? null : el("div", { class: "controls", "data-key": "controls" }, segmented("The last", WINDOWS, state.window, (window) => go({ window })));
  if (!bars.length) return [choice, empty("Nothing ran here.", state.window ? "Choose a longer window." : "Bars appear as soon as a task starts.")];
  const label = `${count(bars.length)} attempts on ${count(workers.length)} workers from ${clock(timeline.since_s)} to ${clock(timeline.until_s)}; the list below has them too`;
  return [choice,
    el("p", { class: "note", "data-key": "told" }, timeline.cut > 0 ? `The latest ${count(bars.length)} of ${count(bars.length + timeline.cut)} attempts; choose a shorter window to see all. ` : "", "Drag to zoom, double-click to see all; gaps are idle time. Click a bar for its task."),
    el("div", { class: "plot plot-timeline", role: "img", "aria-label": label, "data-key": "figure", own: (node) => draw(node, traces(timeline), layout(timeline), { on: { plotly_click: opened } }) }),
    idleBlock(timeline),
    el("section", { class: "block", "data-key": "list" }, el("h3", {}, "The latest attempts"),
      table("The latest attempts", [["task", null], ["kind", null], ["worker", null], ["started", null], ["took", "number"], ["outcome", null]],
        bars.slice(0, LISTED).map((bar, i) => ({ key: `${bar.key} ${bar.start_s} ${i}`, cells: [
          el("button", { type: "button", class: "bare linklike", onclick: () => go({ id: bar.key, at: null }) }, bar.name),
          bar.kind, bar.worker, clock(bar.start_s), duration((bar.end_s ?? timeline.until_s) - bar.start_s),
          el("span", {}, badge(bar.outcome), bar.class && ` ${bar.class}`)] }))))];
}

function opened(event) {
  const key = event.points?.[0]?.customdata?.[0];
  if (key) go({ id: key, at: null });
}

function traces({ bars, workers, until_s: untilS, since_s: sinceS }) {
  const lanes = { type: "bar", orientation: "h", y: workers, base: workers.map(() => local(sinceS)), x: workers.map(() => 1000 * (untilS - sinceS)), marker: { color: "--lane" }, hoverinfo: "skip", showlegend: false, width: 0.78 };
  const parts = [];
  for (const [kind, [title, colour]] of Object.entries(KINDS)) {
    const own = bars.filter((bar) => bar.kind === kind);
    const ended = own.filter((bar) => bar.outcome === "done");
    const runs = own.filter((bar) => bar.outcome === "running");
    if (ended.length) parts.push(barsOf(ended, title, { color: colour }, untilS));
    if (runs.length) parts.push(barsOf(runs, `${title}, running`, { color: colour, opacity: 0.55, pattern: { shape: "/", size: 6, solidity: 0.25 } }, untilS));
  }
  const failed = bars.filter((bar) => bar.outcome === "failed");
  const lost = bars.filter((bar) => bar.outcome === "lost");
  if (failed.length) parts.push({ ...barsOf(failed, "failed", { color: "--failed" }, untilS), text: failed.map(() => "✕"), textposition: "inside", insidetextanchor: "end", textangle: 0, textfont: { color: "#fff", size: 11 }, constraintext: "inside" });
  if (lost.length) parts.push(barsOf(lost, "lost with its driver", { color: "--lost", pattern: { shape: "x", size: 5, solidity: 0.3 } }, untilS));
  return [lanes, ...parts];
}

function barsOf(bars, name, marker, untilS) {
  return {
    type: "bar", orientation: "h", name, marker: { ...marker, line: { width: 0.6, color: "--surface" } }, width: 0.78,
    y: bars.map((bar) => bar.worker),
    base: bars.map((bar) => local(bar.start_s)),
    x: bars.map((bar) => Math.max(1, 1000 * ((bar.end_s ?? untilS) - bar.start_s))),
    customdata: bars.map((bar) => [bar.key, safe(bar.name), duration((bar.end_s ?? untilS) - bar.start_s), clock(bar.start_s), safe(bar.class)]),
    hovertemplate: "<b>%{customdata[1]}</b><br>%{customdata[3]}, %{customdata[2]} %{customdata[4]}<extra></extra>",
  };
}

/** plotly reads some tags in its texts: a name has none. */
function safe(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** plotly takes times as they are: the reader's own. */
function local(atS) {
  const when = new Date(1000 * atS);
  return new Date(when.getTime() - 60000 * when.getTimezoneOffset()).toISOString().slice(0, 23);
}

function layout({ workers, since_s: sinceS, until_s: untilS }) {
  const aside = 0.01 * (untilS - sinceS);
  return {
    height: 74 + ROW_PX * workers.length + 30, barmode: "overlay", bargap: 0.2, hovermode: "closest", dragmode: "zoom",
    margin: { l: 110, r: 12, t: 40, b: 30 },
    xaxis: { type: "date", range: [local(sinceS - aside), local(untilS + aside)], autorange: false },
    yaxis: { type: "category", categoryarray: [...workers].reverse(), categoryorder: "array", fixedrange: true, showgrid: false, tickvals: workers, ticktext: workers.map(safe) },
    legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, itemclick: false, itemdoubleclick: false },
  };
}

function idleBlock({ idle_frac: idle, until_s: untilS, since_s: sinceS }) {
  const names = Object.keys(idle);
  if (!names.length) return null;
  const mean = names.reduce((sum, name) => sum + idle[name], 0) / names.length;
  return el("section", { class: "block", "data-key": "idle" }, el("h3", {}, `Idle: ${percent(mean, 1)} of ${duration(untilS - sinceS)}, all workers together`),
    el("ul", { class: "idle" }, names.map((name) => el("li", { "data-key": name }, el("span", { class: "mono" }, name),
      meter(1 - idle[name], `${name} was busy ${percent(1 - idle[name], 1)} of the time`), el("span", { class: "number" }, `${percent(idle[name], 1)} idle`)))));
}

