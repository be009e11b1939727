// The candle chart: what it shows, and what a mouse, fingers and keys do to it. Painting is in paint.js.

import { date, direction, number, time } from "./format.js";
import { isDay } from "./longbars.js";
import { hatching, layout, paint } from "./paint.js";
import { clamped, fitted, indexAt, linear, panned, priceRange, sessionLength, shifted, visible, zoomed } from "./scale.js";

const COLOURS = ["up", "down", "grid", "line", "text", "muted", "panel", "oi", "on-colour"];
const OLDER_WITHIN_BARS = 60; // so near to the oldest bar, older ones are asked for
const ZOOM_PER_KEY = 1.25;

export class Chart {
  #canvas;
  #context;
  #changed;
  #series = null;
  #view = { end: 0, spacing: 6 };
  #size = { width: 0, height: 0 };
  #count = 0; // bars when last drawn
  #cursor = null; // {index, y}; y is null when keys move it
  #pointers = new Map();
  #theme = null;
  #decimals = 2;
  #tick = 0;
  #close = null; // previous close, which the last price's colour compares with
  #axisWidth = 64;
  #isFitted = true; // shows the session, and goes on doing so as the size changes
  #isDue = true; // something is not as it was drawn
  #showsOi = true;
  #headroom = 30; // kept free above the prices, for the legend

  /** `changed()` asks for a frame; `told`: {cursor(bar), older(), behind(isBehind)}. */
  constructor(canvas, changed, told) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#changed = () => {
      this.#isDue = true;
      changed();
    };
    this.told = told;
    this.#listen();
    new ResizeObserver(() => this.#resize()).observe(canvas.parentElement);
    document.documentElement.addEventListener("themechange", () => {
      this.#theme = null;
      this.#changed();
    });
  }

  /** The series has changed. */
  update() {
    this.#changed();
  }

  /** Show another series, from its newest session on. */
  show(series, { decimals, tick }) {
    [this.#series, this.#decimals, this.#tick] = [series, decimals, tick];
    [this.#count, this.#cursor, this.#close] = [0, null, null];
    this.fit();
  }

  set previousClose(close) {
    if (close !== this.#close) this.#changed();
    this.#close = close;
  }

  get showsOi() {
    return this.#showsOi;
  }

  set showsOi(isShown) {
    this.#showsOi = isShown;
    this.#changed();
  }

  set headroom(pixels) {
    this.#headroom = pixels;
    this.#changed();
  }

  /** Older bars were put in front of the series. */
  prepended(count) {
    this.#view = shifted(this.#view, count, 0, this.#count + count);
    this.#count += count;
    if (this.#cursor) this.#cursor.index += count;
    this.#changed();
  }

  fit() {
    this.#isFitted = true;
    this.#changed();
  }

  toLatest() {
    this.#look({ ...this.#view, end: this.#bars.length + 4 });
  }

  get #bars() {
    return this.#series?.bars ?? [];
  }

  get #plotWidth() {
    return Math.max(1, this.#size.width - this.#axisWidth);
  }

  #look(view) {
    this.#isFitted = false;
    this.#view = clamped(view, this.#plotWidth, this.#bars.length);
    this.#changed();
  }

  // Drawing

  /** Once a frame: does nothing where nothing has changed. */
  draw() {
    const { width, height } = this.#size;
    if (!this.#isDue || !width || !height || !this.#series) return;
    this.#isDue = false;
    this.#theme ??= this.#readTheme();
    const bars = this.#bars;
    this.#follow(bars);
    this.#measure(bars);
    const { from, to } = visible(this.#view, this.#plotWidth, bars.length);
    paint(this.#context, this.#scene(bars, from, to));
    this.told.cursor(this.#cursor ? (bars[this.#cursor.index] ?? null) : (bars.at(-1) ?? null));
    this.told.behind(bars.length > 0 && this.#view.end < bars.length - 0.5);
    if (from < OLDER_WITHIN_BARS && bars.length) this.told.older();
  }

  #follow(bars) {
    if (this.#isFitted) this.#view = fitted(this.#plotWidth, bars.length, sessionLength(bars));
    else if (bars.length !== this.#count) {
      this.#view = shifted(this.#view, 0, bars.length - this.#count, this.#count);
      this.#view = clamped(this.#view, this.#plotWidth, bars.length);
    }
    this.#count = bars.length;
  }

  /** The axis is as wide as the widest price on it. */
  #measure(bars) {
    const high = bars.length ? bars.at(-1).high * 1.05 : 0;
    const width = Math.ceil(this.#context.measureText(number(high, this.#decimals)).width) + 18;
    if (Math.abs(width - this.#axisWidth) > 2) this.#axisWidth = width;
  }

  #scene(bars, from, to) {
    const oi = this.#showsOi ? oiRange(bars, from, to) : null;
    const hasVolume = oi !== null || bars.some((bar) => bar.volume > 0);
    const at = layout(this.#size.width, this.#size.height, this.#axisWidth, hasVolume, this.#headroom);
    const range = priceRange(bars, from, to, this.#tick) ?? { low: 0, high: 1 };
    const newest = bars.at(-1) ?? null;
    const index = this.#cursor?.index;
    return {
      layout: at, bars, from, to, oi,
      view: this.#view,
      price: linear(range.low, range.high, at.priceTop, at.priceBottom),
      decimals: this.#decimals,
      tick: this.#tick,
      last: newest && { price: newest.close, direction: direction(newest.close - (this.#close ?? newest.open)) },
      cursor: this.#cursor && { ...this.#cursor, text: bars[index] ? stamp(bars[index]) : "" },
      ...this.#theme,
    };
  }

  #readTheme() {
    const style = getComputedStyle(this.#canvas);
    const named = COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]);
    const { "on-colour": onColour, ...colours } = Object.fromEntries(named);
    const hatches = new Map();
    const hatch = (colour) => {
      if (!hatches.has(colour)) hatches.set(colour, hatching(this.#context, colour));
      return hatches.get(colour);
    };
    // Set once, not with each frame: it has the browser bring all styles up to date.
    this.#context.font = `11.5px ${style.fontFamily}`;
    this.#context.textBaseline = "middle";
    return { colours: { ...colours, onColour }, hatch };
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#canvas.parentElement;
    const ratio = window.devicePixelRatio || 1;
    this.#size = { width, height };
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    this.#context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#theme = null; // a resized canvas has forgotten its font
    this.#isDue = true;
    this.draw(); // now: a cleared canvas must not be seen
  }

  // Mouse, fingers, keys

  #listen() {
    const canvas = this.#canvas;
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.#pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointerleave", () => this.#point(null));
    canvas.addEventListener("blur", () => this.#point(null));
    canvas.addEventListener("dblclick", () => this.fit());
    canvas.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && this.#key(event.key)) event.preventDefault();
    });
  }

  #wheel(event) {
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.#look(panned(this.#view, -event.deltaX));
      return;
    }
    const lines = event.deltaMode === 0 ? event.deltaY / 100 : event.deltaY / 3;
    this.#look(zoomed(this.#view, this.#plotWidth, event.offsetX, 0.85 ** Math.max(-4, Math.min(4, lines))));
  }

  #press(event) {
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event.offsetX);
    this.#point(event);
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (before !== undefined) {
      const others = [...this.#pointers].filter(([id]) => id !== event.pointerId);
      if (others.length) this.#pinch(before, event.offsetX, others[0][1]);
      else this.#look(panned(this.#view, event.offsetX - before));
      this.#pointers.set(event.pointerId, event.offsetX);
    }
    this.#point(event);
  }

  #pinch(before, now, other) {
    const [was, is] = [Math.abs(before - other), Math.abs(now - other)];
    if (was < 12 || is < 12) return;
    const moved = panned(this.#view, (now - before) / 2);
    this.#look(zoomed(moved, this.#plotWidth, (now + other) / 2, is / was));
  }

  /** Move the crosshair to a pointer, or take it away. */
  #point(event) {
    if (event === null) {
      if (this.#cursor) this.#changed();
      this.#cursor = null;
      return;
    }
    const last = this.#bars.length - 1;
    const index = Math.min(last, Math.max(0, indexAt(this.#view, this.#plotWidth, event.offsetX)));
    this.#cursor = last < 0 ? null : { index, y: event.offsetY };
    this.#changed();
  }

  #key(key) {
    const middle = this.#plotWidth / 2;
    const actions = {
      "+": () => this.#look(zoomed(this.#view, this.#plotWidth, middle, ZOOM_PER_KEY)),
      "=": () => actions["+"](),
      "-": () => this.#look(zoomed(this.#view, this.#plotWidth, middle, 1 / ZOOM_PER_KEY)),
      ArrowLeft: () => this.#step(-1),
      ArrowRight: () => this.#step(1),
      PageUp: () => this.#look(panned(this.#view, middle)),
      PageDown: () => this.#look(panned(this.#view, -middle)),
      Home: () => this.fit(),
      End: () => this.toLatest(),
      Escape: () => this.#point(null),
    };
    actions[key]?.();
    return key in actions;
  }

  #step(by) {
    const last = this.#bars.length - 1;
    if (last < 0) return;
    const index = Math.min(last, Math.max(0, this.#cursor ? this.#cursor.index + by : last));
    this.#cursor = { index, y: null };
    const { from, to } = visible(this.#view, this.#plotWidth, this.#bars.length);
    if (index < from || index >= to) this.#look({ ...this.#view, end: this.#view.end + by });
    this.#changed();
  }
}

const stamp = (bar) => `${date(bar.ts, { weekday: true })}${isDay(bar) ? "" : `  ${time(bar.ts)}`}`;

function oiRange(bars, from, to) {
  let [least, most] = [Infinity, -Infinity];
  for (let at = from; at < to; at += 1) {
    if (bars[at].oi === null) continue;
    least = Math.min(least, bars[at].oi);
    most = Math.max(most, bars[at].oi);
  }
  if (least > most) return null;
  const air = (most - least) * 0.1 || Math.max(1, most * 0.001);
  return { least, most, low: least - air, high: most + air };
}
