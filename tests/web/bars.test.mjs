import assert from "node:assert/strict";
import { test } from "node:test";

import { Series } from "../../gateway/web/bars.js";
import { integer, seeded } from "./random.mjs";

const MINUTE = 60_000;
const START = Date.parse("2026-11-20T04:00:00Z"); // 09:30 in India

function quote({ at, price, volume = null, ltt = at, oi = null }) {
  return { instrument: "NSE_FO|1", ts: START + at, ltp: price, ltt: START + ltt, vtt: volume, oi };
}

function bar(minute, close, more = {}) {
  const ohlc = { open: close, high: close, low: close, close };
  return { ts: START + minute * MINUTE, ...ohlc, volume: 1, oi: null, source: "live", complete: true, rev: 0, ...more };
}

function folded(...quotes) {
  const series = new Series();
  for (const each of quotes) series.tick(each);
  return series;
}

const ohlcv = ({ open, high, low, close, volume }) => [open, high, low, close, volume];

test("trades of a minute make one bar, and volume is what the count grew by", () => {
  const { bars } = folded(
    quote({ at: 1_000, price: 100, volume: 500 }), quote({ at: 2_000, price: 104, volume: 510 }),
    quote({ at: 3_000, price: 99, volume: 530 }), quote({ at: 4_000, price: 101, volume: 531 }),
  );
  assert.equal(bars.length, 1);
  assert.deepEqual(ohlcv(bars[0]), [100, 104, 99, 101, 31]);
  assert.equal(bars[0].vwap, (104 * 10 + 99 * 20 + 101) / 31);
});

test("the first quote opens a bar only when its trade lies in the current minute", () => {
  assert.equal(folded(quote({ at: 90_000, price: 100, volume: 5, ltt: 10_000 })).bars.length, 0);
  const [opened] = folded(quote({ at: 90_000, price: 100, volume: 5, ltt: 80_000 })).bars;
  assert.equal(opened.volume, 0);
  assert.equal(opened.complete, false);
});

test("a trade belongs to the minute of its own time, not to that of its arrival", () => {
  const { bars } = folded(
    quote({ at: 1_000, price: 100, volume: 1 }), quote({ at: 61_000, price: 101, volume: 2, ltt: 59_999 }),
    quote({ at: 62_000, price: 102, volume: 4, ltt: 60_000 }),
  );
  assert.deepEqual(bars.map(ohlcv), [[100, 101, 100, 101, 1], [102, 102, 102, 102, 2]]);
});

test("depth, open interest and repetitions are no trades", () => {
  const series = folded(quote({ at: 1_000, price: 100, volume: 10 }));
  assert.equal(series.tick(quote({ at: 2_000, price: 100, volume: 10, ltt: 1_000 })), false);
  assert.equal(series.tick(quote({ at: 3_000, price: 100, volume: 10, ltt: 1_000, oi: 75 })), true);
  assert.deepEqual([series.newest.ticks, series.newest.oi], [1, 75]);
});

test("an older state of the day changes nothing", () => {
  const series = folded(quote({ at: 1_000, price: 100, volume: 10 }), quote({ at: 2_000, price: 103, volume: 12 }));
  assert.equal(series.tick(quote({ at: 3_000, price: 90, volume: 11, ltt: 1_500 })), false);
  assert.deepEqual(ohlcv(series.newest), [100, 103, 100, 103, 2]);
});

test("a smaller count on a later date starts from zero", () => {
  const day = 24 * 60 * MINUTE;
  const { bars } = folded(quote({ at: 1_000, price: 100, volume: 900 }), quote({ at: day, price: 105, volume: 40 }));
  assert.deepEqual(ohlcv(bars[1]), [105, 105, 105, 105, 40]);
});

test("an index has no volume: a later time, or another price at the same time, is a trade", () => {
  const series = folded(quote({ at: 1_000, price: 100 }));
  assert.equal(series.tick(quote({ at: 1_500, price: 100, ltt: 1_000 })), false);
  assert.equal(series.tick(quote({ at: 2_000, price: 101, ltt: 1_000 })), true);
  assert.equal(series.tick(quote({ at: 3_000, price: 101 })), true);
  assert.deepEqual([series.newest.ticks, series.newest.volume, series.newest.vwap], [3, 0, null]);
});

test("a count that begins later begins as a base", () => {
  const series = folded(
    quote({ at: 1_000, price: 100 }), quote({ at: 2_000, price: 100, volume: 700, ltt: 1_000 }),
    quote({ at: 3_000, price: 101, volume: 702 }),
  );
  assert.deepEqual([series.newest.volume, series.newest.ticks], [2, 2]);
});

test("quotes without a price, or from the future, are passed over", () => {
  const series = folded(quote({ at: 1_000, price: 100, volume: 1 }));
  assert.equal(series.tick({ ...quote({ at: 2_000, price: 1, volume: 2 }), ltp: null }), false);
  assert.equal(series.tick({ ...quote({ at: 2_000, price: 1, volume: 2 }), ltt: null }), false);
  assert.equal(series.tick(quote({ at: 2_000, price: 1, volume: 2, ltt: 3 * MINUTE })), false);
});

test("a published bar replaces what ticks made of its minute, and later ticks of it change nothing", () => {
  const series = folded(quote({ at: 1_000, price: 100, volume: 1 }), quote({ at: 2_000, price: 103, volume: 3 }));
  assert.equal(series.candle(bar(0, 102)), true);
  assert.equal(series.tick(quote({ at: 62_000, price: 999, volume: 9, ltt: 50_000 })), false);
  assert.deepEqual(series.bars.map(ohlcv), [[102, 102, 102, 102, 1]]);
});

test("of published bars the highest revision counts, in whatever order they come", () => {
  const random = seeded(2);
  for (let run = 0; run < 50; run += 1) {
    const series = new Series();
    const revisions = [0, 1, 2, 3].flatMap((rev) => [0, 1, 2].map((minute) => bar(minute, 100 + rev, { rev })));
    while (revisions.length) {
      const [next] = revisions.splice(integer(random, revisions.length), 1);
      if (random() < 0.5) series.candle(next);
      else series.load([next]);
    }
    assert.deepEqual(series.bars.map(({ ts, close }) => [(ts - START) / MINUTE, close]), [[0, 103], [1, 103], [2, 103]]);
  }
});

test("an equal revision replaces, as at the gateway", () => {
  const series = new Series();
  series.candle(bar(0, 100, { rev: 1 }));
  assert.equal(series.candle(bar(0, 101, { rev: 1 })), true);
  assert.equal(series.newest.close, 101);
});

test("once a minute is published, minutes before it that only ticks knew are gone", () => {
  const series = folded(
    quote({ at: 1_000, price: 100, volume: 1 }), quote({ at: 61_000, price: 101, volume: 2 }),
    quote({ at: 121_000, price: 102, volume: 3 }),
  );
  series.candle(bar(1, 101));
  assert.deepEqual(series.bars.map(({ ts, provisional = false }) => [(ts - START) / MINUTE, provisional]), [[1, false], [2, true]]);
});

test("a late trade makes no bar before a published one", () => {
  const series = folded(quote({ at: 1_000, price: 100, volume: 1 }));
  series.candle(bar(0, 100));
  series.candle(bar(2, 100));
  assert.equal(series.tick(quote({ at: 181_000, price: 100, volume: 2, ltt: 70_000 })), false);
  assert.equal(series.bars.length, 2);
});

test("loading a page says how many bars came in front", () => {
  const series = new Series();
  assert.equal(series.load([bar(10, 1), bar(11, 1)]), 0);
  assert.equal(series.load([bar(7, 1), bar(8, 1), bar(9, 1), bar(10, 1, { rev: 4 })]), 3);
  assert.equal(series.load([bar(12, 1)]), 0);
  assert.deepEqual(series.bars.map(({ ts }) => (ts - START) / MINUTE), [7, 8, 9, 10, 11, 12]);
});

test("a page that is loaded leaves the forming bar alone", () => {
  const series = folded(quote({ at: 1_000, price: 100, volume: 1 }));
  series.load([bar(-2, 90), bar(-1, 95)]);
  assert.deepEqual(series.bars.map(({ close }) => close), [90, 95, 100]);
  assert.equal(series.newest.provisional, true);
});

test("after a gap the count is a new base, and the bar is marked", () => {
  const series = folded(quote({ at: 500, price: 100, volume: 1 }), quote({ at: 61_000, price: 100, volume: 2 }));
  assert.equal(series.newest.complete, true);
  series.gap();
  series.tick(quote({ at: 62_000, price: 108, volume: 5_000 }));
  assert.deepEqual(ohlcv(series.newest), [100, 108, 100, 108, 1]);
  assert.equal(series.newest.complete, false);
});

test("bars stay sorted, one a minute, whatever comes", () => {
  const random = seeded(3);
  for (let run = 0; run < 30; run += 1) {
    const series = new Series();
    let volume = 0;
    for (let step = 0; step < 300; step += 1) {
      const at = step * 2_000;
      const kind = random();
      const minute = Math.floor(at / MINUTE) - integer(random, 3);
      if (kind < 0.75) series.tick(quote({ at, price: 100 + integer(random, 9), volume: (volume += integer(random, 3)), ltt: at - integer(random, 9_000) }));
      else if (kind < 0.95) series.candle(bar(minute, 100, { rev: integer(random, 3) }));
      else series.gap();
    }
    const stamps = series.bars.map(({ ts }) => ts);
    assert.deepEqual(stamps, [...new Set(stamps)].sort((a, b) => a - b));
    for (const each of series.bars) assert.ok(each.low <= each.open && each.close <= each.high && each.volume >= 0);
  }
});
