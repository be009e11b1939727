// The charted instrument: its bars from REST, from the `candles` stream and from ticks, and what is said above them.

import * as api from "./api.js";
import { Series } from "./bars.js";
import { INTERVALS, LongSeries } from "./longbars.js";
import { Chart } from "./chart.js";
import { byId, recall, remember, setText } from "./dom.js";
import { decimalsOf, number, title } from "./format.js";
import { Head } from "./head.js";
import { Stream } from "./stream.js";

const PAGE_BARS = 1_000;
const LEGEND_AIR_PX = 16;

export class Charting {
  #directory;
  #told;
  #head;
  #chart;
  #candles; // one-minute bars: what forms is made of them, whatever is shown
  #longs; // bars of the interval that is shown
  #interval = "1m";
  #charted = charted("", "1m");
  #wasLost = false; // the stream of bars was
  warning = ""; // what the gateway says of the bars it found

  /**
   * `told`: {choosing(key), chosen(instrument), missing(key), warned(), now(), quote(key), underlying(), chain(chain)};
   * `frame()` asks for one.
   */
  constructor(browser, directory, frame, told) {
    [this.#directory, this.#told] = [directory, told];
    this.#head = new Head({
      name: byId("chart-name"), detail: byId("chart-detail"), last: byId("chart-last"),
      change: byId("chart-change"), stats: byId("chart-stats"), legend: byId("legend"),
    });
    this.#chart = new Chart(byId("chart"), frame, {
      cursor: (bar) => this.#head.legend(bar),
      older: () => this.#older(),
      behind: (isBehind) => { byId("latest").hidden = !isBehind; },
    });
    this.#candles = new Stream(browser, {
      candle: (bar) => this.#candle(bar), chain: (chain) => told.chain(chain), gap: () => this.#reload(),
    }, { state: (state) => this.#state(state) });
    this.#longs = new Stream(browser, { candle: (bar) => this.#longCandle(bar), gap: () => this.#reload() });
    this.#listen();
  }

  #listen() {
    byId("fit").addEventListener("click", () => this.#chart.fit());
    byId("latest").addEventListener("click", () => this.#chart.toLatest());
    byId("oi-toggle").addEventListener("click", () => this.#showOi(!this.#chart.showsOi));
    this.#showOi(recall("oi", true) === true);
    byId("intervals").addEventListener("click", (event) => {
      const { interval } = event.target.dataset;
      if (interval) this.#showInterval(interval);
    });
    const known = recall("interval", "1m");
    this.#interval = INTERVALS.includes(known) ? known : "1m";
    this.#markInterval();
    new ResizeObserver(([entry]) => {
      this.#chart.headroom = Math.ceil(entry.contentRect.height) + LEGEND_AIR_PX;
    }).observe(byId("legend"));
  }

  #showOi(isOn) {
    this.#chart.showsOi = isOn;
    remember("oi", isOn);
    byId("oi-toggle").setAttribute("aria-pressed", String(isOn));
    document.body.classList.toggle("no-oi", !isOn);
  }

  #markInterval() {
    for (const button of byId("intervals").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.interval === this.#interval));
    }
  }

  /** Another length of the bars; the minutes stay, and what forms is made of them. */
  #showInterval(interval) {
    if (interval === this.#interval) return;
    this.#interval = interval;
    remember("interval", interval);
    this.#markInterval();
    const mine = this.#charted;
    mine.stop.abort();
    this.#charted = { ...charted(mine.key, interval, mine.minutes), instrument: mine.instrument };
    if (!mine.instrument) return;
    this.#note("Loading…");
    this.#present();
    this.#reload();
  }

  get key() {
    return this.#charted.key;
  }

  /** Null until it is known to exist. */
  get instrument() {
    return this.#charted.instrument;
  }

  // What comes in

  tick(quote) {
    if (quote.instrument === this.key && this.#charted.minutes.tick(quote)) this.#minutesChanged();
  }

  #minutesChanged() {
    this.#charted.long?.refresh();
    this.#chart.update();
  }

  /** Ticks were missed. */
  gap() {
    this.#charted.minutes.gap();
    this.#charted.long?.refresh();
  }

  #candle(bar) {
    if (bar.instrument === this.key && this.#charted.minutes.candle(bar)) this.#minutesChanged();
  }

  #longCandle(bar) {
    const { long } = this.#charted;
    if (bar.instrument === this.key && bar.interval === long?.interval && long.candle(bar)) this.#chart.update();
  }

  /** The stream resumes where it was, unless nobody could say where that is: then there may be more to fetch. */
  #state(state) {
    if (state === "open" && this.#wasLost) this.#reload();
    this.#wasLost = state === "lost";
  }

  // What goes out

  draw() {
    if (this.#charted.series.bars.length) this.#note("");
    this.#chart.draw();
  }

  showQuote() {
    const quote = this.#told.quote(this.key);
    if (!quote) return;
    this.#chart.previousClose = quote.cp;
    this.#head.quote(quote);
  }

  /** `market` is the phase of the instrument's segment, in words. */
  describe(market) {
    if (!this.instrument) return;
    const { name, detail } = title(this.instrument, this.#told.now());
    const lot = this.instrument.lot_size > 1 ? `lot ${number(this.instrument.lot_size)}` : "";
    this.#head.detail([detail, lot, market].filter(Boolean).join(" · "));
    byId("chart").setAttribute("aria-label", `${NAMES[this.#interval]} candles of ${name}`);
  }

  #note(text) {
    byId("chart-note").hidden = !text;
    setText(byId("chart-note"), text);
  }

  // Another instrument

  async open(key) {
    if (key === this.key) return;
    this.#charted.stop.abort();
    const mine = charted(key, this.#interval);
    this.#charted = mine;
    this.warning = "";
    this.#note("Loading…");
    this.#head.show({ name: key, detail: "", decimals: 2 });
    this.#told.choosing(key);
    const last = this.#told.quote(key);
    if (last) mine.minutes.tick(last);
    this.#chart.show(mine.series, { decimals: 2, tick: 0 });
    const failed = (problem) => this.#note(`Waiting: ${problem.message}`);
    mine.instrument = await this.#directory.find(key, { signal: mine.stop.signal, failed }).catch(ifNotAborted);
    if (this.#charted !== mine) return;
    if (mine.instrument) {
      this.#present();
      await this.#reload();
    } else {
      this.#note(`There is no instrument ${key}.`);
      this.#told.missing(key);
    }
  }

  #present() {
    const { instrument, series } = this.#charted;
    const decimals = decimalsOf(instrument.tick_size);
    remember("charted", instrument.key);
    this.#head.show({ ...title(instrument, this.#told.now()), detail: "", decimals });
    this.#chart.show(series, { decimals, tick: instrument.tick_size });
    document.body.classList.toggle("without-oi", !instrument.expiry);
    this.showQuote();
    this.point();
    this.#told.chosen(instrument);
  }

  /** Read the bars of what is charted, and the chains of what the table of strikes shows. */
  point() {
    const { instrument, interval } = this.#charted;
    if (!instrument) return;
    const keys = new Set([instrument.key, this.#told.underlying()]);
    this.#candles.point(api.candlesUrl([...keys].filter(Boolean).sort()));
    if (interval === "1m") this.#longs.close();
    else this.#longs.point(api.candlesUrl([instrument.key], interval));
  }

  /** On another day the instrument may be gone. */
  async refresh() {
    const mine = this.#charted;
    mine.instrument = await this.#directory.find(mine.key);
  }

  // Its bars

  /** Fetch the newest page. What is there already is merged, so that this is never wrong. */
  async #reload() {
    const mine = this.#charted;
    const { signal } = mine.stop;
    const failed = (problem) => {
      if (!mine.series.bars.length) this.#note(`Waiting for bars: ${problem.message}`);
    };
    const newest = (interval) => api.patiently(
      () => api.candles(mine.key, interval, PAGE_BARS, null, signal), signal, failed);
    let page;
    try {
      if (mine.long) mine.minutes.load((await newest("1m")).candles);
      page = await newest(mine.interval);
    } catch (error) {
      ifNotAborted(error);
      if (this.#charted === mine) this.#note(error.message);
      return;
    }
    if (this.#charted !== mine) return;
    mine.older ??= page.next ?? NO_MORE;
    mine.long?.refresh();
    const inFront = mine.series.load(page.candles);
    if (inFront) this.#chart.prepended(inFront);
    this.warning = page.warning ? `Bars: ${page.warning}.` : "";
    this.#told.warned();
    this.#note("No bars yet. They appear with the first trade that is seen.");
    this.#chart.update();
  }

  /** The page before the oldest bar. */
  async #older() {
    const mine = this.#charted;
    if (mine.isAsking || mine.older === null || mine.older === NO_MORE || mine.series.isFull) return;
    mine.isAsking = true;
    try {
      const page = await api.candles(mine.key, mine.interval, PAGE_BARS, mine.older, mine.stop.signal);
      mine.older = page.next ?? NO_MORE;
      const inFront = mine.series.load(page.candles);
      if (this.#charted === mine) this.#chart.prepended(inFront);
    } catch (error) {
      ifNotAborted(error);
      if (!error.isPassing) mine.older = NO_MORE; // else the next look at the oldest bars asks again
    } finally {
      mine.isAsking = false;
    }
  }
}

const NO_MORE = -1;

const NAMES = {
  "1m": "One-minute", "3m": "Three-minute", "5m": "Five-minute", "15m": "Quarter-hour", "30m": "Half-hour",
  "60m": "Hourly", "1d": "Daily",
};

/** What belongs to one choice, and is left behind with it. `older`: where the page before the first one ends. */
function charted(key, interval, minutes = new Series()) {
  const long = interval === "1m" ? null : new LongSeries(minutes, interval);
  const rest = { instrument: null, older: null, isAsking: false, stop: new AbortController() };
  return { key, interval, minutes, long, series: long ?? minutes, ...rest };
}

/** Aborting is our own doing, and a problem has been told: anything else is a bug and goes on. */
function ifNotAborted(error) {
  if (!(error instanceof api.Problem) && error.name !== "AbortError") throw error;
  return null;
}
