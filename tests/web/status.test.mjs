import assert from "node:assert/strict";
import { test } from "node:test";

import { coverage, phase, summary } from "../../gateway/web/status.js";

const LIVE = { state: "live", shard: 0, desired: 494, seen: 480, reason: "", segments: { NSE_FO: "NORMAL_OPEN" } };
const GOOD = { redis: { ok: true }, postgres: { ok: true }, reasons: [] };
const told = (more) => summary({ connection: "open", feeds: [LIVE], health: GOOD, isMute: false, lostAt: "", ...more });

test("all is well", () => {
  assert.deepEqual(told({}), { level: "ok", words: "Live", notices: [] });
});

test("before anything is known it is neither good nor bad", () => {
  const { level, words, notices } = told({ connection: "opening", feeds: [], health: null });
  assert.deepEqual([level, words, notices], ["wait", "Connecting", []]);
});

test("a lost connection outweighs everything and says of when the prices are", () => {
  const { level, words, notices } = told({ connection: "lost", lostAt: "14:05:09" });
  assert.deepEqual([level, words, notices.length], ["bad", "Disconnected", 1]);
  assert.match(notices[0].text, /Reconnecting by itself.*of 14:05:09 IST/);
});

for (const [state, level] of [["needs_login", "bad"], ["closed", "bad"], ["stale", "bad"], ["connecting", "wait"]]) {
  test(`a feed that is ${state} is told with its reason`, () => {
    const found = told({ feeds: [{ ...LIVE, state, reason: "the venue said no: " }] });
    assert.equal(found.level, level);
    assert.match(found.notices[0].text, /the venue said no; prices below are the last known\.$/);
  });
}

test("the worst shard counts", () => {
  assert.equal(told({ feeds: [LIVE, { ...LIVE, shard: 1, state: "stale" }] }).words, "Feed stale");
});

test("a state of tomorrow is shown as it is", () => {
  assert.deepEqual([told({ feeds: [{ ...LIVE, state: "paused" }] }).words], ["paused"]);
});

test("Redis in trouble degrades a live feed; Postgres only warns", () => {
  const redis = told({ health: { ...GOOD, redis: { ok: false, error: "refused" }, reasons: ["Redis: refused"] } });
  assert.deepEqual([redis.level, redis.words, redis.notices.length], ["bad", "Degraded", 1]);
  const postgres = told({ health: { ...GOOD, postgres: { ok: false, error: "full" }, reasons: ["Postgres: full"] } });
  assert.deepEqual([postgres.level, postgres.notices[0].level], ["ok", "wait"]);
});

test("a worker that does not run is told, with what it means", () => {
  const { words, notices } = told({ health: { ...GOOD, reasons: ["no ingest is running", "no aggregator is running"] } });
  assert.equal(words, "Degraded");
  assert.deepEqual(notices.map(({ text }) => text), [
    "No ingest is running; prices below are the last known.", "No aggregator is running; no new bars appear.",
  ]);
});

test("the feed's state is not told twice", () => {
  const health = { ...GOOD, reasons: ["the feed of shard 0 is stale: silence"] };
  assert.equal(told({ feeds: [{ ...LIVE, state: "stale", reason: "silence" }], health }).notices.length, 1);
});

test("a gateway that streams but does not answer says so, and nothing of long ago", () => {
  const { notices } = told({ isMute: true, health: { ...GOOD, redis: { ok: false, error: "x" } } });
  assert.deepEqual(notices.map(({ level }) => level), ["wait"]);
  assert.match(notices[0].text, /does not answer requests/);
});

test("coverage is the sum over the shards", () => {
  assert.deepEqual(coverage([LIVE, { ...LIVE, shard: 1, desired: 6, seen: 5 }]), { seen: 485, desired: 500 });
});

test("the market phase is that of the instrument's segment", () => {
  assert.equal(phase([LIVE], "NSE_FO|61755"), "market open");
  assert.equal(phase([LIVE], "MCX_FO|1"), "");
  assert.equal(phase([{ segments: { NSE_EQ: "NEW_PHASE" } }], "NSE_EQ|INE"), "new phase");
});
