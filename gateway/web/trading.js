// The trading panel: orders, GTTs, positions and fills as they stand, with the buttons that end them.

import * as api from "./api.js";
import { byId, make, setData, setDirection, setText } from "./dom.js";
import { arrow, number, signed, time, title } from "./format.js";
import {
  canCancel, isOver, Ledger, moneyWords, nameOf, priceWords, profit, refusalWords, ruleWords, statusWords, unrealised,
} from "./orders.js";
import { Stream } from "./stream.js";
import { problemWords } from "./ticket.js";

const BOOKS = ["orders", "gtts", "positions", "fills"];
const KINDS = { orders: "order", gtts: "gtt", positions: "position", fills: "fill" };
const EMPTY = { orders: "No orders today.", gtts: "No GTTs.", positions: "No positions.", fills: "No fills today." };
const ACCOUNT_EVERY_MS = 5_000;
const NEAR = 0.8;
const SAID_MS = 20_000;

/** Rows by name: a row that stays keeps its node, and with it the focus. */
class Rows {
  #body;
  #cells;
  #rows = new Map();

  /** `cells`: class names of a row's cells; the first is its header. */
  constructor(body, cells) {
    [this.#body, this.#cells] = [body, cells];
  }

  /** `fill(cells, item, node)` writes an item into its row. */
  show(items, name, fill) {
    const rows = new Map();
    for (const item of items) {
      const key = name(item);
      const row = this.#rows.get(key) ?? this.#row(key);
      rows.set(key, row);
      fill(row.cells, item, row.node);
    }
    const nodes = [...rows.values()].map(({ node }) => node);
    for (const [key, { node }] of this.#rows) if (!rows.has(key)) node.remove();
    for (const [at, node] of nodes.entries()) {
      if (this.#body.children[at] !== node) this.#body.insertBefore(node, this.#body.children[at] ?? null);
    }
    this.#rows = rows;
  }

  #row(key) {
    const cells = this.#cells.map((kind) => (
      kind === "head" ? make("th", { scope: "row" }) : make("td", kind ? { class: kind } : {})));
    return { node: make("tr", { "data-name": key }, ...cells), cells };
  }
}

export class Trading {
  ledger = new Ledger();
  #directory;
  #told;
  #stream;
  #book = "orders";
  #forgetting = null;
  #isStale = true; // something of the books is to be drawn
  #names = new Map(); // instrument -> {name, detail, decimals}
  #rows = {
    orders: new Rows(byId("rows-orders"), ["", "head", "", "", "", "", "name status", "act"]),
    gtts: new Rows(byId("rows-gtts"), ["", "head", "", "", "name", "name", "act"]),
    positions: new Rows(byId("rows-positions"), ["head", "", "", "", "", "", "", "", "act"]),
    fills: new Rows(byId("rows-fills"), ["", "head", "", "", "", ""]),
  };

  #fill = {
    orders: (cells, order, node) => this.#orderRow(cells, order, node),
    gtts: (cells, gtt, node) => this.#gttRow(cells, gtt, node),
    positions: (cells, position, node) => this.#positionRow(cells, position, node),
    fills: (cells, fill) => this.#fillRow(cells, fill),
  };

  /** `told`: {quote(key), changed(), frame(), mode(), now()}: `changed`, other instruments matter now. */
  constructor(browser, directory, told) {
    [this.#directory, this.#told] = [directory, told];
    const events = Object.fromEntries(["order", "gtt", "position", "fill", "refused"].map((kind) => (
      [kind, (data) => this.#hear(kind, data)])));
    this.#stream = new Stream(browser, { ...events, gap: () => this.reload() }, { fresh: () => this.reload() });
    this.#listen();
  }

  async start() {
    this.#stream.point(api.ordersUrl());
    await this.#ask(async () => this.#replace("fills", await api.trades()));
    setInterval(() => { if (!document.hidden) this.account(); }, ACCOUNT_EVERY_MS);
    await this.account();
  }

  /** The instruments whose prices matter here, of those that are known to exist. */
  get keys() {
    return [...this.ledger.keys].filter((key) => this.#directory.get(key));
  }

  /** All books anew. */
  async reload() {
    await this.#ask(async () => {
      const [orders, gtts, positions, fills] = await Promise.all(
        [api.orders(), api.gtts(), api.positions(), api.trades()]);
      for (const [book, all] of Object.entries({ orders, gtts, positions, fills })) this.#replace(book, all);
    });
  }

  /** The figures above the books. */
  async account() {
    await this.#ask(async () => {
      const mode = this.#told.mode();
      if (!mode) return;
      const [[risk], [funds]] = await Promise.all([api.risk(mode), api.funds(mode)]);
      this.#showAccount(risk, funds);
    });
  }

  // What a person does

  #listen() {
    byId("books").addEventListener("click", (event) => this.#open(event.target.closest("button")?.dataset.book));
    byId("books").addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.#open(BOOKS[(BOOKS.indexOf(this.#book) + step + BOOKS.length) % BOOKS.length]);
      byId(`tab-${this.#book}`).focus();
    });
    byId("trade-panel").addEventListener("click", (event) => {
      const button = event.target.closest("button[data-act]");
      if (button) this.#act(button, button.closest("tr").dataset.name);
    });
    byId("cancel-all").addEventListener("click", (event) => this.#sure(event.target, "Cancel all", () => (
      this.#end("DELETE", "/orders", { query: this.#account() }, "Cancelled, as far as they could be"))));
    byId("exit-all").addEventListener("click", (event) => this.#sure(event.target, "Exit all", () => (
      this.#end("POST", "/positions/exit", { body: this.#account() }, "Closing orders are sent"))));
  }

  #account() {
    const mode = this.#told.mode();
    return mode ? { mode } : {};
  }

  #open(book) {
    if (!BOOKS.includes(book)) return;
    this.#book = book;
    for (const each of BOOKS) {
      byId(`book-${each}`).hidden = each !== book;
      const tab = byId(`tab-${each}`);
      tab.setAttribute("aria-selected", String(each === book));
      tab.setAttribute("tabindex", each === book ? "0" : "-1");
    }
    this.#turn();
  }

  #act(button, name) {
    const position = () => this.ledger.positions.find((each) => nameOf.position(each) === name);
    const acts = {
      order: () => this.#end("DELETE", "/orders/cancel", { query: { order_id: name } }, "Cancellation is sent"),
      gtt: () => this.#end("DELETE", "/gtt/cancel", { body: { gtt_order_id: name } }, "GTT cancelled"),
      position: () => {
        const { instrument, product, mode } = position();
        return this.#end("POST", "/positions/exit", { body: { instrument_token: instrument, product, mode } }, "Closing");
      },
    };
    this.#sure(button, button.dataset.label, acts[button.dataset.act]);
  }

  /** The second press counts: the first one only asks. */
  #sure(button, label, act) {
    if (button.dataset.asks === "true") {
      this.#calm(button, label);
      button.disabled = true;
      act().finally(() => { button.disabled = false; });
      return;
    }
    setData(button, "asks", "true");
    setText(button, "Sure?");
    button.addEventListener("blur", () => this.#calm(button, label), { once: true });
    setTimeout(() => this.#calm(button, label), 4_000);
  }

  #calm(button, label) {
    setData(button, "asks", "false");
    setText(button, label);
  }

  async #end(method, path, request, done) {
    try {
      const { status } = await api.change(method, path, request);
      this.say("ok", status === 202 ? "Written down, not decided yet: it will be decided once." : `${done}.`);
    } catch (error) {
      if (!(error instanceof api.Problem)) throw error;
      const { level, text } = problemWords(error);
      this.say(level, text);
    }
  }

  /** Below the books, for a while. */
  say(level, text) {
    setData(byId("books-said"), "level", level);
    setText(byId("books-said"), text);
    clearTimeout(this.#forgetting);
    this.#forgetting = setTimeout(() => setText(byId("books-said"), ""), SAID_MS);
  }

  // What comes in

  #hear(kind, data) {
    if (!this.ledger.apply(kind, data)) return;
    if (kind === "refused") this.say("bad", `${this.#nameOf(data.instrument)} ${refusalWords(data)}`.trim());
    this.#learn(data.instrument);
    this.#turn();
  }

  #replace(book, all) {
    this.ledger.replace(KINDS[book], all);
    for (const each of all) this.#learn(each.instrument);
    this.#turn();
  }

  #turn() {
    this.#isStale = true;
    this.#told.frame();
  }

  /** What is not there yet is asked for again with the next event: an error of the network is no news here. */
  async #ask(work) {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof api.Problem)) throw error;
    }
  }

  async #learn(key) {
    if (!key || this.#names.has(key)) return;
    this.#names.set(key, { name: key, detail: "", decimals: 2 });
    const found = await this.#directory.find(key);
    if (found) this.#names.set(key, { ...title(found, this.#told.now()), decimals: 2 });
    this.#turn();
    this.#told.changed();
  }

  #nameOf(key) {
    const known = this.#names.get(key);
    return known ? `${known.name} ${known.detail}`.trim() : key ?? "";
  }

  // What goes out

  /** `changed`: keys of quotes that have changed since. */
  paint(changed) {
    const isPriced = this.#book === "positions" && [...changed].some((key) => this.ledger.keys.has(key));
    if (!this.#isStale && !isPriced) return;
    if (this.#isStale) this.#count();
    this.#isStale = false;
    const items = this.ledger[this.#book];
    this.#rows[this.#book].show(items, nameOf[KINDS[this.#book]], this.#fill[this.#book]);
    byId("books-note").hidden = items.length > 0;
    setText(byId("books-note"), EMPTY[this.#book]);
  }

  #count() {
    const { live } = this.ledger;
    for (const book of ["orders", "gtts", "positions"]) setText(byId(`count-${book}`), live[book] ? String(live[book]) : "");
    byId("cancel-all").disabled = live.orders + live.gtts === 0;
    byId("exit-all").disabled = live.positions === 0;
  }

  #orderRow([at, name, side, filled, price, average, status, act], order, node) {
    node.classList.toggle("ended", isOver(order));
    setText(at, time(order.created_ts, { seconds: true }));
    this.#name(name, order);
    this.#side(side, order.side);
    setText(filled, `${number(order.filled_quantity)}/${number(order.quantity)}`);
    setText(price, `${priceWords(order)} ${order.order_type === "LIMIT" ? "" : order.order_type}`.trim());
    setText(average, order.filled_quantity ? number(order.average_price, 2) : number(null));
    this.#status(status, statusWords(order));
    status.classList.toggle("doubt", order.status === "unknown");
    status.classList.toggle("failed", order.status === "rejected");
    this.#button(act, canCancel(order), "order", "Cancel", `Cancel the order of ${this.#nameOf(order.instrument)}`);
  }

  #gttRow([at, name, side, units, rules, engine, act], gtt, node) {
    node.classList.toggle("ended", !gtt.live);
    setText(at, time(gtt.created_at / 1000, { seconds: true }));
    this.#name(name, gtt);
    this.#side(side, gtt.transaction_type);
    setText(units, gtt.entered || gtt.exited
      ? `${number(gtt.entered)} in, ${number(gtt.exited)} out of ${number(gtt.quantity)}` : number(gtt.quantity));
    this.#rulesOf(rules, gtt);
    setText(engine, gtt.engine === "venue" ? "the venue" : "us");
    if (engine.title !== gtt.note) engine.title = gtt.note;
    this.#button(act, gtt.live, "gtt", "Cancel", `Cancel the GTT of ${this.#nameOf(gtt.instrument)}`);
  }

  #rulesOf(cell, gtt) {
    const all = gtt.rules.map((rule) => ruleWords(rule));
    const text = JSON.stringify(all);
    if (cell.dataset.shown === text) return;
    cell.dataset.shown = text;
    cell.replaceChildren(make("ul", { class: "rules" }, ...all.map(({ leg, words, status, isHot }) => (
      make("li", isHot ? { class: "hot" } : {}, `${leg} ${words} `, make("small", {}, status))))));
  }

  #positionRow([name, units, average, last, open, realised, charges, net, act], position, node) {
    const ltp = this.#told.quote(position.instrument)?.ltp ?? position.last_price;
    node.classList.toggle("ended", position.quantity === 0);
    this.#name(name, position, position.product);
    setText(units, number(position.quantity));
    setText(average, position.quantity ? number(position.average_price, 2) : number(null));
    setText(last, number(ltp, 2));
    const [unreal, total] = [unrealised(position, ltp), profit(position, ltp)];
    setText(open, moneyWords(unreal));
    setDirection(open, unreal);
    setText(realised, signed(position.realised, 2));
    setText(charges, number(position.charges, 2));
    setText(net, total === null ? number(null) : `${arrow(total)} ${signed(total, 2)}`);
    setDirection(net, total);
    this.#button(act, position.quantity !== 0, "position", "Exit", `Close ${this.#nameOf(position.instrument)}`);
  }

  #fillRow([at, name, side, units, price, charges], fill) {
    setText(at, time(fill.ts, { seconds: true }));
    this.#name(name, fill);
    this.#side(side, fill.side);
    setText(units, number(fill.quantity));
    setText(price, number(fill.price, 2));
    setText(charges, number(fill.charges.total, 2));
  }

  #name(cell, { instrument, mode, strategy, strategies }, more = "") {
    const whose = strategies ? Object.entries(strategies).map(([name, held]) => `${name || "by hand"} ${held}`).join(", ") : strategy;
    const known = this.#names.get(instrument);
    const detail = [known?.detail, more, mode, whose].filter(Boolean).join(" · ");
    if (!cell.children.length) cell.append(make("span", {}), make("small", {}));
    setText(cell.children[0], known?.name ?? instrument);
    setText(cell.children[1], detail);
    cell.children[1].classList.toggle("live-mode", mode === "live");
  }

  /** Two lines of it; the whole under the pointer. */
  #status(cell, words) {
    if (!cell.children.length) cell.append(make("span", {}));
    if (setText(cell.firstElementChild, words)) cell.title = words;
  }

  #side(cell, side) {
    setText(cell, side);
    cell.classList.toggle("buy", side === "BUY");
    cell.classList.toggle("sell", side === "SELL");
  }

  #button(cell, isThere, act, label, meaning) {
    const button = cell.firstElementChild;
    if (!isThere) {
      button?.remove();
      return;
    }
    if (button) return;
    cell.append(make("button", { type: "button", "data-act": act, "data-label": label, "aria-label": meaning }, label));
  }

  #showAccount(risk, funds) {
    const figures = [];
    const of = (name) => risk?.limits.find(({ limit }) => limit === name);
    if (funds) figures.push(["Available", number(funds.available), "Rupees that can still be spent", false]);
    const [loss, trades] = [of("day loss"), of("trades")];
    if (loss) figures.push(["Day loss", `${number(loss.used)} of ${number(loss.most)}`, "At its end trading halts", loss.part >= NEAR]);
    if (trades) figures.push(["Trades", `${trades.used} of ${trades.most}`, "Entries today", trades.part >= NEAR]);
    const tight = risk?.budget.find(({ seconds }) => seconds >= 60);
    if (tight) {
      figures.push(["Order budget", `${tight.remaining} left`, `Writes to the venue in ${tight.seconds} s`, tight.remaining * 5 < tight.most]);
    }
    if (risk?.reconciling) figures.push(["Books", "being compared", "Only what reduces risk passes meanwhile", true]);
    if (risk?.unknown) figures.push(["Unknown", String(risk.unknown), "Orders whose fate is being asked about", true]);
    byId("account").replaceChildren(...figures.map(([name, value, meaning, isNear]) => (
      make("div", { title: meaning, ...(isNear ? { class: "near" } : {}) }, make("dt", {}, name), make("dd", {}, value)))));
  }
}
