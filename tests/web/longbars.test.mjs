import assert from "node:assert/strict";
import { test } from "node:test";

import { Series } from "../../gateway/web/bars.js";
import { LongSeries, forming, startOf } from "../../gateway/web/longbars.js";

const MINUTE = 60_000;
const OPEN = Date.parse("2026-11-25T09:15:00+05:30");
const DAY = Date.parse("2026-11-25T00:00:00+05:30");

const minute = (n, more = {}) => ({
  ts: OPEN + n * MINUTE, open: 100 + n, high: 101 + n, low: 99 + n, close: 100.5 + n, volume: 10, vwap: 100 + n,
  oi: 1_000 + n, ticks: 2, complete: true, source: "live", rev: 0, ...more,
});
const published = (n, interval, more = {}) => ({ ...minute(n), interval, minutes: 5, rev: 4, ...more });

test("a bar starts where the published ones do, and at the opening before there are any", () => {
  assert.equal(startOf(OPEN + 67 * MINUTE, "60m", null), OPEN + 60 * MINUTE);
  assert.equal(startOf(OPEN + 67 * MINUTE, "5m", OPEN), OPEN + 65 * MINUTE);
  const night = DAY + 90 * MINUTE; // a demo that never closes counts from midnight
  assert.equal(startOf(night, "60m", DAY), DAY + 60 * MINUTE);
  assert.equal(startOf(night, "60m", DAY + 60 * MINUTE), DAY + 60 * MINUTE);
  assert.equal(startOf(OPEN, "1d", null), DAY);
});

test("what forms is the sum of its minutes, the one under way included", () => {
  const minutes = [minute(4), minute(5), minute(6, { high: 300, complete: false }), minute(7, { provisional: true })];
  const [bar, ...more] = forming(minutes, "5m", OPEN);
  assert.deepEqual(more, []);
  assert.deepEqual(
    [bar.ts, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.oi, bar.ticks, bar.minutes, bar.complete],
    [OPEN + 5 * MINUTE, 105, 300, 104, 107.5, 30, 1_007, 6, 3, false],
  );
  assert.ok(Math.abs(bar.vwap - 106) < 1e-9);
  assert.equal(bar.provisional, true);
});

test("a minute with volume and without a price by volume leaves none", () => {
  const [bar] = forming([minute(5, { vwap: null }), minute(6)], "5m", OPEN);
  assert.equal(bar.vwap, null);
});

test("between the end of a bar and its publication both it and the next one form", () => {
  const bars = forming([minute(3), minute(5), minute(9), minute(10)], "5m", OPEN);
  assert.deepEqual(bars.map((bar) => [bar.ts, bar.minutes]), [[OPEN + 5 * MINUTE, 2], [OPEN + 10 * MINUTE, 1]]);
});

test("before anything is published the first bar may lack minutes, and says so", () => {
  const [bar] = forming([minute(7), minute(8)], "5m", null);
  assert.deepEqual([bar.ts, bar.complete], [OPEN + 5 * MINUTE, false]);
});

test("a published bar takes the place of what formed, and the highest revision counts", () => {
  const minutes = new Series();
  const series = new LongSeries(minutes, "5m");
  series.load([published(0, "5m")]);
  minutes.load([minute(4), minute(5), minute(6)]);
  series.refresh();
  assert.deepEqual(series.bars.map((bar) => [bar.ts, bar.rev]), [[OPEN, 4], [OPEN + 5 * MINUTE, -1]]);
  series.candle(published(5, "5m", { rev: 5, close: 7 }));
  series.candle(published(5, "5m", { rev: 4, close: 8 }));
  assert.deepEqual(series.bars.map((bar) => [bar.ts, bar.close]), [[OPEN, 100.5], [OPEN + 5 * MINUTE, 7]]);
});

test("a day forms from the minutes since midnight and follows the published one of yesterday", () => {
  const yesterday = { ...published(0, "1d"), ts: DAY - 24 * 60 * MINUTE };
  const [bar] = forming([minute(-1_000), minute(0), minute(1)], "1d", yesterday.ts);
  assert.deepEqual([bar.ts, bar.open, bar.minutes], [DAY, 100, 2]);
});

test("ticks move what forms", () => {
  const minutes = new Series();
  const series = new LongSeries(minutes, "3m");
  series.load([published(0, "3m")]);
  const quote = { instrument: "A|1", oi: null, cp: 100 };
  minutes.tick({ ...quote, ts: OPEN + 3 * MINUTE + 500, ltt: OPEN + 3 * MINUTE + 400, ltp: 50, vtt: 10 });
  minutes.tick({ ...quote, ts: OPEN + 4 * MINUTE + 500, ltt: OPEN + 4 * MINUTE + 400, ltp: 60, vtt: 15 });
  series.refresh();
  const bar = series.bars.at(-1);
  assert.deepEqual([bar.ts, bar.open, bar.close, bar.volume], [OPEN + 3 * MINUTE, 50, 60, 5]);
});
