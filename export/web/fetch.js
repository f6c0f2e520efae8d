// Packs what the page needs of node_modules into vendor/, compressed as it is served.
//
// Only the CPU build of ONNX Runtime Web: its WebAssembly, the glue, and the library.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const FILES = [
  "dist/ort.wasm.min.mjs",
  "dist/ort-wasm-simd-threaded.mjs",
  "dist/ort-wasm-simd-threaded.wasm",
];
const source = new URL("node_modules/onnxruntime-web/", import.meta.url);
const target = new URL("vendor/", import.meta.url);

rmSync(target, { recursive: true, force: true });
mkdirSync(target);
for (const file of FILES) {
  const name = file.split("/").pop();
  const packed = gzipSync(readFileSync(new URL(file, source)), { level: 9 });
  writeFileSync(new URL(`${name}.gz`, target), packed);
}
// Last: where it is there, the others are whole.
const { version, license } = JSON.parse(readFileSync(new URL("package.json", source)));
writeFileSync(new URL("vendor.json", target), JSON.stringify({ "onnxruntime-web": version, license }));
