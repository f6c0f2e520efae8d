// Runs an exported encoder in the browser, on ONNX Runtime Web's CPU build. For use in a worker.

import * as ort from "./vendor/ort.wasm.min.mjs";
import { readContract } from "./contract.js";
import { readPixels } from "./pixels.js";

// Below this an int8 encoder is one that this device computes wrongly (export/runtime.py).
const MIN_PROBE_COSINE = 0.98;
const MOST_THREADS = 4;

ort.env.wasm.wasmPaths = new URL("./vendor/", import.meta.url).href;
ort.env.logLevel = "error";

/** Return how many threads are used where none are asked for. */
export function countThreads() {
  // Threads share memory, which a page may do only where it is isolated from other origins.
  if (!self.crossOriginIsolated) return 1;
  return Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1));
}

/** An encoder whose 8-bit products this device computes wrongly. */
export class SaturationError extends Error {}

export class QueryEncoder {
  /** Open the encoder in the bytes of a file. The number of threads is the first one's for all. */
  static async open(bytes, name, { threads = countThreads() } = {}) {
    const contract = readContract(bytes, name);
    if (contract.kind !== "photo" || contract.output.form !== "float") {
      throw new Error(`${name}: not an encoder of photos to float vectors`);
    }
    ort.env.wasm.numThreads = threads;
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    // What runs: the number is fixed when the first encoder is opened.
    const encoder = new QueryEncoder(session, contract, ort.env.wasm.numThreads);
    try {
      if (contract.probe) await encoder.#refuseSaturation(name);
    } catch (error) {
      await session.release();
      throw error;
    }
    return encoder;
  }

  constructor(session, contract, threads) {
    this.session = session;
    this.contract = contract;
    this.threads = threads;
  }

  /** Encode a Blob or ImageBitmap: {vector, ms: {decode, network}}. */
  async encode(picture) {
    const started = performance.now();
    const image = await readPixels(picture, this.contract.preprocess);
    const decoded = performance.now();
    const vector = await this.embed(image);
    const done = performance.now();
    return { vector, ms: { decode: decoded - started, network: done - decoded } };
  }

  /** Return the unit vector, Float32Array, of RGB pixels. */
  async embed({ pixels, width, height }) {
    const image = new ort.Tensor("uint8", pixels, [height, width, 3]);
    const { embedding } = await this.session.run({ image });
    const vector = Float32Array.from(embedding.data);
    embedding.dispose();
    return vector;
  }

  /** Free what the encoder holds. */
  async close() {
    await this.session.release();
  }

  async #refuseSaturation(name) {
    const vector = await this.embed(makeProbe());
    const cosine = this.contract.probe.reduce((sum, value, at) => sum + value * vector[at], 0);
    if (!(cosine >= MIN_PROBE_COSINE)) {
      throw new SaturationError(`${name}: this device computes its 8-bit products wrongly`);
    }
  }
}

/** Return the small picture whose vector is known, the same as everywhere (export/contract.py). */
export function makeProbe() {
  const [width, height] = [80, 64];
  const pixels = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const colours = [
        2 * x + y,
        Math.floor((x * y) / 8) + 40,
        Math.floor((x - 40) ** 2 / 6) + Math.floor((y - 32) ** 2 / 4),
      ];
      pixels.set(colours.map((value) => Math.min(Math.max(value, 0), 255)), (y * width + x) * 3);
    }
  }
  return { pixels, width, height };
}
