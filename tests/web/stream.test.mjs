import assert from "node:assert/strict";
import { test } from "node:test";

import { Stream } from "../../gateway/web/stream.js";

/** A browser whose sources and timers do what the test says. */
class Browser {
  sources = [];
  timers = [];

  open(url) {
    const source = { url, readyState: 0, listeners: {}, isClosed: false };
    source.addEventListener = (name, call) => { source.listeners[name] = call; };
    source.close = () => { source.isClosed = true; };
    this.sources.push(source);
    return source;
  }

  after(ms, call) {
    const timer = { ms, call };
    this.timers.push(timer);
    return timer;
  }

  cancel(timer) {
    this.timers = this.timers.filter((each) => each !== timer);
  }

  get last() {
    return this.sources.at(-1);
  }

  get living() {
    return this.sources.filter((source) => !source.isClosed).length;
  }

  opens(source = this.last) {
    source.readyState = 1;
    source.listeners.open();
  }

  tells(name, data, id = "", source = this.last) {
    source.listeners[name]({ data: JSON.stringify(data), lastEventId: id });
  }

  fails(readyState, source = this.last) {
    source.readyState = readyState;
    source.listeners.error();
  }

  waits() {
    const { ms, call } = this.timers.shift();
    call();
    return ms;
  }
}

function listening(freshAfterMs) {
  const browser = new Browser();
  const log = [];
  const told = { state: (state) => log.push(state), fresh: () => log.push("fresh"), refused: () => log.push("refused") };
  const stream = new Stream(browser, { tick: (data) => log.push(data) }, told, freshAfterMs);
  return { browser, log, stream };
}

test("events arrive parsed", () => {
  const { browser, log, stream } = listening();
  stream.point("/a");
  browser.opens();
  browser.tells("tick", { ltp: 1 });
  assert.deepEqual(log, ["open", { ltp: 1 }]);
});

test("the same address opens nothing new", () => {
  const { browser, stream } = listening();
  stream.point("/a");
  stream.point("/a");
  assert.equal(browser.sources.length, 1);
});

test("on a change of address the old connection goes on until the new one speaks", () => {
  const { browser, log, stream } = listening();
  stream.point("/a");
  browser.opens();
  stream.point("/b");
  const [old] = browser.sources;
  browser.tells("tick", "from the old", "", old);
  assert.equal(old.isClosed, false);
  browser.opens();
  browser.tells("tick", "from the new");
  assert.equal(old.isClosed, true);
  browser.tells("tick", "too late", "", old);
  assert.deepEqual(log, ["open", "from the old", "from the new"]);
});

test("a new connection that has nothing to say replaces the old one after a while", () => {
  const { browser, stream } = listening();
  stream.point("/a");
  browser.opens();
  stream.point("/b");
  browser.opens();
  browser.waits();
  assert.deepEqual([browser.sources[0].isClosed, browser.living], [true, 1]);
});

test("many changes in a row leave one connection", () => {
  const { browser, stream } = listening();
  for (const url of ["/a", "/b", "/c", "/d"]) stream.point(url);
  assert.ok(browser.living <= 2);
  browser.opens();
  browser.tells("tick", 1);
  assert.equal(browser.living, 1);
});

test("while the browser reconnects by itself it is left alone", () => {
  const { browser, log, stream } = listening();
  stream.point("/a");
  browser.opens();
  browser.fails(0);
  browser.opens();
  assert.deepEqual([log, browser.sources.length], [["open", "lost", "open"], 1]);
});

test("where the browser gave up, the stream goes on from its last id", () => {
  const { browser, log, stream } = listening();
  stream.point("/a?instruments=X");
  browser.opens();
  browser.tells("tick", 1, "17-0.3");
  browser.fails(2);
  browser.waits();
  assert.equal(browser.last.url, "/a?instruments=X&last_event_id=17-0.3");
  assert.deepEqual(log, ["open", 1, "lost", "refused"]);
});

test("waits grow while it is refused, and start small again after a success", () => {
  const { browser, stream } = listening();
  stream.point("/a");
  const waits = [1, 2, 3, 4, 5, 6].map(() => {
    browser.fails(2);
    return browser.waits();
  });
  assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  browser.opens();
  browser.fails(2);
  assert.equal(browser.waits(), 1_000);
});

test("a stream of states that was away for long starts anew, and says so", () => {
  const { browser, log, stream } = listening(30_000);
  stream.point("/a");
  browser.opens();
  browser.tells("tick", 1, "17-0");
  browser.fails(0);
  browser.fails(0);
  assert.equal(browser.timers.length, 1);
  assert.equal(browser.waits(), 30_000);
  assert.deepEqual([browser.last.url, browser.living], ["/a", 1]);
  assert.deepEqual(log, ["open", 1, "lost", "fresh"]);
});

test("a stream of states that is back in time resumes", () => {
  const { browser, log, stream } = listening(30_000);
  stream.point("/a");
  browser.opens();
  browser.fails(0);
  browser.opens();
  assert.deepEqual([browser.timers.length, log], [0, ["open", "lost", "open"]]);
});

test("the old connection's end is no loss", () => {
  const { browser, log, stream } = listening();
  stream.point("/a");
  browser.opens();
  stream.point("/b");
  browser.fails(0, browser.sources[0]);
  assert.deepEqual([log, browser.sources[0].isClosed], [["open"], true]);
});

test("a closed stream holds nothing", () => {
  const { browser, stream } = listening(30_000);
  stream.point("/a");
  browser.opens();
  browser.fails(0);
  stream.close();
  assert.deepEqual([browser.living, browser.timers.length], [0, 0]);
});
