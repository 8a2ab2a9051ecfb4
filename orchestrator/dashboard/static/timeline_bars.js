// Each attempt as a bar on its worker's lane.

import { clock, duration } from "./format.js";

export const KINDS = { train: ["train", "--kind-train"], prune: ["prune and fine-tune", "--kind-prune"], attack: ["attack", "--kind-attack"], transfer: ["transfer", "--kind-transfer"] };
const ROW_PX = 26;

export function barTraces({ bars, workers, until_s: untilS, since_s: sinceS }) {
  const lanes = { type: "bar", orientation: "h", y: workers, base: workers.map(() => local(sinceS)), x: workers.map(() => 1000 * (untilS - sinceS)), marker: { color: "--lane" }, hoverinfo: "skip", width: 0.78 };
  const parts = [];
  for (const [kind, [, colour]] of Object.entries(KINDS)) {
    const own = bars.filter((bar) => bar.kind === kind);
    const ended = own.filter((bar) => bar.outcome === "done");
    const runs = own.filter((bar) => bar.outcome === "running");
    if (ended.length) parts.push(barsOf(ended, { color: colour }, untilS));
    if (runs.length) parts.push(barsOf(runs, { color: colour, opacity: 0.6, pattern: { shape: "/", size: 6, solidity: 0.25 } }, untilS));
  }
  const failed = bars.filter((bar) => bar.outcome === "failed");
  const lost = bars.filter((bar) => bar.outcome === "lost");
  if (lost.length) parts.push(barsOf(lost, { color: "--lost", pattern: { shape: "x", size: 5, solidity: 0.3 } }, untilS));
  if (failed.length) parts.push(barsOf(failed, { color: "--failed", opacity: 0.75 }, untilS), failureMarks(failed, untilS));
  return [lanes, ...parts];
}

function barsOf(bars, marker, untilS) {
  return {
    type: "bar", orientation: "h", marker: { ...marker, line: { width: 0.6, color: "--surface" } }, width: 0.78,
    y: bars.map((bar) => bar.worker),
    base: bars.map((bar) => local(bar.start_s)),
    x: bars.map((bar) => Math.max(1, 1000 * ((bar.end_s ?? untilS) - bar.start_s))),
    ...told(bars, untilS),
  };
}

/** A failure may have taken no time: a cross shows it at any zoom. */
function failureMarks(bars, untilS) {
  return {
    type: "scatter", mode: "markers", marker: { symbol: "x-thin", size: 8, line: { width: 2.2, color: "--failed" } },
    y: bars.map((bar) => bar.worker), x: bars.map((bar) => local(bar.end_s ?? untilS)), ...told(bars, untilS),
  };
}

function told(bars, untilS) {
  return {
    customdata: bars.map((bar) => ({ key: bar.key, name: safe(bar.name), took: duration((bar.end_s ?? untilS) - bar.start_s), at: clock(bar.start_s), kind: safe(bar.class) })),
    hovertemplate: "<b>%{customdata.name}</b><br>%{customdata.at}, %{customdata.took} %{customdata.kind}<extra></extra>",
  };
}

/** plotly reads some tags in its texts: a name has none. */
export function safe(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** plotly takes times as they are: the reader's own. */
export function local(atS) {
  const when = new Date(1000 * atS);
  return new Date(when.getTime() - 60000 * when.getTimezoneOffset()).toISOString().slice(0, 23);
}

/** Seconds since the epoch of such a time, as plotly gives it back: `2026-01-31 14:00:00.5`. */
export function fromLocal(text) {
  return new Date(String(text).replace(" ", "T")).getTime() / 1000;
}

export function timeLayout({ workers, since_s: sinceS, until_s: untilS }) {
  return {
    height: 44 + ROW_PX * workers.length, barmode: "overlay", bargap: 0.2, hovermode: "closest", dragmode: "zoom", showlegend: false,
    uirevision: `${sinceS} ${untilS}`, // a drag asks for the new window: nothing else to keep
    margin: { l: 110, r: 12, t: 4, b: 36 },
    xaxis: { type: "date", range: [local(sinceS), local(untilS)], autorange: false },
    yaxis: { type: "category", categoryarray: [...workers].reverse(), categoryorder: "array", range: [-0.5, workers.length - 0.5], fixedrange: true, showgrid: false, tickvals: workers, ticktext: workers.map(safe) },
  };
}
