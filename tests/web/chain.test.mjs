import assert from "node:assert/strict";
import { test } from "node:test";

import { STRIKES_MAX, around, isOffCentre, moneyIndex, totals } from "../../gateway/web/chain.js";
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
