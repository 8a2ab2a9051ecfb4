// Filters: a menu of check boxes per axis that has a choice; all of it in the address.

import { AXES, current, go, join } from "./address.js";
import { isCopy } from "./api.js";
import { copyButton } from "./controls.js";
import { el, icon } from "./dom.js";

const NAMES = { architecture: "Architecture", variant: "Variant", method: "Method", rate: "Rate", seed: "Seed", protocol: "Protocol", attack: "Attack", eps: "ε" };
/** What a copy can filter by itself. */
const IN_COPY = ["architecture", "method", "rate", "attack", "eps", "protocol", "variant"];

/** `axes`: axis -> [[value, text], ...], as the status has it; `only`: what fits this view. */
export function filterBar(axes, only = AXES) {
  const { filters } = current();
  const usable = only.filter((axis) => (axes[axis] ?? []).length > 1 && (!isCopy || IN_COPY.includes(axis)));
  const chosen = AXES.filter((axis) => filters[axis]?.length);
  return el("div", { class: "filters", role: "group", "aria-label": "Filters" },
    usable.map((axis) => menu(axis, axes[axis], filters[axis] ?? [])),
    chosen.length > 0 && el("button", { type: "button", class: "button", "data-key": "clear", onclick: () => go({ filters: {}, page: "" }) }, "Clear filters"),
    !isCopy && el("span", { class: "push", "data-key": "link" }, copyButton(location.href, "Copy a link to this view", "Copy link")));
}

function menu(axis, choices, chosen) {
  const known = new Set(choices.map(([value]) => value));
  const mine = chosen.filter((value) => known.has(value));
  const strange = chosen.filter((value) => !known.has(value));
  const told = !chosen.length ? "all" : chosen.length === 1 ? textOf(choices, chosen[0]) : `${chosen.length} of ${choices.length}`;
  return el("details", { class: ["menu", chosen.length && "chosen"], "data-key": axis, onkeydown: closeOnEscape },
    el("summary", { "aria-label": `${NAMES[axis]}: ${told}` }, el("span", { class: "menu-name" }, NAMES[axis]), el("span", { class: "menu-value" }, told), icon("chevron")),
    el("div", { class: "menu-body" },
      strange.map((value) => check(axis, value, value, chosen)),
      choices.map(([value, text]) => check(axis, value, text, chosen)),
      mine.length > 0 && el("button", { type: "button", class: "bare", "data-key": "all", onclick: () => set(axis, []) }, "All")));
}

function check(axis, value, text, chosen) {
  return el("label", { class: "check", "data-key": value },
    el("input", {
      type: "checkbox",
      checked: chosen.includes(value),
      onchange: (event) => set(axis, event.target.checked ? [...chosen, value] : chosen.filter((one) => one !== value)),
    }), el("span", {}, text));
}

function set(axis, values) {
  const { filters } = current();
  go({ filters: { ...filters, [axis]: values }, page: "" }, { replace: true });
}

function textOf(choices, value) {
  return choices.find(([one]) => one === value)?.[1] ?? value;
}

function closeOnEscape(event) {
  if (event.key !== "Escape") return;
  event.currentTarget.removeAttribute("open");
  event.currentTarget.querySelector("summary").focus();
  event.stopPropagation();
}

addEventListener("pointerdown", (event) => {
  for (const open of document.querySelectorAll("details.menu[open]")) {
    if (!open.contains(event.target)) open.removeAttribute("open");
  }
});

/** A query's names and values for the filters. */
export function filterQuery(filters) {
  return isCopy ? {} : Object.fromEntries(Object.entries(filters).map(([axis, values]) => [axis, join(values)]));
}

/** What a copy's answer leaves when the filters are applied here. */
export function passes(filters, place) {
  return !isCopy || Object.entries(filters).every(([axis, values]) => place[axis] === undefined || place[axis] === null || values.includes(String(place[axis])));
}
