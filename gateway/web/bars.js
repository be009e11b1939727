// The bars of one instrument: closed ones as the pipeline published them, the forming one folded from ticks.
//
// The rules are those of the aggregator, so that the forming bar flows into the published one without a jump:
// - A trade is a quote with a larger `vtt` than the last, or the same `vtt` (or none) and a later `ltt` (without `vtt`
//   also: the same `ltt` and another `ltp`). An older state of the same day is none; a smaller `vtt` on a later date
//   starts a new session from zero.
// - A trade belongs to the minute of its `ltt`; its volume is what `vtt` grew by.
// - The first quote sets the base. Only if its `ltt` lies in the current minute does it open that bar, with volume from
//   there on.
// What ticks made is `provisional` and gives way to any published bar of its minute; of published ones the highest
// `rev` counts. Pure.

import { MINUTE_MS, dayNumber, minuteStart } from "./format.js";

const BARS_MAX = 20_000;

export class Series {
  #last = null; // ltp, ltt, vtt of the newest state seen
  #oi = null;

  constructor() {
    /** Oldest first, one a minute. */
    this.bars = [];
  }

  get newest() {
    return this.bars.at(-1) ?? null;
  }

  /** No older bars would be kept. */
  get isFull() {
    return this.bars.length >= BARS_MAX;
  }

  /** Take published bars, in any order. Returns how many were put in front of what was there. */
  load(bars) {
    const first = this.bars[0]?.ts ?? Infinity;
    const before = this.bars.length;
    // A whole page is merged in one pass: inserting 1,000 bars one by one moves the array 1,000 times.
    const merged = new Map(this.bars.map((bar) => [bar.ts, bar]));
    for (const bar of bars) {
      const known = merged.get(bar.ts);
      if (!known || known.provisional || bar.rev >= known.rev) merged.set(bar.ts, bar);
    }
    this.bars = [...merged.values()].sort((a, b) => a.ts - b.ts).slice(-BARS_MAX);
    if (bars.length) this.#settle(Math.max(...bars.map((bar) => bar.ts)));
    return before ? this.#place(first) : 0;
  }

  /** Take a published bar. Says whether anything changed. */
  candle(bar) {
    const at = this.#place(bar.ts);
    const known = this.bars[at];
    if (known?.ts === bar.ts) {
      if (!known.provisional && known.rev > bar.rev) return false;
      this.bars[at] = bar;
    } else {
      this.bars.splice(at, 0, bar);
      if (this.bars.length > BARS_MAX) this.bars.shift();
    }
    this.#settle(bar.ts);
    return true;
  }

  /** Take a quote. Says whether a bar changed. */
  tick(quote) {
    if (quote.oi !== null) this.#oi = quote.oi;
    const isBase = this.#last === null;
    const traded = this.#traded(quote);
    const bar = traded === null ? null : this.#barOf(quote, isBase);
    if (bar) include(bar, quote.ltp, traded);
    return this.#follow() || bar !== null;
  }

  /** Ticks were missed: what comes next is a new base, and the bar that was forming is not the whole truth. */
  gap() {
    this.#last = null;
    const newest = this.newest;
    if (newest?.provisional) newest.complete = false;
  }

  /** The volume of the trade in a quote; null where it holds no trade. */
  #traded({ ltp, ltt, vtt, ts }) {
    if (!ltp || !ltt || ltt > ts + MINUTE_MS) return null;
    const last = this.#last;
    if (last === null) {
      this.#last = { ltp, ltt, vtt };
      return minuteStart(ltt) === minuteStart(ts) ? 0 : null;
    }
    const days = dayNumber(ltt) - dayNumber(last.ltt);
    if (days < 0) return null;
    const volume = vtt === null ? later(last, ltt, ltp) : grown(last, ltt, vtt, days);
    if (volume !== null) this.#last = { ltp, ltt, vtt: vtt ?? last.vtt };
    else last.vtt ??= vtt;
    return volume;
  }

  /** The bar that a trade goes into; null where a published bar has, or will have, the last word. */
  #barOf({ ltp, ltt }, isBase) {
    const ts = minuteStart(ltt);
    const at = this.#place(ts);
    const known = this.bars[at];
    if (known?.ts === ts) return known.provisional ? known : null;
    if (this.bars.slice(at).some((bar) => !bar.provisional)) return null; // too late: its bar will be published
    const bar = {
      ts, open: ltp, high: ltp, low: ltp, close: ltp, volume: 0, oi: this.#oi, vwap: null, ticks: 0,
      source: "ticks", complete: !isBase, rev: -1, provisional: true, worth: 0,
    };
    this.bars.splice(at, 0, bar);
    return bar;
  }

  /** Open interest comes between trades too. */
  #follow() {
    const newest = this.newest;
    if (!newest?.provisional || newest.oi === this.#oi) return false;
    newest.oi = this.#oi;
    return true;
  }

  /** A bar of this minute is out: minutes before it that only ticks knew have none (a print outside the session). */
  #settle(ts) {
    if (this.bars.some((bar) => bar.provisional && bar.ts < ts)) {
      this.bars = this.bars.filter((bar) => !bar.provisional || bar.ts >= ts);
    }
  }

  /** Where a bar of this minute is, or would be. */
  #place(ts) {
    let low = 0;
    let high = this.bars.length;
    if (high && this.bars[high - 1].ts < ts) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.bars[middle].ts < ts) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Without a volume count: is this a later trade, or another one of the same moment? */
function later(last, ltt, ltp) {
  return ltt > last.ltt || (ltt === last.ltt && ltp !== last.ltp) ? 0 : null;
}

/** With one: what it grew by. On a later date it has started from zero. */
function grown(last, ltt, vtt, days) {
  if (days > 0) return vtt;
  if (last.vtt === null) return ltt > last.ltt ? 0 : null;
  if (vtt > last.vtt) return vtt - last.vtt;
  return vtt === last.vtt && ltt > last.ltt ? 0 : null;
}

function include(bar, price, volume) {
  bar.high = Math.max(bar.high, price);
  bar.low = Math.min(bar.low, price);
  bar.close = price;
  bar.volume += volume;
  bar.worth += price * volume;
  bar.vwap = bar.volume ? bar.worth / bar.volume : null;
  bar.ticks += 1;
}
