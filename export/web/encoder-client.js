// The page's hold on the worker that encodes: each task a promise, one after the other.

import { PictureError } from "./pixels.js";

export class EncoderClient {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #pending = new Map();
  #last = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#pending.get(id);
      this.#pending.delete(id);
      if (!error) resolve(result);
      else reject(error.ofPicture ? new PictureError(error.message) : new Error(error.message));
    };
    this.#worker.onerror = (event) => {
      const error = new Error(event.message || "The encoder could not be started.");
      for (const { reject } of this.#pending.values()) reject(error);
      this.#pending.clear();
    };
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

  /** End the worker. */
  close() {
    this.#worker.terminate();
  }

  #ask(message, moved = []) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, moved);
    });
  }
}
