// Puts the page together: reads the scene, makes the parts, and lets each change be seen, heard and linked to.

import { floatsOf, unpack } from "./bytes.mjs";
import { makeBlend } from "./blend.mjs";
import { classColour, theme } from "./colours.mjs";
import { engineFor, latestOnly } from "./engine.mjs";
import { LatentMap } from "./map.mjs";
import { makeOwn } from "./own.mjs";
import { painterFor } from "./painter.mjs";
import { makeSliders } from "./sliders.mjs";
import { linkOf, readLink, Store } from "./state.mjs";

const $ = (selector) => document.querySelector(selector);

// The points of the map: latent, class, how to draw the sprite, and the values.
async function readPoints(scene) {
  const { count, labels, numbers, sprites, columns, rows } = scene.points;
  const { size } = scene.latent;
  const all = floatsOf(scene.points.z);
  const points = labels.map((label, i) => ({ label, number: numbers[i], z: all.slice(i * size, (i + 1) * size) }));
  if (!count) return points;
  if (rows) {
    const values = floatsOf(rows);
    const each = values.length / count;
    points.forEach((point, i) => { point.values = () => values.subarray(i * each, (i + 1) * each); });
    return points;
  }
  const [channels, height, width] = scene.shape;
  const [low, high] = scene.range;
  const sheet = new Image();
  sheet.src = sprites;
  await sheet.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: sheet.width, height: sheet.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(sheet, 0, 0);
  points.forEach((point, i) => {
    const [left, top] = [(i % columns) * width, Math.floor(i / columns) * height];
    point.sprite = (to, x, y, w, h) => to.drawImage(sheet, left, top, width, height, x, y, w, h);
    point.values = () => {
      const { data } = context.getImageData(left, top, width, height);
      const plane = width * height;
      return Float32Array.from({ length: channels * plane }, (_, k) => (
        low + ((high - low) * data[4 * (k % plane) + Math.floor(k / plane)]) / 255));
    };
  });
  return points;
}

function firstState(scene, points) {
  // The slots begin with one point of each of the first classes, so that A and B differ. A model that is told the
  // class draws all slots as one class, so its slots begin with points of one class.
  const labels = [...new Set(points.map(({ label }) => label))].sort((a, b) => a - b);
  const first = points.length ? Math.max(0, points.findIndex(({ label }) => label === labels[Math.min(3, labels.length - 1)])) : null;
  const alike = points.map((_, i) => i).filter((i) => i !== first && points[i].label === points[first].label);
  const each = labels.map((label) => points.findIndex((point) => point.label === label));
  const some = scene.conditional || labels.length < 3 ? alike : each;
  const slot = (k) => (points[some[k]] ? Float32Array.from(points[some[k]].z) : null);
  return {
    z: Float32Array.from(first === null ? scene.latent.mean : points[first].z),
    c: scene.conditional ? Math.max(0, first === null ? 0 : points[first].label) : null,
    picked: first, own: null, moved: false,
    slots: { A: slot(0), B: slot(1), C: slot(2) },
    way: "straight", axes: "plane", view: null, underlay: scene.latent.size <= 2, only: null,
  };
}

function fillTexts(scene) {
  $("h1").textContent = scene.name;
  $("#description").textContent = scene.description.join(" · ");
  $("#embeds").textContent = scene.embeds ? `This page embeds ${scene.embeds.join("; ")}. It loads nothing.` : "";
  $("#as-class").hidden = !scene.conditional;
  $("#version").textContent = `vaekit ${scene.version}`;
}

function makeChoices(scene, store) {
  const [mode, i, j] = [$("#mode"), $("#axis-i"), $("#axis-j")];
  const { size, order } = scene.latent;
  $("#axes").hidden = size < 3;
  mode.options[0].textContent = size > 2 ? "principal components" : "latents";
  for (const select of [i, j]) for (const k of order) select.add(new Option(`z${k + 1}`, k));
  const choose = () => {
    const axes = mode.value === "plane" ? "plane" : [Number(i.value), Number(j.value)];
    store.set({ axes, view: null });
  };
  for (const select of [mode, i, j]) select.addEventListener("change", choose);
  const show = ({ axes }) => {
    mode.value = axes === "plane" ? "plane" : "axes";
    for (const label of document.querySelectorAll("#axes .pair")) label.hidden = axes === "plane";
    i.value = axes === "plane" ? order[0] : axes[0];
    j.value = axes === "plane" ? order[Math.min(1, size - 1)] : axes[1];
  };
  store.listen(["axes"], show);
  show(store.state);

  const under = $("#underlay");
  $("#underlay-label").hidden = scene.kind !== "image";
  under.checked = store.state.underlay;
  under.addEventListener("change", () => store.set({ underlay: under.checked }));

  $("#class-label").hidden = !scene.conditional;
  const select = $("#class");
  for (let k = 0; k < scene.contexts; k++) select.add(new Option(scene.classes[k] ?? k, k));
  select.addEventListener("change", () => store.set({ c: Number(select.value), moved: true }));
  const showClass = ({ c }) => { if (c !== null) select.value = c; };
  store.listen(["c"], showClass);
  showClass(store.state);
}

function makeLegend(scene, points, store) {
  const legend = $("#legend");
  const present = new Set(points.map(({ label }) => label));
  const count = scene.classes.length;
  scene.classes.forEach((name, label) => {
    if (!present.has(label) || present.size > 30) return;
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = classColour(label, count);
    button.append(dot, name);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => store.set({ only: store.state.only === label ? null : label }));
    store.listen(["only"], ({ only }) => button.setAttribute("aria-pressed", String(only === label)));
    button.setAttribute("aria-pressed", String(store.state.only === label));
    legend.append(button);
  });
}

// Save what is shown as one picture.
function picture(scene, map) {
  const around = 24;
  const { accent, panel, text, quiet } = theme();
  const ratio = map.canvas.width / map.width;
  const side = Math.max(120, Math.min(420, Math.floor(map.height / 2 - 40)));
  const strip = 70;
  const width = map.width + side + 3 * around;
  const height = Math.max(map.height, 2 * (side + 30)) + strip + 3 * around + 20;
  const canvas = Object.assign(document.createElement("canvas"), { width: width * ratio, height: height * ratio });
  const to = canvas.getContext("2d");
  to.scale(ratio, ratio);
  to.fillStyle = panel;
  to.fillRect(0, 0, width, height);
  to.imageSmoothingEnabled = false;
  to.fillStyle = text;
  to.font = "bold 16px system-ui, sans-serif";
  to.fillText(scene.name, around, around + 8);
  to.font = "13px system-ui, sans-serif";
  to.drawImage(map.canvas, around, around + 20, map.width, map.height);
  to.strokeStyle = accent;
  const left = map.width + 2 * around;
  ["original", "decoded"].forEach((name, k) => {
    const from = $(`#${name}`);
    const top = around + 20 + k * (side + 30);
    to.fillStyle = quiet;
    to.fillText($(`#${name}-caption`).textContent, left, top + side + 18);
    if (from.width && !from.hidden) to.drawImage(from, left, top, side, (side * from.height) / from.width);
  });
  [...document.querySelectorAll(".strip canvas")].forEach((from, k) => {
    if (from.width) to.drawImage(from, around + k * (strip + 4), height - strip - around, strip, (strip * from.height) / from.width);
  });
  canvas.toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${scene.name.replace(/[^\w.-]+/g, "-")}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

async function start() {
  const scene = JSON.parse($("#scene").textContent);
  const bytes = await unpack($("#weights").textContent);
  const engine = engineFor(scene, bytes);
  const painter = painterFor(scene);
  const points = await readPoints(scene);
  const status = $("#status");
  const say = (text) => { status.textContent = text; };
  const fail = (error) => {
    $("#error").textContent = error.message;
    $("#error").hidden = false;
  };

  const first = { ...firstState(scene, points), ...readLink(location.hash, scene) };
  const linked = first.view;
  const store = new Store({ ...first, view: first.view ?? { u: 0, v: 0, zoom: 1 } }, scene.space);
  const { state } = store;
  fillTexts(scene);
  makeChoices(scene, store);
  makeLegend(scene, points, store);
  makeSliders({ box: $("#sliders"), store, scene });
  const map = new LatentMap({ canvas: $("#map"), tip: $("#tip"), store, scene, points, engine, painter, say });
  if (!linked) state.view = { ...map.home };
  store.listen(["axes"], () => {
    map.choosePlane();
    state.view = { ...map.home };
  });
  store.listen(["axes", "underlay"], () => { map.under = state.underlay ? map.under : null; });
  store.listen(["axes", "view", "underlay", "c", "z", "slots", "only", "picked"], () => map.draw());
  store.listen(["axes", "view", "underlay", "c"].concat(scene.latent.size > 2 ? ["z"] : []), () => map.refreshUnder());
  setTimeout(() => map.refreshUnder(), 100);

  const decoded = $("#decoded");
  let done = 0;
  const refresh = latestOnly(async ({ z, c }) => {
    try {
      const [values] = await engine.decode([z], c);
      painter.paint(decoded, values);
      decoded.dataset.count = ++done;
      decoded.setAttribute("aria-label", `Decoded ${scene.kind}. ${painter.say(values)}`);
    } catch (error) {
      fail(error);
    }
  });
  const showOriginal = ({ picked, own, moved }) => {
    const known = picked !== null || own !== null;
    $("#original").hidden = !known;
    $("#no-original").hidden = known;
    if (known) painter.paint($("#original"), own ?? points[picked].values());
    const what = own ? "your image" : picked === null ? "no original" : map.describe(picked);
    $("#original-caption").textContent = what;
    $("#original").setAttribute("aria-label", `Original: ${what}`);
    $("#decoded-caption").textContent = known && !moved ? "its reconstruction" : "decoded from the sliders";
  };
  store.listen(["picked", "own", "moved"], showOriginal);
  showOriginal(state);
  if (engine.canDecode) {
    store.listen(["z", "c"], refresh);
    refresh(state);
  } else {
    fail(new Error(scene.no_decoder));
    document.body.classList.add("undecoded");
  }

  const show = (z, text = "") => {
    store.set({ z: Float32Array.from(z), picked: null, own: null, moved: true });
    if (text) say(text);
  };
  makeBlend({ box: $("#blend"), store, scene, engine, painter, show, fail });
  $("#prior").addEventListener("click", async () => {
    try {
      show(await engine.sample(store.state.c ?? 0), "A new latent from the prior.");
    } catch (error) {
      fail(error);
    }
  });
  $("#mean").addEventListener("click", () => show(scene.latent.mean, "The mean of all latents."));
  $("#own").hidden = scene.kind !== "image";
  $("#again-label").hidden = !scene.conditional;
  if (engine.canEncode && scene.kind === "image") makeOwn({ box: $("#own"), store, scene, engine, say, fail });
  else if (scene.kind === "image") $("#own .body").replaceChildren(scene.no_encoder ?? scene.no_decoder ?? "");

  for (const [id, factor] of [["closer", 1.5], ["farther", 1 / 1.5]]) $(`#${id}`).addEventListener("click", () => map.zoom(factor));
  $("#fit").addEventListener("click", () => store.set({ view: { ...map.home } }));
  $("#next").addEventListener("click", () => map.step(1));
  $("#previous").addEventListener("click", () => map.step(-1));
  for (const id of ["next", "previous"]) $(`#${id}`).hidden = !points.length;
  $("#save").addEventListener("click", () => picture(scene, map));
  $("#link").addEventListener("click", async () => {
    const address = location.href.split("#")[0] + linkOf(state);
    try {
      await navigator.clipboard.writeText(address);
      say("The link is on the clipboard.");
      $("#link").textContent = "Copied";
      setTimeout(() => { $("#link").textContent = "Copy link"; }, 1500);
    } catch {
      say("The link is in the address bar.");
    }
  });
  let timer;
  store.listen(["z", "c", "picked", "moved", "slots", "way", "axes", "view", "underlay", "only"], () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      try {
        history.replaceState(null, "", linkOf(state));
      } catch { /* a page within a notebook has no address */ }
    }, 200);
  });
  window.addEventListener("hashchange", () => {
    const patch = readLink(location.hash, scene);
    if (patch) store.set(patch);
  });
  document.body.dataset.ready = "true";
}

start();
