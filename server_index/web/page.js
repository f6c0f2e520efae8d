// The page: a picture comes in, is encoded on this device, and its vector asks the database.

import { CameraError, startCamera, stopCamera, takeFrame } from "./camera.js";
import { Encoders } from "./encoders.js";
import { formatBytes, showAnswers, showTimes } from "./results.js";
import { PictureError } from "./runtime/pixels.js";
import { search, SearchError } from "./search.js";

const SETTINGS = "pocketlens.settings";
const DEFAULTS = { budget: 50, encoder: "", count: 12 };
const find = (id) => document.getElementById(id);

let encoders = null;
let ready = null;
// One picture at a time; of those that come meanwhile the last.
let busy = false;
let waiting = null;
let encoded = null;

async function start() {
  restoreSettings();
  ready = keepOffline().then(load);
  connectInputs();
  try {
    await ready;
    say("Ready.");
  } catch (error) {
    fail(error);
  }
}

async function load() {
  const response = await fetch("bundle/card.json");
  if (!response.ok) throw new Error("The server gives no query bundle.");
  const card = await response.json();
  encoders = new Encoders(card);
  find("dim").textContent = card.space.dim;
  for (const entry of encoders.usable) {
    const text = `${entry.size} px, ${entry.precision}, ${formatBytes(entry.bytes)}`;
    find("encoder").append(new Option(text, entry.encoder));
  }
  find("encoder").value = settings().encoder;
  await encoders.open(settings().budget, settings().encoder);
}

/** Let the service worker keep the page, the runtime and the encoder, before they are fetched. */
async function keepOffline() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    if (navigator.serviceWorker.controller) return;
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
      setTimeout(resolve, 1500);
    });
  } catch {
    // The page works without; it then needs the network.
  }
}

/** Encode a Blob or a camera's frame on a canvas, search with it, and show what came. */
async function look(picture, name) {
  if (busy) {
    waiting = { picture, name };
    return;
  }
  busy = true;
  clearErrors();
  try {
    say("Encoding on this device …");
    await ready;
    const isFrame = picture instanceof OffscreenCanvas;
    // Lossless: what the camera saw is what is measured on, and seen.
    const file = isFrame ? picture.convertToBlob({ type: "image/png" }) : picture;
    const taken = isFrame ? await createImageBitmap(picture) : picture;
    const { vector, ms } = await encoders.encode(taken);
    const kept = await file;
    showPreview(kept, name);
    encoded = { vector, ms, bytes: kept.size, space: encoders.card.space.id };
    await ask();
    await settle(kept);
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
  if (waiting) {
    const next = waiting;
    waiting = null;
    look(next.picture, next.name);
  }
}

async function ask() {
  clearErrors();
  say("Searching …");
  const { vector, ms, bytes, space } = encoded;
  const found = await search(vector, space, settings().count);
  showAnswers(find("answers"), found.answers);
  find("results-title").hidden = false;
  const total = ms.decode + ms.network + found.ms;
  showTimes(find("stages"), [
    ["Decode", ms.decode],
    ["Encode", ms.network],
    ["Search, with the network", found.ms],
    ["Together", total],
  ]);
  find("sent").textContent =
    `${formatBytes(found.bytes)} left this device; the picture of ${formatBytes(bytes)} did not.`;
  find("facts").hidden = false;
  say(`${found.answers.length} found in ${total.toFixed(0)} ms.`);
}

/** After the answer: measure the encoder, and take a better one where the budget allows. */
async function settle(picture) {
  const { budget, encoder } = settings();
  if (!encoder) await encoders.improve(picture, budget);
  showMeasured();
}

function showMeasured() {
  const { measured, usable, current } = encoders;
  const rows = usable
    .filter((entry) => measured[entry.encoder] !== undefined)
    .map((entry) => [
      `${entry.size} px, ${entry.precision}${entry === current ? " (in use)" : ""}`,
      measured[entry.encoder] ?? NaN,
    ]);
  find("measured").hidden = !rows.length;
  showTimes(find("measured").tBodies[0], rows);
}

function showPreview(blob, name) {
  const preview = find("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(blob);
  preview.alt = `Your picture${name ? `, ${name}` : ""}`;
  preview.hidden = false;
  find("invitation").hidden = true;
}

function say(text) {
  find("status").textContent = text;
}

function fail(error) {
  const known = [PictureError, SearchError, CameraError].some((kind) => error instanceof kind);
  say("");
  find("error").textContent = known ? error.message : `This does not work: ${error.message}`;
  find("error").hidden = false;
  find("retry").hidden = !(error instanceof SearchError && error.again);
}

function clearErrors() {
  find("error").hidden = true;
  find("retry").hidden = true;
}

function connectInputs() {
  const drop = find("drop");
  const takeFile = (file) => file && look(file, file.name);
  find("file").addEventListener("change", ({ target }) => {
    takeFile(target.files[0]);
    target.value = "";
  });
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    takeFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => takeFile(event.clipboardData.files[0]));
  find("retry").addEventListener("click", () => ask().catch(fail));
  connectCamera();
  find("settings").addEventListener("submit", (event) => event.preventDefault());
  find("settings").addEventListener("change", changeSettings);
}

function connectCamera() {
  const video = find("camera");
  const show = (on) => {
    video.hidden = find("camera-take").hidden = find("camera-off").hidden = !on;
    find("camera-on").hidden = on;
    if (on) find("preview").hidden = find("invitation").hidden = true;
  };
  const close = () => {
    stopCamera(video);
    show(false);
    find("camera-on").focus();
  };
  find("camera-on").addEventListener("click", async () => {
    clearErrors();
    try {
      await startCamera(video);
      show(true);
      find("camera-take").focus();
    } catch (error) {
      fail(error);
    }
  });
  find("camera-off").addEventListener("click", close);
  find("camera-take").addEventListener("click", async () => {
    const frame = takeFrame(video);
    close();
    look(frame, "from the camera");
  });
}

function settings() {
  const form = find("settings");
  const number = (name) => {
    const { valueAsNumber, validity } = form.elements[name];
    return validity.valid && valueAsNumber ? valueAsNumber : DEFAULTS[name];
  };
  return {
    budget: number("budget"),
    encoder: form.elements.encoder.value,
    count: number("count"),
  };
}

function restoreSettings() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(SETTINGS)) ?? {};
  } catch {
    // What was kept is not readable: the defaults are used.
  }
  const { budget, count, encoder } = { ...DEFAULTS, ...kept };
  find("budget").value = budget;
  find("count").value = count;
  if (encoder) find("encoder").append(new Option(encoder, encoder, false, true));
}

async function changeSettings() {
  const chosen = settings();
  try {
    localStorage.setItem(SETTINGS, JSON.stringify(chosen));
    await encoders?.open(chosen.budget, chosen.encoder);
    if (encoders) showMeasured();
  } catch (error) {
    fail(error);
  }
}

start();
