// Small controls that several views share.

import { el, icon, say } from "./dom.js";

/** One of several, as buttons. `choices`: [value, text]. */
export function segmented(label, choices, chosen, choose) {
  return el("div", { class: "segmented", role: "group", "aria-label": label },
    choices.map(([value, text]) => el("button", {
      type: "button",
      "data-key": value,
      "aria-pressed": String(value === chosen),
      onclick: () => choose(value),
    }, text)));
}

/** `choices`: [value, text]; with groups: {label, choices}. */
export function select(label, choices, chosen, choose) {
  const node = el("select", { onchange: (event) => choose(event.target.value) },
    choices.map((one) => (Array.isArray(one) ? option(one, chosen)
      : el("optgroup", { label: one.label }, one.choices.map((inner) => option(inner, chosen))))));
  node.value = chosen;
  return el("label", { class: "select" }, el("span", {}, label), node);
}

function option([value, text], chosen) {
  return el("option", { value, selected: value === chosen }, text);
}

/** A command, and a button that copies it. */
export function command(text) {
  return el("div", { class: "command" }, el("code", { tabindex: "0" }, text), copyButton(text, "Copy the command"));
}

export function copyButton(text, label, shown = null) {
  return el("button", {
    type: "button",
    class: ["button", !shown && "bare"],
    "aria-label": shown ? null : label,
    title: label,
    onclick: (event) => copy(text, event.currentTarget),
  }, icon("copy"), shown);
}

async function copy(text, button) {
  let worked = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    worked = copyOldWay(text);
  }
  button.classList.toggle("worked", worked);
  say(worked ? "copied" : "could not copy: select the text instead");
  setTimeout(() => button.classList.remove("worked"), 1200);
}

/** Where the page is not on loopback nor https, there is no clipboard. */
function copyOldWay(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  document.body.append(area);
  const focused = document.activeElement;
  area.select();
  const worked = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return worked;
}

/** Nothing here yet, and why. */
export function empty(title, ...more) {
  return el("div", { class: "empty" }, el("p", { class: "empty-title" }, title), more.map((text) => el("p", {}, text)));
}

export function meter(frac, label, kind = "") {
  return el("div", { class: ["meter", kind], role: "img", "aria-label": label },
    el("span", { style: { width: `${Math.min(100, 100 * frac)}%` } }));
}

/** A table: `columns` of [title, class]; `rows` of lists of cells, each with a key. */
export function table(caption, columns, rows, { captionShown = false } = {}) {
  return el("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: "table" },
      el("caption", { class: captionShown ? null : "unseen" }, caption),
      el("thead", {}, el("tr", {}, columns.map(([title, kind]) => el("th", { scope: "col", class: kind }, title)))),
      el("tbody", {}, rows.map(({ key, cells }) => el("tr", { "data-key": key },
        cells.map((cell, i) => el("td", { class: columns[i][1] }, cell)))))));
}
