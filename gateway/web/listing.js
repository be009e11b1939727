// Which instruments are on the list: a default, or what somebody has made of it, remembered on this machine.

import { byId, recall, remember, setText } from "./dom.js";
import { NIFTY } from "./directory.js";
import { decimalsOf, title } from "./format.js";
import { Search } from "./search.js";
import { Watchlist } from "./watchlist.js";

const BANKNIFTY = "NSE_INDEX|Nifty Bank";
const INDICES = [NIFTY, BANKNIFTY, "BSE_INDEX|SENSEX", "NSE_INDEX|India VIX"];
const WITH_FUTURES = [NIFTY, BANKNIFTY];
const FUTURES_EACH = 3;
const SHARES = [
  "INE002A01018", "INE467B01029", "INE040A01034", "INE009A01021", "INE090A01021",
  "INE030A01027", "INE062A01020", "INE397D01024", "INE237A01036", "INE154A01025",
].map((isin) => `NSE_EQ|${isin}`);
const MOST = 60;

export class Listing {
  #directory;
  #told;
  #list;
  #search;
  #wanted = []; // keys that are becoming the list
  #isOwn = false; // somebody changed it
  keys = []; // all of them known to exist

  /** `told`: {choose(key), changed(), now(), quote(key)}. */
  constructor(directory, told) {
    [this.#directory, this.#told] = [directory, told];
    this.#list = new Watchlist(byId("watch-rows"), {
      choose: told.choose,
      remove: (key) => this.#watch(this.keys.filter((each) => each !== key), true),
    });
    this.#search = new Search(byId("search"), byId("results"), {
      choose: (instrument) => this.#add(instrument),
      leave: () => byId("watch-rows").querySelector("button")?.focus(),
    });
    byId("watch-reset").addEventListener("click", async () => this.#watch(await this.#defaults(), false));
  }

  async start() {
    const kept = recall("watchlist", null);
    const isOwn = Array.isArray(kept) && kept.every((key) => typeof key === "string");
    await this.#watch(isOwn ? kept : await this.#defaults(), isOwn);
  }

  /** Look again what there is of it. */
  async refresh() {
    await this.#watch(this.#isOwn ? this.keys : await this.#defaults(), this.#isOwn);
  }

  search() {
    this.#search.focus();
  }

  select(key) {
    this.#list.select(key);
  }

  update(key, quote, nowMs) {
    this.#list.update(key, quote, nowMs);
  }

  async #defaults() {
    const failed = (problem) => this.#wait(problem);
    const found = await Promise.all(WITH_FUTURES.map((key) => this.#directory.expiries(key, failed)));
    const futures = found.flatMap((each) => each.futures.slice(0, FUTURES_EACH));
    return [...INDICES, ...futures.map(({ key }) => key), ...SHARES];
  }

  /** Show these, without those that do not exist. */
  async #watch(keys, isOwn) {
    this.#wanted = keys;
    const failed = (problem) => this.#wait(problem);
    const found = await Promise.all(keys.slice(0, MOST).map((key) => this.#directory.find(key, { failed })));
    if (this.#wanted !== keys) return; // changed again meanwhile
    const items = found.filter(Boolean).map((instrument) => item(instrument, this.#told.now()));
    this.keys = items.map(({ key }) => key);
    this.#isOwn = isOwn;
    remember("watchlist", isOwn ? this.keys : null);
    this.#list.show(items);
    for (const key of this.keys) {
      const quote = this.#told.quote(key);
      if (quote) this.#list.update(key, quote, performance.now());
    }
    byId("watch-note").hidden = items.length > 0;
    setText(byId("watch-note"), "Nothing here. Search for an instrument to watch it.");
    byId("watch-reset").hidden = !isOwn;
    this.#told.changed();
  }

  #add(instrument) {
    this.#directory.put(instrument);
    if (!this.keys.includes(instrument.key)) this.#watch([instrument.key, ...this.keys], true);
    this.#told.choose(instrument.key);
  }

  #wait(problem) {
    setText(byId("watch-note"), `Waiting: ${problem.message}`);
  }
}

function item(instrument, nowMs) {
  const { name, detail } = title(instrument, nowMs);
  const full = instrument.instrument_type === "EQ" ? instrument.name : `${name} ${detail}`;
  return { key: instrument.key, name, detail, full, decimals: decimalsOf(instrument.tick_size) };
}
