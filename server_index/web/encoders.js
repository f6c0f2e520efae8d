// The bundle's encoders on this device: opens one, measures it, and goes on to a better one.

import { choose, listUsable, pickFirst } from "./runtime/choice.js";
import { EncoderClient, EndedError, UnfitError } from "./runtime/encoder-client.js";
import { PictureError } from "./runtime/pixels.js";
import { read, write } from "./storage.js";

const MEASURED = "measured";
const WARM_UP = 2;
const ROUNDS = 5;

export class Encoders {
  #client = null;
  #opened = null;
  // What is being loaded, while the one that is open goes on.
  #candidate = null;
  // Loading and measuring wait for each other.
  #turn = Promise.resolve();
  #known = read(MEASURED);
  // For this visit only: a download may succeed at the next.
  #failed = new Set();

  constructor(card) {
    this.card = card;
    this.usable = listUsable(card);
    if (!this.usable.length) {
      throw new Error("The bundle holds no encoder of photos to float vectors; export one.");
    }
  }

  /** Milliseconds that were measured here, by the digest of the encoder; null: it does not work. */
  get measured() {
    const failed = [...this.#failed].map((encoder) => [encoder, null]);
    return { ...this.#known, ...Object.fromEntries(failed) };
  }

  /** The entry of the card that is open. */
  get current() {
    return this.#opened;
  }

  /** Where the file that is open was fetched from. */
  get address() {
    return bundleUrl(this.#opened);
  }

  /** Open the encoder of that digest, or what suits the budget by what is known so far. */
  open(budget, wanted = "") {
    // What was being loaded for another wish.
    this.#candidate?.close();
    return this.#exclusively(() => this.#open(budget, wanted));
  }

  /** Encode with the encoder that is open; one that breaks is opened anew by the next `open`. */
  async encode(picture) {
    const client = this.#client;
    try {
      return await client.encode(picture);
    } catch (error) {
      if (!(error instanceof PictureError) && client === this.#client) {
        client.close();
        this.#client = this.#opened = null;
      }
      throw error;
    }
  }

  /** Measure on a picture, and go on to better encoders while they may fit; until told to stop. */
  improve(picture, budget, stop) {
    return this.#exclusively(async () => {
      while (!stop() && this.#opened) {
        const entry = this.#opened;
        if (!(await this.#measure(entry, picture, stop))) return;
        const { use, next } = choose(this.usable, this.measured, budget);
        const wanted = next ?? use;
        if (wanted === entry) return;
        await this.#load(wanted).catch((error) => this.#noteFailure(wanted, error));
      }
    });
  }

  async #open(budget, wanted) {
    for (;;) {
      const { measured } = this;
      const left = this.usable.filter((entry) => measured[entry.encoder] !== null);
      const asked = left.find((entry) => entry.encoder === wanted);
      const entry = asked ?? (left.length ? choose(left, measured, budget).use : null) ??
        (left.length ? pickFirst(left) : null);
      if (!entry) throw new Error("None of the bundle's encoders works on this device.");
      if (entry === this.#opened) return;
      try {
        await this.#load(entry);
        return;
      } catch (error) {
        this.#noteFailure(entry, error);
        if (asked || error instanceof EndedError || left.length === 1) {
          // It may work when it is asked for again.
          this.#failed.clear();
          throw error;
        }
      }
    }
  }

  /** Load an encoder beside the one that is open, and let it take its place. */
  async #load(entry) {
    const client = new EncoderClient();
    this.#candidate = client;
    try {
      await client.open(bundleUrl(entry), entry.file);
    } catch (error) {
      client.close();
      throw error;
    } finally {
      this.#candidate = null;
    }
    this.#client?.retire();
    this.#client = client;
    this.#opened = entry;
  }

  /** Note what an encoder takes; return false where it was stopped. */
  async #measure(entry, picture, stop) {
    if (this.#known[entry.encoder] !== undefined) return true;
    const taken = [];
    for (let round = 0; round < WARM_UP + ROUNDS; round++) {
      const { ms } = await this.encode(picture);
      if (stop()) return false;
      if (round >= WARM_UP) taken.push(ms.network);
    }
    taken.sort((a, b) => a - b);
    this.#note(entry, taken[ROUNDS >> 1]);
    return true;
  }

  #noteFailure(entry, error) {
    if (error instanceof UnfitError) this.#note(entry, null);
    else if (!(error instanceof EndedError)) this.#failed.add(entry.encoder);
  }

  #note(entry, ms) {
    this.#known[entry.encoder] = ms;
    write(MEASURED, this.#known);
  }

  #exclusively(run) {
    const done = this.#turn.then(run);
    this.#turn = done.catch(() => {});
    return done;
  }
}

/** Return where an encoder file lies; its digest is in the address, so that it may be kept. */
function bundleUrl(entry) {
  return `bundle/${entry.file}?sha256=${entry.sha256}`;
}
