// Views are functions from data to a tree; `morph` changes what is shown to match it, so that
// focus, scrolling, open details and zoom survive. Text only ever becomes text.

const HANDLERS = ["onclick", "onchange", "oninput", "onkeydown", "ontoggle", "onsubmit",
  "onpointermove", "onpointerleave", "onfocus", "onblur"];
const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `attributes`: as in HTML, but `on...` are functions, `class` may be a list with
 * gaps, `style` is a map, `own` is a function that draws into the element itself, whose children
 * `morph` then leaves alone. Null and false leave an attribute out; so do children.
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "own" || name.startsWith("on")) node[name] = value;
    else if (name === "class") node.className = [].concat(value).filter(Boolean).join(" ");
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (name === "checked") { node.checked = true; node.setAttribute("checked", ""); }
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) add(node, child);
    else node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** One of index.html's symbols. Decorative unless it has a label. */
export function icon(name, label = "") {
  const svg = svgEl("svg", { class: `icon icon-${name}`, viewBox: "0 0 16 16" });
  if (label) { svg.setAttribute("role", "img"); svg.setAttribute("aria-label", label); }
  else svg.setAttribute("aria-hidden", "true");
  svg.append(svgEl("use", { href: `#i-${name}` }));
  return svg;
}

export function svgEl(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

/** Make the children of `live` what `children` are. */
export function show(live, ...children) {
  const fresh = live.cloneNode(false);
  add(fresh, children);
  const drawn = [];
  matchChildren(live, fresh, drawn);
  for (const node of drawn) node.own(node);
}

function matchChildren(live, fresh, drawn) {
  const keyed = new Map();
  for (const child of live.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
  let place = live.firstChild;
  for (const want of [...fresh.childNodes]) {
    const key = keyOf(want);
    const candidate = key ? keyed.get(key) : place && !keyOf(place) ? place : null;
    if (candidate && sameKind(candidate, want)) {
      if (candidate === place) place = place.nextSibling;
      else live.insertBefore(candidate, place);
      match(candidate, want, drawn);
    } else {
      live.insertBefore(want, place);
      collect(want, drawn);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function match(live, want, drawn) {
  if (live.nodeType !== Node.ELEMENT_NODE) {
    if (live.nodeValue !== want.nodeValue) live.nodeValue = want.nodeValue;
    return;
  }
  for (const { name } of [...live.attributes]) {
    if (!want.hasAttribute(name) && !isTheirs(live, name)) live.removeAttribute(name);
  }
  for (const { name, value } of want.attributes) {
    if (live.getAttribute(name) !== value && !isTheirs(live, name)) live.setAttribute(name, value);
  }
  for (const name of HANDLERS) if (live[name] !== want[name]) live[name] = want[name];
  live.own = want.own;
  if (live.own) { drawn.push(live); return; }
  matchChildren(live, want, drawn);
  if (live.tagName === "INPUT" && live.checked !== want.checked) live.checked = want.checked;
  if (live.tagName === "SELECT" && live.value !== want.value) live.value = want.value;
}

/** What a reader changes by hand is theirs: which details are open, and what a drawing sets (a
 * canvas whose size is set, even to what it was, is empty). */
function isTheirs(live, name) {
  if (live.tagName === "DETAILS") return name === "open";
  if (live.tagName === "CANVAS") return ["width", "height"].includes(name);
  return Boolean(live.own) && ["class", "style"].includes(name);
}

function collect(node, drawn) {
  if (node.own) drawn.push(node);
  else for (const child of node.childNodes) collect(child, drawn);
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

function sameKind(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);
}

/** Spoken by screen readers; a text that was said is not said again. */
export function say(text) {
  const place = document.getElementById("said");
  if (place.textContent !== text) place.textContent = text;
}
