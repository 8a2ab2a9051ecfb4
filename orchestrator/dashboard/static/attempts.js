// Who tried a task, when, for how long, and what came of it.

import { link } from "./address.js";
import { copyButton } from "./controls.js";
import { el } from "./dom.js";
import { clock, duration, moment, shortKey } from "./format.js";
import { badge } from "./states.js";

/** Tasks of a cell, then their ancestors. `own`: how many are the cell's. */
export function taskList(tasks, nowS) {
  return el("ol", { class: "tasks" }, tasks.map((task) => el("li", { class: "task", "data-key": task.key },
    el("div", { class: "task-head" }, badge(task.state), el("span", { class: "task-name" }, task.name)),
    el("a", { class: "key", title: task.key, ...link({ id: task.key, at: null }) }, shortKey(task.key)),
    task.attempts.length ? el("ol", { class: "attempts" }, [...task.attempts].reverse().map((one) => attempt(one, nowS)))
      : el("p", { class: "note" }, task.state === "done" ? "its attempts are not in this store’s journal" : "not tried yet"))));
}

function attempt(one, nowS) {
  const lasted = one.duration_s === null ? `for ${duration(Math.max(0, nowS - one.started_s))} so far` : `took ${duration(one.duration_s)}`;
  return el("li", { class: `attempt is-${one.outcome}`, "data-key": String(one.number) + one.started_s },
    el("p", { class: "attempt-line" },
      el("b", {}, `attempt ${one.number}`), badge(one.outcome),
      el("span", { title: moment(one.started_s) }, `${clock(one.started_s, nowS)}, ${lasted}`),
      one.worker && el("span", {}, `on ${one.worker}`)),
    one.outcome === "failed" && el("p", { class: "cause" }, el("b", {}, one.class || "failed"), one.message && `: ${one.message}`),
    one.traceback && traceback(one.traceback, true),
    one.log && text("Log", "what its process printed last", one.log));
}

export function traceback(content, open = false) {
  return text("Traceback", "the traceback", content, open);
}

/** `what`: named to those who copy it. */
function text(title, what, content, open = false) {
  return el("details", { class: "traceback", open, "data-key": title.toLowerCase() },
    el("summary", {}, title),
    el("div", { class: "traceback-body" }, el("pre", { tabindex: "0", "aria-label": title }, content), copyButton(content, `Copy ${what}`)));
}
