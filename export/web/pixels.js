// From a picture to what an encoder of kind `photo` takes: upright RGB, uint8 [height, width, 3].
//
// The same steps as the Python runtime's (encoder/images.py): limits before decoding, EXIF turned,
// transparency laid on white, and large pictures reduced by 2, 4 or 8 where the encoder cannot tell.

import { readPictureSize } from "./picture-size.js";

const MAX_PIXELS = 80_000_000;
const MAX_BYTES = 128 * 1024 * 1024;
const MIN_SIDE = 16;
// Smaller pictures are never reduced: the graph resizes them in milliseconds.
const SMALL_PIXELS = 1 << 20;
// How many pixels per target pixel stay along each side, and by how many an edge may shift. A mean
// over squares blurs a little more than a JPEG decoder's reduction does, which keeps three.
const MARGIN = 4;
const MAX_SHIFT = 0.04;
const CROP_STEPS = 65536;
// Pixels that are read back from the canvas at once.
const STRIP_PIXELS = 1 << 20;

/** A picture that cannot be used; its message is for the user. */
export class PictureError extends Error {}

let canvasesTell = null;

/** Throw where the browser gives pages other pixels than it drew, against fingerprinting. */
function refuseHiddenPixels() {
  if (canvasesTell === null) {
    const context = new OffscreenCanvas(8, 8).getContext("2d", { willReadFrequently: true });
    const drawn = (at) => `rgb(${(at * 37) % 256}, ${(at * 59) % 256}, ${(at * 83) % 256})`;
    for (let at = 0; at < 64; at++) {
      context.fillStyle = drawn(at);
      context.fillRect(at % 8, at >> 3, 1, 1);
    }
    const { data } = context.getImageData(0, 0, 8, 8);
    canvasesTell = true;
    for (let at = 0; at < 64; at++) {
      const found = `rgb(${data[4 * at]}, ${data[4 * at + 1]}, ${data[4 * at + 2]})`;
      canvasesTell &&= found === drawn(at);
    }
  }
  if (!canvasesTell) {
    throw new PictureError("This browser hides pictures from pages; allow it to read canvases.");
  }
}

/**
 * Decode a Blob, or take an ImageBitmap (a camera's frame), to {pixels, width, height}.
 *
 * `preprocess` is the encoder's. Throws a PictureError that says why.
 */
export async function readPixels(picture, preprocess) {
  refuseHiddenPixels();
  const bitmap = picture instanceof ImageBitmap ? picture : await decode(picture);
  try {
    return reduceBitmap(bitmap, chooseScale(bitmap.width, bitmap.height, preprocess));
  } finally {
    bitmap.close();
  }
}

async function decode(blob) {
  if (blob.size === 0) throw new PictureError("The file is empty.");
  if (blob.size > MAX_BYTES) {
    throw new PictureError(`The file is larger than ${MAX_BYTES >> 20} MiB.`);
  }
  const size = await readPictureSize(blob);
  if (size && size.width * size.height > MAX_PIXELS) {
    const most = Math.round(MAX_PIXELS / 1e6);
    throw new PictureError(
      `The picture has ${size.width}×${size.height} pixels; at most ${most} million are decoded.`,
    );
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
    });
  } catch {
    throw new PictureError("This file is not a picture that the browser can read, or is damaged.");
  }
  if (bitmap.width * bitmap.height > MAX_PIXELS || Math.min(bitmap.width, bitmap.height) < 2) {
    bitmap.close();
    throw new PictureError("The picture is too large or too small to be encoded.");
  }
  return bitmap;
}

/** Return what the sides may be divided by: the most that keeps what the encoder needs. */
export function chooseScale(width, height, preprocess) {
  const share = (length) => {
    const steps = Math.round(preprocess.crop * CROP_STEPS);
    return Math.max(1, Math.floor((length * steps + CROP_STEPS / 2) / CROP_STEPS));
  };
  if (width * height <= SMALL_PIXELS) return 1;
  const needed = share(Math.min(width, height));
  for (const scale of [8, 4, 2]) {
    const off = Math.max(
      ...[width, height].map((edge) => Math.abs(Math.round(edge / scale) * scale - edge)),
    );
    const shift = (off * preprocess.size) / Math.min(width, height);
    if (Math.floor(needed / scale) >= MARGIN * preprocess.size && shift <= MAX_SHIFT) return scale;
  }
  return 1;
}

/** Return {pixels, width, height} of a bitmap, each pixel the mean of scale × scale ones. */
function reduceBitmap(bitmap, scale) {
  const tiny = Math.min(bitmap.width, bitmap.height) < MIN_SIDE;
  // No encoder takes less than 16 pixels: the canvas enlarges such pictures.
  const fullWidth = tiny ? Math.max(bitmap.width, MIN_SIDE) : bitmap.width;
  const fullHeight = tiny ? Math.max(bitmap.height, MIN_SIDE) : bitmap.height;
  const width = Math.max(1, Math.round(fullWidth / scale));
  const height = Math.max(1, Math.round(fullHeight / scale));
  const pixels = new Uint8Array(width * height * 3);
  const rows = Math.max(1, Math.floor(STRIP_PIXELS / fullWidth / scale)) * scale;
  const canvas = new OffscreenCanvas(fullWidth, Math.min(rows, fullHeight));
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  for (let top = 0; top < height * scale && top < fullHeight; top += rows) {
    const count = Math.min(rows, fullHeight - top);
    context.fillStyle = "white";
    context.fillRect(0, 0, fullWidth, count);
    context.drawImage(bitmap, 0, -top, fullWidth, fullHeight);
    const { data } = context.getImageData(0, 0, fullWidth, count);
    averageRows(data, fullWidth, count, scale, pixels, width, top / scale, height);
  }
  return { pixels, width, height };
}

/** Average a strip of RGBA rows in squares of scale; at the edges over what there is. */
function averageRows(data, fullWidth, count, scale, pixels, width, firstRow, height) {
  const last = Math.min(firstRow + Math.ceil(count / scale), height);
  for (let row = firstRow; row < last; row++) {
    const top = (row - firstRow) * scale;
    const tall = Math.min(scale, count - top);
    for (let column = 0; column < width; column++) {
      const left = column * scale;
      const wide = Math.min(scale, fullWidth - left);
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let y = top; y < top + tall; y++) {
        let at = (y * fullWidth + left) * 4;
        for (let x = 0; x < wide; x++, at += 4) {
          red += data[at];
          green += data[at + 1];
          blue += data[at + 2];
        }
      }
      const held = wide * tall;
      const to = (row * width + column) * 3;
      pixels[to] = (red + held / 2) / held;
      pixels[to + 1] = (green + held / 2) / held;
      pixels[to + 2] = (blue + held / 2) / held;
    }
  }
}
