// The bundle's encoders on this device: opens one, measures it, and goes on to a better one.

import { choose, listUsable, pickFirst } from "./runtime/choice.js";
import { EncoderClient } from "./runtime/encoder-client.js";

const STORE = "pocketlens.measured";
const WARM_UP = 2;
const ROUNDS = 5;

export class Encoders {
  #client = new EncoderClient();
  #opened = null;

  constructor(card) {
    this.card = card;
    this.usable = listUsable(card);
    if (!this.usable.length) {
      throw new Error("The bundle holds no encoder of photos to float vectors; export one.");
    }
  }

  /** Milliseconds that were measured here, by the digest of the encoder; null: it failed. */
  get measured() {
    try {
      return JSON.parse(localStorage.getItem(STORE)) ?? {};
    } catch {
      return {};
    }
  }

  /** The entry of the card that is open. */
  get current() {
    return this.#opened;
  }

  /** Open the encoder of that digest, or what suits the budget by what is known so far. */
  async open(budget, wanted = "") {
    const asked = this.usable.find((entry) => entry.encoder === wanted);
    for (;;) {
      const entry = asked ?? choose(this.usable, this.measured, budget).use ?? this.#untried();
      if (entry === this.#opened) return null;
      try {
        const opened = await this.#client.open(bundleUrl(entry), entry.file);
        this.#opened = entry;
        return opened;
      } catch (error) {
        this.#opened = null;
        this.#note(entry, null);
        if (asked || !this.#untried()) throw error;
      }
    }
  }

  encode(picture) {
    return this.#client.encode(picture);
  }

  /** Measure on a picture, and go on to better encoders while they may fit the budget. */
  async improve(picture, budget) {
    for (;;) {
      await this.#measure(picture);
      const { use, next } = choose(this.usable, this.measured, budget);
      const wanted = next ?? use;
      if (wanted === this.#opened) return;
      try {
        await this.#client.open(bundleUrl(wanted), wanted.file);
        this.#opened = wanted;
      } catch {
        this.#opened = null;
        this.#note(wanted, null);
        await this.open(budget);
      }
    }
  }

  /** The smallest of those that have not failed here. */
  #untried() {
    const { measured } = this;
    const left = this.usable.filter((entry) => measured[entry.encoder] !== null);
    return left.length ? pickFirst(left) : null;
  }

  async #measure(picture) {
    if (this.measured[this.#opened.encoder] !== undefined) return;
    const taken = [];
    for (let round = 0; round < WARM_UP + ROUNDS; round++) {
      const { ms } = await this.encode(picture);
      if (round >= WARM_UP) taken.push(ms.network);
    }
    taken.sort((a, b) => a - b);
    this.#note(this.#opened, taken[ROUNDS >> 1]);
  }

  #note(entry, ms) {
    try {
      localStorage.setItem(STORE, JSON.stringify({ ...this.measured, [entry.encoder]: ms }));
    } catch {
      // Without storage every visit measures anew.
    }
  }
}

/** Return where an encoder file lies; its digest is in the address, so that it may be kept. */
function bundleUrl(entry) {
  return `bundle/${entry.file}?sha256=${entry.sha256}`;
}
