import assert from "node:assert/strict";
import { test } from "node:test";

import * as format from "../../gateway/web/format.js";
import { seeded } from "./random.mjs";

test("digits are grouped by three, then by two", () => {
  const expected = {
    0: "0", 7: "7", 123: "123", 1234: "1,234", 12345: "12,345", 123456: "1,23,456", 1234567: "12,34,567",
    12345678: "1,23,45,678", 1234567890: "1,23,45,67,890",
  };
  for (const [value, text] of Object.entries(expected)) assert.equal(format.number(Number(value)), text);
});

test("grouping loses no digit", () => {
  const random = seeded(1);
  for (let n = 0; n < 500; n += 1) {
    const digits = String(Math.floor(random() * 10 ** (1 + Math.floor(random() * 14))));
    const text = format.grouped(digits);
    assert.equal(text.replaceAll(",", ""), digits);
    assert.match(text, /^\d{1,3}$|^\d{1,2}(,\d\d)*,\d{3}$/);
  }
});

test("a price has the decimals it is asked for, and a real minus sign", () => {
  assert.equal(format.number(1234567.05, 2), "12,34,567.05");
  assert.equal(format.number(-1234.5, 2), "−1,234.50");
  assert.equal(format.number(-0.001, 2), "0.00");
});

test("what is not known is a dash, never a zero", () => {
  for (const value of [null, undefined, NaN, Infinity, "12"]) {
    assert.equal(format.number(value), format.UNKNOWN);
    assert.equal(format.percent(value), format.UNKNOWN);
    assert.equal(format.compact(value), format.UNKNOWN);
  }
});

test("a change carries its sign, and none when it rounds to zero", () => {
  assert.equal(format.signed(12.3), "+12.30");
  assert.equal(format.signed(-12.3), "−12.30");
  assert.equal(format.signed(0.004), "0.00");
  assert.equal(format.percent(1.234), "+1.23%");
});

test("quantities are in full below a lakh, then in lakhs, then in crores", () => {
  assert.equal(format.compact(99_999), "99,999");
  assert.equal(format.compact(100_000), "1.00 L");
  assert.equal(format.compact(1_862_575), "18.63 L");
  assert.equal(format.compact(42_877_575), "4.29 Cr");
  assert.equal(format.compact(12_345_678_900), "1,234.6 Cr");
});

test("decimals follow the tick, and are two at least", () => {
  const expected = [[0.05, 2], [0.01, 2], [0.1, 2], [1, 2], [0.0025, 4], [0, 2], [null, 2], [0.005, 3]];
  for (const [tick, decimals] of expected) assert.equal(format.decimalsOf(tick), decimals);
});

test("a change needs both prices", () => {
  assert.deepEqual(format.change(110, 100), { points: 10, percent: 10 });
  for (const [last, close] of [[null, 100], [100, null], [100, 0]]) {
    assert.deepEqual(format.change(last, close), { points: null, percent: null });
  }
});

test("arrows point where the price went", () => {
  assert.deepEqual([1, -1, 0, null].map(format.arrow), ["▲", "▼", "", ""]);
});

test("times are Indian whatever the machine's zone", () => {
  const ms = Date.parse("2026-11-20T03:45:07Z");
  assert.equal(format.time(ms), "09:15");
  assert.equal(format.time(ms, { seconds: true }), "09:15:07");
  assert.equal(format.date(ms, { weekday: true }), "Fri 20 Nov");
  assert.equal(format.minuteOfDay(ms), 9 * 60 + 15);
});

test("the Indian date changes at 18:30 UTC", () => {
  const before = Date.parse("2026-11-20T18:29:59Z");
  assert.equal(format.dayNumber(before) + 1, format.dayNumber(before + 1_000));
  assert.equal(format.date(before + 1_000), "21 Nov");
});

test("an expiry says its year only where it is another one", () => {
  const now = Date.parse("2026-11-20T06:00:00Z");
  assert.equal(format.expiry("2026-11-24", now), "24 Nov");
  assert.equal(format.expiry("2027-01-28", now), "28 Jan 27");
  assert.equal(format.expiry("2026-11-24"), "24 Nov 26");
  assert.equal(format.daysTo("2026-11-24", now), 4);
  assert.equal(format.daysTo("2026-11-20", now), 0);
});

test("an instrument's title tells it from its like", () => {
  const now = Date.parse("2026-11-20T06:00:00Z");
  const option = { instrument_type: "CE", underlying_symbol: "NIFTY", name: "NIFTY", strike: 27000, expiry: "2026-11-24" };
  assert.deepEqual(format.title(option, now), { name: "NIFTY 27,000 CE", detail: "24 Nov" });
  const future = { instrument_type: "FUT", underlying_symbol: "NIFTY", name: "NIFTY", expiry: "2026-11-24" };
  assert.deepEqual(format.title(future, now), { name: "NIFTY FUT", detail: "24 Nov" });
  const share = { instrument_type: "EQ", trading_symbol: "ITC", name: "ITC LTD", exchange: "NSE" };
  assert.deepEqual(format.title(share, now), { name: "ITC", detail: "NSE" });
  assert.equal(format.strike(162.5), "162.50");
});
