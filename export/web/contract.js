// What an encoder file says of itself: JSON in the metadata of the ONNX file (docs/formats.md).

const KEY = "pocketlens";
const FORMAT = 1;
// Field 14 of ModelProto holds metadata_props, whose entries are {1: key, 2: value}.
const METADATA_PROPS = 14;

/** Return the contract in the bytes of an ONNX file; throw where it is none of ours. */
export function readContract(bytes, name) {
  let contract = null;
  for (const [field, value] of readFields(bytes)) {
    if (field !== METADATA_PROPS || !value) continue;
    const entry = new Map(readFields(value));
    const text = (number) => new TextDecoder().decode(entry.get(number) ?? new Uint8Array());
    if (text(1) === KEY) contract = JSON.parse(text(2));
  }
  if (!contract) throw new Error(`${name}: not an encoder exported by pocketlens`);
  if (contract.format !== FORMAT) {
    throw new Error(`${name}: format ${contract.format}; this page reads format ${FORMAT}`);
  }
  return contract;
}

/** Yield the fields of a protobuf message: its number, and its bytes where it has a length. */
function* readFields(bytes) {
  let at = 0;
  const readNumber = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (!(byte & 128)) return value;
    }
  };
  while (at < bytes.length) {
    const tag = readNumber();
    const field = Math.floor(tag / 8);
    const kind = tag % 8;
    if (kind === 2) {
      const length = readNumber();
      yield [field, bytes.subarray(at, at + length)];
      at += length;
    } else {
      if (kind === 0) readNumber();
      else at += kind === 1 ? 8 : 4;
      yield [field, null];
    }
  }
}
