// The page: a picture comes in, is encoded on this device, and its vector asks the database.

import { CameraError } from "./camera.js";
import { Encoders } from "./encoders.js";
import { connectInputs } from "./inputs.js";
import { keep, startKeeping } from "./offline.js";
import { formatBytes, showAnswers, showTimes } from "./results.js";
import { EndedError } from "./runtime/encoder-client.js";
import { PictureError } from "./runtime/pixels.js";
import { search, SearchError } from "./search.js";
import { read, write } from "./storage.js";

const SETTINGS = "settings";
const DEFAULTS = { budget: 50, encoder: "", count: 12 };
const find = (id) => document.getElementById(id);

let encoders = null;
let loading = null;
// One picture at a time; of those that come meanwhile the last.
let busy = false;
let waiting = null;
let encoded = null;
// Counts pictures and changes of settings: what was begun for an earlier one stops.
let wish = 0;
let sent = 0;

async function start() {
  restoreSettings();
  connectInputs(look, fail);
  find("retry").addEventListener("click", askAgain);
  find("settings").addEventListener("submit", (event) => event.preventDefault());
  find("settings").addEventListener("change", changeSettings);
  try {
    await prepare();
    if (!encoded && !busy) say("Ready.");
  } catch (error) {
    fail(error);
  }
}

/** Have an encoder open; one that could not be is tried again. */
function prepare() {
  if (encoders?.current) return Promise.resolve();
  loading ??= load().finally(() => {
    loading = null;
  });
  return loading;
}

async function load() {
  await startKeeping();
  if (!encoders) {
    const response = await fetch("bundle/card.json");
    if (!response.ok) throw new Error("the server gives no query bundle");
    encoders = new Encoders(await response.json());
    find("dim").textContent = encoders.card.space.dim;
    offerEncoders();
  }
  const { budget, encoder } = settings();
  try {
    await encoders.open(budget, encoder);
  } catch (error) {
    // Other settings came meanwhile.
    if (!(error instanceof EndedError)) throw error;
    await encoders.open(settings().budget, settings().encoder);
  }
  keep(encoders.address);
}

function offerEncoders() {
  const list = find("encoder");
  const options = encoders.usable.map((entry) => {
    const text = `${entry.size} px, ${entry.precision}, ${formatBytes(entry.bytes)}`;
    return new Option(text, entry.encoder);
  });
  list.replaceChildren(list.options[0], ...options);
  const kept = read(SETTINGS).encoder;
  list.value = options.some(({ value }) => value === kept) ? kept : "";
}

/** Encode a Blob or a camera's frame on a canvas, search with it, and show what came. */
async function look(picture, name) {
  if (busy) {
    waiting = { picture, name };
    return;
  }
  busy = true;
  clearErrors();
  const mine = ++wish;
  try {
    say("Encoding on this device …");
    await prepare();
    const isFrame = picture instanceof OffscreenCanvas;
    // Lossless: what the camera saw is what is measured on, and seen.
    const file = isFrame ? picture.convertToBlob({ type: "image/png" }) : picture;
    const taken = isFrame ? await createImageBitmap(picture) : picture;
    const { vector, ms } = await encoders.encode(taken);
    const kept = await file;
    showPreview(kept, name);
    encoded = { vector, ms, bytes: kept.size, space: encoders.card.space.id };
    sent = 0;
    await ask();
    settle(kept, mine);
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
  clearAnswers();
  say("Searching …");
  const mine = encoded;
  const { vector, ms, bytes, space } = mine;
  const found = await search(vector, space, settings().count);
  // Another picture's answers are shown by then.
  if (mine !== encoded) return;
  sent += found.bytes;
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
    `${formatBytes(sent)} left this device; the picture of ${formatBytes(bytes)} did not.`;
  find("facts").hidden = false;
  say(`${found.answers.length} found in ${total.toFixed(0)} ms.`);
}

async function askAgain() {
  try {
    await ask();
    find("results").focus();
  } catch (error) {
    fail(error);
    find("retry").focus();
  }
}

/** After the answer: measure the encoder, and take a better one where the budget allows. */
async function settle(picture, mine) {
  const { budget, encoder } = settings();
  try {
    if (!encoder) await encoders.improve(picture, budget, () => mine !== wish);
    keep(encoders.address);
  } catch {
    // The encoder that is open goes on.
  }
  showMeasured();
}

function showMeasured() {
  const { measured, usable, current } = encoders;
  const rows = usable
    .filter((entry) => measured[entry.encoder] !== undefined || entry === current)
    .map((entry) => [
      `${entry.size} px, ${entry.precision}${entry === current ? " (in use)" : ""}`,
      measured[entry.encoder],
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

/** Take away what was found for another picture. */
function clearAnswers() {
  find("answers").replaceChildren();
  find("facts").hidden = find("results-title").hidden = true;
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
  const { budget, count } = { ...DEFAULTS, ...read(SETTINGS) };
  find("budget").value = budget;
  find("count").value = count;
}

async function changeSettings({ target }) {
  const chosen = settings();
  write(SETTINGS, chosen);
  if (!encoders || target === find("count")) return;
  wish += 1;
  clearErrors();
  try {
    await encoders.open(chosen.budget, chosen.encoder);
    keep(encoders.address);
  } catch (error) {
    if (!(error instanceof EndedError)) fail(error);
  }
  showMeasured();
}

start();
