// The search box: a combobox over the gateway's instrument search.

import * as api from "./api.js";
import { make } from "./dom.js";

const WAIT_MS = 120;
const MOST = 20;

export class Search {
  #input;
  #list;
  #told;
  #found = [];
  #at = -1;
  #timer = null;
  #asking = null;

  /** `told`: {choose(instrument), leave()}; leave: the arrow down goes on into the list below. */
  constructor(input, list, told) {
    [this.#input, this.#list, this.#told] = [input, list, told];
    input.addEventListener("input", () => this.#later());
    input.addEventListener("focus", () => this.#later());
    input.addEventListener("blur", () => this.#close());
    input.addEventListener("keydown", (event) => this.#key(event));
    // mousedown comes before blur, and would move the focus
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.#choose(Number(option.dataset.at));
    });
  }

  focus() {
    this.#input.focus();
    this.#input.select();
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), WAIT_MS);
  }

  async #ask() {
    const text = this.#input.value.trim();
    this.#asking?.abort();
    if (!text) {
      this.#close();
      return;
    }
    this.#asking = new AbortController();
    try {
      this.#show(await api.search(text, MOST, this.#asking.signal), "No instrument found");
    } catch (error) {
      if (error.name !== "AbortError") this.#show([], `The search failed: ${error.message}`);
    }
  }

  #show(found, otherwise) {
    if (document.activeElement !== this.#input) return;
    this.#found = found;
    const options = found.map((each, at) => option(each, at));
    this.#list.replaceChildren(...(options.length ? options : [make("li", { class: "none" }, otherwise)]));
    this.#list.hidden = false;
    this.#input.setAttribute("aria-expanded", "true");
    this.#mark(found.length ? 0 : -1);
  }

  #mark(at) {
    this.#at = at;
    for (const [index, node] of [...this.#list.children].entries()) {
      if (this.#found.length) node.setAttribute("aria-selected", String(index === at));
      if (index === at) node.scrollIntoView({ block: "nearest" });
    }
    if (at >= 0) this.#input.setAttribute("aria-activedescendant", `found-${at}`);
    else this.#input.removeAttribute("aria-activedescendant");
  }

  #key(event) {
    const isOpen = !this.#list.hidden;
    if (event.key === "Escape") {
      if (!isOpen) this.#input.blur();
      this.#input.value = "";
      this.#close();
    } else if (event.key === "Enter" && isOpen) this.#choose(this.#at);
    else if (event.key === "ArrowDown" && !isOpen) this.#told.leave();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const count = this.#found.length;
      if (count) this.#mark((this.#at + (event.key === "ArrowDown" ? 1 : -1) + count) % count);
    } else return;
    event.preventDefault();
  }

  #choose(at) {
    const chosen = this.#found[at];
    if (!chosen) return;
    this.#input.value = "";
    this.#close();
    this.#input.blur();
    this.#told.choose(chosen);
  }

  #close() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.#found = [];
    this.#list.hidden = true;
    this.#list.replaceChildren();
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }
}

function option(instrument, at) {
  const { trading_symbol: symbol, name, segment } = instrument;
  return make("li", { role: "option", id: `found-${at}`, "data-at": at, "aria-selected": "false" },
    make("b", {}, symbol), make("small", {}, name === symbol ? segment : `${name} · ${segment}`));
}
