// Asks the search service with a vector: the only thing of a picture that leaves the device.

import { encodeBase64 } from "./runtime/base64.js";

/** A search that was refused, or did not arrive; its message is for the user. */
export class SearchError extends Error {
  constructor(message, { again = false } = {}) {
    super(message);
    this.again = again;
  }
}

/** Return {answers, ms, bytes}: of an answer id, score and metadata; bytes is the request's body. */
export async function search(vector, space, count, seconds = 10) {
  const body = JSON.stringify({ vector: encodeBase64(vector), space, k: count });
  const started = performance.now();
  let status;
  let answer;
  try {
    const response = await fetch("v1/search", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      signal: AbortSignal.timeout(1000 * seconds),
    });
    status = response.status;
    answer = readJson(await response.text());
  } catch {
    const message = navigator.onLine
      ? "The search server does not answer."
      : "This device is offline: the picture is encoded, but the database cannot be asked.";
    throw new SearchError(message, { again: true });
  }
  if (status !== 200) throw explain(status, answer?.detail ?? "");
  if (!Array.isArray(answer?.answers)) {
    throw new SearchError("The search server's answer cannot be read.", { again: true });
  }
  return { answers: answer.answers, ms: performance.now() - started, bytes: body.length };
}

function readJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function explain(status, detail) {
  if (status === 409) {
    return new SearchError(
      `The database does not understand this encoder: their embedding spaces differ (${detail}). ` +
        "Serve the bundle that belongs to the index.",
    );
  }
  if (status === 429 || status === 503) {
    return new SearchError("The search server is busy; try again.", { again: true });
  }
  return new SearchError(`The search server refuses (${status}): ${detail}`, { again: true });
}
