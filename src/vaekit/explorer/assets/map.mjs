// The map: encoded data in a plane of the latent space, and where the latent that is shown stands in it.
// Drag moves the latent, a click takes a point, wheel or two fingers zoom, Shift or the right button pans.

import { classColour, theme } from "./colours.mjs";
import { latestOnly } from "./engine.mjs";
import { axisPlane, fromPlane, toPlane } from "./geometry.mjs";

const NEAR = 14; // pixels from a point that still take it
const SPRITES_FROM = 2.5; // zoom
const CELL = 44; // pixels of a cell of the decoded plane

export class LatentMap {
  constructor({ canvas, tip, store, scene, points, engine, painter, say }) {
    Object.assign(this, { canvas, tip, store, scene, points, engine, painter, say });
    this.pointers = new Map();
    this.hovered = null;
    this.under = null;
    this.drawUnder = latestOnly((job) => this.decodePlane(job));
    this.choosePlane();
    this.bind();
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  choosePlane() {
    const { axes } = this.store.state;
    const { size, mean, sd } = this.scene.latent;
    this.plane = axes === "plane" ? this.scene.plane : axisPlane(size, axes[0], axes[1]);
    this.places = this.points.map(({ z, label }, i) => {
      const place = toPlane(this.plane, z);
      if (!this.plane.axes[1]) place[1] = this.row(label) + 0.12 * Math.sin(12.9898 * i);
      return place;
    });
    // The extent of all points; without points, ±3σ of the aggregate posterior.
    const spans = this.plane.axes.map((axis) => 3 * Math.sqrt(axis.reduce((sum, a, i) => sum + (a * sd[i]) ** 2, 0)));
    const middle = toPlane(this.plane, Float32Array.from(mean));
    const reach = [spans[0], spans[1] ?? spans[0]];
    this.home = { u: middle[0], v: middle[1], zoom: 1 };
    for (const [u, v] of this.places) {
      reach[0] = Math.max(reach[0], 1.05 * Math.abs(u - middle[0]));
      reach[1] = Math.max(reach[1], 1.05 * Math.abs(v - middle[1]));
    }
    this.reach = reach;
    this.under = null;
  }

  row(label) {
    const rows = Math.max(2, this.scene.classes.length);
    return (Math.max(0, label) / (rows - 1) - 0.5) * 4;
  }

  get scale() {
    return Math.min(this.width / this.reach[0], this.height / this.reach[1]) / 2 * this.store.state.view.zoom;
  }

  toScreen([u, v]) {
    const { view } = this.store.state;
    return [this.width / 2 + (u - view.u) * this.scale, this.height / 2 - (v - view.v) * this.scale];
  }

  toMap(x, y) {
    const { view } = this.store.state;
    return [view.u + (x - this.width / 2) / this.scale, view.v - (y - this.height / 2) / this.scale];
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width || !box.height) return;
    const ratio = window.devicePixelRatio || 1;
    this.width = box.width;
    this.height = box.height;
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.draw();
  }

  // -- what a hand does ----------------------------------------------------------------------------------------------

  bind() {
    const { canvas } = this;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      const pan = event.button === 1 || event.button === 2 || event.shiftKey;
      this.pointers.set(event.pointerId, { start: at(event), last: at(event), pan, dragged: false });
      if (this.pointers.size > 1) for (const pointer of this.pointers.values()) pointer.dragged = true;
    });
    canvas.addEventListener("pointermove", (event) => {
      const pointer = this.pointers.get(event.pointerId);
      if (pointer) this.drag(pointer, at(event));
      else if (event.pointerType !== "touch") this.hover(at(event));
    });
    const end = (event) => {
      const pointer = this.pointers.get(event.pointerId);
      this.pointers.delete(event.pointerId);
      if (pointer && !pointer.dragged && event.type === "pointerup") this.click(pointer.last);
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), at(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  drag(pointer, now) {
    const before = pointer.last;
    const far = Math.hypot(now[0] - pointer.start[0], now[1] - pointer.start[1]) > 4;
    if (!pointer.dragged && !far) return;
    pointer.dragged = true;
    pointer.last = now;
    if (this.pointers.size > 1) {
      const other = [...this.pointers.values()].find((one) => one !== pointer).last;
      const [was, is] = [before, now].map((p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1);
      this.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      this.zoom(is / was, [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    } else if (pointer.pan) {
      this.pan(now[0] - before[0], now[1] - before[1]);
    } else {
      this.hover(null);
      this.moveTo(this.toMap(...now));
    }
  }

  moveTo(place) {
    this.store.set({ z: fromPlane(this.plane, this.store.state.z, place), moved: true });
  }

  pan(dx, dy) {
    const { view } = this.store.state;
    this.store.set({ view: { ...view, u: view.u - dx / this.scale, v: view.v + dy / this.scale } });
  }

  zoom(factor, [x, y] = [this.width / 2, this.height / 2]) {
    const { view } = this.store.state;
    const zoom = Math.min(200, Math.max(0.5, view.zoom * factor));
    const [u, v] = this.toMap(x, y);
    const change = view.zoom / zoom; // what is under the pointer stays there
    this.store.set({ view: { u: u + (view.u - u) * change, v: v + (view.v - v) * change, zoom } });
  }

  nearest([x, y]) {
    const near = Math.max(NEAR, this.spriteSize() / 2 + 2);
    let best = null;
    let least = near * near;
    this.places.forEach((place, i) => {
      if (!this.isShown(i)) return;
      const [px, py] = this.toScreen(place);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }

  isShown(i) {
    const { only } = this.store.state;
    return only === null || this.points[i].label === only;
  }

  click(at) {
    const i = this.nearest(at);
    if (i === null) this.moveTo(this.toMap(...at));
    else this.pick(i);
  }

  pick(i) {
    const { z, label } = this.points[i];
    const patch = { z, picked: i, own: null, moved: false };
    if (this.scene.conditional && label >= 0) patch.c = label;
    this.store.set(patch);
    this.say(this.describe(i));
  }

  describe(i) {
    const { label, number } = this.points[i];
    const what = this.scene.kind === "image" ? "image" : "row";
    return `${what} ${number}${label >= 0 ? `, class ${this.scene.classes[label] ?? label}` : ""}`;
  }

  hover(at) {
    const i = at && this.points.length ? this.nearest(at) : null;
    if (i === this.hovered) return;
    this.hovered = i;
    this.tip.hidden = i === null;
    if (i !== null) {
      this.painter.paint(this.tip.querySelector("canvas"), this.points[i].values());
      this.tip.querySelector("span").textContent = this.describe(i);
      const [x, y] = this.toScreen(this.places[i]);
      const left = x + 18 + this.tip.offsetWidth > this.width ? x - 18 - this.tip.offsetWidth : x + 18;
      this.tip.style.left = `${Math.max(4, left)}px`;
      this.tip.style.top = `${Math.min(Math.max(4, y - 40), this.height - this.tip.offsetHeight - 4)}px`;
    }
    this.draw();
  }

  key(event) {
    const step = ((event.shiftKey ? 0.25 : 0.04) * Math.min(this.width, this.height)) / this.scale;
    const [u, v] = toPlane(this.plane, this.store.state.z);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) {
      this.moveTo([u + moves[event.key][0], v + moves[event.key][1]]);
      this.follow();
    } else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.store.set({ view: { ...this.home } });
    else if (event.key === "n" || event.key === "p") this.step(event.key === "n" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  step(by) {
    if (!this.points.length) return;
    const count = this.points.length;
    let i = this.store.state.picked ?? (by > 0 ? -1 : count);
    for (let tries = 0; tries < count; tries++) {
      i = (i + by + count) % count;
      if (this.isShown(i)) break;
    }
    this.pick(i);
    this.follow();
  }

  // Keep the latent in sight.
  follow() {
    requestAnimationFrame(() => {
      const { z, view } = this.store.state;
      const [u, v] = toPlane(this.plane, z);
      const [x, y] = this.toScreen([u, v]);
      if (x < 0 || y < 0 || x > this.width || y > this.height) this.store.set({ view: { ...view, u, v } });
    });
  }

  // -- drawing -------------------------------------------------------------------------------------------------------

  spriteSize() {
    const { zoom } = this.store.state.view;
    if (!this.points.length || !this.points[0].sprite || zoom < SPRITES_FROM) return 0;
    return Math.min(64, 8 * zoom);
  }

  draw(context = null) {
    if (!this.width) return;
    const ratio = this.canvas.width / this.width;
    const to = context ?? this.canvas.getContext("2d");
    const colours = theme();
    to.setTransform(ratio, 0, 0, ratio, 0, 0);
    to.fillStyle = colours.panel;
    to.fillRect(0, 0, this.width, this.height);
    if (this.store.state.underlay) this.drawUnderlay(to);
    this.drawAxes(to, colours);
    this.drawPoints(to, colours);
    this.drawMarks(to, colours);
    this.drawNames(to, colours);
  }

  drawAxes(to, { line }) {
    const [x, y] = this.toScreen([0, 0]);
    to.strokeStyle = line;
    to.lineWidth = 1;
    to.beginPath();
    to.moveTo(Math.round(x) + 0.5, 0);
    to.lineTo(Math.round(x) + 0.5, this.height);
    to.moveTo(0, Math.round(y) + 0.5);
    to.lineTo(this.width, Math.round(y) + 0.5);
    to.stroke();
  }

  drawPoints(to) {
    const size = this.spriteSize();
    const { points, scene } = this;
    const count = Math.max(scene.classes.length, 1);
    const radius = Math.min(6, 2 + 0.6 * this.store.state.view.zoom) * (0.8 + this.width / 2500) * (points.length > 1500 ? 0.8 : 1);
    const on = size || this.store.state.underlay ? 1 : 0.85;
    to.imageSmoothingEnabled = false;
    this.places.forEach((place, i) => {
      const [x, y] = this.toScreen(place);
      if (x < -40 || y < -40 || x > this.width + 40 || y > this.height + 40) return;
      const shown = this.isShown(i);
      const colour = classColour(points[i].label, count);
      to.globalAlpha = shown ? on : 0.12;
      if (size && shown) {
        this.drawSprite(to, i, size, colour, 1.5);
      } else {
        to.fillStyle = colour;
        to.beginPath();
        to.arc(x, y, radius, 0, 7);
        to.fill();
      }
    });
    to.globalAlpha = 1;
  }

  drawSprite(to, i, size, colour, border) {
    const [x, y] = this.toScreen(this.places[i]);
    const high = (size * this.painter.height) / this.painter.width;
    to.fillStyle = colour;
    to.fillRect(x - size / 2 - border, y - high / 2 - border, size + 2 * border, high + 2 * border);
    this.points[i].sprite(to, x - size / 2, y - high / 2, size, high);
  }

  drawMarks(to, { text, panel, accent }) {
    const { z, slots, picked, moved } = this.store.state;
    const size = this.spriteSize();
    const ring = (place, radius, colour, width) => {
      const [x, y] = this.toScreen(place);
      for (const [stroke, line] of [[panel, width + 2.5], [colour, width]]) {
        to.strokeStyle = stroke;
        to.lineWidth = line;
        to.beginPath();
        to.arc(x, y, radius, 0, 7);
        to.stroke();
      }
    };
    for (const [i, colour] of [[this.hovered, text], [picked, accent]]) {
      if (i === null) continue;
      if (size) this.drawSprite(to, i, 1.3 * size, colour, 3);
      else ring(this.places[i], 9, colour, 2);
    }
    to.font = "bold 13px system-ui, sans-serif";
    to.textAlign = "center";
    for (const [name, slot] of Object.entries(slots)) {
      if (!slot) continue;
      const [x, y] = this.toScreen(toPlane(this.plane, slot));
      to.fillStyle = text;
      to.beginPath();
      to.arc(x, y, 9, 0, 7);
      to.fill();
      to.fillStyle = panel;
      to.fillText(name, x, y + 4.5);
    }
    if (size && picked !== null && !moved) return; // its sprite shows the point
    const here = toPlane(this.plane, z);
    const [x, y] = this.toScreen(here);
    for (const [colour, width] of [[panel, 5], [accent, 2.5]]) {
      to.strokeStyle = colour;
      to.lineWidth = width;
      to.beginPath();
      to.moveTo(x - 16, y);
      to.lineTo(x - 5, y);
      to.moveTo(x + 5, y);
      to.lineTo(x + 16, y);
      to.moveTo(x, y - 16);
      to.lineTo(x, y - 5);
      to.moveTo(x, y + 5);
      to.lineTo(x, y + 16);
      to.stroke();
    }
    ring(here, 11, accent, 2.5);
  }

  drawNames(to, { quiet, panel }) {
    to.font = "12px system-ui, sans-serif";
    to.textAlign = "right";
    const write = (name, x, y) => {
      const wide = to.measureText(name).width;
      to.globalAlpha = 0.85;
      to.fillStyle = panel;
      to.fillRect(x - wide - 5, y - 13, wide + 10, 18);
      to.globalAlpha = 1;
      to.fillStyle = quiet;
      to.fillText(name, x, y);
    };
    write(`${this.plane.names[0]} →`, this.width - 8, this.height - 8);
    if (!this.plane.names[1]) return;
    to.save();
    to.translate(16, 8);
    to.rotate(-Math.PI / 2);
    write(`${this.plane.names[1]} →`, 0, 0);
    to.restore();
  }

  // -- the decoded plane ---------------------------------------------------------------------------------------------

  drawUnderlay(to) {
    if (this.under) {
      const { canvas, from, until } = this.under;
      const [left, top] = this.toScreen(from);
      const [right, bottom] = this.toScreen(until);
      to.globalAlpha = 0.8;
      to.imageSmoothingEnabled = false;
      to.drawImage(canvas, left, top, right - left, bottom - top);
      to.globalAlpha = 1;
    }
  }

  // Decode the plane behind the points once the view has come to rest.
  refreshUnder() {
    clearTimeout(this.timer);
    const { underlay, view, z, c } = this.store.state;
    if (!underlay || !this.engine.canDecode || this.scene.kind !== "image") return;
    this.timer = setTimeout(() => this.drawUnder({ view, z, c, plane: this.plane }), this.under ? 250 : 0);
  }

  async decodePlane({ z, c, plane }) {
    const [columns, rows] = [this.width, this.height].map((length) => Math.max(2, Math.round(length / CELL)));
    const [wide, high] = [this.width / columns, this.height / rows];
    const { width, height } = this.painter;
    const canvas = Object.assign(document.createElement("canvas"), { width: columns * width, height: rows * height });
    const tile = document.createElement("canvas");
    const next = { canvas, from: this.toMap(0, 0), until: this.toMap(this.width, this.height) };
    const place = (i, j) => this.toMap((i + 0.5) * wide, (j + 0.5) * high);
    const latents = Array.from({ length: rows }, (_, j) => Array.from({ length: columns }, (_, i) => fromPlane(plane, z, place(i, j))));
    for (let j = 0; j < rows; j++) {
      const images = await this.engine.decode(latents[j], c);
      images.forEach((values, i) => {
        this.painter.paint(tile, values);
        canvas.getContext("2d").drawImage(tile, i * width, j * height);
      });
      if (!this.under) this.draw();
      await new Promise((resolve) => setTimeout(resolve));
    }
    if (plane !== this.plane) return;
    this.under = next;
    this.draw();
  }
}
