// The page's hold on the worker that encodes: each task a promise, one after the other.

import { PictureError } from "./pixels.js";

/** An encoder that this device computes wrongly: trying again does not help. */
export class UnfitError extends Error {}

/** A task given up because its worker was ended. */
export class EndedError extends Error {}

const KINDS = { picture: PictureError, unfit: UnfitError };

export class EncoderClient {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #pending = new Map();
  #last = 0;
  #ended = null;
  #retiring = false;

  constructor() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#pending.get(id);
      this.#pending.delete(id);
      if (!error) resolve(result);
      else reject(new (KINDS[error.kind] ?? Error)(error.message));
      if (this.#retiring && !this.#pending.size) this.close();
    };
    this.#worker.onmessageerror = () => this.#end(new Error("The encoder's answer was lost."));
    this.#worker.onerror = (event) =>
      this.#end(new Error(event.message || "The encoder could not be started."));
  }

  /** Wait until the worker has its modules. */
  ready() {
    return this.#ask({ task: "greet" });
  }

  /** Open the encoder at an address: {contract, threads, bytes, ms: {fetch, load}}. */
  open(url, name, threads = 0) {
    const absolute = new URL(url, document.baseURI).href;
    return this.#ask({ task: "open", url: absolute, name, threads });
  }

  /** Encode a Blob, or an ImageBitmap that is then gone: {vector, ms: {decode, network}}. */
  encode(picture) {
    const moved = picture instanceof ImageBitmap ? [picture] : [];
    return this.#ask({ task: "encode", picture }, moved);
  }

  /** End the worker when what it was given is done. */
  retire() {
    this.#retiring = true;
    if (!this.#pending.size) this.close();
  }

  /** End the worker now; what it was given fails. */
  close() {
    this.#end(new EndedError("The encoder was closed."));
  }

  #end(error) {
    this.#worker.terminate();
    this.#ended ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #ask(message, moved = []) {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, moved);
    });
  }
}
