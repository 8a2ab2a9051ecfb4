// Failed attempts by what they look like: what, where, how often, and how to try again.

import { go, link } from "./address.js";
import { isCopy } from "./api.js";
import { traceback } from "./attempts.js";
import { command, empty } from "./controls.js";
import { el, icon } from "./dom.js";
import { filterQuery } from "./filters.js";
import { ago, clock, count, counted, moment } from "./format.js";
import { retryBox } from "./retry.js";
import { badge } from "./states.js";

export function failuresQuery(state) {
  return isCopy ? {} : { ...filterQuery(state.filters), class: state.class, host: state.host, page: state.page };
}

export function failuresView(failures, status, state) {
  const narrowed = state.class || state.host;
  if (!failures.groups.length && !narrowed) {
    return [fencedBlock(status), empty("No attempt has failed.", "Failures appear here by cause, with their tracebacks and the command that tries them again.")];
  }
  const open = status.tasks_by_state.failed;
  return [
    fencedBlock(status),
    el("div", { class: "breakdowns", "data-key": "breakdowns" },
      breakdown("By class", failures.by_class, "class", state),
      breakdown("By node", failures.by_host, "host", state)),
    narrowed && el("p", { class: "note", "data-key": "narrowed" }, `Only ${[state.class, state.host].filter(Boolean).join(" on ")}. `,
      el("a", link({ class: "", host: "", page: "" }), "Show all")),
    el("p", { class: "note", "data-key": "told" }, `${counted(failures.attempts, "failed attempt")}; ${open ? `${counted(open, "task")} failed` : "no task failed"}. What still lacks a result comes first.`),
    open > 1 && status.can_retry && !isCopy && retryBox({ body: { failed: true, select: state.filters }, status, what: Object.keys(state.filters).length ? "all that failed under these filters" : `all ${count(open)} that failed` }),
    failures.groups.map((group) => groupCard(group, status)),
    pager(failures),
  ];
}

function fencedBlock(status) {
  const { fenced, waiting } = status.trouble;
  const lines = [...Object.values(fenced), waiting].filter(Boolean);
  return lines.length > 0 && el("ul", { class: "fenced", "data-key": "fenced" }, lines.map((text) => el("li", {}, icon("warning"), text)));
}

function breakdown(title, counts, name, state) {
  const entries = Object.entries(counts);
  const most = Math.max(...entries.map(([, n]) => n), 1);
  return el("section", { class: "breakdown", "data-key": title }, el("h3", {}, title),
    el("ul", {}, entries.slice(0, 12).map(([value, n]) => {
      const chosen = state[name] === value;
      const body = [el("span", { class: "breakdown-name" }, value), el("span", { class: "breakdown-bar", style: { width: `${(100 * n) / most}%` }, "aria-hidden": "true" }), el("b", {}, count(n))];
      return el("li", { "data-key": value }, isCopy ? el("span", { class: "breakdown-row" }, body)
        : el("a", { class: ["breakdown-row", chosen && "chosen"], "aria-current": chosen ? "true" : null, ...link({ [name]: chosen ? "" : value, page: "" }) }, body));
    })));
}

function groupCard(group, status) {
  const settled = group.open === 0;
  return el("article", { class: ["failure", settled && "settled"], "data-key": group.signature },
    el("header", {},
      el("h3", {}, icon(settled ? "done" : "failed", settled ? "settled" : "open"), el("span", { class: "mono" }, group.signature)),
      el("p", { class: "note" },
        `${counted(group.count, "attempt")} · ${settled ? "all have a result by now" : `${counted(group.open, "task")} without a result`} · last `,
        el("time", { datetime: new Date(1000 * group.last_s).toISOString(), title: moment(group.last_s) }, ago(Math.max(0, status.at_s - group.last_s))),
        ` · first ${clock(group.first_s, status.at_s)} · on ${Object.entries(group.hosts).slice(0, 4).map(([host, n]) => `${host} (${n})`).join(", ")}`)),
    el("p", { class: "cause" }, group.message),
    group.advice && el("p", { class: "note" }, group.advice),
    group.traceback_tail && traceback(group.traceback_tail),
    el("details", { class: "numbers", "data-key": "tasks" }, el("summary", {}, counted(group.tasks.length + group.more, "task")),
      el("ul", { class: "failure-tasks" }, group.tasks.map((task) => el("li", { "data-key": task.key },
        badge(task.state), el("a", link({ id: task.key, at: null }), task.name), el("span", { class: "note" }, counted(task.attempts, "attempt"))))),
      group.more > 0 && el("p", { class: "note" }, `and ${count(group.more)} more`)),
    !settled && (status.can_retry && !isCopy
      ? retryBox({ tasks: group.tasks.filter((task) => task.state !== "done").map((task) => task.key), text: group.retry, status, what: group.open === 1 ? "it" : "these" })
      : command(group.retry)));
}

function pager({ page, pages }) {
  if (pages < 2) return null;
  const step = (to, text, kind) => el("button", { type: "button", class: "button", "data-key": kind, disabled: to < 0 || to >= pages, onclick: () => { go({ page: to ? String(to) : "" }); document.getElementById("main").focus(); } }, text);
  return el("nav", { class: "pager", "aria-label": "Pages of failures", "data-key": "pager" }, step(page - 1, "Newer", "newer"), el("span", {}, `page ${page + 1} of ${pages}`), step(page + 1, "Older", "older"));
}
