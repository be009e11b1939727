import assert from "node:assert/strict";
import { test } from "node:test";

import { answerWords, intent, problemWords, request } from "../../gateway/web/ticket.js";

const CALL = { key: "NSE_FO|1", lot_size: 75, tick_size: 0.05, instrument_type: "CE" };
const ORDER = { kind: "order", side: "BUY", lots: "2", product: "I", mode: "paper", type: "LIMIT", price: "101.5" };
const GTT = {
  kind: "gtt", side: "BUY", lots: "1", product: "I", mode: "", when: "ABOVE", entry: "200", target: "220", stop: "190",
  trail: "5",
};
const BASICS = { instrument_token: "NSE_FO|1", transaction_type: "BUY", product: "I" };
const wrong = (form, instrument = CALL) => Object.fromEntries(request(form, instrument).errors);

test("a limit order in lots becomes units at the price", () => {
  assert.deepEqual(request(ORDER, CALL), {
    errors: [], path: "/orders/place",
    body: {
      ...BASICS, quantity: 150, mode: "paper", order_type: "LIMIT", validity: "DAY", price: 101.5, trigger_price: 0,
    },
  });
});

test("a market order says how it is protected, a stop order has both prices", () => {
  const market = request({ ...ORDER, type: "MARKET" }, CALL).body;
  assert.deepEqual([market.price, market.market_protection], [0, -1]);
  const stop = request({ ...ORDER, type: "SL", trigger: "100" }, CALL).body;
  assert.deepEqual([stop.price, stop.trigger_price, stop.market_protection], [101.5, 100, undefined]);
});

test("the GTT has the venue's body", () => {
  assert.deepEqual(request(GTT, CALL), {
    errors: [], path: "/gtt/place",
    body: {
      ...BASICS, quantity: 75, type: "MULTIPLE",
      rules: [
        { strategy: "ENTRY", trigger_type: "ABOVE", trigger_price: 200 },
        { strategy: "TARGET", trigger_type: "IMMEDIATE", trigger_price: 220 },
        { strategy: "STOPLOSS", trigger_type: "IMMEDIATE", trigger_price: 190, trailing_gap: 5 },
      ],
    },
  });
});

test("an entry alone, and a guard without one, are single where they have one rule", () => {
  const single = request({ ...GTT, target: "", stop: "", trail: "" }, CALL).body;
  assert.deepEqual([single.type, single.rules.length], ["SINGLE", 1]);
  const guard = request({ ...GTT, when: "NONE", entry: "" }, CALL).body;
  assert.deepEqual(guard.rules.map(({ strategy }) => strategy), ["TARGET", "STOPLOSS"]);
});

test("everything that is wrong is said at its field, and nothing is made", () => {
  assert.deepEqual(Object.keys(wrong({ ...ORDER, lots: "1.5", price: "" }, null)), ["instrument", "lots", "price"]);
  assert.match(wrong(ORDER, { ...CALL, instrument_type: "INDEX" }).instrument, /index/);
  assert.match(wrong({ ...ORDER, price: "101.52" }).price, /steps of 0.05/);
  assert.equal(wrong({ ...ORDER, price: "-1" }).price, "a price above zero");
  assert.equal(wrong({ ...ORDER, type: "SL" }).trigger, "needed");
  assert.equal(request({ ...ORDER, price: "x" }, CALL).body, undefined);
});

test("profit is on the side that one bets on, loss on the other", () => {
  assert.equal(wrong({ ...GTT, target: "199" }).target, "above the entry");
  assert.equal(wrong({ ...GTT, stop: "201" }).stop, "below the entry");
  assert.equal(wrong({ ...GTT, side: "SELL" }).target, "below the entry");
  assert.ok(wrong({ ...GTT, when: "NONE", target: "180" }).target);
  assert.ok(wrong({ ...GTT, stop: "" }).stop, "a trailing gap needs a stop");
  assert.ok(wrong({ ...GTT, when: "NONE", target: "", stop: "", trail: "" }).stop);
});

test("the button says what it will do", () => {
  assert.equal(intent(ORDER, CALL, "NIFTY CE"), "Buy 150 × NIFTY CE");
  assert.equal(intent({ ...GTT, side: "SELL" }, CALL, "X"), "Sell by GTT 75 × X");
  assert.equal(intent({ ...GTT, when: "NONE" }, CALL, "X"), "Guard 75 × X");
  assert.equal(intent({ ...ORDER, lots: "" }, CALL, "X"), "Buy – × X");
});

test("an answer is told as it stands", () => {
  const order = { status: "complete", quantity: 75, filled_quantity: 75, average_price: 101.45, reason: "" };
  assert.deepEqual(answerWords(200, { order, orders: [order] }),
    { level: "ok", text: "Order complete, 75 of 75 at 101.45." });
  assert.equal(answerWords(200, { order: { ...order, status: "rejected", filled_quantity: 0, reason: "no funds" } }).level, "bad");
  assert.match(answerWords(200, { order: { ...order, status: "unknown" } }).text, /will not be sent twice/);
  assert.match(answerWords(200, { order, orders: [order, order] }).text, /in 2 slices/);
  assert.equal(answerWords(202, {}).level, "wait");
  assert.match(answerWords(200, { gtt: { gtt_order_id: "GTT-1", live: true } }).text, /GTT-1 is armed/);
});

test("a problem is told with its rule or its fields, and a silence with what to do", () => {
  const problem = (more) => ({ status: 422, message: "m", rule: "", errors: [], isPassing: false, ...more });
  assert.equal(problemWords(problem({ status: 409, rule: "position", message: "too large" })).text, "Refused (position): too large");
  assert.equal(problemWords(problem({ errors: [{ field: "body.price", message: "needed" }] })).text, "price: needed");
  assert.match(problemWords(problem({ status: 0, isPassing: true })).text, /one order, however often/);
});
