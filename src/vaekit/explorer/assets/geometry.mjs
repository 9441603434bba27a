// Latents as vectors: planes through them, ways between them. Not for: drawing.

export const add = (a, b) => a.map((value, i) => value + b[i]);
export const subtract = (a, b) => a.map((value, i) => value - b[i]);
export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
export const norm = (a) => Math.sqrt(dot(a, a));

// Where a latent stands in a plane {centre, axes}: two numbers, the second 0 if the plane has one axis only.
export function toPlane(plane, z) {
  const away = subtract(z, plane.centre);
  return [dot(away, plane.axes[0]), plane.axes[1] ? dot(away, plane.axes[1]) : 0];
}

// The latent at (u, v) of the plane that equals z in all other directions: every point of the map has one.
export function fromPlane(plane, z, [u, v]) {
  const [atU, atV] = toPlane(plane, z);
  const [first, second] = plane.axes;
  return z.map((value, i) => value + (u - atU) * first[i] + (second ? (v - atV) * second[i] : 0));
}

export function axisPlane(size, i, j) {
  const unit = (k) => Float32Array.from({ length: size }, (_, d) => Number(d === k));
  return { centre: new Float32Array(size), axes: [unit(i), unit(j)], names: [`z${i + 1}`, `z${j + 1}`] };
}

const straight = (a, b, t) => a.map((value, i) => (1 - t) * value + t * b[i]);

// Along the great circle, with the length going evenly from one to the other; straight where there is no circle.
// Shoemake 1985, doi:10.1145/325165.325242; in latent spaces White 2016, arXiv:1609.04468.
function spherical(a, b, t) {
  const [lengthA, lengthB] = [norm(a), norm(b)];
  if (lengthA < 1e-9 || lengthB < 1e-9) return straight(a, b, t);
  const angle = Math.acos(Math.min(1, Math.max(-1, dot(a, b) / (lengthA * lengthB))));
  if (angle < 1e-4 || angle > Math.PI - 1e-4) return straight(a, b, t);
  const length = (1 - t) * lengthA + t * lengthB;
  const [fromA, fromB] = [Math.sin((1 - t) * angle) / lengthA, Math.sin(t * angle) / lengthB];
  return a.map((value, i) => (length * (fromA * value + fromB * b[i])) / Math.sin(angle));
}

const RIM = 0.999; // latents of the Poincaré ball stay below length 1

const scaled = (a, factor) => a.map((value) => factor * value);

// Möbius sum in the unit ball. Ganea, Bécigneul and Hofmann 2018, arXiv:1805.09112, eq. 2.
function moebiusAdd(x, y) {
  const [xy, xx, yy] = [dot(x, y), dot(x, x), dot(y, y)];
  return scaled(add(scaled(x, 1 + 2 * xy + yy), scaled(y, 1 - xx)), 1 / Math.max(1 + 2 * xy + xx * yy, 1e-15));
}

// Along the geodesic of the Poincaré ball. Ganea, Bécigneul and Hofmann 2018, arXiv:1805.09112, eq. 7.
function geodesic(a, b, t) {
  const way = moebiusAdd(scaled(a, -1), b);
  const far = Math.min(norm(way), RIM);
  return far < 1e-9 ? a : moebiusAdd(a, scaled(way, Math.tanh(t * Math.atanh(far)) / far));
}

// The nearest latent that lies in the space: "sphere", "ball", or null for any latent.
export function inSpace(space, z) {
  const length = norm(z);
  if (space === "sphere") return length > 1e-9 ? scaled(z, 1 / length) : z.map((_, i) => Number(i === 0));
  return space === "ball" && length > RIM ? scaled(z, RIM / length) : z;
}

export function wayBetween(a, b, steps, kind, space) {
  const curved = { sphere: spherical, ball: geodesic }[space];
  const step = curved ?? (kind === "spherical" ? spherical : straight);
  return Array.from({ length: steps }, (_, k) => inSpace(space, step(a, b, k / (steps - 1))));
}
