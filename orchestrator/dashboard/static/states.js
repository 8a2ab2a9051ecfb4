// The states of tasks, models and cells: a word, a glyph and a colour each.

import { el, icon } from "./dom.js";
import { count } from "./format.js";

export const STATES = ["done", "running", "waiting", "blocked", "failed"];

/** What each means, for legends. */
export const MEANING = {
  done: "has its result",
  running: "a worker is on it",
  waiting: "for a slot, or for its parent",
  blocked: "rests on a task that failed",
  failed: "its attempts are used up",
};

/** `state` as a glyph and a word. */
export function badge(state) {
  return el("span", { class: `badge is-${state}` }, icon(state in MEANING || state === "lost" ? state : "waiting"), state);
}

/** Glyph and count of each state; those at 0 are faint. */
export function legend(counts, { link } = {}) {
  return el("ul", { class: "legend" }, STATES.map((state) => {
    const body = [icon(state), el("b", {}, count(counts[state] ?? 0)), ` ${state}`];
    const own = { class: ["legend-item", `is-${state}`, !counts[state] && "none"], title: `${state}: ${MEANING[state]}` };
    const target = counts[state] && link?.(state);
    return el("li", own, target ? el("a", target, body) : body);
  }));
}

/** One bar, a part per state. */
export function stackedBar(counts, label) {
  const total = STATES.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  return el("div", { class: "bar", role: "img", "aria-label": label },
    STATES.map((state) => counts[state] > 0 && el("span", {
      "data-key": state,
      class: `bar-part is-${state}`,
      style: { "flex-grow": String(counts[state] / total) },
    })));
}

export function totalOf(counts) {
  return STATES.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
}
