// What is shown is in the page's address, so that a view can be sent to a colleague.

export const AXES = ["architecture", "variant", "method", "rate", "seed", "protocol", "attack", "eps"];
export const VIEWS = ["grid", "curves", "timeline", "failures"];
/** A square of the grid; with a seed a model of it, with an attack too a cell. */
const PLACE = ["architecture", "variant", "method", "rate", "protocol", "seed", "attack", "eps"];
const PLAIN = ["value", "each", "id", "page", "class", "host", "window"];

let query = new URLSearchParams(location.search);
let changed = () => {};

/** {view, filters: axis -> texts, at: a square's axes or null, value, each, id, page, ...} */
export function current() {
  return read(query);
}

/** Values as one text, and back: a backslash before a comma makes it part of a name. */
export function join(values) {
  return values.map((value) => String(value).replace(/[\\,=]/g, "\\$&")).join(",");
}

function split(text) {
  const parts = text.match(/(\\.|[^\\,])+/gs) ?? [];
  return parts.map((part) => part.trim().replace(/\\(.)/gs, "$1")).filter(Boolean);
}

function read(params) {
  const filters = {};
  for (const axis of AXES) {
    const texts = params.getAll(axis).flatMap(split);
    if (texts.length) filters[axis] = texts;
  }
  const at = {};
  for (const axis of PLACE) if (params.get(`at.${axis}`)) at[axis] = params.get(`at.${axis}`);
  const view = VIEWS.includes(params.get("view")) ? params.get("view") : VIEWS[0];
  const plain = Object.fromEntries(PLAIN.map((name) => [name, params.get(name) ?? ""]));
  return { view, filters, at: Object.keys(at).length ? at : null, ...plain };
}

/** The address of the present view with some of it changed; null takes a thing away. */
export function href(changes) {
  const text = String(write({ ...current(), ...changes })).replaceAll("%2C", ",").replaceAll("%2F", "/");
  return text ? `?${text}` : "?";
}

function write(state) {
  const params = new URLSearchParams();
  if (state.view !== VIEWS[0]) params.set("view", state.view);
  for (const axis of AXES) if (state.filters[axis]?.length) params.set(axis, join(state.filters[axis]));
  for (const name of PLAIN) if (state[name]) params.set(name, state[name]);
  for (const axis of PLACE) if (state.at?.[axis]) params.set(`at.${axis}`, state.at[axis]);
  return params;
}

export function go(changes, { replace = false } = {}) {
  const target = href(changes);
  query = new URLSearchParams(target.slice(1));
  try {
    history[replace ? "replaceState" : "pushState"](null, "", target);
  } catch {
    // a copy that some browsers open from a disk: the view changes, its address can't
  }
  changed();
}

/** Attributes of a link inside the page: a click stays here, any other way of opening works. */
export function link(changes, more = {}) {
  return {
    href: href(changes),
    ...more,
    onclick: (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
      event.preventDefault();
      go(changes);
    },
  };
}

export function onChange(listener) {
  changed = listener;
  addEventListener("popstate", () => {
    query = new URLSearchParams(location.search);
    listener();
  });
}
