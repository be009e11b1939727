// What stands above the chart: who it is, the last price, and what else is known of it; and the crosshair's legend.

import { arrow, change, compact, date, direction, number, percent, signed, time } from "./format.js";
import { make, setData, setDirection, setText } from "./dom.js";
import { isDay } from "./longbars.js";
import { kindOf } from "./paint.js";

const WITH_QUANTITY = (price, quantity, decimals) =>
  price === null ? null : `${number(price, decimals)}${quantity === null ? "" : ` × ${number(quantity)}`}`;

/** label, meaning, text of a quote (null: not known, not shown). */
const STATS = [
  ["Bid", "Best bid × quantity", (q, d) => WITH_QUANTITY(q.bid, q.bid_qty, d)],
  ["Ask", "Best ask × quantity", (q, d) => WITH_QUANTITY(q.ask, q.ask_qty, d)],
  ["Prev close", "Close of the previous session", (q, d) => q.cp === null ? null : number(q.cp, d)],
  ["Avg", "Average traded price of the day", (q, d) => q.atp === null ? null : number(q.atp, d)],
  ["Volume", "Traded today", (q) => q.vtt === null ? null : compact(q.vtt)],
  ["OI", "Open interest", (q) => q.oi === null ? null : compact(q.oi)],
  ["IV", "Implied volatility, of the venue", (q) => q.iv === null ? null : `${number(q.iv * 100, 2)}%`],
  ["Delta", "Per point of the underlying", (q) => q.delta === null ? null : number(q.delta, 3)],
  ["Gamma", "Change of delta per point", (q) => q.gamma === null ? null : number(q.gamma, 5)],
  ["Theta", "Per day", (q) => q.theta === null ? null : number(q.theta, 2)],
  ["Vega", "Per point of volatility", (q) => q.vega === null ? null : number(q.vega, 2)],
];

const KIND_WORDS = { forming: "forming", live: "", history: "from history", partial: "incomplete" };

function kindWords(bar) {
  const kind = bar.provisional && !bar.complete ? "forming, seen in part" : KIND_WORDS[kindOf(bar)];
  return [bar.close_from === "auction" ? "closing auction" : "", kind].filter(Boolean).join(", ");
}

export class Head {
  #parts;
  #stats;
  #decimals = 2;

  constructor(parts) {
    this.#parts = parts;
    this.#stats = STATS.map(([label, meaning]) => {
      const node = make("div", { hidden: true, title: meaning }, make("dt", {}, label), make("dd"));
      parts.stats.append(node);
      return node;
    });
  }

  show({ name, detail, decimals }) {
    this.#decimals = decimals;
    setText(this.#parts.name, name);
    setText(this.#parts.detail, detail);
    this.quote(null);
  }

  detail(text) {
    setText(this.#parts.detail, text);
  }

  quote(quote) {
    const moved = change(quote?.ltp ?? null, quote?.cp ?? null);
    setText(this.#parts.last, number(quote?.ltp ?? null, this.#decimals));
    setText(this.#parts.change, moved.points === null ? ""
      : `${arrow(moved.points)} ${signed(moved.points, this.#decimals)} (${percent(moved.percent)})`);
    setDirection(this.#parts.change, moved.points);
    let shown = 0;
    for (const [at, [, , text]] of STATS.entries()) {
      const value = quote ? text(quote, this.#decimals) : null;
      const node = this.#stats[at];
      if (node.hidden !== (value === null)) node.hidden = value === null;
      if (value === null) continue;
      setText(node.lastElementChild, value);
      shown += 1;
    }
    setData(this.#parts.stats, "few", String(shown <= 2));
  }

  /** The bar under the crosshair, or the newest. */
  legend(bar) {
    const { legend } = this.#parts;
    legend.hidden = bar === null;
    if (bar === null) return;
    if (!legend.children.length) {
      legend.append(...["when", "open", "high", "low", "close", "moved", "volume", "oi", "kind"].map((name) =>
        make("span", { class: name })));
    }
    const price = (letter, value) => `${letter} ${number(value, this.#decimals)}`;
    const points = bar.close - bar.open;
    const texts = [
      isDay(bar) ? date(bar.ts, { weekday: true }) : `${date(bar.ts)} ${time(bar.ts)}`,
      price("O", bar.open), price("H", bar.high), price("L", bar.low), price("C", bar.close),
      signed(points, this.#decimals),
      bar.volume ? `Vol ${compact(bar.volume)}` : "",
      bar.oi === null ? "" : `OI ${compact(bar.oi)}`,
      kindWords(bar),
    ];
    for (const [at, text] of texts.entries()) setText(legend.children[at], text);
    setDirection(legend.children[5], direction(points));
  }
}
