// Vectors as the search service takes them.

/** Return a Float32Array as base64 of little-endian float32. */
export function encodeBase64(vector) {
  const bytes = new Uint8Array(4 * vector.length);
  const view = new DataView(bytes.buffer);
  vector.forEach((value, at) => view.setFloat32(4 * at, value, true));
  return btoa(String.fromCharCode(...bytes));
}
