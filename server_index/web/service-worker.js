// Keeps the page, the runtime and the encoders that were used, so that only the search needs a
// network. The server writes before this RELEASE, a digest of all files; SHELL, the page's own;
// and RUNTIME, ONNX Runtime's.
/* global RELEASE, SHELL, RUNTIME */

const SCOPE = self.registration.scope;
// Of another page under this origin nothing is deleted.
const MINE = `pocketlens-${SCOPE}-`;
const CACHE = MINE + RELEASE;
// Large, and not all are used: kept when they are first fetched.
const KEPT_WHEN_USED = ["runtime/vendor/", "bundle/"];
// What the server says of its bundle now; what was kept serves only without it.
const CARD = "bundle/card.json";
const LONGEST_WAIT_MS = 3000;

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(SHELL))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => names.filter((name) => name.startsWith(MINE) && name !== CACHE))
      .then((old) => Promise.all(old.map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("message", (event) => {
  event.waitUntil(keepAll([...RUNTIME, CARD, ...event.data.keep]));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(SCOPE)) return;
  const path = request.url.slice(SCOPE.length);
  if (!path.startsWith("v1/")) event.respondWith(answer(event, path));
});

async function answer(event, path) {
  const { request } = event;
  const kept = await caches.match(request, { cacheName: CACHE });
  const fresh = path === CARD;
  if (kept && !fresh) return kept;
  let response;
  try {
    response = await fetch(request, kept ? { signal: AbortSignal.timeout(LONGEST_WAIT_MS) } : {});
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
  if (!response.ok && kept) return kept;
  if (response.ok && KEPT_WHEN_USED.some((folder) => path.startsWith(folder))) {
    const copy = response.clone();
    // Where there is no room for it, the page goes on.
    event.waitUntil(put(request, copy).catch(() => {}));
  }
  return response;
}

async function put(request, response) {
  const cache = await caches.open(CACHE);
  await cache.put(request, response);
}

async function keepAll(addresses) {
  for (const address of addresses) {
    try {
      const url = new URL(address, SCOPE).href;
      if (await caches.match(url, { cacheName: CACHE })) continue;
      const response = await fetch(url);
      if (response.ok) await put(url, response);
    } catch {
      // Kept when it is fetched the next time.
    }
  }
}
