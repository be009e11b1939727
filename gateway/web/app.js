// Puts the page together: three streams in, one frame at a time out.
//
// `live` carries the ticks of everything in sight (list, chart, chain), `candles` the minutes of the charted instrument
// and the chains of what the table of strikes shows, a second `candles` bars of another length where those are charted,
// `events` the state of the feed and halts, `orders` what becomes of orders. At most five connections: a browser gives a
// host six, and REST wants one too.

import * as api from "./api.js";
import { Book, VenueClock } from "./book.js";
import { Chaining } from "./chaining.js";
import { Charting } from "./charting.js";
import { Directory, NIFTY } from "./directory.js";
import { byId, make, painter, recall, remember, setData, setText } from "./dom.js";
import { arrow, change, date, dayNumber, decimalsOf, number, percent, time, title } from "./format.js";
import { Killswitch } from "./killswitch.js";
import { Listing } from "./listing.js";
import { coverage, phase, summary } from "./status.js";
import { Stream } from "./stream.js";
import { Ticketing } from "./ticketing.js";
import { Trading } from "./trading.js";

const REPOINT_MS = 150;
const HEALTH_EVERY_MS = 5_000;
const CLOCK_EVERY_MS = 500;
const FRESH_AFTER_MS = 30_000;
const NOTICES_MAX = 3;

const browser = {
  open: (url) => new EventSource(url),
  after: (ms, call) => setTimeout(call, ms),
  cancel: (timer) => clearTimeout(timer),
};

class App {
  #book = new Book();
  #clock = new VenueClock();
  #directory = new Directory();
  #feeds = new Map(); // shard -> the last that was said of its feed
  #health = null;
  #isMute = false; // /health does not answer
  #isChecking = false;
  #isReconsidering = false;
  #lostAt = ""; // venue time when the connection was lost
  #day = null;
  #repointing = null;
  #frame = painter((nowMs) => this.#paint(nowMs));
  #listing;
  #charting;
  #chaining;
  #trading;
  #ticketing;
  #switch;
  #live;
  #events;

  constructor() {
    const told = {
      choose: (key) => this.#choose(key),
      changed: () => this.#repoint(),
      now: () => this.#now,
      quote: (key) => this.#book.get(key),
    };
    this.#listing = new Listing(this.#directory, { ...told, changed: () => this.#listed() });
    this.#charting = new Charting(browser, this.#directory, this.#frame, {
      ...told,
      underlying: () => this.#chaining?.underlying ?? "",
      chain: (chain) => this.#chaining?.minute(chain),
      choosing: (key) => this.#select(key),
      chosen: (instrument) => this.#chosen(instrument),
      missing: () => { if (!chosenInAddress()) this.#charting.open(NIFTY); },
      warned: () => this.#tellStatus(),
    });
    this.#chaining = new Chaining(this.#directory, {
      ...told,
      quotes: (quotes) => quotes.forEach((quote) => this.#tick(quote)),
      changed: () => {
        this.#charting.point();
        this.#select(this.#charting.key);
      },
    });
    this.#trading = new Trading(browser, this.#directory, {
      ...told, frame: this.#frame, mode: () => this.#switch.mode,
    });
    this.#ticketing = new Ticketing(told);
    this.#switch = new Killswitch({ mode: (mode) => this.#ticketing.modes(mode) });
    this.#live = new Stream(browser, { tick: (quote) => this.#tick(quote), gap: () => this.#charting.gap() }, {
      fresh: () => this.#charting.gap(), refused: () => this.#reconsider(),
    }, FRESH_AFTER_MS);
    this.#events = new Stream(browser, { event: (event) => this.#event(event), gap: () => this.#checkHealth() }, {
      state: (state) => this.#connection(state),
    });
    this.#listen();
  }

  async start() {
    this.#events.point(api.eventsUrl());
    this.#checkHealth();
    setInterval(() => { if (!document.hidden) this.#checkHealth(); }, HEALTH_EVERY_MS);
    setInterval(() => this.#tellTime(), CLOCK_EVERY_MS);
    this.#charting.open(chosenInAddress() || recall("charted", NIFTY));
    this.#switch.check().then(() => this.#trading.start());
    await this.#listing.start();
    await this.#chaining.offer(this.#listing.keys, this.#charting.key);
  }

  // What a person does

  #listen() {
    byId("theme").addEventListener("click", () => {
      const root = document.documentElement;
      const detail = root.dataset.theme === "dark" ? "light" : "dark";
      root.dispatchEvent(new CustomEvent("themechoice", { detail }));
    });
    document.querySelector(".views").addEventListener("click", (event) => this.#show(event.target.dataset.show));
    byId("lower").addEventListener("click", (event) => this.#lower(event.target.dataset.lower));
    this.#lower(recall("lower", "chain"));
    document.addEventListener("keydown", (event) => {
      const isTyping = event.target.closest("input, select, textarea");
      if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.#show("list");
      this.#listing.search();
    });
    window.addEventListener("hashchange", () => {
      const key = location.hash ? chosenInAddress() : NIFTY;
      if (key) this.#charting.open(key);
    });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#checkHealth(); });
  }

  /** On a phone one of the three parts is in sight. */
  #show(view) {
    if (!view) return;
    document.body.dataset.view = view;
    for (const button of document.querySelectorAll(".views button")) {
      if (button.dataset.show === view) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  /** On a laptop the chain or the trading panel is below the chart. */
  #lower(part) {
    if (!["chain", "trade"].includes(part)) return;
    document.body.dataset.lower = part;
    remember("lower", part);
    for (const button of byId("lower").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.lower === part));
    }
  }

  /** The choice goes by way of the address, so that it can be kept, sent and gone back from. */
  #choose(key) {
    this.#show("chart");
    const address = `#${encodeURIComponent(key)}`;
    if (location.hash === address) this.#charting.open(key);
    else location.hash = address;
  }

  #select(key) {
    this.#listing.select(key);
    this.#chaining?.select(key);
    this.#repoint();
  }

  #chosen(instrument) {
    this.#describe();
    this.#repoint();
    this.#ticketing.point(instrument);
    const { key } = instrument;
    if (this.#chaining.has(key) && this.#chaining.underlying !== key) this.#chaining.open(key);
  }

  #listed() {
    this.#listing.select(this.#charting.key);
    this.#repoint();
  }

  // What comes in

  #tick(quote) {
    this.#clock.see(quote.ts, performance.now());
    if (!this.#book.apply(quote)) return;
    this.#charting.tick(quote);
    this.#frame();
  }

  #event(event) {
    if (event.kind === "halt" || event.kind === "resume") this.#switch.check();
    if (event.kind !== "feed") return;
    this.#learn({ ...event.data, ts: event.ts });
    this.#tellStatus();
    this.#checkHealth();
  }

  /** What was said last of a shard's feed counts, whether an event or /health brought it. */
  #learn(feed) {
    const known = this.#feeds.get(feed.shard);
    if (!known || known.ts <= feed.ts) this.#feeds.set(feed.shard, feed);
  }

  #connection(state) {
    const at = this.#clock.at(performance.now());
    if (state === "lost" && !this.#lostAt && at !== null) this.#lostAt = time(at, { seconds: true });
    if (state === "open") {
      this.#lostAt = "";
      this.#checkHealth();
    }
    this.#tellStatus();
  }

  async #checkHealth() {
    if (this.#isChecking) return;
    this.#isChecking = true;
    try {
      this.#health = await api.health();
      this.#health.feed.forEach((feed) => this.#learn(feed));
      this.#isMute = false;
    } catch (error) {
      if (!(error instanceof api.Problem)) throw error;
      this.#isMute = true;
    } finally {
      this.#isChecking = false;
    }
    this.#tellStatus();
  }

  /** Read the ticks of what is in sight now; several changes in a row become one. */
  #repoint() {
    clearTimeout(this.#repointing);
    this.#repointing = setTimeout(() => {
      // Only keys that are known to exist: one that does not would have the whole stream refused.
      const charted = this.#charting.instrument ? [this.#charting.key] : [];
      const keys = new Set([...this.#listing.keys, ...charted, ...this.#chaining.keys, ...this.#trading.keys]);
      if (keys.size) this.#live.point(api.liveUrl([...keys].sort()));
    }, REPOINT_MS);
  }

  /** The gateway does not know all of what we ask for, or it is another day: find out what there is. */
  async #reconsider() {
    if (this.#isReconsidering) return;
    this.#isReconsidering = true;
    try {
      this.#directory.clear();
      await this.#charting.refresh();
      await this.#listing.refresh();
      await this.#chaining.offer(this.#listing.keys, this.#charting.key);
      await this.#trading.reload();
    } finally {
      this.#isReconsidering = false;
    }
  }

  // What goes out

  #paint(nowMs) {
    this.#charting.draw(); // first: text on a canvas has the browser settle whatever has changed in the page before it
    const changed = this.#book.takeChanged();
    this.#trading.paint(changed);
    if (!changed.size) return;
    for (const key of changed) this.#listing.update(key, this.#book.get(key), nowMs);
    if (changed.has(this.#charting.key)) {
      this.#charting.showQuote();
      this.#ticketing.quote();
    }
    this.#chaining.update(changed, nowMs);
  }

  /** The venue's time, or until it has told us this machine's. For dates only: which year it is, how far an expiry. */
  get #now() {
    return this.#clock.at(performance.now()) ?? Date.now();
  }

  #tellTime() {
    const at = this.#clock.at(performance.now());
    if (at === null) return;
    setText(byId("clock"), time(at, { seconds: true }));
    setText(byId("clock-date"), date(at, { weekday: true }));
    const [quote, instrument] = [this.#book.get(this.#charting.key), this.#charting.instrument];
    if (quote && instrument) {
      const moved = change(quote.ltp, quote.cp);
      const price = number(quote.ltp, decimalsOf(instrument.tick_size));
      document.title = `${price} ${arrow(moved.points)} ${percent(moved.percent)} ${title(instrument, at).name}`;
    }
    const day = dayNumber(at);
    if (this.#day !== null && this.#day !== day) this.#reconsider(); // contracts expire and others are listed
    this.#day = day;
  }

  #tellStatus() {
    const feeds = [...this.#feeds.values()];
    const { level, words, notices } = summary({
      connection: this.#events.state, feeds, health: this.#health, isMute: this.#isMute, lostAt: this.#lostAt,
    });
    const { warning } = this.#charting;
    if (warning && !notices.length) notices.push({ level: "wait", text: warning });
    setData(byId("feed"), "level", level);
    setText(byId("feed-words"), words);
    const { seen, desired } = coverage(feeds);
    setText(byId("feed-coverage"), desired && level !== "bad" ? `${number(seen)} of ${number(desired)}` : "");
    document.body.classList.toggle("stale", level === "bad");
    this.#notify(notices.slice(0, NOTICES_MAX));
    this.#describe();
  }

  #notify(notices) {
    const box = byId("notices");
    const text = JSON.stringify(notices);
    if (box.dataset.shown === text) return; // said again, it would be read out again
    box.dataset.shown = text;
    box.replaceChildren(...notices.map((notice) => make("p", { "data-level": notice.level }, notice.text)));
  }

  #describe() {
    this.#charting.describe(phase([...this.#feeds.values()], this.#charting.key));
  }
}

/** The instrument key in the address, `#NSE_INDEX%7CNifty%2050`; empty where there is none. */
function chosenInAddress() {
  try {
    const text = decodeURIComponent(location.hash.slice(1));
    return text.includes("|") ? text : "";
  } catch {
    return ""; // somebody typed a stray percent sign
  }
}

new App().start();
