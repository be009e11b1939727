// The list on the left: one row an instrument, ticking.

import { arrow, change, number, percent, signed } from "./format.js";
import { flash, make, setDirection, setText } from "./dom.js";

export class Watchlist {
  #body;
  #rows = new Map();
  #told;

  /** `told`: {choose(key), remove(key)}. */
  constructor(body, told) {
    this.#body = body;
    this.#told = told;
    body.addEventListener("click", (event) => this.#click(event.target));
    body.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Items are {key, name, detail, full, decimals}. */
  show(items) {
    const rows = items.map((item) => [item.key, this.#rows.get(item.key) ?? row(item)]);
    this.#rows = new Map(rows);
    this.#body.replaceChildren(...rows.map(([, { node }]) => node));
  }

  select(key) {
    for (const [each, { node, button }] of this.#rows) {
      node.classList.toggle("chosen", each === key);
      if (each === key) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  update(key, quote, nowMs) {
    const found = this.#rows.get(key);
    if (!found) return;
    const moved = change(quote.ltp, quote.cp);
    const before = found.price;
    found.price = quote.ltp;
    if (setText(found.last, number(quote.ltp, found.decimals)) && before !== null && quote.ltp !== null) {
      flash(found.last, quote.ltp - before, nowMs);
    }
    setText(found.percent, moved.percent === null ? percent(null) : `${arrow(moved.points)} ${percent(moved.percent)}`);
    setText(found.points, signed(moved.points, found.decimals));
    setDirection(found.change, moved.points);
  }

  #click(target) {
    const key = target.closest("tr")?.dataset.key;
    if (!key) return;
    if (target.closest(".remove")) this.#told.remove(key);
    else this.#told.choose(key);
  }

  #key(event) {
    const tr = event.target.closest("tr");
    if (event.key === "Delete") {
      const next = tr.nextElementSibling ?? tr.previousElementSibling;
      this.#told.remove(tr.dataset.key);
      next?.querySelector("button")?.focus();
    }
    const neighbour = { ArrowUp: tr.previousElementSibling, ArrowDown: tr.nextElementSibling }[event.key];
    if (!neighbour) return;
    event.preventDefault();
    neighbour.querySelector("button").focus();
  }
}

function row(item) {
  const button = make("button", { type: "button", class: "pick", title: item.full },
    make("b", {}, item.name), make("small", {}, item.detail));
  const last = make("td", { class: "last" }, number(null));
  const [first, second] = [make("span", {}, percent(null)), make("small", {})];
  const remove = make("button", { type: "button", class: "remove", "aria-label": `Remove ${item.full}`, tabindex: "-1" }, "×");
  const moved = make("td", { class: "change", "data-dir": "flat" }, first, second, remove);
  const node = make("tr", { "data-key": item.key }, make("th", { scope: "row" }, button), last, moved);
  return { node, button, last, percent: first, points: second, change: moved, decimals: item.decimals, price: null };
}
