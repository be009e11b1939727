// Whose chain is shown, and of which day.

import * as api from "./api.js";
import { ChainView, legs } from "./chainview.js";
import { NIFTY } from "./directory.js";
import { byId, make, setText } from "./dom.js";
import { number, title } from "./format.js";

export class Chaining {
  #directory;
  #told;
  #view;
  #stop = new AbortController();
  #expiry = "";
  underlying = "";

  /** `told`: {choose(key), changed(), quotes(quotes), now(), quote(key)}. */
  constructor(directory, told) {
    [this.#directory, this.#told] = [directory, told];
    const parts = {
      rows: byId("chain-rows"), expiries: byId("expiries"), totals: byId("chain-totals"),
      scroll: byId("chain-scroll"), note: byId("chain-note"),
    };
    const day = (iso) => this.open(this.underlying, iso);
    this.#view = new ChainView(parts, { choose: told.choose, day, shown: told.changed }, told.quote);
    byId("underlying").addEventListener("change", (event) => this.open(event.target.value));
  }

  /** The keys whose quotes are shown. */
  get keys() {
    return this.underlying ? [this.underlying, ...this.#view.keys] : [];
  }

  /** Offer the chains of those instruments that have any, and show one. */
  async offer(keys, preferred) {
    const candidates = keys.map((key) => this.#directory.get(key)).filter((each) => each && !each.expiry);
    const found = await Promise.all(candidates.map(({ key }) => this.#directory.expiries(key)));
    const offered = candidates.filter((_, at) => found[at].options.length);
    const options = offered.map((each) => make("option", { value: each.key }, title(each).name));
    byId("underlying").replaceChildren(...options);
    const first = [this.underlying, preferred, NIFTY].find((key) => this.has(key)) ?? offered[0]?.key;
    if (first) await this.open(first);
    else this.#view.clear("No options are listed for the instruments of the list.");
  }

  has(key) {
    return [...byId("underlying").options].some((option) => option.value === key);
  }

  /** Without a day: the nearest. */
  async open(underlying, day = null) {
    this.#stop.abort();
    const stop = new AbortController();
    [this.#stop, this.underlying] = [stop, underlying];
    byId("underlying").value = underlying;
    this.#view.clear("Loading the chain…");
    const failed = (problem) => this.#view.note(`Waiting for the chain: ${problem.message}`);
    try {
      const found = await api.patiently(() => api.chain(underlying, day, stop.signal), stop.signal, failed);
      if (this.#stop !== stop) return;
      this.#show(found);
      const minute = await api.patiently(
        () => api.minuteChain(underlying, found.expiry, stop.signal), stop.signal, () => {});
      if (this.#stop === stop && minute) this.minute(minute);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#view.clear(error.message);
      if (!(error instanceof api.Problem)) throw error;
    }
  }

  /** The chain of a minute has come: of this underlying and expiry, or of another. */
  minute(chain) {
    if (chain.underlying === this.underlying && chain.expiry === this.#expiry) this.#view.minute(chain);
  }

  #show(found) {
    this.#expiry = found.expiry;
    const quotes = [found.underlying_quote, ...legs(found).map((leg) => leg.quote)];
    this.#told.quotes(quotes.filter(Boolean));
    this.#view.expiries(found.expiries, found.expiry, this.#told.now());
    const strikes = found.strikes.map(({ strike, call, put }) => (
      { strike, call: call?.instrument, put: put?.instrument }));
    this.#view.show(strikes, this.#spot);
    this.#showSpot();
  }

  get #spot() {
    return this.#told.quote(this.underlying)?.ltp ?? null;
  }

  #showSpot() {
    setText(byId("chain-spot"), number(this.#spot, 2));
  }

  update(changed, nowMs) {
    this.#view.update(changed, this.#spot, nowMs);
    this.#showSpot();
  }

  select(key) {
    this.#view.select(key);
  }
}
