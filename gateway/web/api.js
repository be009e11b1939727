// The gateway's REST paths. Errors are RFC 9457 problem details and become `Problem`s.

const BASE = "/api/v1";
const ANSWER_WITHIN_MS = 10_000;
const HEALTH_WITHIN_MS = 4_000;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;

export class Problem extends Error {
  /** `rule`: which check refused; `errors`: [{field, message}]. */
  constructor(status, detail, { rule = "", errors = [] } = {}) {
    super(detail);
    this.status = status;
    this.rule = rule;
    this.errors = errors;
  }

  /** Whether the same request may succeed later. */
  get isPassing() {
    return this.status === 0 || this.status >= 500;
  }
}

async function get(path, parameters = {}, signal = undefined, limitMs = ANSWER_WITHIN_MS) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  const limited = within(limitMs, signal);
  try {
    const response = await fetch(`${BASE}${path}${query ? `?${query}` : ""}`, { signal: limited.signal });
    const body = await response.json().catch(() => null);
    if (!response.ok && body?.redis === undefined) {
      throw new Problem(response.status, body?.detail ?? `the gateway answered ${response.status}`);
    }
    return body;
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
    throw new Problem(0, "the gateway does not answer");
  } finally {
    limited.end();
  }
}

/** Ask for a change: {status, body}. The same key is one change, however often it is sent. */
export async function change(method, path, { body, query, key } = {}) {
  const text = query ? `?${new URLSearchParams(query)}` : "";
  const headers = { "Idempotency-Key": key ?? newKey() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const limited = within(ANSWER_WITHIN_MS);
  const request = { method, headers, signal: limited.signal, body: body === undefined ? undefined : JSON.stringify(body) };
  try {
    const response = await fetch(`${BASE}${path}${text}`, request);
    const told = await response.json().catch(() => null);
    if (!response.ok) {
      throw new Problem(response.status, told?.detail ?? `the gateway answered ${response.status}`, told ?? {});
    }
    return { status: response.status, body: told };
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(0, "the gateway does not answer");
  } finally {
    limited.end();
  }
}

/** An idempotency key. Not randomUUID: that is for pages of https and of this machine only. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A signal that aborts with another, or with a Problem once the time is up. */
function within(ms, outer) {
  const stop = new AbortController();
  const follow = () => stop.abort(outer.reason);
  const timer = setTimeout(() => stop.abort(new Problem(0, "the gateway takes too long to answer")), ms);
  if (outer?.aborted) follow();
  outer?.addEventListener("abort", follow, { once: true });
  const end = () => {
    clearTimeout(timer);
    outer?.removeEventListener("abort", follow);
  };
  return { signal: stop.signal, end };
}

/** Ask until there is an answer, unless the answer is no; `failed(problem)` is told of each attempt that fails. */
export async function patiently(ask, signal, failed = () => {}) {
  for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(LAST_RETRY_MS, waitMs * 2)) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Problem) || !error.isPassing) throw error;
      failed(error);
    }
    await pause(waitMs, signal);
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

/** A gateway without Redis answers 503, with the same body. */
export const health = () => get("/health", {}, undefined, HEALTH_WITHIN_MS);

export const trading = () => get("/trading");
export const risk = (mode) => get("/risk", { mode });
export const funds = (mode) => get("/funds", { mode });
export const orders = () => get("/orders/");
export const gtts = () => get("/gtt/");
export const positions = () => get("/positions");
export const trades = () => get("/trades");

export const search = (query, limit, signal) => get("/instruments", { query, limit }, signal);

export const instrument = (key, signal) => get(`/instruments/${encodeURIComponent(key)}`, {}, signal);

export const expiries = (key, signal) => get(`/instruments/${encodeURIComponent(key)}/expiries`, {}, signal);

/** Who is who in a chain. */
export const chain = (underlying, day, signal) => get("/chain", { underlying, expiry: day }, signal);

/** The measures and strikes of the last minute; null where no chain has been made yet. */
export async function minuteChain(underlying, day, signal) {
  try {
    return await get(`/chain/${encodeURIComponent(underlying)}`, { expiry: day }, signal);
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return null;
    throw error;
  }
}

/** The last bars before `to`, or the last there are. */
export const candles = (key, interval, limit, to, signal) => (
  get("/candles", { instrument: key, interval, limit, to }, signal));

const list = (keys) => keys.map(encodeURIComponent).join(",");

export const liveUrl = (keys) => `${BASE}/stream/live?instruments=${list(keys)}`;

export const candlesUrl = (keys, interval = "1m") => (
  `${BASE}/stream/candles?instruments=${list(keys)}${interval === "1m" ? "" : `&interval=${interval}`}`);

export const eventsUrl = () => `${BASE}/stream/events`;

export const ordersUrl = () => `${BASE}/stream/orders`;
