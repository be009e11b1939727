// The main switch: which mode everything runs in, whether trading is halted, and the way to change that.

import * as api from "./api.js";
import { byId, setData, setText } from "./dom.js";
import { switchWords } from "./orders.js";
import { problemWords } from "./ticket.js";
import { time } from "./format.js";

const CHECK_EVERY_MS = 3_000;

export class Killswitch {
  #dialog = byId("halt-dialog");
  #told;
  #trading = null;
  #key = api.newKey();

  /** `told`: {mode(mode)}: the mode is known, or another. */
  constructor(told) {
    this.#told = told;
    byId("halt-open").addEventListener("click", () => this.#open());
    byId("halt-close").addEventListener("click", () => this.#dialog.close());
    byId("resume").addEventListener("click", () => this.#send("/trading/resume", {}, "Trading is on again."));
    byId("halt-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#halt();
    });
    setInterval(() => { if (!document.hidden) this.check(); }, CHECK_EVERY_MS);
  }

  get mode() {
    return this.#trading?.mode ?? "";
  }

  /** What the switch says now. */
  async check() {
    try {
      this.#trading = await api.trading();
    } catch (error) {
      if (!(error instanceof api.Problem)) throw error;
      return; // the head tells that the gateway does not answer
    }
    this.#show();
    this.#told.mode(this.mode);
  }

  #show() {
    const { mode, label, level, title } = switchWords(this.#trading);
    const isHalted = level === "halted";
    setData(byId("switch"), "level", level);
    byId("switch").title = title;
    setData(byId("mode"), "mode", mode);
    setText(byId("mode"), label);
    byId("halt-open").disabled = false;
    setText(byId("halt-open"), isHalted ? "Halted" : "Halt");
    byId("halt-open").setAttribute("aria-label", isHalted ? `${title}. Resume or read more` : "Halt trading");
    byId("resume").hidden = !isHalted;
    byId("halt").hidden = isHalted;
    byId("halt-asks").hidden = isHalted;
    setText(byId("halt-title"), isHalted ? "Trading is halted" : "Halt trading");
    const since = this.#trading.halt?.ts ? ` Since ${time(this.#trading.halt.ts, { seconds: true })} IST.` : "";
    setText(byId("halt-state"), isHalted ? `${title}.${since} Only what reduces risk passes.`
      : "Only what reduces risk passes, everywhere, within a second.");
  }

  #open() {
    this.#key = api.newKey();
    this.#say("", "");
    this.#show();
    this.#dialog.showModal();
    (byId("halt-asks").hidden ? byId("resume") : byId("halt-why")).focus();
  }

  async #halt() {
    const why = byId("halt-why").value.trim();
    const body = { cancel: byId("halt-cancel").checked, flatten: byId("halt-flatten").checked, ...(why ? { why } : {}) };
    await this.#send("/trading/halt", body, "Halted.");
  }

  async #send(path, body, done) {
    this.#say("wait", "Sending…");
    try {
      const { status, body: told } = await api.change("POST", path, { body, key: this.#key });
      const failed = [told.cancel, told.flatten].filter((part) => part && part.ok === false);
      const more = status === 202 ? " The order worker has not answered about the rest yet."
        : failed.map(({ reason }) => ` ${reason}.`).join("");
      this.#say(more ? "wait" : "ok", done + more);
      await this.check();
      if (!more) this.#dialog.close();
    } catch (error) {
      if (!(error instanceof api.Problem)) throw error;
      const { level, text } = problemWords(error);
      this.#say(level, text);
    }
  }

  #say(level, text) {
    setData(byId("halt-said"), "level", level);
    setText(byId("halt-said"), text);
  }
}
