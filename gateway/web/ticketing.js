// The ticket: what is filled in, sent once, and what became of it.

import * as api from "./api.js";
import { byId, make, recall, remember, setData, setText } from "./dom.js";
import { decimalsOf, number, title } from "./format.js";
import { answerWords, intent, lotOf, problemWords, request } from "./ticket.js";

const SURE_MS = 4_000;
const MODES = ["paper", "shadow", "live"];

export class Ticketing {
  #form = byId("ticket");
  #told;
  #instrument = null;
  #key = api.newKey(); // of what is filled in: sent again after a silence, it is the same order
  #sureUntil = null;
  #most = "";

  /** `told`: {quote(key), now()}. */
  constructor(told) {
    this.#told = told;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#form.addEventListener("input", () => this.#changed());
    this.#restore();
    this.#changed();
  }

  /** The instrument that is charted is the one to trade. */
  point(instrument) {
    if (this.#instrument?.key === instrument.key) return;
    this.#instrument = instrument;
    for (const name of ["price", "trigger", "entry", "target", "stop", "trail"]) this.#field(name).value = "";
    setText(byId("ticket-lot"), `of ${number(lotOf(instrument))}`);
    this.#say("", "");
    this.#changed();
    this.quote();
  }

  /** The newest price beside the name, and in a price that nobody has touched. */
  quote() {
    if (!this.#instrument) return;
    const ltp = this.#told.quote(this.#instrument.key)?.ltp ?? null;
    const decimals = decimalsOf(this.#instrument.tick_size);
    setText(byId("ticket-last"), ltp === null ? "" : number(ltp, decimals));
    const suggested = ltp === null ? "" : ltp.toFixed(decimals);
    for (const name of ["price", "entry"]) {
      if (this.#field(name).placeholder !== suggested) this.#field(name).placeholder = suggested;
    }
  }

  /** The accounts one may choose: up to the mode that everything runs in. */
  modes(most) {
    if (most === this.#most) return;
    this.#most = most;
    const offered = MODES.slice(0, MODES.indexOf(most) + 1).reverse();
    byId("ticket-mode").replaceChildren(...offered.map((mode) => make("option", { value: mode }, mode)));
    this.#changed();
  }

  #field(name) {
    return this.#form.elements[name];
  }

  get #values() {
    return { ...Object.fromEntries(new FormData(this.#form)), mode: this.#field("mode").value };
  }

  #changed() {
    this.#key = api.newKey();
    this.#calm();
    const form = this.#values;
    for (const label of this.#form.querySelectorAll("[data-kind]")) {
      const { kind, types, entry } = label.dataset;
      label.hidden = kind !== form.kind || (types !== undefined && !types.split(" ").includes(form.type))
        || (entry !== undefined && form.when === "NONE");
    }
    for (const input of this.#form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    for (const words of this.#form.querySelectorAll("em")) words.remove();
    const name = this.#instrument ? title(this.#instrument, this.#told.now()) : null;
    setText(byId("ticket-name"), name ? `${name.name} ${name.detail}` : "Choose an instrument");
    setText(byId("send"), intent(form, this.#instrument, name?.name ?? "…"));
    setData(byId("send"), "side", form.side);
    remember("ticket", { kind: form.kind, lots: form.lots, product: form.product, type: form.type, when: form.when });
  }

  #restore() {
    const known = recall("ticket", {}) ?? {};
    for (const [name, value] of Object.entries(known)) {
      const field = this.#field(name);
      if (field && typeof value === "string") field.value = value;
    }
  }

  async #send() {
    const form = this.#values;
    const made = request(form, this.#instrument);
    if (made.errors.length) {
      this.#complain(made.errors);
      return;
    }
    if (form.mode === "live" && !this.#isSure) {
      this.#ask();
      return;
    }
    this.#calm();
    byId("send").disabled = true;
    this.#say("wait", "Sending…");
    try {
      const { status, body } = await api.change("POST", made.path, { body: made.body, key: this.#key });
      const { level, text } = answerWords(status, body);
      this.#say(level, text);
      this.#key = api.newKey(); // the next press is another order
    } catch (error) {
      if (!(error instanceof api.Problem)) throw error;
      const { level, text } = problemWords(error);
      this.#say(level, text);
      if (!error.isPassing) this.#key = api.newKey();
    } finally {
      byId("send").disabled = false;
    }
  }

  // Real money is asked for twice

  get #isSure() {
    return this.#sureUntil !== null;
  }

  #ask() {
    this.#sureUntil = setTimeout(() => this.#calm(), SURE_MS);
    byId("send").classList.add("sure");
    setText(byId("send"), `Real order. ${byId("send").textContent}?`);
  }

  #calm() {
    if (this.#sureUntil === null) return;
    clearTimeout(this.#sureUntil);
    this.#sureUntil = null;
    byId("send").classList.remove("sure");
    const name = this.#instrument ? title(this.#instrument, this.#told.now()).name : "…";
    setText(byId("send"), intent(this.#values, this.#instrument, name));
  }

  #complain(errors) {
    for (const [name, words] of errors) {
      const field = this.#field(name);
      if (!field?.parentElement || field.parentElement.querySelector("em")) continue;
      field.setAttribute("aria-invalid", "true");
      field.parentElement.append(make("em", {}, words));
    }
    const [[first, words]] = errors;
    this.#say("bad", `${first}: ${words}`);
    this.#field(first)?.focus?.();
  }

  #say(level, text) {
    setData(byId("ticket-said"), "level", level);
    setText(byId("ticket-said"), text);
  }
}
