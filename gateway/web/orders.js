// Orders, GTTs, positions and fills as they stand, and how they are said. Pure.

import { number, signed, UNKNOWN } from "./format.js";

const OVER = ["complete", "cancelled", "rejected"];
const FILLS_MOST = 500;
const REFUSED_MOST = 20;

export const isOver = (order) => OVER.includes(order.status);
export const canCancel = (order) => !isOver(order) && order.pending !== "cancel";
export const nameOf = {
  order: (order) => order.order_id,
  gtt: (gtt) => gtt.gtt_order_id,
  position: ({ mode, instrument, product }) => `${mode}|${instrument}|${product}`,
  fill: (fill) => fill.fill_id,
};

/** What the stream of orders has told; a later telling replaces an earlier one, never the other way round. */
export class Ledger {
  #held = { order: new Map(), gtt: new Map(), position: new Map(), fill: new Map() };
  refusals = []; // newest first

  /** Says whether anything changed. */
  apply(kind, told) {
    if (kind === "refused") {
      this.refusals = [told, ...this.refusals].slice(0, REFUSED_MOST);
      return true;
    }
    const [held, name] = [this.#held[kind], nameOf[kind](told)];
    const known = held.get(name);
    if (known && (known.ts > told.ts || kind === "fill")) return false;
    held.set(name, told);
    if (kind === "fill" && held.size > FILLS_MOST) held.delete(held.keys().next().value);
    return true;
  }

  /** All of a kind anew, as REST tells them. */
  replace(kind, all) {
    this.#held[kind] = new Map(all.map((told) => [nameOf[kind](told), told]));
  }

  /** What may still change first, then the newest. */
  get orders() {
    return [...this.#held.order.values()].sort((a, b) => isOver(a) - isOver(b) || b.created_ts - a.created_ts);
  }

  get gtts() {
    return [...this.#held.gtt.values()].sort((a, b) => b.live - a.live || b.created_at - a.created_at);
  }

  /** The open ones first, by instrument. */
  get positions() {
    const isFlat = ({ quantity }) => Number(quantity === 0);
    return [...this.#held.position.values()].sort(
      (a, b) => isFlat(a) - isFlat(b) || a.instrument.localeCompare(b.instrument) || a.mode.localeCompare(b.mode));
  }

  get fills() {
    return [...this.#held.fill.values()].sort((a, b) => b.ts - a.ts);
  }

  /** How many may still change, by kind. */
  get live() {
    return {
      orders: this.orders.filter((order) => !isOver(order)).length,
      gtts: this.gtts.filter((gtt) => gtt.live).length,
      positions: this.positions.filter((position) => position.quantity !== 0).length,
    };
  }

  /** The instruments whose prices matter. */
  get keys() {
    const open = this.positions.filter((position) => position.quantity !== 0);
    return new Set([...open, ...this.gtts.filter((gtt) => gtt.live)].map(({ instrument }) => instrument));
  }
}

/** Profit of what is open, carried on from the worker's last price to the one we see. Null: not known. */
export function unrealised(position, ltp) {
  if (position.quantity === 0) return position.unrealised ?? 0;
  if (ltp === null || ltp === undefined) return position.unrealised;
  if (position.unrealised === null || position.last_price === null) {
    return (ltp - position.average_price) * position.quantity;
  }
  return position.unrealised + (ltp - position.last_price) * position.quantity;
}

/** Of the day and after charges, as far as it is known. */
export function profit(position, ltp) {
  const open = unrealised(position, ltp);
  return open === null ? null : position.realised + open - position.charges;
}

// In words

export function statusWords(order) {
  const state = order.pending ? `${order.status}, ${order.pending} asked` : order.status;
  return order.reason ? `${state}: ${order.reason}` : state;
}

export function priceWords(order, decimals = 2) {
  const price = order.price ? number(order.price, decimals) : "market";
  return order.trigger_price ? `${price}, from ${number(order.trigger_price, decimals)}` : price;
}

const LEGS = { ENTRY: "Entry", TARGET: "Target", STOPLOSS: "Stop" };
const WHEN = { ABOVE: "above", BELOW: "below", IMMEDIATE: "at" };

/** A rule as {leg, words, status, isHot}: hot is what watches, or works, right now. */
export function ruleWords(rule, decimals = 2) {
  const when = rule.strategy === "ENTRY" ? WHEN[rule.trigger_type] ?? rule.trigger_type : "at";
  const trail = rule.trailing_gap ? `, trailing ${number(rule.trailing_gap, decimals)}` : "";
  return {
    leg: LEGS[rule.strategy] ?? rule.strategy,
    words: `${when} ${number(rule.trigger_price, decimals)}${trail}`,
    status: rule.status.toLowerCase() + (rule.message ? `: ${rule.message}` : ""),
    isHot: ["SCHEDULED", "PENDING", "TRIGGERED", "OPEN"].includes(rule.status),
  };
}

export function refusalWords(refusal) {
  const what = [refusal.side, refusal.quantity || ""].filter(Boolean).join(" ");
  return `${what ? `${what} refused` : "Refused"} (${refusal.rule}): ${refusal.reason}`;
}

export const moneyWords = (value) => (value === null || value === undefined ? UNKNOWN : signed(value, 2));

/** The switch in the head: mode, whether it is halted, and whether anybody obeys. */
export function switchWords(trading) {
  if (trading === null) return { mode: "", label: "…", level: "wait", title: "The order worker has not told yet" };
  const { mode, halt, worker } = trading;
  const label = `${mode[0].toUpperCase()}${mode.slice(1)}`;
  if (halt) {
    const by = halt.by ? ` by ${halt.by}` : "";
    return { mode, label, level: "halted", title: `Halted${by}: ${halt.why}` };
  }
  if (!worker) return { mode, label, level: "wait", title: "No order worker is running: orders wait" };
  return { mode, label, level: "on", title: mode === "live" ? "Orders are real" : `Orders are ${mode}` };
}
