// Runs the programs of graph.py: lists of torch's operators, one row at a time, on Float32Arrays.
// A value is {data, shape}; booleans are 0 and 1. Not for: where weights come from, or what is shown.

const size = (shape) => shape.reduce((product, n) => product * n, 1);
const tensor = (data, shape) => ({ data, shape });
const empty = (shape) => tensor(new Float32Array(size(shape)), shape);

function stridesOf(shape) {
  const strides = new Array(shape.length);
  for (let d = shape.length - 1, step = 1; d >= 0; d--) {
    strides[d] = step;
    step *= shape[d];
  }
  return strides;
}

// Calls visit(i, offsets) for every place i of a shape, each offset following strides of its own.
function walk(shape, strides, visit) {
  const place = new Array(shape.length).fill(0);
  const at = strides.map(() => 0);
  const total = size(shape);
  for (let i = 0; i < total; i++) {
    visit(i, at);
    for (let d = shape.length - 1; d >= 0; d--) {
      if (++place[d] < shape[d]) {
        for (let k = 0; k < at.length; k++) at[k] += strides[k][d];
        break;
      }
      for (let k = 0; k < at.length; k++) at[k] -= strides[k][d] * (shape[d] - 1);
      place[d] = 0;
    }
  }
}

function broadcastStrides(from, shape) {
  const own = stridesOf(from);
  const skip = shape.length - from.length;
  return shape.map((n, d) => (d < skip || from[d - skip] === 1 ? 0 : own[d - skip]));
}

// View `source` as `shape` by any strides, copied.
function gather(source, shape, strides, offset = 0) {
  const out = empty(shape);
  walk(shape, [strides], (i, at) => { out.data[i] = source.data[offset + at[0]]; });
  return out;
}

function map(x, f) {
  const out = empty(x.shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(x.data[i]);
  return out;
}

const asTensor = (x) => (typeof x === "number" || typeof x === "boolean" ? tensor([Number(x)], []) : x);

function combine(values, shape, f) {
  const [a, b, c] = values.map(asTensor);
  const out = empty(shape);
  const n = out.data.length;
  const plain = (x) => x === undefined || x.data.length === n || x.data.length === 1;
  if (plain(a) && plain(b) && plain(c)) {
    const step = (x) => (x && x.data.length === n ? 1 : 0);
    const [sa, sb, sc] = [step(a), step(b), step(c)];
    for (let i = 0; i < n; i++) out.data[i] = f(a.data[i * sa], b.data[i * sb], c && c.data[i * sc]);
    return out;
  }
  const all = c ? [a, b, c] : [a, b];
  walk(shape, all.map((x) => broadcastStrides(x.shape, shape)), (i, at) => {
    out.data[i] = f(a.data[at[0]], b.data[at[1]], c && c.data[at[2]]);
  });
  return out;
}

const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : 1 - 1 / (1 + Math.exp(x)));

// Abramowitz and Stegun's formula 7.1.26 is too coarse (1.5e-7 absolute is fine, but not near 0): a series, then a
// continued fraction.
function erf(x) {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; n < 60 && Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 40; n > 0; n--) fraction = (n / 2) / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)));
}

function roundHalfEven(x) {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

const UNARY = {
  abs: Math.abs, ceil: Math.ceil, cos: Math.cos, erf, exp: Math.exp, expm1: Math.expm1, floor: Math.floor,
  log: Math.log, log1p: Math.log1p, neg: (x) => -x, reciprocal: (x) => 1 / x, relu: (x) => (x > 0 ? x : 0),
  round: roundHalfEven, rsqrt: (x) => 1 / Math.sqrt(x), sigmoid, sign: Math.sign, sin: Math.sin, sqrt: Math.sqrt,
  tanh: Math.tanh,
};

const BINARY = {
  div: (a, b) => a / b, eq: (a, b) => Number(a === b), ge: (a, b) => Number(a >= b), gt: (a, b) => Number(a > b),
  le: (a, b) => Number(a <= b), lt: (a, b) => Number(a < b), maximum: Math.max, minimum: Math.min,
  mul: (a, b) => a * b, ne: (a, b) => Number(a !== b), pow: (a, b) => a ** b,
};

const wrap = (dim, rank) => (dim < 0 ? dim + rank : dim);

// A reduction over some dimensions: folds each group of numbers, then finishes it.
function reduce(x, dims, shape, start, fold, finish = (value) => value) {
  const rank = x.shape.length;
  const over = new Set(dims === undefined || dims === null || dims.length === 0
    ? x.shape.keys() : [dims].flat().map((d) => wrap(d, rank)));
  const kept = x.shape.map((n, d) => (over.has(d) ? 1 : n));
  const sums = new Float64Array(size(kept)).fill(start);
  const strides = stridesOf(kept).map((stride, d) => (over.has(d) ? 0 : stride));
  walk(x.shape, [strides], (i, at) => { sums[at[0]] = fold(sums[at[0]], x.data[i]); });
  const count = x.data.length / sums.length;
  return tensor(Float32Array.from(sums, (value) => finish(value, count)), shape);
}

function softmax(x, dim, shape, logarithm) {
  const kept = x.shape.map((n, d) => (d === wrap(dim, x.shape.length) ? 1 : n));
  const top = reduce(x, [dim], kept, -Infinity, Math.max);
  const shifted = combine([x, top], shape, (a, b) => a - b);
  const sum = reduce(map(shifted, Math.exp), [dim], kept, 0, (a, b) => a + b);
  return combine([shifted, sum], shape, logarithm ? (a, b) => a - Math.log(b) : (a, b) => Math.exp(a) / b);
}

// Rows of x times a matrix, on top of what `out` holds; zeros, such as half of what relu gives, cost nothing.
function multiply(out, x, matrix, rows, inner, columns, scale = 1, xAt = 0, matrixAt = 0, outAt = 0) {
  for (let r = 0; r < rows; r++) {
    const row = out.subarray(outAt + r * columns, outAt + (r + 1) * columns);
    for (let i = 0; i < inner; i++) {
      const value = scale * x[xAt + r * inner + i];
      if (value === 0) continue;
      const start = matrixAt + i * columns;
      for (let o = 0; o < columns; o++) row[o] += value * matrix[start + o];
    }
  }
}

function convolution(a, shape) {
  const { input, weight, bias, stride, padding, dilation, transposed, groups } = a;
  if (input.shape.length !== 4) throw new Error("the page knows two-dimensional convolutions only");
  const [batch, channels, height, width] = input.shape;
  const [, outChannels, outHeight, outWidth] = shape;
  const [kernelHeight, kernelWidth] = weight.shape.slice(2);
  const out = empty(shape);
  const [perGroup, outPerGroup] = [channels / groups, outChannels / groups];
  const plane = outHeight * outWidth;
  if (bias) for (let i = 0; i < out.data.length; i++) out.data[i] = bias.data[Math.floor(i / plane) % outChannels];
  // One tap of the kernel at a time: out[y, x] += w · in[y', x'], in either direction.
  for (let n = 0; n < batch; n++) for (let g = 0; g < groups; g++) {
    for (let i = 0; i < perGroup; i++) for (let o = 0; o < outPerGroup; o++) {
      const source = (n * channels + g * perGroup + i) * height * width;
      const target = (n * outChannels + g * outPerGroup + o) * plane;
      const kernel = transposed
        ? ((g * perGroup + i) * outPerGroup + o) * kernelHeight * kernelWidth
        : ((g * outPerGroup + o) * perGroup + i) * kernelHeight * kernelWidth;
      for (let ky = 0; ky < kernelHeight; ky++) for (let kx = 0; kx < kernelWidth; kx++) {
        const w = weight.data[kernel + ky * kernelWidth + kx];
        if (w === 0) continue;
        const [dy, dx] = [ky * dilation[0] - padding[0], kx * dilation[1] - padding[1]];
        if (transposed) {
          for (let y = 0; y < height; y++) {
            const oy = y * stride[0] + dy;
            if (oy < 0 || oy >= outHeight) continue;
            for (let x = 0; x < width; x++) {
              const ox = x * stride[1] + dx;
              if (ox >= 0 && ox < outWidth) out.data[target + oy * outWidth + ox] += w * input.data[source + y * width + x];
            }
          }
        } else {
          for (let oy = 0; oy < outHeight; oy++) {
            const y = oy * stride[0] + dy;
            if (y < 0 || y >= height) continue;
            for (let ox = 0; ox < outWidth; ox++) {
              const x = ox * stride[1] + dx;
              if (x >= 0 && x < width) out.data[target + oy * outWidth + ox] += w * input.data[source + y * width + x];
            }
          }
        }
      }
    }
  }
  return out;
}

// Normalize groups of `length` numbers that lie together; weight and bias by channel of `plane` numbers.
function normalize(x, length, eps, weight, bias, plane, channels) {
  const out = empty(x.shape);
  for (let start = 0; start < x.data.length; start += length) {
    let mean = 0;
    for (let i = 0; i < length; i++) mean += x.data[start + i];
    mean /= length;
    let variance = 0;
    for (let i = 0; i < length; i++) variance += (x.data[start + i] - mean) ** 2;
    const scale = 1 / Math.sqrt(variance / length + eps);
    for (let i = start; i < start + length; i++) {
      const channel = Math.floor(i / plane) % channels;
      out.data[i] = (x.data[i] - mean) * scale * (weight ? weight.data[channel] : 1) + (bias ? bias.data[channel] : 0);
    }
  }
  return out;
}

function batchNorm({ input, weight, bias, running_mean, running_var, eps }) {
  const channels = input.shape[1];
  const plane = size(input.shape.slice(2));
  const out = empty(input.shape);
  for (let i = 0; i < out.data.length; i++) {
    const k = Math.floor(i / plane) % channels;
    const scale = (weight ? weight.data[k] : 1) / Math.sqrt(running_var.data[k] + eps);
    out.data[i] = (input.data[i] - running_mean.data[k]) * scale + (bias ? bias.data[k] : 0);
  }
  return out;
}

function sliced(x, dim, start, step, shape) {
  const strides = stridesOf(x.shape);
  const d = wrap(dim, x.shape.length);
  return gather(x, shape, strides.map((s, k) => (k === d ? s * step : s)), start * strides[d]);
}

function cat(tensors, dim, shape) {
  const d = wrap(dim, shape.length);
  const out = empty(shape);
  const inner = size(shape.slice(d + 1));
  let offset = 0;
  for (const x of tensors) {
    const rows = size(x.shape.slice(0, d));
    const length = x.data.length / rows;
    for (let r = 0; r < rows; r++) out.data.set(x.data.subarray(r * length, (r + 1) * length), r * inner * shape[d] + offset);
    offset += length;
  }
  return out;
}

function gelu(x, approximate) {
  if (approximate === "tanh") return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  return 0.5 * x * (1 + erf(x / Math.SQRT2));
}

function elu(x, alpha, scale, inputScale) {
  return x > 0 ? scale * x : scale * alpha * Math.expm1(x * inputScale);
}

function startOf(start, length) {
  const from = start ?? 0;
  return Math.min(length, Math.max(0, from < 0 ? from + length : from));
}

// Each operator: (named arguments, shape of the result) → the result.
export const OPERATORS = {
  add: (a, shape) => combine([a.self, a.other], shape, (x, y) => x + (a.alpha ?? 1) * y),
  sub: (a, shape) => combine([a.self, a.other], shape, (x, y) => x - (a.alpha ?? 1) * y),
  where: (a, shape) => combine([a.condition, a.self, a.other], shape, (c, x, y) => (c ? x : y)),
  clamp: ({ self, min, max }) => map(self, (x) => Math.min(max ?? Infinity, Math.max(min ?? -Infinity, x))),
  elu: (a) => map(a.self, (x) => elu(x, a.alpha ?? 1, a.scale ?? 1, a.input_scale ?? 1)),
  gelu: (a) => map(a.self, (x) => gelu(x, a.approximate)),
  leaky_relu: (a) => map(a.self, (x) => (x > 0 ? x : (a.negative_slope ?? 0.01) * x)),
  amax: (a, shape) => reduce(a.self, a.dim, shape, -Infinity, Math.max),
  amin: (a, shape) => reduce(a.self, a.dim, shape, Infinity, Math.min),
  mean: (a, shape) => reduce(a.self, a.dim, shape, 0, (x, y) => x + y, (x, n) => x / n),
  prod: (a, shape) => reduce(a.self, a.dim, shape, 1, (x, y) => x * y),
  sum: (a, shape) => reduce(a.self, a.dim, shape, 0, (x, y) => x + y),
  _softmax: (a, shape) => softmax(a.self, a.dim, shape, false),
  _log_softmax: (a, shape) => softmax(a.self, a.dim, shape, true),
  alias: (a) => a.self,
  clone: (a) => a.self,
  copy: (a, shape) => gather(a.src, shape, broadcastStrides(a.src.shape, shape)),
  view: (a, shape) => tensor(a.self.data, shape),
  squeeze: (a, shape) => tensor(a.self.data, shape),
  unsqueeze: (a, shape) => tensor(a.self.data, shape),
  cat: (a, shape) => cat(a.tensors, a.dim ?? 0, shape),
  expand: (a, shape) => gather(a.self, shape, broadcastStrides(a.self.shape, shape)),
  permute: (a, shape) => gather(a.self, shape, a.dims.map((d) => stridesOf(a.self.shape)[wrap(d, shape.length)])),
  select: (a, shape) => {
    const dim = wrap(a.dim, a.self.shape.length);
    const strides = stridesOf(a.self.shape);
    return gather(a.self, shape, strides.filter((_, d) => d !== dim), wrap(a.index, a.self.shape[dim]) * strides[dim]);
  },
  slice: (a, shape) => {
    const dim = wrap(a.dim ?? 0, shape.length);
    return sliced(a.self, dim, startOf(a.start, a.self.shape[dim]), a.step ?? 1, shape);
  },
  split_with_sizes: (a, shapes) => {
    let start = 0;
    return shapes.map((shape, k) => {
      const part = sliced(a.self, a.dim ?? 0, start, 1, shape);
      start += a.split_sizes[k];
      return part;
    });
  },
  mm: (a, shape) => {
    const out = empty(shape);
    multiply(out.data, a.self.data, a.mat2.data, shape[0], a.self.shape[1], shape[1]);
    return out;
  },
  bmm: (a, shape) => {
    const out = empty(shape);
    const [n, rows, columns] = shape;
    const inner = a.self.shape[2];
    for (let b = 0; b < n; b++) {
      multiply(out.data, a.self.data, a.mat2.data, rows, inner, columns, 1, b * rows * inner, b * inner * columns,
        b * rows * columns);
    }
    return out;
  },
  addmm: (a, shape) => {
    const out = gather(a.self, shape, broadcastStrides(a.self.shape, shape));
    if ((a.beta ?? 1) !== 1) for (let i = 0; i < out.data.length; i++) out.data[i] *= a.beta;
    multiply(out.data, a.mat1.data, a.mat2.data, shape[0], a.mat1.shape[1], shape[1], a.alpha ?? 1);
    return out;
  },
  convolution,
  native_group_norm: (a) => {
    const plane = a.HxW;
    return [normalize(a.input, (a.C / a.group) * plane, a.eps, a.weight, a.bias, plane, a.C)];
  },
  native_layer_norm: (a) => {
    const length = size(a.normalized_shape);
    return [normalize(a.input, length, a.eps, a.weight, a.bias, 1, length)];
  },
  _native_batch_norm_legit_no_training: (a) => [batchNorm(a)],
  upsample_nearest2d: (a, shape) => {
    const [height, width] = a.input.shape.slice(2);
    const out = empty(shape);
    const [, , outHeight, outWidth] = shape;
    for (let i = 0; i < out.data.length; i++) {
      const plane = Math.floor(i / (outHeight * outWidth));
      const y = Math.floor((Math.floor(i / outWidth) % outHeight) * (height / outHeight));
      out.data[i] = a.input.data[(plane * height + y) * width + Math.floor((i % outWidth) * (width / outWidth))];
    }
    return out;
  },
};
for (const [name, f] of Object.entries(UNARY)) OPERATORS[name] = (a) => map(a.self, f);
for (const [name, f] of Object.entries(BINARY)) {
  OPERATORS[name] = (a, shape) => combine([a.self, a.other ?? a.exponent], shape, f);
}

// Every float16 number as a float: torch and numpy write float16, and not every browser can read it.
function halfTable() {
  const values = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const magnitude = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
    values[bits] = bits >> 15 ? -magnitude : magnitude;
  }
  return values;
}

// The constants that a table describes, from bytes.
export function readWeights(table, bytes) {
  const half = halfTable();
  return table.map(({ shape, kind, at, size: count }) => {
    const from = bytes.byteOffset + at;
    if (kind === "f4") return tensor(new Float32Array(bytes.buffer.slice(from, from + 4 * count)), shape);
    return tensor(Float32Array.from(new Uint16Array(bytes.buffer.slice(from, from + 2 * count)), (bits) => half[bits]), shape);
  });
}

function resolve(reference, values, weights) {
  if (Array.isArray(reference)) return reference.map((part) => resolve(part, values, weights));
  if (reference === null || typeof reference !== "object") return reference;
  if ("v" in reference) return values[reference.v];
  return "t" in reference ? weights[reference.t] : Number(reference.n);
}

// Run a program on Float32Arrays, one for each input; gives one Float32Array for each output.
export function runProgram(program, weights, inputs) {
  const values = [];
  program.inputs.forEach(({ id, shape }, k) => { values[id] = tensor(inputs[k], shape); });
  for (const { op, args, out, shape } of program.steps) {
    if (op === "item") {
      values[out] = values[args.self.v][args.index];
      continue;
    }
    const named = {};
    for (const name in args) named[name] = resolve(args[name], values, weights);
    values[out] = OPERATORS[op](named, shape);
  }
  return program.outputs.map((reference) => resolve(reference, values, weights).data);
}
