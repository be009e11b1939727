// An option chain as numbers: where the money is, which strikes to show, what they add up to. Pure.

import { MINUTE_MS, compact, number, percent, signed, strike, time } from "./format.js";

export const STRIKES_MAX = 60; // 120 instruments in one stream, and in its URL
const RECENTRE_WITHIN = 10; // strikes left before the window moves along with the price

/** The strike nearest to the price; of two equally near ones the lower. -1 where either is unknown. */
export function moneyIndex(strikes, spot) {
  if (spot === null || spot === undefined || !strikes.length) return -1;
  let best = 0;
  for (let at = 1; at < strikes.length; at += 1) {
    if (Math.abs(strikes[at] - spot) < Math.abs(strikes[best] - spot)) best = at;
  }
  return best;
}

/** [from, to): at most `most` strikes with `centre` in the middle, or the middle ones where nobody knows. */
export function around(count, centre, most = STRIKES_MAX) {
  const middle = centre < 0 ? count >> 1 : centre;
  const from = Math.max(0, Math.min(count - most, middle - (most >> 1)));
  return { from, to: Math.min(count, from + most) };
}

/** Whether the money has come so near to the edge of what is shown that there should be more on that side. */
export function isOffCentre(shown, count, money) {
  if (money < 0) return false;
  const isLow = shown.from > 0 && money - shown.from < RECENTRE_WITHIN;
  const isHigh = shown.to < count && shown.to - 1 - money < RECENTRE_WITHIN;
  return isLow || isHigh;
}

/**
 * Sums over the rows shown. `quote(leg)` is the last quote of a leg or null. What nobody told counts as unknown, not
 * as zero: no ratio without open interest on both sides, no straddle without both of its prices.
 */
export function totals(rows, money, quote) {
  const calls = openInterest(rows, "call", quote);
  const puts = openInterest(rows, "put", quote);
  const atm = rows[money];
  const [call, put] = [atm?.call, atm?.put].map((leg) => (leg ? (quote(leg)?.ltp ?? null) : null));
  return {
    callOi: calls,
    putOi: puts,
    pcr: calls && puts !== null ? puts / calls : null,
    strike: atm?.strike ?? null,
    straddle: call === null || put === null ? null : call + put,
  };
}

/** Null where not one leg's is known. */
function openInterest(rows, side, quote) {
  const known = rows.map((row) => (row[side] ? (quote(row[side])?.oi ?? null) : null)).filter((oi) => oi !== null);
  return known.length ? known.reduce((sum, oi) => sum + oi, 0) : null;
}

/** What the chain of a minute says of the whole: [name, text, meaning]. */
export function measures(chain) {
  const { forward_from: from, ts } = chain;
  const price = (value) => number(value, 2);
  const ratio = (value) => number(value, 2);
  const sigma = chain.atm_iv === null ? number(null) : `${number(chain.atm_iv * 100, 1)}%`;
  const gex = chain.gex === null ? number(null) : `₹${compact(chain.gex)}`;
  return [
    ["ATM", strike(chain.atm_strike), "Strike nearest to the forward"],
    ["ATM IV", sigma, "Ours, mean of call and put at the ATM strike"],
    ["Straddle", price(chain.straddle), "Call and put at the ATM strike"],
    ["Expected", chain.expected_move === null ? number(null) : `±${price(chain.expected_move)}`,
      `Expected move: straddle × ${number(chain.expected_move_factor, 2)}`],
    ["PCR", ratio(chain.pcr_oi), "Open interest of puts over that of calls"],
    ["PCR vol", ratio(chain.pcr_volume), "Volume of puts over that of calls"],
    ["Max pain", strike(chain.max_pain), "Strike at which all buyers together get least"],
    ["Walls", `${strike(chain.put_wall)} – ${strike(chain.call_wall)}`,
      "Strikes of the largest put OI at or below, and call OI at or above the forward"],
    ["GEX", gex, "Gamma exposure: rupees of delta for a move of 1 %; calls +, puts −"],
    ["Forward", price(chain.forward), `From ${FORWARDS[from] ?? from}`],
    ["Basis", signed(chain.basis, 2), "Forward − spot"],
    ["Skew", chain.skew_25d === null ? number(null) : percent(chain.skew_25d * 100, 1),
      "IV of the put less that of the call, at a delta of 25, in points"],
    ["IV rank", number(chain.iv_rank), `Where the 30-day IV lies among the ${number(chain.iv_days)} days before`],
    ["As of", `${time(ts + MINUTE_MS)}${chain.complete ? "" : ", partial"}`,
      chain.complete ? "End of the minute" : "The feed did not cover all options for the whole minute"],
  ];
}

const FORWARDS = { future: "the future of the same expiry", parity: "parity of calls and puts", none: "nothing: unknown" };

/** What the chain says of each option, by instrument. */
export function optionsOf(chain) {
  const sides = chain.strikes.flatMap((row) => [row.call, row.put]);
  return new Map(sides.filter(Boolean).map((option) => [option.instrument, option]));
}

const ACTIONS = {
  long_buildup: "long build-up", short_buildup: "short build-up", short_covering: "short covering",
  long_unwinding: "long unwinding", neutral: "",
};

/** An option's change of open interest in words: against what, and what it means together with the price. */
export function changeWords({ oi_change_from: from, action }) {
  const against = { previous_day: "against the day before", first_seen: "since first seen today" }[from] ?? "";
  return [against, ACTIONS[action] ?? ""].filter(Boolean).join(": ");
}

/** Why there is no volatility of ours; empty where there is. */
export const modelWords = ({ model }) => (model.flag === "ok" ? "" : model.flag.replaceAll("_", " "));
