import assert from "node:assert/strict";
import { test } from "node:test";

import {
  canCancel, Ledger, priceWords, profit, refusalWords, ruleWords, statusWords, switchWords, unrealised,
} from "../../gateway/web/orders.js";

const order = (id, more) => ({
  order_id: id, instrument: "NSE_FO|1", status: "open", pending: "", reason: "", created_ts: 1, ts: 1, ...more,
});
const position = (more) => ({
  instrument: "NSE_FO|1", product: "I", mode: "paper", quantity: 75, average_price: 100, last_price: 104,
  realised: 10, unrealised: 300, charges: 5, ts: 1, ...more,
});

test("the last telling counts, an older one changes nothing", () => {
  const ledger = new Ledger();
  assert.equal(ledger.apply("order", order("a", { ts: 2, status: "complete" })), true);
  assert.equal(ledger.apply("order", order("a")), false);
  assert.equal(ledger.orders[0].status, "complete");
  ledger.apply("order", order("a", { ts: 2, status: "cancelled" })); // of the same instant: what came last
  assert.equal(ledger.orders[0].status, "cancelled");
});

test("what may still change comes first, then the newest", () => {
  const ledger = new Ledger();
  ledger.apply("order", order("done", { status: "complete", created_ts: 9 }));
  ledger.apply("order", order("old"));
  ledger.apply("order", order("new", { created_ts: 5 }));
  assert.deepEqual(ledger.orders.map(({ order_id }) => order_id), ["new", "old", "done"]);
  ledger.apply("gtt", { gtt_order_id: "g", live: true, created_at: 1, instrument: "NSE_FO|2", ts: 1 });
  ledger.apply("position", position());
  ledger.apply("position", position({ mode: "shadow", quantity: 0 }));
  assert.deepEqual(ledger.live, { orders: 2, gtts: 1, positions: 1 });
  assert.deepEqual([...ledger.keys].sort(), ["NSE_FO|1", "NSE_FO|2"]);
  assert.deepEqual(ledger.positions.map(({ mode }) => mode), ["paper", "shadow"]);
});

test("a fill is one however often it is told, refusals are a short list, and REST replaces all", () => {
  const ledger = new Ledger();
  const fill = { fill_id: "f", instrument: "NSE_FO|1", ts: 1 };
  assert.deepEqual([ledger.apply("fill", fill), ledger.apply("fill", fill)], [true, false]);
  for (let n = 0; n < 30; n += 1) ledger.apply("refused", { rule: String(n) });
  assert.deepEqual([ledger.refusals.length, ledger.refusals[0].rule], [20, "29"]);
  ledger.replace("order", [order("x")]);
  assert.deepEqual(ledger.orders.map(({ order_id }) => order_id), ["x"]);
});

test("profit follows the price that is seen, from the worker's own figure", () => {
  assert.equal(unrealised(position(), 104), 300);
  assert.equal(unrealised(position(), 105), 375);
  assert.equal(unrealised(position({ quantity: -75 }), 105), 225);
  assert.equal(unrealised(position(), null), 300);
  assert.equal(unrealised(position({ unrealised: null }), 101), 75);
  assert.equal(unrealised(position({ unrealised: null }), null), null);
  assert.equal(unrealised(position({ quantity: 0, unrealised: 0 }), 999), 0);
  assert.equal(profit(position(), 105), 380);
  assert.equal(profit(position({ unrealised: null }), null), null);
});

test("states, prices and rules are said in words", () => {
  assert.equal(statusWords(order("a", { status: "rejected", reason: "no funds" })), "rejected: no funds");
  assert.equal(statusWords(order("a", { pending: "cancel" })), "open, cancel asked");
  assert.deepEqual([canCancel(order("a")), canCancel(order("a", { pending: "cancel" })), canCancel(order("a", { status: "complete" }))],
    [true, false, false]);
  assert.equal(priceWords({ price: 101.5, trigger_price: 0 }), "101.50");
  assert.equal(priceWords({ price: 0, trigger_price: 99 }), "market, from 99.00");
  const rule = { strategy: "STOPLOSS", trigger_type: "IMMEDIATE", trigger_price: 190, trailing_gap: 5, status: "PENDING", message: "" };
  assert.deepEqual(ruleWords(rule), { leg: "Stop", words: "at 190.00, trailing 5.00", status: "pending", isHot: true });
  const entry = { ...rule, strategy: "ENTRY", trigger_type: "ABOVE", trailing_gap: null, status: "FAILED", message: "no" };
  assert.deepEqual(ruleWords(entry), { leg: "Entry", words: "above 190.00", status: "failed: no", isHot: false });
  assert.equal(refusalWords({ side: "BUY", quantity: 75, rule: "lot", reason: "x" }), "BUY 75 refused (lot): x");
  assert.equal(refusalWords({ side: null, quantity: 0, rule: "halt", reason: "x" }), "Refused (halt): x");
});

test("the switch says mode, halt and whether anybody obeys", () => {
  const told = (more) => switchWords({ mode: "paper", venue: "sim", halt: null, worker: true, ...more });
  assert.deepEqual(told({}), { mode: "paper", label: "Paper", level: "on", title: "Orders are paper" });
  assert.equal(told({ mode: "live" }).title, "Orders are real");
  assert.deepEqual([told({ halt: { why: "news", by: "x" } }).level, told({ halt: { why: "news", by: "x" } }).title],
    ["halted", "Halted by x: news"]);
  assert.equal(told({ worker: false }).level, "wait");
  assert.equal(switchWords(null).level, "wait");
});
