// Shows answers, times and bytes.

/** Fill the list with answers: thumbnail, score, id and what is known of each. */
export function showAnswers(list, answers) {
  list.replaceChildren(...answers.map(makeAnswer));
}

function makeAnswer({ id, score, metadata }) {
  const item = document.createElement("li");
  const picture = document.createElement("img");
  picture.src = `v1/thumbnail?${new URLSearchParams({ id })}`;
  picture.alt = `Picture of ${id}`;
  picture.loading = "lazy";
  picture.onerror = () => picture.replaceWith(makeText("div", "no picture", "none"));
  item.append(picture, makeText("p", score.toFixed(3), "score"), makeText("p", id));
  const known = Object.entries(metadata).filter(([, value]) => value !== null);
  const text = known.map(([name, value]) => `${name}: ${value}`).join(", ");
  item.append(makeText("p", text, "more"));
  return item;
}

/** Fill a table's body with names and milliseconds. */
export function showTimes(body, times) {
  const rows = times.map(([name, ms]) => {
    const row = document.createElement("tr");
    const head = makeText("th", name);
    head.scope = "row";
    row.append(head, makeText("td", show(ms)));
    return row;
  });
  body.replaceChildren(...rows);
}

function show(ms) {
  if (ms === undefined) return "not yet";
  return Number.isFinite(ms) ? ms.toFixed(1) : "failed";
}

/** Return bytes for people. */
export function formatBytes(count) {
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

function makeText(tag, text, kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}
