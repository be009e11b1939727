// The few things that every part of the page does with the DOM.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children. Text only ever becomes a text node: data cannot turn into markup. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Touch the DOM only where it changes. Says whether it did. */
export function setText(node, text) {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
}

export function setData(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

const UP_DOWN = ["down", "flat", "up"];

/** "up", "flat" or "down", for the style sheet. */
export function setDirection(node, value) {
  setData(node, "dir", UP_DOWN[Math.sign(value ?? 0) + 1]);
}

const FLASH_EACH_MS = 350;
const flashed = new WeakMap();

/** A soft flash, at most a few a second: a cell that always glows says nothing. */
export function flash(node, value, nowMs) {
  if (nowMs - (flashed.get(node) ?? -Infinity) < FLASH_EACH_MS) return;
  flashed.set(node, nowMs);
  const kind = value > 0 ? "up" : "down";
  // Two names for one animation: changing between them starts it again, without forcing a layout.
  setData(node, "flash", node.dataset.flash === `${kind}-a` ? `${kind}-b` : `${kind}-a`);
}

/** Run the painters once, with the next frame, however often it is asked for. */
export function painter(...paint) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame((nowMs) => {
      isDue = false;
      for (const each of paint) each(nowMs);
    });
  };
}

// What is remembered on this machine

export function recall(name, otherwise) {
  try {
    const text = localStorage.getItem(`teji.${name}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise; // storage is switched off, or holds what we did not write
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`teji.${name}`, JSON.stringify(value));
  } catch {
    return; // storage is full or switched off: it will be forgotten
  }
}
