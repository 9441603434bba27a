// Between and beyond latents: the strip from A to B, and A − B + C. Not for: the ways themselves (geometry.mjs).

import { latestOnly } from "./engine.mjs";
import { add, subtract, wayBetween } from "./geometry.mjs";

const STEPS = 9;

export function makeBlend({ box, store, scene, engine, painter, show, fail }) {
  const slots = Object.fromEntries(["A", "B", "C"].map((name) => [name, box.querySelector(`[data-slot="${name}"]`)]));
  const strip = box.querySelector(".strip");
  const result = box.querySelector("[data-result]");
  const latents = [];

  const frame = (label, take) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "tile" });
    button.setAttribute("aria-label", label);
    button.append(document.createElement("canvas"));
    button.addEventListener("click", take);
    return button;
  };
  for (let k = 0; k < STEPS; k++) {
    strip.append(frame(`Show step ${k + 1} of ${STEPS} from A to B`, () => latents[k] && show(latents[k])));
  }
  for (const [name, slot] of Object.entries(slots)) {
    const tile = frame(`Show ${name}`, () => store.state.slots[name] && show(store.state.slots[name]));
    slot.prepend(tile);
    slot.querySelector("[data-set]").addEventListener("click", () => {
      store.set({ slots: { ...store.state.slots, [name]: Float32Array.from(store.state.z) } });
    });
  }
  result.prepend(frame("Show A − B + C", () => {
    const z = combined(store.state.slots);
    if (z) show(z);
  }));
  box.querySelector("[data-ways]").hidden = scene.space !== null;
  for (const radio of box.querySelectorAll("input[name=way]")) {
    radio.addEventListener("change", () => store.set({ way: radio.value }));
  }

  const combined = ({ A, B, C }) => (A && B && C ? add(subtract(A, B), C) : null);

  async function paintAll(places, c) {
    const known = places.filter(([z]) => z);
    for (const [z, canvas] of places) if (!z) canvas.width = canvas.width + 0;
    if (!known.length || !engine.canDecode) return;
    const images = await engine.decode(known.map(([z]) => z), c);
    known.forEach(([, canvas], k) => painter.paint(canvas, images[k]));
  }

  const refresh = latestOnly(async ({ slots: at, way, c }) => {
    latents.length = 0;
    if (at.A && at.B) latents.push(...wayBetween(at.A, at.B, STEPS, way, scene.space));
    const canvases = [...strip.querySelectorAll("canvas")];
    const places = canvases.map((canvas, k) => [latents[k], canvas]);
    for (const name of Object.keys(slots)) places.push([at[name], slots[name].querySelector("canvas")]);
    places.push([combined(at), result.querySelector("canvas")]);
    try {
      await paintAll(places, c);
    } catch (error) {
      fail(error);
    }
  });

  function update(state) {
    for (const radio of box.querySelectorAll("input[name=way]")) radio.checked = radio.value === state.way;
    refresh({ slots: state.slots, way: state.way, c: state.c });
  }
  store.listen(["slots", "way", "c"], update);
  update(store.state);
}
