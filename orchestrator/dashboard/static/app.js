// Puts the page together: what to ask for, and what to show of it.

import { current, onChange } from "./address.js";
import { addressOf, answer, ask, isCopy } from "./api.js";
import { empty } from "./controls.js";
import { curvesView } from "./curves.js";
import { el, say, show } from "./dom.js";
import { failuresQuery, failuresView } from "./failures.js";
import { filterBar, filterQuery } from "./filters.js";
import { banners, foot, head, spoken, titleOf } from "./head.js";
import { gridQuery, gridView } from "./heatmap.js";
import { close, isOpen, moveFocus, panelAddresses, panelView } from "./panel.js";
import { Poller } from "./poll.js";
import { onAsked } from "./retry.js";
import { timelineQuery, timelineView } from "./timeline.js";

const STATUS = addressOf("status");
/** Rounds of a second between two questions for it; the status is asked for in each. */
const VIEWS = {
  grid: { every: 1, query: (state) => gridQuery(state), view: (value, { axes, state }) => gridView(value, axes, state) },
  curves: { every: 3, query: (state) => filterQuery(state.filters), view: (value, { axes, state }) => curvesView(value, axes, state, render) },
  timeline: { every: 3, query: (state, status) => timelineQuery(state, status?.at_s), view: (value, { status, state }) => timelineView(value, status, state) },
  failures: { every: 2, query: (state) => failuresQuery(state), view: (value, { status, state }) => failuresView(value, status, state) },
};
const PANEL_EVERY = 2;
const LIVE_MS = 1000;
const QUIET_MS = 15000;

let state = current();
let connection = null; //: null, or what is wrong with it
let arrivedMs = 0; //: of the last status that was another
let rounds = 0;
let idle = 0; //: rounds in which nothing changed, one after the other
let asked = new Set(); //: since the address last changed
let restarts = 0;
let lastShown = {}; //: {view, found}: what the view was last made of

const place = (id) => document.getElementById(id);
const status = () => answer(STATUS)?.value ?? null;

function viewAddress() {
  return addressOf(state.view, VIEWS[state.view].query(state, status()));
}

// ------------------------------------------------------------------ asking

async function round() {
  rounds += 1;
  const before = restarts;
  let changed = await ask(STATUS);
  if (changed) arrivedMs = performance.now();
  connection = lock();
  const due = (address, every) => !asked.has(address) || rounds % every === 0;
  for (let pass = 0; pass < 2; pass += 1) { // a panel's second address comes with the first's answer
    const wanted = [[viewAddress(), VIEWS[state.view].every], ...panelAddresses(state).map((address) => [address, PANEL_EVERY])];
    const now = wanted.filter(([address, every]) => (pass ? !asked.has(address) : due(address, every)));
    if (pass && !now.length) break;
    const results = await Promise.all(now.map(([address]) => ask(address)));
    now.forEach(([address]) => asked.add(address));
    changed = results.some(Boolean) || changed;
    if (before !== restarts) break;
  }
  idle = changed ? 0 : idle + 1;
  render();
  return pause();
}

function pause() {
  if (isCopy) return Infinity;
  const told = status();
  if (!told || told.state === "live" || told.state === "stale" || told.unread_files) return LIVE_MS;
  return Math.min(QUIET_MS, LIVE_MS * 1.25 ** idle); // a run may begin
}

function lock() {
  const told = answer(STATUS);
  if (told?.status === 401) return "This dashboard is locked: open the address, with its token, that the server printed at its start.";
  return told?.error && told.status !== 503 ? told.error : null;
}

function failed(error, pauseMs) {
  connection = `The server does not answer (${error.name === "TimeoutError" ? "it took too long" : "is it still running?"}); asking again in ${Math.round(pauseMs / 1000)} s.`;
  if (!(error instanceof TypeError) && error.name !== "TimeoutError") console.error(error);
  render();
}

// ------------------------------------------------------------------ showing

function render() {
  const told = status();
  if (!told) {
    const why = connection ?? answer(STATUS)?.error;
    show(place("main"), why ? empty(connection ? "No connection" : "One moment", why) : el("p", { class: "quiet boot" }, "Reading the store…"));
    return;
  }
  const axes = told.axes ?? {};
  document.title = titleOf(told);
  show(place("head"), head(told, { ageS: age(told), connection, state }));
  show(place("banners"), banners(told, connection));
  show(place("foot"), foot(told));
  say(spoken(told, connection));
  const context = { axes, state, status: told, redraw: render };
  show(place("main"), filterBar(axes), el("div", { class: `view view-${state.view}`, "data-key": state.view }, viewBody(context)));
  const panel = place("panel");
  panel.hidden = !isOpen(state);
  document.body.classList.toggle("with-panel", isOpen(state));
  show(panel, isOpen(state) ? panelView(context) : []);
  performance.mark("shown");
}

function viewBody(context) {
  let found = answer(viewAddress());
  if (found) lastShown = { view: state.view, found };
  else if (lastShown.view === state.view) found = lastShown.found; // until what was asked for comes
  if (!found) return el("p", { class: "quiet boot" }, "Loading…");
  if (found.error && found.status === 400) return empty("These filters fit nothing.", found.error);
  if (found.error && !found.value) return empty("No answer", found.error);
  if (!context.status.models) return empty("There is no plan to show yet.", context.status.problem ?? "The store holds no grid.");
  return VIEWS[state.view].view(found.value, context);
}

/** Seconds since the last sign of life, as of now. */
function age(told) {
  return told.export ? told.data_age_s : told.data_age_s + (performance.now() - arrivedMs) / 1000;
}

// ------------------------------------------------------------------ beginning

const poller = new Poller(round, { onFailure: failed });

onChange(() => {
  const was = state;
  state = current();
  restarts += 1;
  idle = 0;
  asked = new Set();
  render();
  if (was.view !== state.view) scrollTo(0, 0);
  moveFocus(was, state);
  poller.now();
});
onAsked(render);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && isOpen(state) && !event.defaultPrevented) close();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
setInterval(() => { // the age goes on between answers
  const told = status();
  if (told && !isCopy && !document.hidden) show(place("head"), head(told, { ageS: age(told), connection, state }));
}, 1000);
poller.now();
