import assert from "node:assert/strict";
import { test } from "node:test";

import {
  STRIKES_MAX, around, changeWords, isOffCentre, measures, modelWords, moneyIndex, optionsOf, totals,
} from "../../gateway/web/chain.js";
import { integer, seeded } from "./random.mjs";

const STRIKES = [26_900, 26_950, 27_000, 27_050, 27_100];
const ROWS = STRIKES.map((strike) => ({ strike, call: `c${strike}`, put: `p${strike}` }));

test("the money is the nearest strike, the lower one of two", () => {
  assert.equal(moneyIndex(STRIKES, 26_976), 2);
  assert.equal(moneyIndex(STRIKES, 26_975), 1);
  assert.equal(moneyIndex(STRIKES, 1), 0);
  assert.equal(moneyIndex(STRIKES, 1e9), 4);
});

test("without a price or strikes there is no money", () => {
  assert.equal(moneyIndex(STRIKES, null), -1);
  assert.equal(moneyIndex([], 27_000), -1);
});

test("a window holds the money and no more strikes than it may", () => {
  const random = seeded(6);
  for (let n = 0; n < 300; n += 1) {
    const count = integer(random, 300);
    const money = count ? integer(random, count) : -1;
    const { from, to } = around(count, money);
    assert.equal(to - from, Math.min(count, STRIKES_MAX));
    assert.ok(from >= 0 && to <= count);
    if (count) assert.ok(from <= money && money < to);
  }
});

test("a window around the money needs no other at once", () => {
  for (const money of [0, 40, 75, 149]) assert.equal(isOffCentre(around(150, money), 150, money), false);
});

test("a window moves when the money comes near an edge behind which there is more", () => {
  const shown = around(150, 75);
  assert.equal(isOffCentre(shown, 150, shown.from + 3), true);
  assert.equal(isOffCentre(shown, 150, shown.to - 3), true);
  assert.equal(isOffCentre({ from: 0, to: 60 }, 150, 3), false);
  assert.equal(isOffCentre(shown, 150, -1), false);
});

test("the ratio is puts over calls, the straddle both prices at the money", () => {
  const quote = (key) => ({ ltp: key[0] === "c" ? 80 : 70.5, oi: key[0] === "c" ? 200 : 300 });
  assert.deepEqual(totals(ROWS, 2, quote), { callOi: 1_000, putOi: 1_500, pcr: 1.5, strike: 27_000, straddle: 150.5 });
});

test("what nobody told is unknown, not zero", () => {
  const nothing = totals(ROWS, 2, () => null);
  assert.deepEqual(nothing, { callOi: null, putOi: null, pcr: null, strike: 27_000, straddle: null });
  const noPuts = totals(ROWS, 2, (key) => (key[0] === "c" ? { ltp: 80, oi: 200 } : { ltp: null, oi: null }));
  assert.deepEqual([noPuts.callOi, noPuts.pcr, noPuts.straddle], [1_000, null, null]);
  const noCalls = totals(ROWS, 2, (key) => ({ ltp: 1, oi: key[0] === "c" ? 0 : 5 }));
  assert.equal(noCalls.pcr, null);
});

test("a strike may lack a side, and the money may be unknown", () => {
  const rows = [{ strike: 27_000, call: "c", put: null }];
  assert.equal(totals(rows, 0, () => ({ ltp: 1, oi: 2 })).straddle, null);
  assert.equal(totals(rows, -1, () => ({ ltp: 1, oi: 2 })).strike, null);
});

const NAMES = [
  "atm_strike", "atm_iv", "straddle", "expected_move", "pcr_oi", "pcr_volume", "max_pain", "put_wall", "call_wall", "gex",
  "forward", "basis", "skew_25d", "iv_rank",
];
const UNKNOWN = {
  ...Object.fromEntries(NAMES.map((name) => [name, null])),
  expected_move_factor: 0.85, iv_days: 0, forward_from: "none", complete: false, ts: 1_795_578_300_000, strikes: [],
};

test("the measures of a minute have their units, and its end", () => {
  const found = Object.fromEntries(measures({
    ...UNKNOWN, atm_strike: 24_050, atm_iv: 0.1182, pcr_oi: 0.934, max_pain: 24_000, gex: 1.234e9, skew_25d: 0.021,
    put_wall: 23_900, call_wall: 24_200, expected_move: 180.5, basis: 23.7, complete: true, iv_rank: 41.6,
  }));
  assert.equal(found["ATM"], "24,050");
  assert.equal(found["ATM IV"], "11.8%");
  assert.equal(found["PCR"], "0.93");
  assert.equal(found["Max pain"], "24,000");
  assert.equal(found["GEX"], "₹123.4 Cr");
  assert.equal(found["Walls"], "23,900 – 24,200");
  assert.equal(found["Expected"], "±180.50");
  assert.equal(found["Basis"], "+23.70");
  assert.equal(found["IV rank"], "42");
  assert.equal(found["As of"], "09:16");
});

test("what a minute does not know is not shown as zero, and its holes are told", () => {
  const texts = measures(UNKNOWN).map(([name, text]) => [name, text]);
  for (const [name, text] of texts) assert.ok(!/[0-9]/.test(text) || name === "As of", `${name}: ${text}`);
  assert.equal(Object.fromEntries(texts)["As of"], "09:16, partial");
});

test("options are found by their instrument, whichever side they are on", () => {
  const [call, put] = [{ instrument: "c" }, { instrument: "p" }];
  const found = optionsOf({ strikes: [{ call, put: null }, { call: null, put }] });
  assert.deepEqual([...found.keys()], ["c", "p"]);
});

test("a change of open interest says against what, and what it means", () => {
  assert.equal(
    changeWords({ oi_change_from: "previous_day", action: "short_buildup" }), "against the day before: short build-up");
  assert.equal(changeWords({ oi_change_from: "first_seen", action: "neutral" }), "since first seen today");
  assert.equal(changeWords({ oi_change_from: null, action: null }), "");
});

test("a volatility that there is not has a reason", () => {
  assert.equal(modelWords({ model: { flag: "below_intrinsic" } }), "below intrinsic");
  assert.equal(modelWords({ model: { flag: "ok" } }), "");
});
