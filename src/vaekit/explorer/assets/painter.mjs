// How one datum is drawn: an image as pixels, a row of numbers as bars. Not for: where on the page.
// To show another kind of data, add a painter with the same two functions.

import { theme } from "./colours.mjs";

// Pixels (channels first) as ImageData, black and white being the ends of the range.
export function toImageData(values, [channels, height, width], [low, high]) {
  const image = new ImageData(width, height);
  const plane = width * height;
  for (let i = 0; i < plane; i++) {
    for (let k = 0; k < 3; k++) {
      const value = values[(channels === 3 ? k : 0) * plane + i];
      image.data[4 * i + k] = Math.round((255 * (value - low)) / (high - low));
    }
    image.data[4 * i + 3] = 255;
  }
  return image;
}

export function imagePainter(scene) {
  const [, height, width] = scene.shape;
  return {
    width, height,
    // Draw values into a canvas, at one canvas pixel a pixel.
    paint(canvas, values) {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      canvas.getContext("2d").putImageData(toImageData(values, scene.shape, scene.range), 0, 0);
    },
    say: () => "",
  };
}

export function rowPainter(scene) {
  const count = scene.shape.reduce((product, n) => product * n, 1);
  const [low, high] = scene.range;
  const width = Math.max(96, Math.min(512, 4 * count));
  const height = Math.round(width * 0.6);
  return {
    width, height,
    paint(canvas, values) {
      Object.assign(canvas, { width, height });
      const context = canvas.getContext("2d");
      const { accent, line } = theme();
      const zero = height * (1 - (0 - low) / (high - low || 1));
      const base = Math.min(height, Math.max(0, zero));
      context.fillStyle = line;
      context.fillRect(0, base - 0.5, width, 1);
      context.fillStyle = accent;
      for (let i = 0; i < count; i++) {
        const top = height * (1 - (values[i] - low) / (high - low || 1));
        context.fillRect((i * width) / count, Math.min(top, base), Math.max(1, (0.8 * width) / count), Math.abs(top - base));
      }
    },
    say: (values) => Array.from(values.slice(0, 12), (value) => value.toPrecision(3)).join(", "),
  };
}

export const painterFor = (scene) => (scene.kind === "image" ? imagePainter : rowPainter)(scene);
