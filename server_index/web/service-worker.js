// Keeps the page, the runtime and the encoders that were used, so that only the search needs a
// network. The server writes RELEASE, a digest of all files, and SHELL, the page's own, before this.
/* global RELEASE, SHELL */

const CACHE = `pocketlens-${RELEASE}`;
// Large, and not all are used: kept when they are first fetched.
const KEPT_WHEN_USED = ["/runtime/vendor/", "/bundle/"];
// What the server says of its bundle now; what was kept serves only without a network.
const FRESH = "/bundle/card.json";

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
      .then((names) => names.filter((name) => name.startsWith("pocketlens-") && name !== CACHE))
      .then((old) => Promise.all(old.map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const own = url.origin === self.location.origin && event.request.method === "GET";
  if (!own || url.pathname.includes("/v1/")) return;
  event.respondWith(answer(event.request, url));
});

async function answer(request, url) {
  const kept = await caches.match(request, { cacheName: CACHE });
  const fresh = url.pathname.endsWith(FRESH);
  if (kept && !fresh) return kept;
  let response;
  try {
    response = await fetch(request);
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
  if (response.ok && KEPT_WHEN_USED.some((folder) => url.pathname.includes(folder))) {
    const cache = await caches.open(CACHE);
    await cache.put(request, response.clone());
  }
  return response;
}
