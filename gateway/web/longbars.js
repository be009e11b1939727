// Bars of more than a minute: those that have ended as the pipeline published them, the forming one folded from minutes.
//
// A bar is counted from the start of the session, which the published bars tell: all of a session start at the same
// place within the hour. Before there are any, the exchange's 09:15 is assumed, until the first one says otherwise.
// What is folded here is `provisional` and gives way to the published bar. Pure.

import { Series } from "./bars.js";
import { DAY_MS, MINUTE_MS, dayStart } from "./format.js";

export const INTERVALS = ["1m", "3m", "5m", "15m", "30m", "60m", "1d"];
const OPENING_MS = (9 * 60 + 15) * MINUTE_MS;

export const lengthOf = (interval) => (interval === "1d" ? DAY_MS : Number.parseInt(interval, 10) * MINUTE_MS);

/** Where the bar starts that the minute `ts` belongs to; `known` is the start of any bar of that length, or null. */
export function startOf(ts, interval, known) {
  if (interval === "1d") return dayStart(ts);
  const length = lengthOf(interval);
  const anchor = known ?? dayStart(ts) + OPENING_MS;
  return anchor + Math.floor((ts - anchor) / length) * length;
}

/** The same bar with one more minute; minutes come in order. */
function joined(bar, minute, start, interval) {
  if (bar === null) {
    const worth = minute.volume ? (minute.vwap ?? NaN) * minute.volume : 0;
    return { ...minute, ts: start, interval, minutes: 1, rev: -1, provisional: true, worth };
  }
  const volume = bar.volume + minute.volume;
  const worth = bar.worth + (minute.volume ? (minute.vwap ?? NaN) * minute.volume : 0);
  return {
    ...bar,
    high: Math.max(bar.high, minute.high),
    low: Math.min(bar.low, minute.low),
    close: minute.close,
    volume,
    worth,
    vwap: volume && !Number.isNaN(worth) ? worth / volume : null,
    oi: minute.oi,
    ticks: bar.ticks + minute.ticks,
    minutes: bar.minutes + 1,
    complete: bar.complete && minute.complete,
  };
}

/** What the minutes behind the newest published bar come to so far. */
export function forming(minutes, interval, newest) {
  const from = newest === null ? -Infinity : nextStart(newest, interval);
  const bars = [];
  let at = minutes.length;
  while (at > 0 && minutes[at - 1].ts >= from) at -= 1;
  for (const minute of minutes.slice(at)) {
    const start = startOf(minute.ts, interval, newest);
    const last = bars.at(-1);
    if (last?.ts === start) bars[bars.length - 1] = joined(last, minute, start, interval);
    else bars.push(joined(null, minute, start, interval));
  }
  // What lies behind a page of minutes, or before the first one seen, may be missing from the first bar.
  if (newest === null && bars.length) bars[0] = { ...bars[0], complete: false };
  return bars;
}

/** Where the bar after this one may start at the earliest. */
const nextStart = (ts, interval) => (interval === "1d" ? dayStart(ts) + DAY_MS : ts + lengthOf(interval));

export class LongSeries {
  #minutes;
  #published = new Series();
  #bars = null;

  /** `minutes`: the Series of one-minute bars of the same instrument. */
  constructor(minutes, interval) {
    [this.#minutes, this.interval] = [minutes, interval];
  }

  /** Oldest first. */
  get bars() {
    if (this.#bars === null) {
      const newest = this.#published.newest;
      const tail = forming(this.#minutes.bars, this.interval, newest?.ts ?? null);
      this.#bars = this.#published.bars.concat(newest === null ? tail.slice(-1) : tail);
    }
    return this.#bars;
  }

  get isFull() {
    return this.#published.isFull;
  }

  /** The minutes have changed. */
  refresh() {
    this.#bars = null;
  }

  load(bars) {
    this.#bars = null;
    return this.#published.load(bars);
  }

  candle(bar) {
    this.#bars = null;
    return this.#published.candle(bar);
  }
}

/** A day that the bar's clock time says nothing about. */
export const isDay = (bar) => bar.interval === "1d";

