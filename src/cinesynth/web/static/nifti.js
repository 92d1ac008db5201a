// NIfTI-1 files: unpacked once, and read as voxels where WebGL 2 is missing.
import { Refused } from "./api.js";

const READERS = { 2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array, 768: Uint32Array };

export async function fetchVolume(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Refused("the image is not there any more", "make it again");
  const bytes = new Uint8Array(await response.arrayBuffer());
  const packed = bytes[0] === 0x1f && bytes[1] === 0x8b;
  if (!packed) return bytes.buffer;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

export function readVolume(buffer) {
  const view = new DataView(buffer);
  const little = view.getInt32(0, true) === 348;
  const short = (at) => view.getInt16(at, little), float = (at) => view.getFloat32(at, little);
  const dims = [1, 2, 3, 4].map((i) => (short(40) >= i ? Math.max(1, short(40 + 2 * i)) : 1));
  const Reader = READERS[short(70)];
  if (!Reader || view.getInt32(0, little) !== 348) throw new Refused("this kind of NIfTI cannot be shown without WebGL 2", "open it in another viewer");
  const count = dims.reduce((a, b) => a * b), from = float(108);
  let data;
  if (little && from % Reader.BYTES_PER_ELEMENT === 0) data = new Reader(buffer, from, count);
  else {
    data = new Reader(count);
    const reader = `get${Reader.name.replace("Array", "")}`;
    for (let i = 0; i < count; i++) data[i] = view[reader](from + i * Reader.BYTES_PER_ELEMENT, little);
  }
  return { size: dims.slice(0, 3), frames: dims[3], spacing: [1, 2, 3].map((i) => Math.abs(float(76 + 4 * i)) || 1), data };
}

// A generated heart has no scanner frame. It is shown as its contact sheet is: first axis to the right, second downwards.
export function asArrays(buffer) {
  const view = new DataView(buffer);
  const spacing = [1, 2, 3].map((i) => view.getFloat32(76 + 4 * i, true));
  view.setInt16(252, 0, true);
  view.setInt16(254, 2, true);
  [spacing[0], 0, 0, 0, 0, -spacing[1], 0, 0, 0, 0, spacing[2], 0].forEach((value, i) => view.setFloat32(280 + 4 * i, value, true));
  return buffer;
}

export function range(volume) {
  const step = Math.max(1, Math.floor(volume.data.length / 200000)), values = [];
  for (let i = 0; i < volume.data.length; i += step) values.push(volume.data[i]);
  values.sort((a, b) => a - b);
  const at = (share) => values[Math.min(values.length - 1, Math.floor(share * values.length))];
  return { low: at(0), high: at(1), dark: at(0.005), bright: Math.max(at(0.995), at(0.005) + 1e-6) };
}
