// Answers of the server; or those that a copy of the page holds.

const PATIENCE_MS = 20000;
const KEPT = 60;
const copy = document.getElementById("snapshot");
const held = copy ? JSON.parse(copy.textContent) : null;

/** This page is a copy: nothing changes, and nothing can be asked for. */
export const isCopy = held !== null;

/** address -> {value, etag, error, status}; the newest last. */
const known = new Map();

/** `api/grid.json?rate=2`, its names in order: so a copy finds what it holds. */
export function addressOf(name, query = {}) {
  const items = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = String(new URLSearchParams(items.map(([key, value]) => [key, String(value)]).sort(([a], [b]) => (a < b ? -1 : 1))));
  return `api/${name}.json${text ? `?${text}` : ""}`;
}

/** What was last answered; undefined before the first answer. */
export function answer(address) {
  return known.get(address);
}

/** Ask; true where the answer is another than before. Raises where there is no server. */
export async function ask(address) {
  if (held) return remember(address, held[address] === undefined
    ? { value: null, status: 404, error: "This copy does not hold it." }
    : { value: held[address], status: 200, error: null });
  const before = known.get(address);
  const reply = await fetch(address, {
    headers: before?.etag ? { "If-None-Match": before.etag } : {},
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (reply.status === 304) return false;
  const value = await reply.json();
  if (reply.ok) return remember(address, { value, etag: reply.headers.get("ETag"), error: null, status: 200 });
  return remember(address, { value: before?.value ?? null, error: value.error ?? reply.statusText, status: reply.status });
}

function remember(address, entry) {
  const before = known.get(address);
  known.delete(address);
  known.set(address, entry);
  if (known.size > KEPT) known.delete(known.keys().next().value);
  return !before || before.etag !== entry.etag || before.error !== entry.error || held !== null;
}

/** Ask the driver to try tasks again. {ok, text} */
export async function askForRetry(what) {
  try {
    const reply = await fetch("api/retry", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Prunegrid": "1" },
      body: JSON.stringify(what),
    });
    const value = await reply.json();
    return reply.ok ? { ok: true, text: value.request } : { ok: false, text: value.error };
  } catch {
    return { ok: false, text: "no answer from the server" };
  }
}
