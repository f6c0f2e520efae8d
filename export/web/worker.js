// The worker in which pictures are encoded, so that the page stays responsive. Holds one encoder.

import { PictureError } from "./pixels.js";
import { QueryEncoder, SaturationError } from "./query-encoder.js";

let encoder = null;
// Tasks wait for each other: an encoder is not closed while it is in use.
let last = Promise.resolve();

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
    if (!encoder) throw new Error("No encoder is open.");
    return encoder.encode(picture);
  },
};

async function run({ id, task, ...given }) {
  try {
    self.postMessage({ id, result: await tasks[task](given) });
  } catch (error) {
    self.postMessage({ id, error: { message: error.message ?? String(error), kind: name(error) } });
  }
}

function name(error) {
  if (error instanceof PictureError) return "picture";
  return error instanceof SaturationError ? "unfit" : "";
}

self.onmessage = ({ data }) => {
  last = last.then(() => run(data));
};
