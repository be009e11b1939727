// From what is filled in to the request that is sent, and from the answer to words. Pure.

import { number } from "./format.js";

const VERBS = { BUY: "Buy", SELL: "Sell" };
const TINY = 1e-6;

/** Units in a lot; shares come one by one. */
export const lotOf = (instrument) => Math.max(1, instrument?.lot_size ?? 1);

/**
 * `form`: {kind: "order"|"gtt", side, lots, product, mode, type, price, trigger, when, entry, target, stop, trail}, all
 * texts. Returns {errors: [[field, words]]} or {errors: [], path, body}.
 */
export function request(form, instrument) {
  const errors = [];
  const wrong = (field, words) => { errors.push([field, words]); };
  if (!instrument) wrong("instrument", "choose an instrument in the list or in the chain");
  else if (instrument.instrument_type === "INDEX") wrong("instrument", "an index cannot be traded: choose a contract");
  const lots = Number(form.lots);
  if (!Number.isInteger(lots) || lots < 1) wrong("lots", "a whole number, 1 or more");
  const price = (field, isNeeded) => amount(form[field], field, isNeeded, instrument?.tick_size, wrong);
  const basics = {
    instrument_token: instrument?.key, transaction_type: form.side, quantity: lots * lotOf(instrument),
    product: form.product, ...(form.mode ? { mode: form.mode } : {}),
  };
  const body = form.kind === "gtt" ? gtt(form, basics, price, wrong) : order(form, basics, price);
  if (errors.length) return { errors };
  return { errors, path: form.kind === "gtt" ? "/gtt/place" : "/orders/place", body };
}

/** A price of the form; null where it is left out. */
function amount(text, field, isNeeded, tick, wrong) {
  if ((text ?? "").trim() === "") {
    if (isNeeded) wrong(field, "needed");
    return null;
  }
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) {
    wrong(field, "a price above zero");
    return null;
  }
  if (tick > 0 && Math.abs(value / tick - Math.round(value / tick)) > TINY * (value / tick + 1)) {
    wrong(field, `in steps of ${tick}`);
  }
  return value;
}

function order(form, basics, price) {
  const hasPrice = form.type === "LIMIT" || form.type === "SL";
  const hasTrigger = form.type === "SL" || form.type === "SL-M";
  return {
    ...basics, order_type: form.type, validity: "DAY",
    price: hasPrice ? price("price", true) : 0,
    trigger_price: hasTrigger ? price("trigger", true) : 0,
    ...(hasPrice ? {} : { market_protection: -1 }),
  };
}

function gtt(form, basics, price, wrong) {
  const isGuard = form.when === "NONE";
  const [entry, target, stop] = [price("entry", !isGuard), price("target", false), price("stop", false)];
  const trail = form.trail?.trim() ? price("trail", false) : null;
  if (trail !== null && stop === null && !form.stop?.trim()) wrong("stop", "needed: a trailing gap moves a stop");
  if (isGuard && target === null && stop === null) wrong("stop", "a guard needs a stop or a target");
  const sign = form.side === "BUY" ? 1 : -1;
  const side = (low, high, field, words) => {
    if (low !== null && high !== null && (high - low) * sign <= 0) wrong(field, words);
  };
  side(isGuard ? null : entry, target, "target", form.side === "BUY" ? "above the entry" : "below the entry");
  side(stop, isGuard ? null : entry, "stop", form.side === "BUY" ? "below the entry" : "above the entry");
  if (isGuard) side(stop, target, "target", "on the other side of the stop");
  const rules = [];
  if (!isGuard) rules.push({ strategy: "ENTRY", trigger_type: form.when, trigger_price: entry });
  if (target !== null) rules.push({ strategy: "TARGET", trigger_type: "IMMEDIATE", trigger_price: target });
  if (stop !== null) {
    const moving = trail === null ? {} : { trailing_gap: trail };
    rules.push({ strategy: "STOPLOSS", trigger_type: "IMMEDIATE", trigger_price: stop, ...moving });
  }
  return { ...basics, type: rules.length > 1 ? "MULTIPLE" : "SINGLE", rules };
}

/** What the button says it will do. */
export function intent(form, instrument, name) {
  const lots = Number(form.lots);
  const units = Number.isInteger(lots) && lots > 0 ? number(lots * lotOf(instrument)) : "–";
  const what = form.kind === "gtt" ? (form.when === "NONE" ? "Guard" : `${VERBS[form.side]} by GTT`) : VERBS[form.side];
  return `${what} ${units} × ${name}`;
}

/** {level: ok|wait|bad, text} of a 200 or a 202. */
export function answerWords(status, body) {
  if (status === 202) {
    return { level: "wait", text: "Written down, not decided yet: it will be decided once. Watch the list." };
  }
  if (body.gtt) return { level: "ok", text: `GTT ${body.gtt.gtt_order_id} is ${body.gtt.live ? "armed" : "over"}.` };
  const { order, orders = [] } = body;
  if (!order) return { level: "ok", text: "Done." };
  const slices = orders.length > 1 ? ` in ${orders.length} slices` : "";
  const filled = order.filled_quantity
    ? `, ${number(order.filled_quantity)} of ${number(order.quantity)} at ${number(order.average_price, 2)}` : "";
  const reason = order.reason ? `: ${order.reason}` : "";
  const level = { rejected: "bad", unknown: "wait" }[order.status] ?? "ok";
  const text = order.status === "unknown"
    ? "The venue has not answered: it is being asked about, and will not be sent twice." : `Order ${order.status}`;
  return { level, text: order.status === "unknown" ? text : `${text}${slices}${filled}${reason}.` };
}

/** {level, text} of a problem: what to do where that is known. */
export function problemWords(problem) {
  if (problem.status === 409) {
    return { level: "bad", text: `Refused${problem.rule ? ` (${problem.rule})` : ""}: ${problem.message}` };
  }
  if (problem.isPassing) {
    return { level: "wait", text: `${problem.message}. Send again: the same request is one order, however often it is sent.` };
  }
  const fields = problem.errors.map(({ field, message }) => `${field.replace(/^body\./, "")}: ${message}`);
  return { level: "bad", text: fields.length ? fields.join("; ") : problem.message };
}
