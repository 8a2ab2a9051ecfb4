// One square per model or cell: a small picture inside the square of method and rate.

import { go } from "./address.js";
import { cividis } from "./colours.js";
import { el } from "./dom.js";

const LETTERS = { d: "done", r: "running", w: "waiting", b: "blocked", f: "failed" };
const SHADES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/** `square.each`: a letter per model or cell, columns seeds and rows attacks; "." where the plan
 * has none. `square.shades`: with a value, 0 to 1 in 64 steps. */
export function mosaic(square, facet, state, domain, at) {
  const columns = facet.seeds.length;
  const text = square.each ?? "";
  const rows = Math.max(1, Math.ceil(text.length / columns));
  return el("canvas", {
    class: ["mosaic", rows === 1 && "flat"],
    "aria-hidden": "true",
    style: { "aspect-ratio": rows > 1 ? `${columns} / ${rows}` : "auto" },
    onclick: (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      const c = Math.floor(((event.clientX - box.left) / box.width) * columns);
      const r = Math.floor(((event.clientY - box.top) / box.height) * rows);
      const seed = facet.seeds[c];
      if (seed === undefined || (text[r * columns + c] ?? ".") === ".") return;
      event.stopPropagation();
      const threat = facet.threats[r] ?? {};
      go({ at: { ...at, seed: String(seed), ...threat }, id: "" });
    },
    own: (canvas) => paint(canvas, square, columns, rows, domain),
  });
}

/** 0 to 1; of "." nothing. */
export function valueOf(shade) {
  return shade === "." ? null : SHADES.indexOf(shade) / 63;
}

function paint(canvas, square, columns, rows, domain) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  const style = getComputedStyle(canvas);
  const stamp = [width, height, square.each, square.shades, domain, style.getPropertyValue("--surface")].join();
  if (canvas.stamp === stamp || !width || !height) return;
  Object.assign(canvas, { width, height, stamp });
  const context = canvas.getContext("2d");
  const colours = Object.fromEntries(Object.entries(LETTERS).map(([letter, state]) => [letter, style.getPropertyValue(`--${state}`).trim()]));
  const gap = Math.min(ratio, width / columns / 4, height / rows / 4);
  [...(square.each ?? "")].forEach((letter, i) => {
    if (letter === ".") return;
    const [c, r] = [i % columns, Math.floor(i / columns)];
    const [x, y] = [(c * width) / columns, (r * height) / rows];
    const [w, h] = [width / columns - gap, height / rows - gap];
    const shade = square.shades?.[i];
    context.fillStyle = colours[letter];
    if (square.shades) {
      if (shade === ".") context.fillStyle = colours.w;
      else context.fillStyle = cividis((valueOf(shade) - domain[0]) / (domain[1] - domain[0]));
    }
    context.fillRect(x, y, w, h);
    if (letter === "f" || letter === "b") cross(context, x, y, w, h, letter === "f");
  });
}

/** Failed and blocked are told by their shape too. */
function cross(context, x, y, w, h, both) {
  const side = Math.min(w, h);
  if (side < 5) return;
  const [cx, cy, d] = [x + w / 2, y + h / 2, side * 0.25];
  context.strokeStyle = "#fff";
  context.lineWidth = Math.max(1, side / 9);
  context.beginPath();
  context.moveTo(cx - d, cy - d);
  context.lineTo(cx + d, cy + d);
  if (both) {
    context.moveTo(cx + d, cy - d);
    context.lineTo(cx - d, cy + d);
  }
  context.stroke();
}
