// Puts the page together: three streams in, one frame at a time out.
//
// `live` carries the ticks of everything in sight (list, chart, chain), `candles` the bars of the charted instrument,
// `events` the state of the feed. Three connections: a browser gives a host six, and REST wants some too.

import * as api from "./api.js";
import { Series } from "./bars.js";
import { Book, VenueClock } from "./book.js";
import { Chart } from "./chart.js";
import { ChainView, legs } from "./chainview.js";
import { byId, make, painter, recall, remember, setData, setText } from "./dom.js";
import { arrow, change, date, dayNumber, decimalsOf, number, percent, time, title } from "./format.js";
import { Head } from "./head.js";
import { Search } from "./search.js";
import { coverage, phase, summary } from "./status.js";
import { Stream } from "./stream.js";
import { Watchlist } from "./watchlist.js";

const NIFTY = "NSE_INDEX|Nifty 50";
const INDICES = [NIFTY, "NSE_INDEX|Nifty Bank", "BSE_INDEX|SENSEX", "NSE_INDEX|India VIX"];
const WITH_FUTURES = [NIFTY, "NSE_INDEX|Nifty Bank"];
const SHARES = [
  "INE002A01018", "INE467B01029", "INE040A01034", "INE009A01021", "INE090A01021",
  "INE030A01027", "INE062A01020", "INE397D01024", "INE237A01036", "INE154A01025",
].map((isin) => `NSE_EQ|${isin}`);

const PAGE_BARS = 1_000;
const WATCHED_MAX = 60;
const REPOINT_MS = 150;
const HEALTH_EVERY_MS = 5_000;
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
  #feeds = new Map(); // shard -> its status
  #health = null;
  #isMute = false; // /health does not answer
  #isChecking = false;
  #instruments = new Map(); // key -> instrument, as far as asked for
  #watched = []; // keys of the list, all of them known to exist
  #wanted = []; // keys that are becoming the list
  #charted = chartOf("");
  #chain = { underlying: "", days: [], day: null, stop: new AbortController() };
  #day = null;
  #repointing = null;
  #stale = ""; // venue time of the last tick before the connection was lost
  #warning = "";
  #wasLost = false; // the stream of bars was

  constructor() {
    this.#frame = painter((nowMs) => this.#paint(nowMs));
    this.#parts();
    this.#streams();
    this.#controls();
  }

  #frame;
  #head;
  #chart;
  #list;
  #view;
  #search;
  #live;
  #candles;
  #events;

  #parts() {
    this.#head = new Head({
      name: byId("chart-name"), detail: byId("chart-detail"), last: byId("chart-last"),
      change: byId("chart-change"), stats: byId("chart-stats"), legend: byId("legend"),
    });
    this.#chart = new Chart(byId("chart"), this.#frame, {
      cursor: (bar) => this.#head.legend(bar),
      older: () => this.#older(),
      behind: (isBehind) => { byId("latest").hidden = !isBehind; },
    });
    new ResizeObserver(([entry]) => {
      this.#chart.headroom = Math.ceil(entry.contentRect.height) + 16;
      this.#frame();
    }).observe(byId("legend"));
    this.#list = new Watchlist(byId("watch-rows"), {
      choose: (key) => this.#choose(key),
      remove: (key) => this.#watch(this.#watched.filter((each) => each !== key)),
    });
    this.#view = new ChainView(
      {
        rows: byId("chain-rows"), expiries: byId("expiries"), totals: byId("chain-totals"),
        scroll: byId("chain-scroll"), note: byId("chain-note"),
      },
      { choose: (key) => this.#choose(key), day: (day) => this.#openChain(this.#chain.underlying, day), shown: () => this.#repoint() },
      (key) => this.#book.get(key),
    );
    this.#search = new Search(byId("search"), byId("results"), {
      choose: (instrument) => this.#add(instrument),
      leave: () => byId("watch-rows").querySelector("button")?.focus(),
    });
  }

  #streams() {
    this.#live = new Stream(browser, {
      tick: (quote) => this.#tick(quote),
      gap: () => this.#charted.series.gap(),
    }, { fresh: () => this.#charted.series.gap(), refused: () => this.#reconsider() }, FRESH_AFTER_MS);
    this.#candles = new Stream(browser, {
      candle: (bar) => this.#candle(bar),
      gap: () => this.#reload(),
    }, { state: (state) => this.#candlesState(state) });
    this.#events = new Stream(browser, { event: (event) => this.#event(event), gap: () => {} }, {
      state: (state) => this.#connection(state),
    });
  }

  #controls() {
    byId("fit").addEventListener("click", () => this.#chart.fit());
    byId("latest").addEventListener("click", () => this.#chart.toLatest());
    byId("watch-reset").addEventListener("click", () => this.#resetWatch());
    byId("underlying").addEventListener("change", (event) => this.#openChain(event.target.value, null));
    byId("theme").addEventListener("click", () => {
      const root = document.documentElement;
      const detail = root.dataset.theme === "dark" ? "light" : "dark";
      root.dispatchEvent(new CustomEvent("themechoice", { detail }));
    });
    this.#showOi(recall("oi", true) === true);
    byId("oi-toggle").addEventListener("click", () => this.#showOi(!this.#chart.showOi));
    document.querySelector(".views").addEventListener("click", (event) => this.#show(event.target.dataset.show));
    document.addEventListener("keydown", (event) => {
      const isTyping = event.target.closest("input, select, textarea");
      if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.#show("list");
      this.#search.focus();
    });
    window.addEventListener("hashchange", () => this.#openChart(chosenInAddress() || NIFTY));
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#checkHealth(); });
  }

  #showOi(isOn) {
    this.#chart.showOi = isOn;
    remember("oi", isOn);
    byId("oi-toggle").setAttribute("aria-pressed", String(isOn));
    document.body.classList.toggle("no-oi", !isOn);
    this.#frame();
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

  start() {
    this.#events.point(api.eventsUrl());
    this.#checkHealth();
    setInterval(() => { if (!document.hidden) this.#checkHealth(); }, HEALTH_EVERY_MS);
    setInterval(() => this.#second(), 500);
    this.#openChart(chosenInAddress() || recall("charted", NIFTY));
    this.#startList();
  }

  /** The venue's time, or until it has told us this machine's. For dates only: which year it is, how far an expiry. */
  get #now() {
    return this.#clock.at(performance.now()) ?? Date.now();
  }

  // What comes in

  #tick(quote) {
    this.#clock.see(quote.ts, performance.now());
    if (!this.#book.apply(quote)) return;
    if (quote.instrument === this.#charted.key) this.#charted.series.tick(quote);
    this.#frame();
  }

  #candle(bar) {
    if (bar.instrument === this.#charted.key && this.#charted.series.candle(bar)) this.#frame();
  }

  #event(event) {
    if (event.kind !== "feed") return;
    this.#feeds.set(event.data.shard, event.data);
    this.#tellStatus();
    this.#checkHealth();
  }

  #connection(state) {
    const at = this.#clock.at(performance.now());
    if (state === "lost" && !this.#stale && at !== null) this.#stale = time(at, { seconds: true });
    if (state === "open") {
      this.#stale = "";
      this.#checkHealth();
    }
    this.#tellStatus();
  }

  /** The stream resumes where it was; but a bar may have been published while nobody could say where that is. */
  #candlesState(state) {
    if (state === "open" && this.#wasLost) this.#reload();
    this.#wasLost = state === "lost";
  }

  async #checkHealth() {
    if (this.#isChecking) return;
    this.#isChecking = true;
    try {
      this.#health = await api.health();
      this.#isMute = false;
    } catch {
      this.#isMute = true; // no problem of this page: it is what there is to tell
    }
    this.#isChecking = false;
    this.#tellStatus();
  }

  // What goes out

  #paint(nowMs) {
    this.#chart.draw(); // first: text on a canvas has the browser settle whatever has changed in the page before it
    const changed = this.#book.takeChanged();
    for (const key of changed) this.#list.update(key, this.#book.get(key), nowMs);
    if (changed.has(this.#charted.key)) this.#showQuote();
    const spot = this.#book.get(this.#chain.underlying)?.ltp ?? null;
    if (changed.size) {
      this.#view.update(changed, spot, nowMs);
      setText(byId("chain-spot"), number(spot, 2));
    }
  }

  #showQuote() {
    const quote = this.#book.get(this.#charted.key);
    if (!quote) return;
    this.#chart.previousClose = quote.cp;
    this.#head.quote(quote);
  }

  #second() {
    const at = this.#clock.at(performance.now());
    setText(byId("clock"), at === null ? "--:--:--" : time(at, { seconds: true }));
    setText(byId("clock-date"), at === null ? "" : date(at, { weekday: true }));
    const quote = this.#book.get(this.#charted.key);
    const instrument = this.#instruments.get(this.#charted.key);
    if (quote && instrument) {
      const moved = change(quote.ltp, quote.cp);
      const price = number(quote.ltp, decimalsOf(instrument.tick_size));
      document.title = `${price} ${arrow(moved.points)} ${percent(moved.percent)} ${title(instrument, at).name}`;
    }
    if (at !== null) this.#newDay(dayNumber(at));
  }

  /** Contracts expire and others are listed: look at everything anew. */
  #newDay(day) {
    if (this.#day !== null && this.#day !== day) this.#reconsider();
    this.#day = day;
  }

  #tellStatus() {
    const feeds = [...this.#feeds.values()];
    const { level, words, notices } = summary({
      connection: this.#events.state, feeds, health: this.#health, isMute: this.#isMute, lostAt: this.#stale,
    });
    if (this.#warning && level === "ok" && !notices.length) notices.push({ level: "wait", text: this.#warning });
    setData(byId("feed"), "level", level);
    setText(byId("feed-words"), words);
    const { seen, desired } = coverage(feeds);
    setText(byId("feed-coverage"), desired && level !== "bad" ? `${number(seen)} of ${number(desired)}` : "");
    byId("feed-coverage").title = "Instruments that have sent something, of those subscribed";
    document.body.classList.toggle("stale", level === "bad");
    const box = byId("notices");
    const shown = notices.slice(0, NOTICES_MAX);
    if (box.dataset.shown === JSON.stringify(shown)) return;
    box.dataset.shown = JSON.stringify(shown);
    box.replaceChildren(...shown.map((notice) => make("p", { "data-level": notice.level }, notice.text)));
    this.#describe();
  }

  // The list

  async #startList() {
    const kept = recall("watchlist", null);
    const isKept = Array.isArray(kept) && kept.every((key) => typeof key === "string");
    const keys = isKept ? kept.slice(0, WATCHED_MAX) : await this.#defaults();
    await this.#watch(keys, { isOwn: isKept });
    this.#underlyings();
  }

  async #defaults() {
    const failed = (problem) => setText(byId("watch-note"), `Waiting: ${problem.message}`);
    const found = await Promise.all(WITH_FUTURES.map((key) => {
      const listed = api.patiently(() => api.expiries(key), undefined, failed);
      return listed.then(({ futures }) => futures, () => []);
    }));
    for (const future of found.flat()) this.#instruments.set(future.key, future);
    return [...INDICES, ...found.flatMap((futures) => futures.slice(0, 3).map(({ key }) => key)), ...SHARES];
  }

  async #resetWatch() {
    await this.#watch(await this.#defaults(), { isOwn: false });
  }

  /** Watch these, without those that do not exist. */
  async #watch(keys, { isOwn = true } = {}) {
    this.#wanted = keys;
    const found = await Promise.all(keys.map((key) => this.#known(key)));
    if (this.#wanted !== keys) return; // changed again meanwhile
    const items = found.filter(Boolean).map((instrument) => item(instrument, this.#now));
    this.#watched = items.map(({ key }) => key);
    remember("watchlist", isOwn ? this.#watched : null);
    this.#list.show(items);
    this.#list.select(this.#charted.key);
    const now = performance.now();
    for (const { key } of items) if (this.#book.get(key)) this.#list.update(key, this.#book.get(key), now);
    byId("watch-note").hidden = items.length > 0;
    setText(byId("watch-note"), "Nothing here. Search for an instrument to watch it.");
    byId("watch-reset").hidden = !isOwn;
    this.#repoint();
  }

  #add(instrument) {
    this.#instruments.set(instrument.key, instrument);
    if (!this.#watched.includes(instrument.key)) this.#watch([instrument.key, ...this.#watched].slice(0, WATCHED_MAX));
    this.#choose(instrument.key);
  }

  /** The instrument of a key; null where there is none. */
  async #known(key, signal) {
    if (!this.#instruments.has(key)) {
      const failed = (problem) => setText(byId("watch-note"), `Waiting: ${problem.message}`);
      try {
        this.#instruments.set(key, await api.patiently(() => api.instrument(key, signal), signal, failed));
      } catch (error) {
        if (!(error instanceof api.Problem)) throw error;
        return null;
      }
    }
    return this.#instruments.get(key);
  }

  // The chart

  #choose(key) {
    this.#show("chart");
    const address = `#${encodeURIComponent(key)}`;
    if (location.hash === address) this.#openChart(key);
    else location.hash = address;
  }

  async #openChart(key) {
    if (key === this.#charted.key) return;
    this.#charted.stop.abort();
    const charted = chartOf(key);
    this.#charted = charted;
    this.#warning = "";
    remember("charted", key);
    this.#note("Loading…");
    this.#head.show({ name: key, detail: "", decimals: 2 });
    this.#list.select(key);
    this.#view.select(key);
    const known = this.#book.get(key);
    if (known) charted.series.tick(known);
    this.#chart.show(charted.series, { decimals: 2, tick: 0 });
    const instrument = await this.#known(key, charted.stop.signal).catch(() => null);
    if (this.#charted !== charted) return;
    if (!instrument) {
      this.#note(`There is no instrument ${key}.`);
      return;
    }
    charted.isKnown = true;
    this.#present(instrument);
    this.#repoint();
    this.#candles.point(api.candlesUrl(key));
    await this.#reload();
  }

  #present(instrument) {
    const decimals = decimalsOf(instrument.tick_size);
    this.#head.show({ ...title(instrument, this.#now), detail: "", decimals });
    this.#chart.show(this.#charted.series, { decimals, tick: instrument.tick_size });
    this.#describe();
    this.#showQuote();
    const hasChain = [...byId("underlying").options].some((option) => option.value === instrument.key);
    if (hasChain && this.#chain.underlying !== instrument.key) this.#openChain(instrument.key, null);
  }

  #describe() {
    const instrument = this.#instruments.get(this.#charted.key);
    if (!instrument) return;
    const lot = instrument.lot_size > 1 ? `lot ${number(instrument.lot_size)}` : "";
    const market = phase([...this.#feeds.values()], instrument.key);
    const { name, detail } = title(instrument, this.#now);
    this.#head.detail([detail, lot, market].filter(Boolean).join(" · "));
    byId("chart").setAttribute("aria-label", `One-minute candles of ${name}`);
  }

  /** Fetch the newest page of bars; what is there already is merged, so that this is never wrong. */
  async #reload() {
    const charted = this.#charted;
    const failed = (problem) => { if (!charted.series.bars.length) this.#note(`Waiting for bars: ${problem.message}`); };
    const signal = charted.stop.signal;
    let page;
    try {
      page = await api.patiently(() => api.candles(charted.key, PAGE_BARS, null, signal), signal, failed);
    } catch (error) {
      if (this.#charted === charted) this.#note(ignoreAbort(error) ?? "");
      return;
    }
    if (this.#charted !== charted) return;
    const isFirst = charted.older === null;
    const older = charted.series.load(page.candles);
    if (isFirst) charted.older = page.next ?? -1;
    if (older) this.#chart.prepended(older);
    this.#warning = page.warning ? `Bars: ${page.warning}.` : "";
    this.#tellStatus();
    this.#note(charted.series.bars.length ? "" : "No bars yet. They appear with the first trade that is seen.");
    this.#frame();
  }

  /** The page before the oldest bar, once. */
  async #older() {
    const charted = this.#charted;
    if (charted.isAsking || charted.older === null || charted.older < 0 || charted.series.isFull) return;
    charted.isAsking = true;
    try {
      const page = await api.candles(charted.key, PAGE_BARS, charted.older, charted.stop.signal);
      if (this.#charted !== charted) return;
      charted.older = page.next ?? -1;
      this.#chart.prepended(charted.series.load(page.candles));
    } catch (error) {
      ignoreAbort(error); // the next look at the oldest bars asks again
    } finally {
      charted.isAsking = false;
    }
  }

  #note(text) {
    byId("chart-note").hidden = !text;
    setText(byId("chart-note"), text);
  }

  // The chain

  /** Whose options can be looked at: the indices and shares of the list that have any. */
  async #underlyings() {
    const candidates = this.#watched.map((key) => this.#instruments.get(key)).filter(hasOptionsPerhaps);
    const days = await Promise.all(candidates.map(({ key }) =>
      api.patiently(() => api.expiries(key)).then(({ options }) => options, () => [])));
    const found = candidates.filter((_, at) => days[at].length);
    const select = byId("underlying");
    select.replaceChildren(...found.map((each) => make("option", { value: each.key }, title(each).name)));
    if (!found.length) {
      this.#view.clear("No options are listed for the instruments on the left.");
      return;
    }
    const preferred = [this.#chain.underlying, this.#charted.key, NIFTY].find((key) => found.some((each) => each.key === key));
    await this.#openChain(preferred ?? found[0].key, null);
  }

  async #openChain(underlying, day) {
    this.#chain.stop.abort();
    const chain = { underlying, day, stop: new AbortController() };
    this.#chain = chain;
    byId("underlying").value = underlying;
    this.#view.clear("Loading the chain…");
    const failed = (problem) => this.#view.note(`Waiting for the chain: ${problem.message}`);
    const signal = chain.stop.signal;
    let found;
    try {
      found = await api.patiently(() => api.chain(underlying, day, signal), signal, failed);
    } catch (error) {
      if (this.#chain === chain) this.#view.clear(ignoreAbort(error) ?? "");
      return;
    }
    if (this.#chain !== chain) return;
    for (const quote of [found.underlying_quote, ...legs(found).map((leg) => leg.quote)]) {
      if (quote) this.#tick(quote);
    }
    this.#view.expiries(found.expiries, found.expiry, this.#now);
    const keysOnly = ({ strike, call, put }) => ({ strike, call: call?.instrument, put: put?.instrument });
    this.#view.show(found.strikes.map(keysOnly), this.#book.get(underlying)?.ltp ?? null);
    this.#view.select(this.#charted.key);
    setText(byId("chain-spot"), number(this.#book.get(underlying)?.ltp ?? null, 2));
  }

  // The live stream

  /** Read the ticks of what is in sight now; several changes in a row become one. */
  #repoint() {
    clearTimeout(this.#repointing);
    this.#repointing = setTimeout(() => {
      // Only keys that are known to exist: one that does not would have the whole stream refused.
      const charted = this.#charted.isKnown ? this.#charted.key : "";
      const keys = new Set([...this.#watched, charted, this.#chain.underlying, ...this.#view.keys]);
      keys.delete("");
      if (keys.size) this.#live.point(api.liveUrl([...keys].sort()));
    }, REPOINT_MS);
  }

  /** The gateway does not know all of what we ask for, or it is another day: find out what there is. */
  async #reconsider() {
    this.#instruments.clear();
    await this.#watch(this.#watched, { isOwn: recall("watchlist", null) !== null });
    await this.#underlyings();
  }
}

const chartOf = (key) => ({
  key, series: new Series(), isKnown: false, older: null, isAsking: false, stop: new AbortController(),
});

const hasOptionsPerhaps = (instrument) => instrument && !instrument.expiry;

function item(instrument, nowMs) {
  const { name, detail } = title(instrument, nowMs);
  const full = instrument.instrument_type === "EQ" ? instrument.name : `${name} ${detail}`;
  return { key: instrument.key, name, detail, full, decimals: decimalsOf(instrument.tick_size) };
}

/** An abort is our own doing and says nothing; of anything else, the words. */
function ignoreAbort(error) {
  return error.name === "AbortError" ? null : error.message;
}

function chosenInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // somebody typed a stray percent sign
  }
}

new App().start();
