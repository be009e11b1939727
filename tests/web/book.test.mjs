import assert from "node:assert/strict";
import { test } from "node:test";

import { Book, VenueClock } from "../../gateway/web/book.js";

test("the quote that was received last is kept, in whatever order they come", () => {
  const book = new Book();
  book.apply({ instrument: "A", rx: 2, ltp: 20 });
  assert.equal(book.apply({ instrument: "A", rx: 1, ltp: 10 }), false);
  assert.equal(book.get("A").ltp, 20);
  assert.equal(book.get("B"), null);
});

test("a change is reported once", () => {
  const book = new Book();
  book.apply({ instrument: "A", rx: 1 });
  book.apply({ instrument: "A", rx: 2 });
  book.apply({ instrument: "B", rx: 2 });
  assert.deepEqual([...book.takeChanged()], ["A", "B"]);
  assert.equal(book.takeChanged().size, 0);
});

test("venue time goes on by the time that passes, and never back", () => {
  const clock = new VenueClock();
  assert.equal(clock.at(0), null);
  clock.see(1_000, 50);
  assert.equal(clock.at(250), 1_200);
  clock.see(1_100, 250);
  assert.equal(clock.at(250), 1_200);
  clock.see(9_000, 250);
  assert.equal(clock.at(251), 9_001);
});
