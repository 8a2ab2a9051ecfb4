// Numbers, times and names as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 16 400: thin spaces, so that no locale takes it for a decimal. */
export function count(value) {
  return whole.format(value).replaceAll(",", "\u2009");
}

/** `1 task`, `2 tasks`. */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** A share as per cent; never 100 before it is whole, never 0 once begun. */
export function percent(part, total) {
  if (!total) return "0 %";
  const value = (100 * part) / total;
  if (part >= total) return "100 %";
  if (part && value < 0.1) return "< 0.1 %";
  return `${(Math.floor(value * 10) / 10).toFixed(1)} %`;
}

/** 0.8731 as `87.3`. */
export function accuracy(value, digits = 1) {
  return value === null || value === undefined ? "–" : (100 * value).toFixed(digits);
}

const UNITS = [[90, 1, "s"], [5400, 60, "min"], [172800, 3600, "h"], [Infinity, 86400, "d"]];

/** `45 s`, `2.5 min`, `3.4 h`, `2.1 d`, as the command line says it. */
export function duration(seconds) {
  const [, size, unit] = UNITS.find(([limit]) => seconds < limit);
  return `${inUnit(seconds, size)} ${unit}`;
}

/** `1.9 to 2.4 d`: one unit where both ends have it. */
export function durationRange(low, high) {
  const [, size, unit] = UNITS.find(([limit]) => high < limit);
  const [from, to] = [inUnit(low, size), inUnit(high, size)];
  if (from === to) return `${to} ${unit}`;
  return low > 0 && low < size ? `${duration(low)} to ${to} ${unit}` : `${from} to ${to} ${unit}`;
}

function inUnit(seconds, size) {
  const value = seconds / size;
  return value.toFixed(size === 1 || value >= 10 ? 0 : 1);
}

export function ago(seconds) {
  return seconds < 1.5 ? "now" : `${duration(seconds)} ago`;
}

/** `Fri 14:00`, with the date where it is further away than a week. */
export function clock(atS, nowS = Date.now() / 1000) {
  const when = new Date(1000 * atS);
  const time = when.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const far = Math.abs(atS - nowS);
  if (far < 20 * 3600 && when.toDateString() === new Date(1000 * nowS).toDateString()) return time;
  const day = far < 6 * 86400 ? { weekday: "short" } : { day: "numeric", month: "short" };
  return `${when.toLocaleDateString("en-GB", day)} ${time}`;
}

/** A moment, whole, in the reader's own time zone. */
export function moment(atS) {
  return new Date(1000 * atS).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

export function clockRange(fromS, toS, nowS) {
  const [from, to] = [clock(fromS, nowS), clock(toS, nowS)];
  const day = from.slice(0, -5);
  if (from === to) return from;
  return day && to.startsWith(day) ? `${from}–${to.slice(-5)}` : `${from} – ${to}`;
}

/** Two digits or so: `1 240`, `57`, `3.4`. */
export function short(value) {
  if (value >= 1000) return count(value);
  return value >= 10 || value === 0 ? value.toFixed(0) : String(Number(value.toPrecision(2)));
}

export function shortRange(low, high) {
  const [from, to] = [short(low), short(high)];
  return from === to ? to : `${from} to ${to}`;
}

/** `attack-3f2a91…`: enough of a key to tell it, whole in its title. */
export function shortKey(key) {
  return key.length > 22 ? `${key.slice(0, 18)}…` : key;
}
