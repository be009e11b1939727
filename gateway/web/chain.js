// An option chain as numbers: where the money is, which strikes to show, what they add up to. Pure.

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
