// Where things are on the chart. Pure arithmetic; pixels are CSS pixels.
//
// A view is {end, spacing}: `end` is the place, counted in bars, of the plot's right edge, `spacing` the width of a bar.
// Bar number i has its middle at i + 0.5. Bars stand side by side whatever time lies between them.

import { date, dayNumber, minuteOfDay, time } from "./format.js";

export const SPACING_MIN = 0.75;
export const SPACING_MAX = 60;
const MARGIN_BARS = 4; // empty space right of the newest bar
const FIT_SPACING_MAX = 14;

// The view

/** The last `shown` of `count` bars fill the plot. */
export function fitted(width, count, shown) {
  const spacing = Math.min(FIT_SPACING_MAX, Math.max(SPACING_MIN, width / (Math.max(1, shown) + MARGIN_BARS)));
  return { end: count + MARGIN_BARS, spacing };
}

/** How many bars at the end belong to the newest bar's date, but no fewer than `least` where there are. */
export function sessionLength(bars, least = 60) {
  const day = bars.length ? dayNumber(bars[bars.length - 1].ts) : 0;
  let first = bars.length;
  while (first > 0 && dayNumber(bars[first - 1].ts) === day) first -= 1;
  return Math.min(bars.length, Math.max(bars.length - first, least));
}

export const xOf = (view, width, index) => width - (view.end - index - 0.5) * view.spacing;

/** The bar under x, which need not exist. */
export const indexAt = (view, width, x) => Math.floor(view.end - (width - x) / view.spacing);

/** Bars [from, to) are at least partly on the plot. */
export function visible(view, width, count) {
  const from = Math.floor(view.end - width / view.spacing);
  return { from: Math.min(count, Math.max(0, from)), to: Math.max(0, Math.min(count, Math.ceil(view.end))) };
}

/** A few bars always stay in sight, on either side. */
export function clamped(view, width, count) {
  const spacing = Math.min(SPACING_MAX, Math.max(SPACING_MIN, view.spacing));
  const across = width / spacing;
  const kept = Math.min(5, count);
  const end = Math.min(count - kept + across, Math.max(kept, view.end));
  return { end, spacing };
}

export const panned = (view, pixels) => ({ ...view, end: view.end - pixels / view.spacing });

/** What is under x stays under x. */
export function zoomed(view, width, x, factor) {
  const spacing = Math.min(SPACING_MAX, Math.max(SPACING_MIN, view.spacing * factor));
  const under = view.end - (width - x) / view.spacing;
  return { end: under + (width - x) / spacing, spacing };
}

/** After `older` bars were put in front, and `newer` behind: who looks at the newest bar goes on doing so. */
export function shifted(view, older, newer, count) {
  const follows = view.end >= count;
  return { ...view, end: view.end + older + (follows ? newer : 0) };
}

// Prices

/** A scale whose top is at y = top and whose bottom is at y = bottom. */
export function linear(low, high, top, bottom) {
  const perPixel = (bottom - top) / (high - low || 1);
  return {
    low,
    high,
    y: (value) => bottom - (value - low) * perPixel,
    value: (y) => low + (bottom - y) / perPixel,
  };
}

/** What the bars [from, to) span, with air above and below; null where there are none. */
export function priceRange(bars, from, to, tick) {
  let low = Infinity;
  let high = -Infinity;
  for (let at = from; at < to; at += 1) {
    low = Math.min(low, bars[at].low);
    high = Math.max(high, bars[at].high);
  }
  if (low > high) return null;
  const air = Math.max((high - low) * 0.08, (tick || 0.01) * 4);
  return { low: low - air, high: high + air };
}

/** The smallest of 1, 2, 5, 10, 20… (times a power of ten) that is not below `least`. */
export function niceStep(least) {
  if (!(least > 0) || !Number.isFinite(least)) return 1;
  const power = 10 ** Math.floor(Math.log10(least));
  const found = [1, 2, 5].find((digit) => digit * power >= least * (1 - 1e-9));
  return (found ?? 10) * power;
}

/** Round values between low and high, at most about `most` of them. */
export function ticks(low, high, most, leastStep = 0) {
  if (!(high > low)) return { step: 1, values: [] };
  const step = niceStep(Math.max((high - low) / Math.max(1, most), leastStep));
  const values = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high * (1 + 1e-12); n += 1) {
    values.push(Number((n * step).toPrecision(12)));
  }
  return { step, values };
}

// Times

const STEPS_MIN = [1, 2, 5, 10, 15, 30, 60, 120, 240, 480];

/**
 * Labels for the time axis: the first bar of each round stretch of time, and of each date.
 * Bars are side by side, so a label says what the bar under it says, not what a ruler would.
 */
export function timeLabels(bars, from, to, spacing, leastPixels) {
  const step = STEPS_MIN.find((minutes) => minutes * spacing >= leastPixels) ?? Infinity;
  const labels = [];
  for (let at = Math.max(1, from); at < to; at += 1) {
    const [before, now] = [bars[at - 1].ts, bars[at].ts];
    const isDate = dayNumber(now) !== dayNumber(before);
    if (!isDate && (step === Infinity || stretch(now, step) === stretch(before, step))) continue;
    const previous = labels[labels.length - 1];
    if (previous && (at - previous.index) * spacing < leastPixels) {
      if (!isDate || previous.isDate) continue;
      labels.pop();
    }
    labels.push({ index: at, text: isDate ? date(now) : time(now), isDate });
  }
  return labels;
}

const stretch = (ms, minutes) => Math.floor(minuteOfDay(ms) / minutes);
