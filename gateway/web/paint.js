// Draws a scene on a canvas. Decides nothing but pixels: what a scene holds is settled in chart.js and scale.js.
//
// How a bar came about shows in its body: solid from live ticks, hollow from the venue's history, hatched where the
// feed did not cover the whole minute, bright outline while it is forming. Bars too narrow for that are dimmed instead.

import { compact, number } from "./format.js";
import { linear, ticks, timeLabels, xOf } from "./scale.js";

const AXIS_BOTTOM = 22;
const LABEL_EVERY_PX = 76;
const PRICE_EVERY_PX = 30;
const VOLUME_SHARE = 0.2;
const VOLUME_LABEL = 20; // between the panes
const HOLLOW_FROM_PX = 4; // narrower bodies cannot show a pattern

/** The panes. Without volume and open interest the prices get all of the height. */
export function layout(width, height, axisWidth, hasVolume, headroom) {
  const bottom = height - AXIS_BOTTOM;
  const volumeHeight = hasVolume ? Math.round(bottom * VOLUME_SHARE) : 0;
  return {
    width,
    height,
    plotWidth: Math.max(1, width - axisWidth),
    priceTop: headroom,
    priceBottom: bottom - volumeHeight - (hasVolume ? VOLUME_LABEL : 4),
    volumeTop: bottom - volumeHeight,
    volumeBottom: bottom,
    hasVolume,
  };
}

export function paint(context, scene) {
  const { layout: at } = scene;
  context.clearRect(0, 0, at.width, at.height);
  paintGrid(context, scene);
  context.save();
  context.beginPath();
  context.rect(0, 0, at.plotWidth, at.volumeBottom);
  context.clip();
  if (at.hasVolume) paintVolume(context, scene);
  paintBodies(context, scene);
  if (scene.oi) paintOi(context, scene);
  context.restore();
  paintLastPrice(context, scene);
  if (scene.cursor) paintCursor(context, scene);
}

// Axes

function paintGrid(context, scene) {
  const { layout: at, colours, price, view, bars, from, to } = scene;
  context.lineWidth = 1;
  context.textAlign = "left";
  const most = (at.priceBottom - at.priceTop) / PRICE_EVERY_PX;
  const { step, values } = ticks(price.low, price.high, most, scene.tick);
  const decimals = Math.min(scene.decimals, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
  for (const value of values) {
    const y = crisp(price.y(value));
    if (y > at.priceBottom + 2 || y < 8) continue;
    line(context, colours.grid, 0, y, at.plotWidth, y);
    if (scene.last && Math.abs(price.y(scene.last.price) - y) < 16) continue; // its tag would lie over half of it
    context.fillStyle = colours.muted;
    context.fillText(number(value, decimals), at.plotWidth + 8, y);
  }
  context.textAlign = "center";
  for (const label of timeLabels(bars, from, to, view.spacing, LABEL_EVERY_PX)) {
    const x = crisp(xOf(view, at.plotWidth, label.index) - view.spacing / 2);
    if (x < 0 || x > at.plotWidth) continue;
    line(context, label.isDate ? colours.line : colours.grid, x, 0, x, at.volumeBottom);
    context.fillStyle = label.isDate ? colours.text : colours.muted;
    if (x > 16 && x < at.plotWidth - 16) context.fillText(label.text, x, at.volumeBottom + AXIS_BOTTOM / 2 + 1);
  }
  line(context, colours.line, 0, crisp(at.volumeBottom), at.width, crisp(at.volumeBottom));
  line(context, colours.line, crisp(at.plotWidth), 0, crisp(at.plotWidth), at.volumeBottom);
}

// Bars

const isUp = (bar) => bar.close >= bar.open;

export function kindOf(bar) {
  if (bar.provisional) return "forming";
  if (!bar.complete) return "partial";
  return bar.source === "live" ? "live" : "history";
}

function paintBodies(context, scene) {
  const { view, layout: at, price, bars, colours, from, to } = scene;
  const body = Math.max(1, Math.min(view.spacing - 1, Math.round(view.spacing * 0.72)));
  const isNarrow = body < HOLLOW_FROM_PX;
  for (let index = from; index < to; index += 1) {
    const bar = bars[index];
    const kind = kindOf(bar);
    const colour = isUp(bar) ? colours.up : colours.down;
    const middle = xOf(view, at.plotWidth, index);
    const x = Math.round(middle - body / 2);
    const top = Math.round(price.y(Math.max(bar.open, bar.close)));
    const height = Math.max(1, Math.round(price.y(Math.min(bar.open, bar.close))) - top);
    context.globalAlpha = isNarrow && kind !== "live" && kind !== "forming" ? 0.62 : 1;
    context.fillStyle = colour;
    const wick = Math.max(1, Math.min(2, Math.round(view.spacing / 12)));
    const [high, low] = [Math.round(price.y(bar.high)), Math.round(price.y(bar.low))];
    const wickX = Math.round(x + body / 2 - wick / 2);
    context.fillRect(wickX, high, wick, Math.max(1, top - high));
    context.fillRect(wickX, top + height, wick, Math.max(0, low - top - height));
    if (isNarrow) context.fillRect(x, top, body, height);
    else paintBody(context, scene, kind, colour, { x, top, body, height });
  }
  context.globalAlpha = 1;
}

function paintBody(context, scene, kind, colour, { x, top, body, height }) {
  if (kind === "live") {
    context.fillRect(x, top, body, height);
    return;
  }
  if (kind === "forming") {
    context.globalAlpha = 0.55;
    context.fillRect(x, top, body, height);
    context.globalAlpha = 1;
    context.strokeStyle = scene.colours.text;
  } else {
    context.fillStyle = scene.colours.panel;
    context.fillRect(x, top, body, height);
    context.fillStyle = kind === "partial" ? scene.hatch(colour) : colour;
    context.globalAlpha = kind === "partial" ? 1 : 0.22;
    context.fillRect(x, top, body, height);
    context.globalAlpha = 1;
    context.strokeStyle = colour;
  }
  context.lineWidth = 1;
  if (height > 1) context.strokeRect(x + 0.5, top + 0.5, body - 1, height - 1);
  else line(context, context.strokeStyle, x, top + 0.5, x + body, top + 0.5);
}

// The lower pane

function paintVolume(context, scene) {
  const { view, layout: at, bars, colours, from, to } = scene;
  let most = 0;
  for (let index = from; index < to; index += 1) most = Math.max(most, bars[index].volume);
  if (!most) return;
  const scale = linear(0, most, at.volumeTop, at.volumeBottom);
  const body = Math.max(1, Math.min(view.spacing - 1, Math.round(view.spacing * 0.72)));
  for (let index = from; index < to; index += 1) {
    const bar = bars[index];
    if (!bar.volume) continue;
    const y = Math.round(scale.y(bar.volume));
    context.globalAlpha = kindOf(bar) === "live" ? 0.6 : 0.38;
    context.fillStyle = isUp(bar) ? colours.up : colours.down;
    context.fillRect(Math.round(xOf(view, at.plotWidth, index) - body / 2), y, body, at.volumeBottom - y);
  }
  context.globalAlpha = 1;
  context.textAlign = "left";
  context.fillStyle = colours.muted;
  context.fillText(`Vol ${compact(most)}`, 8, at.volumeTop - 8);
}

function paintOi(context, scene) {
  const { view, layout: at, bars, colours, oi, from, to } = scene;
  const scale = linear(oi.low, oi.high, at.volumeTop + 4, at.volumeBottom - 4);
  context.strokeStyle = colours.oi;
  context.lineWidth = 1.5;
  context.beginPath();
  let isDrawing = false;
  for (let index = from; index < to; index += 1) {
    if (bars[index].oi === null) {
      isDrawing = false; // unknown is a hole in the line, not a bridge
      continue;
    }
    const [x, y] = [xOf(view, at.plotWidth, index), scale.y(bars[index].oi)];
    if (isDrawing) context.lineTo(x, y);
    else context.moveTo(x, y);
    isDrawing = true;
  }
  context.stroke();
  context.fillStyle = colours.oi;
  context.textAlign = "right";
  context.fillText(`OI ${compact(oi.least)} to ${compact(oi.most)}`, at.plotWidth - 8, at.volumeTop - 8);
}

// What lies on top

function paintLastPrice(context, scene) {
  const { layout: at, price, last, colours } = scene;
  if (last === null) return;
  const y = crisp(Math.min(at.priceBottom, Math.max(8, price.y(last.price))));
  const colour = last.direction < 0 ? colours.down : last.direction > 0 ? colours.up : colours.muted;
  context.setLineDash([2, 3]);
  line(context, colour, 0, y, at.plotWidth, y);
  context.setLineDash([]);
  tag(context, scene, number(last.price, scene.decimals), y, colour, colours.onColour);
}

function paintCursor(context, scene) {
  const { layout: at, view, cursor, colours, bars, price } = scene;
  const x = crisp(xOf(view, at.plotWidth, cursor.index));
  context.setLineDash([3, 3]);
  line(context, colours.muted, x, 0, x, at.volumeBottom);
  if (cursor.y !== null && cursor.y < at.volumeBottom) {
    line(context, colours.muted, 0, crisp(cursor.y), at.plotWidth, crisp(cursor.y));
  }
  context.setLineDash([]);
  if (cursor.y !== null && cursor.y <= at.priceBottom + 4) {
    tag(context, scene, number(price.value(cursor.y), scene.decimals), cursor.y, colours.text, colours.panel);
  }
  if (bars[cursor.index]) timeTag(context, scene, cursor.text, x);
}

function tag(context, scene, text, y, colour, ink) {
  const { layout: at } = scene;
  context.fillStyle = colour;
  context.fillRect(at.plotWidth + 1, Math.round(y) - 9, at.width - at.plotWidth - 1, 18);
  context.fillStyle = ink;
  context.textAlign = "left";
  context.fillText(text, at.plotWidth + 8, Math.round(y) + 0.5);
}

function timeTag(context, scene, text, x) {
  const { layout: at, colours } = scene;
  const width = context.measureText(text).width + 14;
  const left = Math.min(at.plotWidth - width, Math.max(0, x - width / 2));
  context.fillStyle = colours.text;
  context.fillRect(left, at.volumeBottom + 1, width, AXIS_BOTTOM - 2);
  context.fillStyle = colours.panel;
  context.textAlign = "center";
  context.fillText(text, left + width / 2, at.volumeBottom + AXIS_BOTTOM / 2 + 1);
}

/** A one-pixel line is sharp in the middle of a pixel. */
const crisp = (value) => Math.round(value) + 0.5;

function line(context, colour, x1, y1, x2, y2) {
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

/** Slanted lines of a colour, for what is not the whole truth. */
export function hatching(context, colour) {
  const size = 6;
  const tile = document.createElement("canvas");
  [tile.width, tile.height] = [size, size];
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}
