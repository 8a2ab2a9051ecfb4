// Who ran what when, and where a worker had nothing to do.

import { go, link } from "./address.js";
import { isCopy } from "./api.js";
import { empty, meter, segmented, table } from "./controls.js";
import { el, icon } from "./dom.js";
import { filterQuery } from "./filters.js";
import { clock, count, counted, duration, percent } from "./format.js";
import { draw } from "./plot.js";
import { badge } from "./states.js";
import { busyTraces } from "./timeline_busy.js";
import { KINDS, barTraces, fromLocal, timeLayout } from "./timeline_bars.js";

const WINDOWS = [["", "this run"], ["86400", "1 day"], ["21600", "6 hours"], ["3600", "1 hour"], ["900", "15 min"]];
/** So that viewers of one window ask the same. */
const ROUND_S = 10;
const LISTED = 60;

/** `nowS`: of the store's data. */
export function timelineQuery(state, nowS) {
  const query = filterQuery(state.filters);
  if (isCopy) return query;
  const zoom = zoomOf(state);
  if (zoom) return { ...query, since_s: zoom[0], until_s: zoom[1] };
  const windowS = Number(state.window);
  if (windowS > 0 && nowS) query.since_s = Math.floor((nowS - windowS) / ROUND_S) * ROUND_S;
  return query;
}

/** [from, until] in seconds where the window is one that was dragged; null else. */
function zoomOf(state) {
  const found = /^(\d{1,11}\.?\d{0,3})-(\d{1,11}\.?\d{0,3})$/.exec(state.window);
  return found && Number(found[2]) > Number(found[1]) ? [Number(found[1]), Number(found[2])] : null;
}

export function timelineView(timeline, status, state) {
  const { bars, workers, coarse } = timeline;
  const zoom = zoomOf(state);
  const choice = isCopy ? null : el("div", { class: "controls", "data-key": "controls" },
    segmented("The last", WINDOWS, state.window, (window) => go({ window })),
    zoom && el("button", { type: "button", class: "button", "data-key": "zoom", onclick: showAll }, icon("close"), `${clock(zoom[0])} to ${clock(zoom[1])}, ${duration(zoom[1] - zoom[0])}`));
  if (!bars.length) return [choice, empty("Nothing ran here.", state.window ? "Choose a longer window." : "Bars appear as soon as a task starts.")];
  const attempts = bars.length + timeline.cut;
  const label = `${counted(attempts, "attempt")} on ${counted(workers.length, "worker")} from ${clock(timeline.since_s)} to ${clock(timeline.until_s)}; the list below has the latest`;
  const told = coarse ? `${count(attempts)} attempts: each square is ${duration(coarse.step_s)} of a worker, the fuller the darker. Drag over some to see its tasks; double-click to go back.`
    : "Gaps are idle time. Click a bar for its task; drag to zoom, double-click to go back.";
  const layout = timeLayout(timeline);
  const drawn = (node) => draw(node, coarse ? busyTraces(timeline) : barTraces(timeline), layout,
    { on: { plotly_click: opened, plotly_relayout: zoomed, plotly_doubleclick: showAll }, config: { doubleClick: false } });
  return [choice,
    el("p", { class: "note", "data-key": "told" }, told),
    el("div", { class: "card", "data-key": "card" }, coarse ? busyLegend() : barLegend(bars),
      el("div", { class: "plot plot-timeline", role: "img", "aria-label": label, "data-key": coarse ? "busy" : "bars", own: drawn })),
    idleBlock(timeline, status.slots),
    timeBlock(timeline.time),
    el("section", { class: "block", "data-key": "list" }, el("h3", {}, "The latest attempts"), attemptTable(bars, timeline.until_s))];
}

/** Of all runs, whatever the window and the filter. */
function timeBlock({ parts_s: parts, slots_s: all, clock_s: clockS, runs, attacks }) {
  if (!all) return null;
  const share = (seconds) => (100 * seconds / all).toFixed(1);
  const perImage = (seconds, images) => (images ? (seconds / images).toPrecision(3) : "not known");
  return el("section", { class: "block", "data-key": "time" }, el("h3", {}, `Where ${duration(all)} of task slots went: ${counted(runs, "run")}, ${duration(clockS)} by the clock`),
    table("Where the time of task slots went", [["part", "wide"], ["time", "number"], ["%", "number"]],
      Object.entries(parts).map(([name, seconds]) => ({ key: name, cells: [name, duration(seconds), share(seconds)] }))),
    Object.keys(attacks).length > 0 && table("Seconds per attacked image", [["attack", "wide"], ["tasks", "number"], ["images", "number"], ["s per image, by the clock", "number"], ["of processor", "number"]],
      Object.entries(attacks).map(([name, cost]) => ({ key: name, cells: [name, count(cost.tasks), count(cost.images),
        perImage(cost.wall_s, cost.images), perImage(cost.processor_s, cost.processor_images)] }))));
}

function attemptTable(bars, untilS) {
  return table("The latest attempts", [["task", "wide"], ["worker", null], ["started", null], ["took", "number"], ["outcome", null]],
    bars.slice(0, LISTED).map((bar, i) => ({ key: `${bar.key} ${bar.start_s} ${i}`, cells: [
      el("a", link({ id: bar.key, at: null }), el("span", { class: "kind", style: { "--kind": `var(${KINDS[bar.kind]?.[1] ?? "--muted"})` } }), bar.name),
      bar.worker, clock(bar.start_s), duration((bar.end_s ?? untilS) - bar.start_s),
      el("span", {}, badge(bar.outcome), bar.class && ` ${bar.class}`)] })));
}

function opened(event) {
  const key = event.points?.find((point) => point.customdata?.key)?.customdata.key;
  if (key) go({ id: key, at: null });
}

/** What was dragged is the window from now on: it is in the address, and in what is asked for. */
function zoomed(event) {
  const [from, until] = [event["xaxis.range[0]"], event["xaxis.range[1]"]];
  if (isCopy || from === undefined) return;
  go({ window: `${fromLocal(from).toFixed(1)}-${fromLocal(until).toFixed(1)}` });
}

function showAll() {
  go({ window: "" });
}

function barLegend(bars) {
  const kinds = Object.entries(KINDS).filter(([kind]) => bars.some((bar) => bar.kind === kind));
  const outcomes = ["running", "failed", "lost"].filter((outcome) => bars.some((bar) => bar.outcome === outcome));
  const texts = { running: "running: hatched", failed: "failed", lost: "lost with its driver" };
  return el("ul", { class: "map-legend" },
    kinds.map(([, [title, colour]]) => el("li", {}, el("span", { class: "swatch", style: { "--state": `var(${colour})` } }), title)),
    outcomes.map((outcome) => el("li", { class: `is-${outcome}` }, icon(outcome), texts[outcome])));
}

function busyLegend() {
  return el("div", { class: "map-legend" }, el("span", {}, "idle"), el("span", { class: "ramp ramp-busy", role: "img", "aria-label": "darker: busier" }), el("span", {}, "busy"),
    el("span", { class: "is-failed" }, icon("failed"), "attempts failed"));
}

/** Workers that died and were replaced were not idle since: so much of the slots' time, in all. */
function idleBlock({ idle_frac: idle, until_s: untilS, since_s: sinceS }, slots) {
  const names = Object.keys(idle);
  if (!names.length) return null;
  const busy = names.reduce((sum, name) => sum + 1 - idle[name], 0);
  const all = Math.max(slots, 1);
  return el("section", { class: "block", "data-key": "idle" }, el("h3", {}, `Idle: ${percent(Math.max(0, all - busy), all)} of ${counted(all, "slot")} in ${duration(untilS - sinceS)}`),
    el("ul", { class: "idle" }, names.map((name) => el("li", { "data-key": name }, el("span", { class: "mono" }, name),
      meter(1 - idle[name], `${name} was busy ${percent(1 - idle[name], 1)} of the time`), el("span", { class: "number" }, `${percent(idle[name], 1)} idle`)))));
}

