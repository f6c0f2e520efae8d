// Lets the service worker keep what the page needs, so that only the search needs a network.

const LONGEST_WAIT_MS = 1500;

/** Start the service worker; wait a little until it is there. */
export async function startKeeping() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    if (navigator.serviceWorker.controller) return;
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
      setTimeout(resolve, LONGEST_WAIT_MS);
    });
  } catch {
    // The page works without; it then needs the network.
  }
}

/** Have the runtime and an encoder kept, though they may have been fetched before it was there. */
export async function keep(address) {
  if (!("serviceWorker" in navigator)) return;
  const { active } = await navigator.serviceWorker.ready;
  active.postMessage({ keep: [new URL(address, document.baseURI).href] });
}
