// One EventSource that may change its address without losing sight of anything, and never gives up. No DOM: what it
// needs of the browser is passed in.

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;
const OVERLAP_MS = 2_000;
const CLOSED = 2; // EventSource.CLOSED

const noop = () => {};

export class Stream {
  #browser;
  #events;
  #told;
  #freshAfterMs;
  #url = "";
  #current = null; // the source whose state counts
  #previous = null; // goes on until the current one speaks
  #lastId = "";
  #retryMs = FIRST_RETRY_MS;
  #timer = null;
  #state = "opening";

  /**
   * `browser`: {open(url), after(ms, f), cancel(timer)}. `events`: name -> function of the parsed data.
   * `told`: {state(text), fresh(), refused()}: `fresh` means that what comes next is a snapshot that follows on
   * nothing, `refused` that the gateway answered with a problem; the same will be tried again.
   * A stream of states that was away for `freshAfterMs` starts anew: nobody wants to see old prices run by.
   */
  constructor(browser, events, { state = noop, fresh = noop, refused = noop } = {}, freshAfterMs = Infinity) {
    this.#browser = browser;
    this.#events = events;
    this.#told = { state, fresh, refused };
    this.#freshAfterMs = freshAfterMs;
  }

  get state() {
    return this.#state;
  }

  /** Read from this address. The old connection goes on until the new one speaks: no event falls in between. */
  point(url) {
    if (url === this.#url) return;
    this.#url = url;
    this.#lastId = "";
    this.#retryMs = FIRST_RETRY_MS;
    if (this.#state === "lost") this.#told.fresh();
    this.#open(url);
  }

  close() {
    this.#url = "";
    this.#drop();
    this.#cancel();
  }

  #open(url) {
    this.#cancel();
    if (this.#current) {
      this.#previous?.close();
      this.#previous = this.#current;
    }
    const source = this.#browser.open(url);
    this.#current = source;
    source.addEventListener("open", () => this.#opened(source));
    source.addEventListener("error", () => this.#failed(source));
    for (const [name, handle] of Object.entries(this.#events)) {
      source.addEventListener(name, (message) => this.#received(source, message, handle));
    }
  }

  #opened(source) {
    if (source !== this.#current) return;
    this.#cancel();
    this.#retryMs = FIRST_RETRY_MS;
    if (this.#previous) this.#timer = this.#browser.after(OVERLAP_MS, () => this.#dropPrevious());
    this.#say("open");
  }

  #received(source, message, handle) {
    if (source === this.#current) {
      if (this.#previous) this.#dropPrevious();
      if (message.lastEventId) this.#lastId = message.lastEventId;
    } else if (source !== this.#previous) {
      return;
    }
    handle(JSON.parse(message.data));
  }

  #failed(source) {
    if (source === this.#previous) {
      this.#dropPrevious();
      return;
    }
    if (source !== this.#current) return;
    this.#say("lost");
    if (source.readyState === CLOSED) this.#retry();
    else if (this.#timer === null && this.#freshAfterMs < Infinity) {
      this.#timer = this.#browser.after(this.#freshAfterMs, () => this.#restart());
    }
  }

  /** The browser has given up (the gateway answered with a problem): go on from the last id ourselves. */
  #retry() {
    this.#drop();
    this.#cancel();
    if (this.#freshAfterMs < Infinity) {
      this.#lastId = "";
      this.#told.fresh();
    }
    this.#told.refused();
    const waitMs = this.#retryMs;
    this.#retryMs = Math.min(LAST_RETRY_MS, waitMs * 2);
    this.#timer = this.#browser.after(waitMs, () => this.#open(this.#resuming()));
  }

  #restart() {
    this.#drop();
    this.#lastId = "";
    this.#timer = null;
    this.#told.fresh();
    this.#open(this.#url);
  }

  #resuming() {
    if (!this.#lastId) return this.#url;
    return `${this.#url}${this.#url.includes("?") ? "&" : "?"}last_event_id=${encodeURIComponent(this.#lastId)}`;
  }

  #drop() {
    this.#dropPrevious();
    this.#current?.close();
    this.#current = null;
  }

  #dropPrevious() {
    this.#previous?.close();
    this.#previous = null;
  }

  #cancel() {
    if (this.#timer !== null) this.#browser.cancel(this.#timer);
    this.#timer = null;
  }

  #say(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#told.state(state);
  }
}
