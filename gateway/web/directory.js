// The instruments that were asked for, each once.

import * as api from "./api.js";

export const NIFTY = "NSE_INDEX|Nifty 50";

export class Directory {
  #known = new Map();

  /** The instrument of a key, as far as it was found before. */
  get(key) {
    return this.#known.get(key) ?? null;
  }

  put(instrument) {
    this.#known.set(instrument.key, instrument);
  }

  clear() {
    this.#known.clear();
  }

  /** The instrument of a key; null where there is none. `failed(problem)` is told why it takes long. */
  async find(key, { signal, failed } = {}) {
    if (!this.#known.has(key)) {
      try {
        this.put(await api.patiently(() => api.instrument(key, signal), signal, failed));
      } catch (error) {
        if (!(error instanceof api.Problem)) throw error;
        return null;
      }
    }
    return this.get(key);
  }

  /** {options, futures} of an underlying; nothing of either where it has none. */
  async expiries(key, failed) {
    try {
      const found = await api.patiently(() => api.expiries(key), undefined, failed);
      found.futures.forEach((future) => this.put(future));
      return found;
    } catch (error) {
      if (!(error instanceof api.Problem)) throw error;
      return { options: [], futures: [] };
    }
  }
}
