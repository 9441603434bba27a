// From latents to data and back: in this page by the interpreter, or by asking the server that the page came from.
// Not for: what becomes of the results.

import { floatsOf } from "./bytes.mjs";
import { inSpace } from "./geometry.mjs";
import { readWeights, runProgram } from "./interpreter.mjs";

function oneHot(c, size) {
  const row = new Float32Array(size);
  row[c] = 1;
  return row;
}

function localEngine(scene, bytes) {
  const weights = readWeights(scene.table, bytes);
  const { decode, encode } = scene.programs;
  const size = scene.latent.size;
  const draws = floatsOf(scene.prior.z);
  const inputs = (first, c) => (scene.conditional ? [first, oneHot(c, scene.contexts)] : [first]);
  return {
    canDecode: Boolean(decode),
    canEncode: Boolean(encode),
    async decode(latents, c) {
      return latents.map((z) => runProgram(decode, weights, inputs(Float32Array.from(z), c))[0]);
    },
    async encode(x, c) {
      const [z, rate, distortion] = runProgram(encode, weights, inputs(x, c));
      return { z, rate: rate ? rate[0] : NaN, distortion: distortion ? distortion[0] : NaN };
    },
    async sample(c) {
      const first = scene.prior.by_class ? c * scene.prior.each : 0;
      const row = first + Math.floor(Math.random() * scene.prior.each);
      return draws.slice(row * size, (row + 1) * size);
    },
  };
}

function remoteEngine(scene) {
  async function ask(name, request) {
    let response;
    try {
      response = await fetch(name, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
      });
    } catch {
      throw new Error("vae explore has ended; start it again");
    }
    if (!response.ok) throw new Error(await response.text());
    return new Float32Array(await response.arrayBuffer());
  }
  const numbers = (values) => Array.from(values, (value) => Number(value.toPrecision(8)));
  const size = scene.latent.size;
  return {
    canDecode: true,
    canEncode: true,
    async decode(latents, c) {
      const all = await ask("decode", { z: latents.map(numbers), c });
      const each = all.length / latents.length;
      return latents.map((_, k) => all.subarray(k * each, (k + 1) * each));
    },
    async encode(x, c) {
      const answer = await ask("encode", { x: numbers(x), c });
      return { z: answer.slice(0, size), rate: answer[size], distortion: answer[size + 1] };
    },
    async sample(c) {
      return ask("sample", { c });
    },
  };
}

// It decodes a latent outside the model's space as the nearest one inside.
export function engineFor(scene, bytes) {
  const engine = scene.programs ? localEngine(scene, bytes) : remoteEngine(scene);
  const decode = (latents, c) => engine.decode(latents.map((z) => inSpace(scene.space, z)), c);
  return { ...engine, decode };
}

// Does the newest job of each kind, one at a time, and drops those that were overtaken.
export function latestOnly(work) {
  let running = false;
  let next = null;
  return async function ask(job) {
    next = job;
    if (running) return;
    running = true;
    while (next !== null) {
      const now = next;
      next = null;
      await work(now);
    }
    running = false;
  };
}
