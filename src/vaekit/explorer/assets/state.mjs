// The state of the page, the listeners that are told when it changes, and its form as a link. Not for: showing it.

import { fromLink, toLink } from "./bytes.mjs";
import { inSpace } from "./geometry.mjs";

// The state: z, c, picked (number of a point, or null), own (values of an own image, or null), moved (whether z has left
// them), slots {A, B, C}, way, axes ("plane" or two numbers), view {u, v, zoom}, underlay, only (a class, or null).
export class Store {
  constructor(state, space) {
    this.state = { ...state, z: inSpace(space, state.z) };
    this.space = space;
    this.listeners = [];
    this.changed = new Set();
  }

  listen(keys, listener) {
    this.listeners.push({ keys, listener });
  }

  // Change some fields; z stays in the space of the latents. Listeners are told once before the next frame.
  set(patch) {
    Object.assign(this.state, patch);
    if (patch.z) this.state.z = inSpace(this.space, patch.z);
    if (!this.changed.size) requestAnimationFrame(() => this.tell());
    for (const key of Object.keys(patch)) this.changed.add(key);
  }

  tell() {
    const { changed } = this;
    this.changed = new Set();
    for (const { keys, listener } of this.listeners) {
      if (keys.some((key) => changed.has(key))) listener(this.state, changed);
    }
  }
}

export function linkOf(state) {
  const parts = { z: toLink(state.z), w: state.way[0], v: [state.view.u, state.view.v, state.view.zoom].map((n) => +n.toFixed(4)).join() };
  if (state.c !== null) parts.c = state.c;
  if (state.picked !== null) parts.p = state.picked;
  if (state.moved) parts.d = 1;
  if (state.axes !== "plane") parts.m = state.axes.join();
  if (state.only !== null) parts.o = state.only;
  parts.u = Number(state.underlay);
  for (const name of ["A", "B", "C"]) if (state.slots[name]) parts[name] = toLink(state.slots[name]);
  return `#${new URLSearchParams(parts)}`;
}

const whole = (text, below) => (/^\d{1,6}$/.test(text ?? "") && Number(text) < below ? Number(text) : null);

// The state that a link describes, without the values that cannot be right.
export function readLink(hash, scene) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const { size } = scene.latent;
  const patch = {};
  const z = fromLink(given.get("z") ?? "", size);
  if (!z) return null;
  patch.z = z;
  if (scene.conditional) patch.c = whole(given.get("c"), scene.contexts) ?? 0;
  patch.picked = whole(given.get("p"), scene.points.count);
  patch.moved = given.has("d");
  patch.way = given.get("w") === "s" ? "spherical" : "straight";
  patch.only = whole(given.get("o"), scene.classes.length);
  patch.underlay = given.get("u") === "1";
  const axes = (given.get("m") ?? "").split(",").map((text) => whole(text, size));
  patch.axes = axes.length === 2 && axes.every((axis) => axis !== null) ? axes : "plane";
  const view = (given.get("v") ?? "").split(",").map(Number);
  if (view.length === 3 && view.every(Number.isFinite) && view[2] > 0) patch.view = { u: view[0], v: view[1], zoom: view[2] };
  patch.slots = {};
  for (const name of ["A", "B", "C"]) patch.slots[name] = fromLink(given.get(name) ?? "", size);
  return patch;
}
