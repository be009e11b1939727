// The newest quote of every instrument, and which of them changed since somebody last looked. Pure.

export class Book {
  #quotes = new Map();
  #changed = new Set();

  get(key) {
    return this.#quotes.get(key) ?? null;
  }

  /** Keep a quote unless a newer one is known. `rx`, when it was received, only ever grows. */
  apply(quote) {
    const known = this.#quotes.get(quote.instrument);
    if (known && known.rx > quote.rx) return false;
    this.#quotes.set(quote.instrument, quote);
    this.#changed.add(quote.instrument);
    return true;
  }

  /** The keys that changed since the last call. */
  takeChanged() {
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }
}

/** The venue's time: the largest timestamp seen, carried on by the time that has passed since. */
export class VenueClock {
  #ms = null;
  #seenAt = 0;

  see(ms, nowMs) {
    if (this.#ms === null || ms > this.at(nowMs)) [this.#ms, this.#seenAt] = [ms, nowMs];
  }

  /** `nowMs` is of a clock that never jumps. Null before the first quote. */
  at(nowMs) {
    return this.#ms === null ? null : this.#ms + (nowMs - this.#seenAt);
  }
}
