import assert from "node:assert/strict";
import { test } from "node:test";

import * as scale from "../../gateway/web/scale.js";
import { integer, seeded } from "./random.mjs";

const MINUTE = 60_000;
const OPEN = Date.parse("2026-11-20T03:45:00Z"); // 09:15 in India
const WIDTH = 800;
const minutes = (count, from = OPEN) => Array.from({ length: count }, (_, at) => ({ ts: from + at * MINUTE, low: 1, high: 2 }));
const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-6, `${a} is not ${b}`);

function views(run) {
  const random = seeded(4);
  for (let n = 0; n < 300; n += 1) {
    const count = integer(random, 2_000);
    run({ end: random() * count * 1.2, spacing: scale.SPACING_MIN + random() * 40 }, count, random);
  }
}

test("zooming keeps what is under the pointer there", () => {
  views((view, _, random) => {
    const x = random() * WIDTH;
    const zoomed = scale.zoomed(view, WIDTH, x, 0.5 + random());
    near(view.end - (WIDTH - x) / view.spacing, zoomed.end - (WIDTH - x) / zoomed.spacing);
  });
});

test("panning moves every bar by as many pixels", () => {
  views((view, _, random) => {
    const by = (random() - 0.5) * 500;
    near(scale.xOf(scale.panned(view, by), WIDTH, 7), scale.xOf(view, WIDTH, 7) + by);
  });
});

test("the bar under a bar's middle is that bar", () => {
  views((view) => {
    for (const index of [0, 3, 500]) assert.equal(scale.indexAt(view, WIDTH, scale.xOf(view, WIDTH, index)), index);
  });
});

test("some bars stay in sight however far somebody pans", () => {
  views((view, count) => {
    for (const end of [-1e6, 1e6]) {
      const { from, to } = scale.visible(scale.clamped({ ...view, end }, WIDTH, count), WIDTH, count);
      assert.ok(to - from >= Math.min(count, 5) - 1, `${from} to ${to} of ${count}`);
    }
  });
});

test("visible bars are bars there are", () => {
  views((view, count) => {
    const { from, to } = scale.visible(view, WIDTH, count);
    assert.ok(from >= 0 && to <= count);
  });
});

test("the session so far fits, with room for what comes", () => {
  for (const shown of [1, 60, 375, 900]) {
    const view = scale.fitted(WIDTH, 1_000, shown);
    assert.ok(scale.xOf(view, WIDTH, 1_000 - shown) >= 0);
    assert.ok(scale.xOf(view, WIDTH, 999) < WIDTH - view.spacing);
  }
});

test("a session is the newest date, or some more where that is short", () => {
  const yesterday = minutes(375, OPEN - 24 * 60 * MINUTE);
  assert.equal(scale.sessionLength([...yesterday, ...minutes(200)]), 200);
  assert.equal(scale.sessionLength([...yesterday, ...minutes(5)]), 60);
  assert.equal(scale.sessionLength(minutes(5)), 5);
  assert.equal(scale.sessionLength([]), 0);
});

test("who looks at the newest bar goes on doing so; who looks back is not moved", () => {
  assert.equal(scale.shifted({ end: 104, spacing: 5 }, 0, 1, 100).end, 105);
  assert.equal(scale.shifted({ end: 60, spacing: 5 }, 0, 1, 100).end, 60);
  assert.equal(scale.shifted({ end: 60, spacing: 5 }, 500, 0, 600).end, 560);
});

test("prices and pixels are one another's inverse", () => {
  const { y, value } = scale.linear(90, 110, 20, 420);
  near(y(90), 420);
  near(y(110), 20);
  near(value(y(97.35)), 97.35);
});

test("ticks are round, inside, evenly apart and not too many", () => {
  const random = seeded(5);
  for (let n = 0; n < 300; n += 1) {
    const low = random() * 10 ** integer(random, 6);
    const high = low + random() * 10 ** (integer(random, 6) - 1) + 0.01;
    const { step, values } = scale.ticks(low, high, 8);
    assert.ok(values.length <= 10);
    assert.ok(values.every((value) => value >= low - step * 1e-6 && value <= high + step * 1e-6));
    assert.match((step / 10 ** Math.floor(Math.log10(step) + 1e-9)).toFixed(6), /^(1|2|5|10)\.000000$/);
  }
});

test("ticks are never finer than the instrument's own", () => {
  assert.ok(scale.ticks(100, 100.1, 10, 0.05).step >= 0.05);
});

test("the range holds every bar in it, with air; without bars there is none", () => {
  const bars = [{ low: 10, high: 12 }, { low: 9, high: 11 }, { low: 1, high: 99 }];
  const { low, high } = scale.priceRange(bars, 0, 2, 0.05);
  assert.ok(low < 9 && low > 8 && high > 12 && high < 13);
  assert.equal(scale.priceRange(bars, 1, 1, 0.05), null);
});

test("a price that never moved still has a range", () => {
  const { low, high } = scale.priceRange([{ low: 100, high: 100 }], 0, 1, 0);
  assert.ok(low < 100 && high > 100);
});

test("time labels are round minutes, far enough apart", () => {
  const bars = minutes(375);
  for (const spacing of [1, 2, 7, 40]) {
    const labels = scale.timeLabels(bars, 0, bars.length, spacing, 70);
    assert.ok(labels.length > 1);
    for (const [at, { index, text }] of labels.entries()) {
      if (at) assert.ok((index - labels[at - 1].index) * spacing >= 70);
      assert.match(text, spacing <= 7 ? /:(00|15|30|45|[0-5]0)$/ : /:\d\d$/);
    }
  }
});

test("a new date is labelled as one, and a time makes way for it", () => {
  const bars = [...minutes(375, OPEN - 24 * 60 * MINUTE), ...minutes(375)];
  const labels = scale.timeLabels(bars, 0, bars.length, 2, 70);
  const dates = labels.filter(({ isDate }) => isDate);
  assert.deepEqual(dates, [{ index: 375, text: "20 Nov", isDate: true }]);
});

test("a label says the time of the bar under it, also where minutes are missing", () => {
  const bars = minutes(200).filter((_, at) => at % 4 === 1);
  for (const { index, text } of scale.timeLabels(bars, 0, bars.length, 20, 70)) {
    const at = new Date(bars[index].ts + 330 * MINUTE).toISOString().slice(11, 16);
    assert.equal(text, at);
  }
});
