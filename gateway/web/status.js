// What to tell about the health of it all, from what is known. Pure: the same facts give the same words.

const PHASES = {
  PRE_OPEN_START: "pre-open",
  PRE_OPEN_END: "pre-open over",
  NORMAL_OPEN: "market open",
  NORMAL_CLOSE: "market closed",
  CLOSING_START: "closing session",
  CLOSING_END: "market closed",
};

/** Worst first. */
const WORDS = {
  needs_login: { words: "Login needed", level: "bad", told: "The feed needs a login at the broker" },
  closed: { words: "Feed off", level: "bad", told: "The feed is switched off" },
  connecting: { words: "Feed connecting", level: "wait", told: "The feed is connecting" },
  stale: { words: "Feed stale", level: "bad", told: "The feed is connected but sends no data" },
  live: { words: "Live", level: "ok", told: "" },
};
const WORST_FIRST = Object.keys(WORDS);
const STALE_PRICES = "prices below are the last known";

/** What it means for who looks at the page. */
const MEANING = {
  "no ingest is running": { level: "bad", text: STALE_PRICES },
  "no aggregator is running": { level: "wait", text: "no new bars appear" },
  "no gtt is running": { level: "wait", text: "orders wait, and nobody watches triggers" },
};

/** The streams go on, but requests are not answered: what an old answer complained of says nothing any more. */
const MUTE = { level: "wait", text: "The gateway streams but does not answer requests; bars and lists may be missing." };

/** The market phase of an instrument's segment, in words; empty where nobody told. */
export function phase(feeds, key) {
  const segment = key.split("|", 1)[0];
  for (const feed of feeds) {
    const name = feed.segments?.[segment];
    if (name) return PHASES[name] ?? name.toLowerCase().replaceAll("_", " ");
  }
  return "";
}

/**
 * `connection`: "opening", "open" or "lost" (the streams); `feeds`: one status a shard; `health`: the last answer of
 * /health, or null; `isMute`: it is overdue; `lostAt`: when the last data came, as text.
 * Returns {level: ok|wait|bad, words, notices: [{level, text}]}, the gravest notice first. Bad is: the prices are old.
 */
export function summary({ connection, feeds, health, isMute, lostAt }) {
  if (connection === "lost") {
    const since = lostAt ? `; ${STALE_PRICES}, of ${lostAt} IST` : "";
    return told("bad", "Disconnected", [
      { level: "bad", text: `No connection to the gateway. Reconnecting by itself${since}.` },
    ]);
  }
  const notices = isMute ? [MUTE] : troubles(health);
  const feed = worst(feeds);
  if (feed === null) {
    return told(notices.length ? "bad" : "wait", connection === "open" ? "No feed yet" : "Connecting", notices);
  }
  const { words, level, told: text } = WORDS[feed.state] ?? {
    words: feed.state, level: "bad", told: `The feed is ${feed.state}`,
  };
  if (level !== "ok") {
    const reason = feed.reason ? `: ${feed.reason.replace(/[\s.:;]+$/, "")}` : "";
    notices.unshift({ level, text: `${text}${reason}; ${STALE_PRICES}.` });
  }
  const isDoubtful = level === "ok" && notices.some((notice) => notice.level === "bad");
  return isDoubtful ? told("bad", "Degraded", notices) : told(level, words, notices);
}

/** How much of what was asked for the feed has sent, over all shards. */
export function coverage(feeds) {
  const sum = (name) => feeds.reduce((total, feed) => total + (feed[name] ?? 0), 0);
  return { seen: sum("seen"), desired: sum("desired") };
}

const told = (level, words, notices) => ({ level, words, notices });

function worst(feeds) {
  const rank = (feed) => (WORST_FIRST.includes(feed.state) ? WORST_FIRST.indexOf(feed.state) : -1);
  return feeds.reduce((found, feed) => (found === null || rank(feed) < rank(found) ? feed : found), null);
}

/** What /health complains of, but for the feed's state, which comes by its own stream and sooner. */
function troubles(health) {
  if (health === null) return [];
  const notices = [];
  const { redis, postgres, reasons = [] } = health;
  if (redis && !redis.ok) {
    notices.push({ level: "bad", text: `Redis does not answer (${redis.error}); ${STALE_PRICES}.` });
  }
  if (postgres && !postgres.ok) {
    notices.push({ level: "wait", text: `Postgres does not answer (${postgres.error}); older bars may be missing.` });
  }
  for (const reason of reasons) {
    if (/^(the feed of shard|Redis:|Postgres:|nothing is known of the feed)/.test(reason)) continue;
    const { level, text } = MEANING[reason] ?? { level: "wait", text: "" };
    notices.push({ level, text: `${reason[0].toUpperCase()}${reason.slice(1)}${text && `; ${text}`}.` });
  }
  return notices.sort((a, b) => Number(b.level === "bad") - Number(a.level === "bad"));
}
