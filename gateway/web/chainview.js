// The option chain: calls left, puts right, the money in the middle, ticking.

import {
  STRIKES_MAX, around, changeWords, isOffCentre, measures, modelWords, moneyIndex, optionsOf, totals,
} from "./chain.js";
import { arrow, change, compact, daysTo, expiry, number, percent, strike } from "./format.js";
import { flash, make, setDirection, setText } from "./dom.js";

const SIDES = ["call", "put"];

function setTitle(node, text) {
  if (node.title !== text) node.title = text;
}

export class ChainView {
  #parts;
  #told;
  #quote;
  #strikes = []; // all of the expiry
  #shown = { from: 0, to: 0 };
  #rows = []; // {strike, call: key, put: key, node}, those shown
  #cells = new Map(); // key -> its cells
  #money = -1; // place among all strikes
  #mostOi = 0;
  #chain = null; // of the newest minute, {ts, rev, …}
  #options = new Map(); // key -> what that chain says of it
  #isByHand = false; // somebody scrolled: the table stays where they want it

  /** `parts`: the elements; `told`: {choose(key), day(iso), shown()}; `quote(key)`: its last quote or null. */
  constructor(parts, told, quote) {
    [this.#parts, this.#told, this.#quote] = [parts, told, quote];
    parts.rows.addEventListener("click", (event) => {
      const key = event.target.closest("[data-key]")?.dataset.key;
      if (key) told.choose(key);
    });
    parts.rows.addEventListener("keydown", (event) => this.#key(event));
    parts.expiries.addEventListener("click", (event) => this.#pick(event.target.closest("button")));
    parts.expiries.addEventListener("keydown", (event) => this.#arrow(event));
    for (const name of ["wheel", "touchmove", "pointerdown", "keydown"]) {
      parts.scroll.addEventListener(name, () => { this.#isByHand = true; }, { passive: true });
    }
    new ResizeObserver(() => this.#centre()).observe(parts.scroll);
  }

  /** The keys whose quotes this shows. */
  get keys() {
    return [...this.#cells.keys()];
  }

  note(text) {
    this.#parts.note.hidden = !text;
    setText(this.#parts.note, text);
  }

  /** Nothing to show (yet). */
  clear(text) {
    [this.#strikes, this.#rows, this.#chain] = [[], [], null];
    this.#options.clear();
    this.#cells.clear();
    this.#parts.rows.replaceChildren();
    this.#parts.totals.replaceChildren();
    this.note(text);
  }

  expiries(days, chosen, nowMs) {
    const tabs = days.map((day) => {
      const left = daysTo(day, nowMs);
      const isChosen = day === chosen;
      return make("button", {
        type: "button", role: "tab", "data-day": day, "aria-selected": String(isChosen),
        "aria-controls": "chain-scroll", tabindex: isChosen ? "0" : "-1",
        title: left === 0 ? "expires today" : `expires in ${left} days`,
      }, expiry(day, nowMs), make("small", {}, ` ${left}d`));
    });
    this.#parts.expiries.replaceChildren(...tabs);
    const bar = this.#parts.expiries;
    const selected = bar.querySelector("[aria-selected=true]");
    if (selected) bar.scrollLeft = selected.offsetLeft - bar.offsetLeft - 40;
  }

  /** Strikes are {strike, call, put} with keys, all of an expiry. */
  show(strikes, spot) {
    this.#strikes = strikes;
    this.#money = moneyIndex(strikes.map((row) => row.strike), spot);
    this.#window();
    this.note(strikes.length ? "" : "No options on this day.");
    this.#isByHand = false;
    this.#centre();
  }

  /** Draw the quotes of what changed. `spot` is the underlying's price. */
  update(changed, spot, nowMs) {
    if (!this.#rows.length) return;
    for (const key of changed) {
      const cells = this.#cells.get(key);
      if (cells) this.#fill(cells, this.#quote(key), nowMs);
    }
    const money = moneyIndex(this.#strikes.map((row) => row.strike), spot);
    if (money !== this.#money) {
      this.#money = money;
      this.#markMoney();
      if (isOffCentre(this.#shown, this.#strikes.length, money) && !this.#isByHand) this.#window();
      this.#centre();
    }
    this.#sum();
  }

  /** The chain of a minute: our volatility beside the venue's, changes of open interest, the measures. */
  minute(chain) {
    const known = this.#chain;
    if (known && (known.ts > chain.ts || (known.ts === chain.ts && known.rev > chain.rev))) return;
    [this.#chain, this.#options] = [chain, optionsOf(chain)];
    for (const [key, cells] of this.#cells) this.#model(cells, this.#options.get(key));
    this.#sum();
  }

  select(key) {
    for (const [each, { node }] of this.#cells) {
      for (const cell of node) cell.classList.toggle("chosen", each === key);
    }
  }

  // Rows

  #window() {
    this.#shown = around(this.#strikes.length, this.#money, STRIKES_MAX);
    this.#cells.clear();
    this.#mostOi = 0;
    this.#rows = this.#strikes.slice(this.#shown.from, this.#shown.to).map((row) => this.#row(row));
    this.#parts.rows.replaceChildren(...this.#rows.map((row) => row.node));
    this.#markMoney();
    for (const [key, cells] of this.#cells) {
      const quote = this.#quote(key);
      if (quote) this.#fill(cells, quote, null);
      this.#model(cells, this.#options.get(key));
    }
    this.#sum();
    this.#told.shown();
  }

  #row({ strike: value, call, put }) {
    const calls = this.#side(call, value, "call");
    const puts = this.#side(put, value, "put").reverse();
    const node = make("tr", {}, ...calls, make("th", { scope: "row", class: "strike" }, strike(value)), ...puts);
    return { strike: value, call, put, node };
  }

  /** A side's cells, from the outside in. */
  #side(key, value, side) {
    if (!key) return ["oi", "delta", "risk", "book", "last"].map((name) => make("td", { class: name }));
    const span = (name) => make("span", { class: name }, number(null));
    const names = ["value", "grown", "delta", "ours", "iv", "bid", "ask", "moved"];
    const [oi, grown, delta, ours, iv, bid, ask, moved] = names.map(span);
    const last = make("button", { type: "button", tabindex: "-1", "aria-label": `${side} ${value}` }, number(null));
    const bar = make("i", { class: "bar" });
    const pairs = [[ours, iv], [bid, ask], side === "call" ? [moved, last] : [last, moved]];
    const node = ["risk", "book", "last"].map((name, at) =>
      make("td", { class: `${name} pair ${side}`, "data-key": key }, ...pairs[at]));
    node.unshift(make("td", { class: `greek ${side}`, "data-key": key }, delta));
    node.unshift(make("td", { class: `oi pair ${side}`, "data-key": key }, bar, oi, grown));
    this.#cells.set(key, {
      oi, grown, bar, delta, ours, iv, bid, ask, moved, last, node, side, value, price: null, share: -1, held: 0,
    });
    return node;
  }

  #fill(cells, quote, nowMs) {
    if (!quote) return;
    const moved = change(quote.ltp, quote.cp);
    const before = cells.price;
    cells.price = quote.ltp;
    if (setText(cells.last, number(quote.ltp, 2))) {
      cells.last.setAttribute("aria-label", `${cells.side} ${cells.value}: ${cells.last.textContent}`);
      if (nowMs !== null && before !== null && quote.ltp !== null) {
        flash(cells.last.parentElement, quote.ltp - before, nowMs);
      }
    }
    setText(cells.moved, moved.percent === null ? number(null) : `${arrow(moved.points)}${percent(moved.percent, 1)}`);
    setDirection(cells.moved, moved.points);
    setText(cells.iv, number(quote.iv === null ? null : quote.iv * 100, 1));
    setText(cells.delta, number(quote.delta, 2));
    setText(cells.bid, number(quote.bid, 2));
    setText(cells.ask, number(quote.ask, 2));
    setText(cells.oi, compact(quote.oi));
    this.#scale(cells, quote.oi ?? 0);
  }

  /** What the minute's chain says; nothing while there is none. */
  #model(cells, option) {
    const iv = option?.model.iv ?? null;
    setText(cells.ours, number(iv === null ? null : iv * 100, 1));
    setTitle(cells.ours, option ? modelWords(option) : "");
    const grown = option?.oi_change ?? null;
    setText(cells.grown, grown === null ? number(null) : `${grown > 0 ? "+" : ""}${compact(grown)}`);
    setDirection(cells.grown, grown);
    setTitle(cells.grown, option ? changeWords(option) : "");
  }

  /** The longest bar is the most open interest shown; a new record shortens all others. */
  #scale(cells, oi) {
    cells.held = oi;
    if (oi > this.#mostOi) {
      this.#mostOi = oi * 1.05;
      for (const each of this.#cells.values()) this.#lengthen(each);
    } else this.#lengthen(cells);
  }

  #lengthen(cells) {
    const share = Math.round((cells.held / (this.#mostOi || 1)) * 200) / 200;
    if (share === cells.share) return;
    cells.share = share;
    cells.bar.style.setProperty("--share", String(share));
  }

  // The money

  #markMoney() {
    const at = this.#money - this.#shown.from;
    for (const [index, { node }] of this.#rows.entries()) {
      node.classList.toggle("money", index === at);
      node.classList.toggle("below", this.#money >= 0 && index < at);
      node.classList.toggle("above", this.#money >= 0 && index > at);
      if (index === at) node.setAttribute("aria-label", "at the money");
      else node.removeAttribute("aria-label");
    }
    this.#rove(this.#rows[Math.max(0, at)]?.node.querySelector("button"));
  }

  #centre() {
    const { scroll } = this.#parts;
    const row = this.#rows[this.#money - this.#shown.from]?.node;
    if (!row || !scroll.clientHeight || this.#isByHand) return;
    const head = scroll.querySelector("thead").offsetHeight;
    scroll.scrollTop = row.offsetTop - head - (scroll.clientHeight - head - row.offsetHeight) / 2;
  }

  #sum() {
    this.#list(this.#chain ? measures(this.#chain) : this.#shownTotals());
  }

  /** Until a minute's chain has come: what the rows shown add up to. */
  #shownTotals() {
    const { callOi, putOi, pcr, strike: atm, straddle } = totals(
      this.#rows, this.#money - this.#shown.from, (key) => this.#quote(key),
    );
    const cut = this.#rows.length < this.#strikes.length ? ` of ${this.#strikes.length}` : "";
    return [
      ["PCR (OI)", number(pcr, 2), `Put OI / call OI of the ${this.#rows.length}${cut} strikes shown`],
      [atm === null ? "ATM straddle" : `ATM straddle ${strike(atm)}`, number(straddle, 2), "Last call + last put at the money"],
      ["Call OI", compact(callOi), "Of the strikes shown"],
      ["Put OI", compact(putOi), "Of the strikes shown"],
      ["Strikes", `${this.#rows.length}${cut}`, "Shown, around the money"],
    ];
  }

  #list(entries) {
    const list = this.#parts.totals;
    if (list.children.length !== entries.length) {
      list.replaceChildren(...entries.map(() => make("div", {}, make("dt"), make("dd"))));
    }
    for (const [at, [name, value, meaning]] of entries.entries()) {
      const [dt, dd] = list.children[at].children;
      setText(dt, name);
      setText(dd, value);
      if (list.children[at].title !== meaning) list.children[at].title = meaning;
    }
  }

  // Keys

  /** One tab stop for the whole table; arrows move it. */
  #rove(button) {
    if (!button || button.contains(document.activeElement)) return;
    if (this.#parts.rows.contains(document.activeElement)) return;
    this.#parts.rows.querySelector("button[tabindex='0']")?.setAttribute("tabindex", "-1");
    button.setAttribute("tabindex", "0");
  }

  #key(event) {
    const cell = event.target.closest("td");
    const row = cell?.parentElement;
    const next = {
      ArrowUp: () => row.previousElementSibling?.children[cell.cellIndex],
      ArrowDown: () => row.nextElementSibling?.children[cell.cellIndex],
      ArrowLeft: () => row.children[4],
      ArrowRight: () => row.children[6],
    }[event.key]?.();
    const button = next?.querySelector("button");
    if (!button) return;
    event.preventDefault();
    event.target.setAttribute("tabindex", "-1");
    button.setAttribute("tabindex", "0");
    button.focus();
  }

  #pick(tab) {
    if (tab) this.#told.day(tab.dataset.day);
  }

  #arrow(event) {
    const tab = event.target.closest("button");
    const next = { ArrowLeft: tab?.previousElementSibling, ArrowRight: tab?.nextElementSibling }[event.key];
    if (!next) return;
    event.preventDefault();
    this.#pick(next);
    this.#parts.expiries.querySelector(`[data-day="${next.dataset.day}"]`)?.focus();
  }
}

export const legs = (chain) => chain.strikes.flatMap((row) => SIDES.map((side) => row[side]).filter(Boolean));
