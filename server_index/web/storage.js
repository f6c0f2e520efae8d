// What the page keeps on this device, where the browser lets it; several pages of one origin do not
// meet.

const PREFIX = `pocketlens:${new URL(".", document.baseURI).pathname}:`;

/** Return the object that is kept by a name; an empty one where there is none. */
export function read(name) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? {};
  } catch {
    return {};
  }
}

/** Keep an object by a name. */
export function write(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Without storage it is forgotten with the page.
  }
}
