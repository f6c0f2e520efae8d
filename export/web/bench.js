// Times encoders, or encodes pictures, as the program that serves this page asks (export/browser.py).

import { encodeBase64 } from "./base64.js";
import { EncoderClient } from "./encoder-client.js";

const tasks = {
  /** Time each encoder on each number of threads, in rounds in which each has its turn. */
  async time({ places, picture, rounds, warm_up }) {
    const photo = await fetchBlob(picture);
    const opened = [];
    for (const place of places) opened.push(await openPlace(place, photo));
    for (let round = 0; round < warm_up + rounds; round++) {
      for (const { client, taken } of opened) {
        const { ms } = await client.encode(photo);
        if (round >= warm_up) taken.push([ms.decode, ms.network]);
      }
    }
    return { places: opened.map(({ cold, threads, taken }) => ({ cold, threads, taken })) };
  },

  /** Return the vectors of pictures by each encoder, as base64 of little-endian float32. */
  async encode({ places, pictures }) {
    const vectors = [];
    for (const { url, name, threads } of places) {
      const client = new EncoderClient();
      await client.open(url, name, threads);
      const found = [];
      for (const picture of pictures) {
        const { vector } = await client.encode(await fetchBlob(picture));
        found.push(encodeBase64(vector));
      }
      vectors.push(found);
      client.close();
    }
    return { vectors };
  },
};

/** Open an encoder in a worker of its own, and tell what a first picture costs there. */
async function openPlace({ url, name, threads }, photo) {
  const started = performance.now();
  const client = new EncoderClient();
  await client.ready();
  const ready = performance.now();
  const opened = await client.open(url, name, threads);
  const { ms } = await client.encode(photo);
  const cold = {
    import: ready - started,
    load: opened.ms.fetch + opened.ms.load,
    first: ms.decode + ms.network,
  };
  return { client, cold, threads: opened.threads, taken: [] };
}

async function fetchBlob(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response.blob();
}

async function run() {
  const { task, ...job } = await (await fetch("job")).json();
  return { agent: navigator.userAgent, isolated: self.crossOriginIsolated, ...(await tasks[task](job)) };
}

const result = await run().catch((error) => ({ error: error.message }));
await fetch("result", { method: "POST", body: JSON.stringify(result) });
