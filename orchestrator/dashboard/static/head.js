// The head: what someone wants to know who looks for ten seconds.

import { VIEWS, link } from "./address.js";
import { meter } from "./controls.js";
import { el, icon, svgEl } from "./dom.js";
import { ago, clockRange, count, counted, duration, durationRange, moment, percent, short, shortRange } from "./format.js";
import { legend, stackedBar, totalOf } from "./states.js";

const PILLS = {
  live: ["LIVE", "a driver's heartbeat is at most 15 s old"],
  stale: ["STALE", "the driver holds the store, but its heartbeat is older than 15 s"],
  stopped: ["STOPPED", "no driver runs; 'prunegrid run' resumes"],
  done: ["DONE", "every task of the plan has its result"],
  unreadable: ["UNREADABLE", "the store can't be read; the numbers are the last that were"],
  disconnected: ["NO ANSWER", "the dashboard's server does not answer; the numbers are the last that came"],
};
const TITLES = { grid: "Grid", curves: "Curves", timeline: "Timeline", failures: "Failures" };

/** `ageS`: of the data now; `connection`: null, or what is wrong with it. */
export function head(status, { ageS, connection, state }) {
  const counts = status.tasks_by_state;
  return [topRow(status, ageS, connection, state),
    el("div", { class: "tiles" },
      progressTile(status, counts),
      etaTile(status),
      rateTile(status),
      busyTile(status),
      moneyTile(status),
      healthTile(status, counts))];
}

function topRow(status, ageS, connection, state) {
  const counts = status.tasks_by_state;
  return el("div", { class: "top" },
    el("a", { class: "brand", ...link({ view: "grid", at: null, id: "" }) }, icon("mark"),
      el("span", { class: "grid-name" }, status.grid || "no grid yet")),
    pill(connection ? "disconnected" : status.state, ageS, status),
    el("p", { class: "mini" }, el("b", {}, percent(counts.done, totalOf(counts))),
      status.state === "done" || !status.remaining ? null : el("span", {}, ` · ${durationRange(...status.eta_s)} left`)),
    el("nav", { class: "views", "aria-label": "Views" }, VIEWS.map((view) =>
      el("a", { "data-key": view, ...link({ view, at: null, id: "", page: "" }), "aria-current": state.view === view ? "page" : null },
        TITLES[view],
        view === "failures" && counts.failed > 0 && el("span", { class: "nav-count", "aria-label": `, ${count(counts.failed)} failed` }, count(counts.failed))))));
}

function pill(name, ageS, status) {
  const [text, meaning] = PILLS[name] ?? [name, ""];
  const told = status.export ? `a copy of ${moment(status.at_s)}` : ago(ageS);
  return el("p", { class: `pill is-${name}`, title: meaning },
    el("span", { class: "pill-dot", "aria-hidden": "true" }), el("b", {}, text),
    el("span", { class: "age" }, told));
}

function tile(key, title, value, ...more) {
  return el("section", { class: `tile tile-${key}`, "data-key": key, "aria-label": title },
    el("h2", {}, title), el("p", { class: "figure" }, value), more);
}

const note = (...children) => el("p", { class: "note" }, children);

function progressTile(status, counts) {
  const total = totalOf(counts);
  const spoken = `${percent(counts.done, total)} of ${count(total)} tasks are done`;
  return tile("progress", "Progress",
    [percent(counts.done, total), el("small", {},
      `${count(counts.done)} of ${counted(total, "task")} · ${count(status.cells_done)} of ${counted(status.cells, "cell")}`)],
    stackedBar(counts, spoken),
    legend(counts, { link: (name) => (name === "failed" ? link({ view: "failures", at: null, id: "" }) : null) }));
}

function etaTile(status) {
  const [low, high] = status.eta_s;
  if (!status.remaining) {
    return tile("eta", "Time left", status.cells || status.models ? "None" : "–",
      note(status.driver.renewed_at_s ? `last sign of life ${clockRange(status.at_s - status.data_age_s, status.at_s - status.data_age_s, status.at_s)}` : "nothing is left to run"));
  }
  const running = status.state === "live" || status.state === "stale";
  const when = running ? `done ${clockRange(status.at_s + low, status.at_s + high, status.at_s)}` : "once it runs again";
  return tile("eta", "Time left", durationRange(low, high), note(when), note(sureness(status.eta_measured_frac)));
}

function sureness(frac) {
  if (frac >= 0.995) return "from measured tasks";
  if (frac < 0.005) return "a guess so far";
  return `${Math.round(100 * frac)} % of it measured`;
}

function rateTile(status) {
  const { now_per_min: now, expected_per_min: expected, spark } = status.rate;
  const alive = status.state === "live" || status.state === "stale";
  const most = Math.max(0, ...spark);
  const figure = alive ? [short(now), el("small", {}, "tasks a minute")] : "–";
  const told = expected === null ? (status.remaining ? "expected: not known yet" : null)
    : alive ? `${Math.round((100 * now) / (expected || 1))} % of the expected ${short(expected)}`
      : `expected ${short(expected)} a minute`;
  return tile("rate", "Throughput", figure, note(told ?? "no task is left"), sparkline(spark, most));
}

function sparkline(values, most) {
  const label = `tasks done in each of the last 60 minutes, at most ${most}`;
  const svg = svgEl("svg", { class: "spark", viewBox: "0 0 120 24", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svgEl("title", {}, label));
  const step = 120 / Math.max(values.length, 1);
  const height = (value) => (most ? (22 * value) / most : 0);
  svg.append(svgEl("path", { class: "spark-base", d: "M0 23.5H120" }));
  values.forEach((value, i) => {
    if (value) svg.append(svgEl("rect", { x: (i * step).toFixed(2), y: (23 - height(value)).toFixed(2), width: (step - 0.4).toFixed(2), height: height(value).toFixed(2) }));
  });
  return svg;
}

function busyTile(status) {
  const { busy, slots, gpus_busy: gpusBusy, gpus } = status.workers;
  const title = gpus || status.hours?.unit === "GPU" ? "GPUs busy" : "Slots busy";
  const [used, all] = gpus ? [gpusBusy, gpus] : [busy, slots];
  if (!all) return tile("busy", title, "–", note("no driver runs"));
  const idle = all - used;
  return tile("busy", title, [short(used), el("small", {}, `of ${short(all)}`)],
    note(idle > 0 ? `${short(idle)} idle` : "none is idle", gpus && gpus !== slots ? ` · ${busy} of ${slots} slots` : null),
    meter(used / all, `${Math.round((100 * used) / all)} % busy`));
}

function moneyTile(status) {
  const { cost, hours } = status;
  if (cost) {
    return tile("money", "Cost", [short(cost.spent), el("small", {}, `${cost.currency} spent`.trim())],
      note(`${shortRange(...cost.to_come)} ${cost.currency}`.trim(), " to come"), hours && note(hoursText(hours)));
  }
  if (!hours) return tile("money", "Cost", "–");
  return tile("money", `${hours.unit} hours`, [short(hours.spent), el("small", {}, "spent")],
    note(`${shortRange(...hours.to_come)} to come`), note("no price in the grid file"));
}

function hoursText({ unit, spent, to_come: toCome }) {
  return `${short(spent)} + ${shortRange(...toCome)} ${unit} h`;
}

function healthTile(status, counts) {
  const errors = status.problems.filter((one) => one.level === "error").length + (status.problem ? 1 : 0);
  const warnings = status.problems.length - errors + (status.problem ? 1 : 0);
  const attempts = Object.values(status.trouble.failures).reduce((sum, n) => sum + n, 0);
  const level = errors || counts.failed ? "bad" : warnings > 0 || counts.blocked || status.state === "stale" ? "odd" : "well";
  const figure = { bad: [icon("failed"), counts.failed ? `${count(counts.failed)} failed` : "Trouble"],
    odd: [icon("warning"), "Look here"], well: [icon("done"), "All well"] }[level];
  const lines = [
    counts.blocked > 0 && `${counted(counts.blocked, "task")} blocked`,
    status.state === "stale" && "the driver is silent",
    attempts > 0 ? counted(attempts, "failed attempt") : "no failed attempt",
    errors + warnings > 0 && counted(errors + warnings, "notice"),
  ].filter(Boolean);
  return tile("health", "Anything wrong?", el("a", { class: `health is-${level}`, ...link({ view: "failures", at: null, id: "" }) }, figure),
    lines.map((line) => note(line)));
}

/** Lines under the head, worst first. */
export function banners(status, connection) {
  const lines = [];
  if (connection) lines.push({ level: "error", text: connection });
  if (status?.problem) lines.push({ level: "error", text: `The store can't be read: ${status.problem}` });
  for (const one of status?.problems ?? []) lines.push(one);
  if (status?.paused) lines.push({ level: "warning", text: "A pause was asked for: 'prunegrid resume' lets it go on" });
  if (status?.unread_files) lines.push({ level: "note", text: `Reading results: ${count(status.unread_files)} files to go; values are still coming in` });
  const seen = new Set();
  return lines.filter(({ text }) => !seen.has(text) && seen.add(text)).map(({ level, text }) =>
    el("p", { class: `banner is-${level}`, "data-key": text }, icon(level === "note" ? "waiting" : "warning"), el("span", {}, text)));
}

/** The tab's title, and what a screen reader says when the run changes. */
export function titleOf(status) {
  const counts = status.tasks_by_state;
  const failed = counts.failed ? `, ${count(counts.failed)} failed` : "";
  return `${percent(counts.done, totalOf(counts))} ${status.grid}${failed} · prunegrid`;
}

export function spoken(status, connection) {
  if (connection) return connection;
  const counts = status.tasks_by_state;
  const tenth = Math.floor((10 * counts.done) / (totalOf(counts) || 1)) * 10;
  const failed = counts.failed ? `, ${counted(counts.failed, "task")} failed` : "";
  return `${PILLS[status.state]?.[0].toLowerCase() ?? status.state}: ${tenth} % done${failed}`;
}

export function foot(status) {
  return [el("span", {}, `prunegrid ${status.version}`),
    status.driver.host && el("span", {}, `driver ${status.driver.alive ? "on" : "was on"} ${status.driver.host}, process ${status.driver.pid}`),
    el("span", {}, `longest chain ${duration(status.critical_s)}`),
    el("a", { href: "api/status.json" }, "status.json"),
    !status.export && el("a", { href: "metrics" }, "metrics")];
}
