// The matrices: each head's bytes are decoded when it is shown, and the last ones are kept.

const KEPT_BYTES = 96e6;

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  if (!window.DecompressionStream) {
    throw new Error("this browser cannot decompress the data (it has no DecompressionStream); use Chrome or Edge 105, Firefox 113, Safari 16.4, or later");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// One head's causal matrix; see triangles.py for what the bytes stand for.
class Triangle {
  constructor(codes, extremes) {
    Object.assign(this, { codes, extremes, size: extremes.length });
  }

  at(dest, src) {
    const code = this.codes[(dest * (dest + 1)) / 2 + src];
    return (code <= 128 ? code / 128 : (code - 256) / 127.5) * this.extremes[dest];
  }

  get largest() {
    return this.extremes.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  }
}

// The average of several heads' matrices, complete after the last one was added.
class Average {
  constructor(size) {
    Object.assign(this, { size, values: new Float32Array((size * (size + 1)) / 2), count: 0 });
  }

  add({ codes, extremes }) {
    const { values } = this;
    for (let dest = 0, i = 0; dest < this.size; dest++) {
      const up = extremes[dest] / 128, down = extremes[dest] / 127.5;
      for (const end = i + dest + 1; i < end; i++) {
        const code = codes[i];
        if (code) values[i] += code <= 128 ? code * up : (code - 256) * down;
      }
    }
    this.count++;
  }

  at(dest, src) {
    return this.values[(dest * (dest + 1)) / 2 + src] / this.count;
  }

  get largest() {
    let most = 0;
    for (const value of this.values) most = Math.max(most, Math.abs(value));
    return most / this.count;
  }
}

const decoded = new Map(); // in the order of use

async function triangle(kind, head) {
  const name = `${kind}-${head}`;
  let entry = decoded.get(name);
  decoded.delete(name);
  if (!entry) {
    const [extremes, packed] = document.getElementById(name).textContent.split(" ").map(bytesOf);
    entry = new Triangle(await inflate(packed), new Float32Array(extremes.buffer.slice(0)));
  }
  decoded.set(name, entry);
  while (decoded.size > 2 && decoded.size * entry.codes.length > KEPT_BYTES) decoded.delete(decoded.keys().next().value);
  return entry;
}

// The matrix of one head, or the average of several; null when `wanted` no longer holds.
async function matrixOf(kind, heads, wanted, tell) {
  if (heads.length === 1) return triangle(kind, heads[0]);
  let average = null;
  for (const [place, head] of heads.entries()) {
    tell(place, heads.length);
    const one = await triangle(kind, head);
    if (!wanted()) return null;
    average ??= new Average(one.size);
    average.add(one);
    if (place % 4 === 3) await new Promise((resume) => setTimeout(resume)); // let the page answer meanwhile
  }
  return average;
}

// What each token is coloured by, NaN where that makes no sense; `selected` is null for none.
// Attention row p belongs to token p; attribution row p - 1 does, because the prediction of token p was made there.
function weights(kind, matrix, selected, direction, n) {
  const shift = kind === "attribution" ? 1 : 0, found = new Float32Array(n).fill(NaN);
  if (selected === null) {
    for (let src = 0; src < matrix.size; src++) found[src] = 0;
    for (let dest = 0; dest < matrix.size; dest++) {
      for (let src = 0; src < dest + shift; src++) {
        const value = matrix.at(dest, src);
        if (value > found[src]) found[src] = value;
      }
    }
  } else if (direction === "destination") {
    const dest = selected - shift;
    for (let src = 0; src <= dest; src++) found[src] = matrix.at(dest, src);
  } else {
    for (let dest = selected; dest < matrix.size; dest++) found[dest + shift] = matrix.at(dest, selected);
  }
  return found;
}
