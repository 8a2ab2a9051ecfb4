// Trying failed tasks again: the command, and a button where the server takes requests.

import { askForRetry, isCopy } from "./api.js";
import { command } from "./controls.js";
import { el, icon, say } from "./dom.js";

/** What was asked in this tab, and what came of it, by what was asked for. */
const asked = new Map();
let redraw = () => {};

export function onAsked(listener) {
  redraw = listener;
}

/** `tasks`: keys, or null with `body`: what to send. `text`: the command, where it is known. */
export function retryBox({ tasks = null, body = null, text = null, status, what }) {
  const request = body ?? { tasks };
  const key = JSON.stringify(request);
  const state = asked.get(key);
  return el("section", { class: "block retry", "data-key": `retry ${key}` }, el("h3", {}, "Try again"),
    text && command(text),
    status.can_retry && !isCopy
      ? el("p", { class: "retry-line" },
        el("button", { type: "button", class: "button primary", disabled: state?.busy ?? false, onclick: () => send(key, request) }, icon("retry"), state?.busy ? "Asking…" : `Retry ${what}`),
        state && !state.busy && el("span", { class: state.ok ? "told-ok" : "told-bad", role: "status" }, state.text))
      : el("p", { class: "note" }, isCopy ? "This is a copy: run the command where the store is." : "This server only reads; start it with --allow-retry for a button here."));
}

async function send(key, request) {
  asked.set(key, { busy: true });
  redraw();
  const { ok, text } = await askForRetry(request);
  const told = ok ? "Asked for: a running driver takes it up within seconds, else the next one does." : `Refused: ${text}`;
  asked.set(key, { busy: false, ok, text: told });
  say(told);
  redraw();
}
