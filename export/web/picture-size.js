// Reads a picture's size from its first bytes, so that nothing huge is ever decoded.

// Of a JPEG, metadata and previews may stand before the size.
const HEADS = [256 * 1024, 8 * 1024 * 1024];

/**
 * Return {width, height} as stored, before any EXIF turn; null of a format that is not known here.
 */
export async function readPictureSize(blob) {
  for (const length of HEADS) {
    const size = readHead(new Uint8Array(await blob.slice(0, length).arrayBuffer()));
    if (size || blob.size <= length) return size;
  }
  return null;
}

function readHead(bytes) {
  if (bytes.length < 30) return null;
  const view = new DataView(bytes.buffer);
  const text = (from, length) => String.fromCharCode(...bytes.subarray(from, from + length));
  if (view.getUint16(0) === 0xffd8) return readJpeg(view);
  if (text(1, 3) === "PNG") return { width: view.getUint32(16), height: view.getUint32(20) };
  if (text(0, 3) === "GIF") {
    return { width: view.getUint16(6, true), height: view.getUint16(8, true) };
  }
  if (text(0, 2) === "BM") {
    return {
      width: Math.abs(view.getInt32(18, true)),
      height: Math.abs(view.getInt32(22, true)),
    };
  }
  if (text(0, 4) === "RIFF" && text(8, 4) === "WEBP") return readWebp(view, text(12, 4));
  return null;
}

function readJpeg(view) {
  let at = 2;
  while (at + 9 < view.byteLength) {
    if (view.getUint8(at) !== 0xff) return null;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    // Start of frame of any coding; C4, C8 and CC are tables.
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    }
    at += 2 + view.getUint16(at + 2);
  }
  return null;
}

function readWebp(view, kind) {
  if (kind === "VP8X") {
    const read = (at) => 1 + view.getUint16(at, true) + (view.getUint8(at + 2) << 16);
    return { width: read(24), height: read(27) };
  }
  if (kind === "VP8L") {
    const packed = view.getUint32(21, true);
    return { width: 1 + (packed & 0x3fff), height: 1 + ((packed >> 14) & 0x3fff) };
  }
  if (kind !== "VP8 ") return null;
  return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
}
