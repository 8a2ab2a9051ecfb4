// The panel beside a view: a square of the grid, or one cell, model or task of it.

import { go, href, join, link } from "./address.js";
import { addressOf, answer, isCopy } from "./api.js";
import { cellView } from "./cell_view.js";
import { command, empty } from "./controls.js";
import { el, icon } from "./dom.js";
import { facetTitle } from "./heatmap.js";
import { squareView } from "./square_view.js";

const ONE = ["seed", "attack", "eps"];

export function isOpen(state) {
  return Boolean(state.at || state.id);
}

/** What the panel asks for; a cell's id is found in its square's answer. */
export function panelAddresses(state) {
  if (state.id) return [addressOf("cell", { id: state.id })];
  if (!state.at) return [];
  const square = squareAddress(state.at);
  const id = idOf(state.at, answer(square)?.value);
  return id ? [square, addressOf("cell", { id })] : [square];
}

function squareAddress(at) {
  const axes = Object.entries(at).filter(([axis]) => !ONE.includes(axis));
  return addressOf("square", Object.fromEntries(axes.map(([axis, value]) => [axis, join([value])])));
}

/** Of the cell or model that `at` names; null: a whole square is meant, or there is none. */
function idOf(at, square) {
  if (!square || at.seed === undefined) return null;
  const fits = (one) => ONE.every((axis) => at[axis] === undefined || String(one[axis]) === at[axis]);
  return (at.attack === undefined ? square.models : square.cells).find(fits)?.id ?? null;
}

/** The panel's children. `context`: {status, axes, state}. */
export function panelView(context) {
  const { state } = context;
  const wanted = panelAddresses(state);
  const found = answer(wanted[wanted.length - 1]);
  const single = state.id || wanted.length === 2;
  return [bar(context, single),
    el("div", { class: "panel-body", "data-key": state.id || JSON.stringify(state.at) }, body(found, single, context))];
}

function body(found, single, context) {
  if (!found) return el("p", { class: "quiet" }, "Loading…");
  if (found.error && !found.value && isCopy) return notInCopy(context);
  if (found.error && !found.value) return empty(found.status === 404 ? "Not found" : "No answer", found.error);
  if (single) return cellView(found.value, context);
  if (context.state.at.seed !== undefined) return empty("Not found", "The plan has no such model or cell.");
  return squareView(found.value, context);
}

/** Where to find what a link names: the live page has it at the same address. */
function notInCopy({ state, status }) {
  const { dashboard, explain } = status.elsewhere;
  const id = state.id || idOf(state.at, answer(squareAddress(state.at))?.value);
  return [
    empty("Not in this copy", "A copy holds the squares, and of the cells those that failed. Where the store can be reached, the live dashboard has it:"),
    command(dashboard),
    el("p", {}, "Open there, after the address that it prints: ", el("code", {}, href({}))),
    id && [el("p", {}, "Or in a terminal:"), command(`${explain} ${id}`)],
  ];
}

function bar(context, single) {
  const { state, axes } = context;
  const inSquare = state.at && (single || state.at.seed !== undefined);
  const square = state.at && Object.fromEntries(Object.entries(state.at).filter(([axis]) => !ONE.includes(axis)));
  const title = state.at ? [facetTitle({ architecture: state.at.architecture }, axes), state.at.method, `rate ${state.at.rate}`, state.at.variant, state.at.protocol].filter(Boolean) : ["Task"];
  return el("div", { class: "panel-bar", "data-key": "bar" },
    inSquare && el("a", { class: "button bare", "aria-label": "Back to the square", title: "Back to the square", ...link({ id: "", at: square }) }, icon("back")),
    el("h2", { id: "panel-title", tabindex: "-1" }, title.map((part, i) => el("span", { class: i ? null : "strong" }, part))),
    el("button", { type: "button", class: "bare push", "aria-label": "Close the details", title: "Close (Esc)", onclick: close }, icon("close")));
}

let opener = null;

/** After a change of address: focus goes into a panel that opens, and back where it was. */
export function moveFocus(was, is) {
  const [before, now] = [isOpen(was), isOpen(is)];
  if (now && !before) {
    const active = document.activeElement;
    opener = active?.dataset.id ?? active?.closest?.("[data-key]")?.dataset.key ?? null;
    document.getElementById("panel-title")?.focus({ preventScroll: true });
  } else if (before && !now) {
    const back = opener && document.querySelector(`[data-id="${CSS.escape(opener)}"]`);
    (back ?? document.getElementById("main")).focus({ preventScroll: true });
    opener = null;
  }
}

export function close() {
  go({ at: null, id: "" });
}
