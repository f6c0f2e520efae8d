// The worker in which pictures are encoded, so that the page stays responsive. Holds one encoder.

import { PictureError } from "./pixels.js";
import { QueryEncoder } from "./query-encoder.js";

let encoder = null;

const tasks = {
  /** Answer, so that it is known that the runtime's modules are here. */
  async greet() {},

  /** Fetch and open an encoder in place of the one that is open. */
  async open({ url, name, threads }) {
    const started = performance.now();
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${name}: the server answers ${response.status}`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const fetched = performance.now();
    await encoder?.close();
    encoder = null;
    encoder = await QueryEncoder.open(bytes, name, threads ? { threads } : {});
    const ms = { fetch: fetched - started, load: performance.now() - fetched };
    return { contract: encoder.contract, threads: encoder.threads, bytes: bytes.length, ms };
  },

  async encode({ picture }) {
    return encoder.encode(picture);
  },
};

self.onmessage = async ({ data: { id, task, ...given } }) => {
  try {
    self.postMessage({ id, result: await tasks[task](given) });
  } catch (error) {
    const ofPicture = error instanceof PictureError;
    self.postMessage({ id, error: { message: error.message ?? String(error), ofPicture } });
  }
};
