// Where there are more attempts than a browser draws: how busy each worker was, step by step.

import { clock, counted } from "./format.js";
import { local, safe } from "./timeline_bars.js";

export function busyTraces({ workers, coarse, since_s: sinceS }) {
  const { step_s: stepS, busy, failed } = coarse;
  const steps = busy[0].map((_, i) => i);
  const counts = failed.map((pairs) => new Map(pairs));
  const middle = (i) => local(sinceS + (i + 0.5) * stepS);
  const marks = failed.flatMap((pairs, row) => pairs.map(([step]) => [middle(step), workers[row]]));
  const text = (part, row, i) => [`<b>${safe(workers[row])}</b>: ${part} % busy`, `${clock(sinceS + i * stepS)} to ${clock(sinceS + (i + 1) * stepS)}`,
    counts[row].has(i) && `${counted(counts[row].get(i), "attempt")} failed`].filter(Boolean).join("<br>");
  return [{
    type: "heatmap", x: steps.map(middle), y: workers, z: busy, zmin: 0, zmax: 100, showscale: false, xgap: 0.5, ygap: 4,
    colorscale: [[0, "--lane"], [1, "--kind-attack"]],
    text: busy.map((parts, row) => parts.map((part, i) => text(part, row, i))), hovertemplate: "%{text}<extra></extra>",
  }, crosses(marks, 5.5, "--surface"), crosses(marks, 2.2, "--failed")];
}

function crosses(marks, width, color) {
  return {
    type: "scatter", mode: "markers", x: marks.map(([at]) => at), y: marks.map(([, worker]) => worker), hoverinfo: "skip",
    marker: { symbol: "x-thin", size: 7, line: { width, color } },
  };
}
