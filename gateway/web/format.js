// Numbers, times and words as an Indian trader reads them. Pure: no DOM, no clock, no locale of the machine.

export const UNKNOWN = "–";
const MINUS = "−";

const LAKH = 1e5;
const CRORE = 1e7;

export const MINUTE_MS = 60_000;
export const DAY_MS = 86_400_000;
const IST_MS = 330 * MINUTE_MS; // no daylight saving: an offset is all there is to it
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

const isKnown = (value) => typeof value === "number" && Number.isFinite(value);

/** "1234567" -> "12,34,567": the last three digits, then pairs. */
export function grouped(digits) {
  const head = digits.slice(0, -3);
  const tail = digits.slice(-3);
  return head ? `${head.replace(/\B(?=(\d\d)+$)/g, ",")},${tail}` : tail;
}

export function number(value, decimals = 0) {
  if (!isKnown(value)) return UNKNOWN;
  const [whole, fraction] = Math.abs(value).toFixed(decimals).split(".");
  const text = fraction ? `${grouped(whole)}.${fraction}` : grouped(whole);
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

/** With its sign; what rounds to zero has none. */
export function signed(value, decimals = 2) {
  const text = number(value, decimals);
  return isKnown(value) && value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

export function percent(value, decimals = 2) {
  return isKnown(value) ? `${signed(value, decimals)}%` : UNKNOWN;
}

/** Quantities: in full below a lakh, then 1.23 L and 4.56 Cr. */
export function compact(value) {
  if (!isKnown(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size < LAKH) return number(value);
  const [unit, name] = size < CRORE ? [LAKH, "L"] : [CRORE, "Cr"];
  const scaled = value / unit;
  return `${number(scaled, Math.abs(scaled) < 99.995 ? 2 : 1)} ${name}`;
}

/** How many decimals a price with this tick has: two of habit, more where the tick needs them. */
export function decimalsOf(tick) {
  if (!isKnown(tick) || tick <= 0) return 2;
  const fraction = tick.toFixed(6).replace(/0+$/, "").split(".")[1] ?? "";
  return Math.min(4, Math.max(2, fraction.length));
}

/** Against the previous close; null where either is unknown. */
export function change(last, close) {
  if (!isKnown(last) || !isKnown(close) || close === 0) return { points: null, percent: null };
  return { points: last - close, percent: ((last - close) / close) * 100 };
}

export function direction(value) {
  return isKnown(value) ? Math.sign(value) : 0;
}

/** Colour alone says nothing to one man in twelve. */
export function arrow(value) {
  return ["▼", "", "▲"][direction(value) + 1];
}

// Time

const two = (value) => String(value).padStart(2, "0");
const ist = (ms) => new Date(ms + IST_MS);

export function time(ms, { seconds = false } = {}) {
  if (!isKnown(ms)) return UNKNOWN;
  const at = ist(ms);
  const text = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  return seconds ? `${text}:${two(at.getUTCSeconds())}` : text;
}

export function date(ms, { weekday = false } = {}) {
  if (!isKnown(ms)) return UNKNOWN;
  const at = ist(ms);
  const text = `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
  return weekday ? `${DAYS[at.getUTCDay()]} ${text}` : text;
}

/** Days since 1970 in India: two instants with the same number are on the same date there. */
export const dayNumber = (ms) => Math.floor((ms + IST_MS) / DAY_MS);

/** Midnight in India. */
export const dayStart = (ms) => dayNumber(ms) * DAY_MS - IST_MS;

export const minuteOfDay = (ms) => Math.floor((ms + IST_MS) / MINUTE_MS) % 1440;

export const minuteStart = (ms) => ms - (ms % MINUTE_MS);

/** "2026-11-24" -> "24 Nov"; with its year where that is not the one of `nowMs`. */
export function expiry(iso, nowMs) {
  const [year, month, day] = iso.split("-").map(Number);
  const text = `${day} ${MONTHS[month - 1]}`;
  return isKnown(nowMs) && ist(nowMs).getUTCFullYear() === year ? text : `${text} ${two(year % 100)}`;
}

/** Whole days from now to a date, in India. */
export function daysTo(iso, nowMs) {
  return Date.parse(`${iso}T00:00:00Z`) / DAY_MS - dayNumber(nowMs);
}

// Names

/** What an instrument is called in a list: a short name, and what tells it from its like. */
export function title(instrument, nowMs) {
  const { instrument_type: type, underlying_symbol: symbol, expiry: day } = instrument;
  if (type === "FUT") return { name: `${symbol ?? instrument.name} FUT`, detail: expiry(day, nowMs) };
  if (type === "CE" || type === "PE") {
    return { name: `${symbol ?? instrument.name} ${strike(instrument.strike)} ${type}`, detail: expiry(day, nowMs) };
  }
  if (type === "INDEX") return { name: instrument.name, detail: `${instrument.exchange} index` };
  return { name: instrument.trading_symbol, detail: instrument.exchange };
}

/** Strikes are whole almost always; grouped, because five digits in a column are read as one. */
export const strike = (value) => number(value, Number.isInteger(value) ? 0 : 2);
