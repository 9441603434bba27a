// An image of the user's: dropped, chosen, pasted or drawn; brought to the model's size; encoded, reconstructed, scored.

// Scale an image to cover the model's size, and its pixels to the model's range, channels first.
export function fitted(source, sourceWidth, sourceHeight, scene, invert) {
  const [channels, height, width] = scene.shape;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const scale = Math.max(width / sourceWidth, height / sourceHeight);
  const [w, h] = [sourceWidth * scale, sourceHeight * scale];
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(halved(source, sourceWidth, sourceHeight, w), (width - w) / 2, (height - h) / 2, w, h);
  const { data } = context.getImageData(0, 0, width, height);
  const plane = width * height;
  const grey = new Float32Array(channels * plane);
  for (let i = 0; i < plane; i++) {
    const [r, g, b] = data.subarray(4 * i, 4 * i + 3);
    if (channels === 3) [grey[i], grey[plane + i], grey[2 * plane + i]] = [r / 255, g / 255, b / 255];
    else grey[i] = (0.299 * r + 0.587 * g + 0.114 * b) / 255;
  }
  const turn = invert === "auto" ? Math.abs(edge(grey, scene) - scene.background) > 0.5 : invert;
  const [low, high] = scene.range;
  return { x: grey.map((v) => low + (high - low) * (turn ? 1 - v : v)), inverted: turn };
}

// Halve an image until it is less than twice too large: in one step, browsers would look at few of its pixels.
function halved(source, width, height, wanted) {
  let from = source;
  while (width > 2 * wanted) {
    [width, height] = [Math.max(1, Math.round(width / 2)), Math.max(1, Math.round(height / 2))];
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(from, 0, 0, width, height);
    from = canvas;
  }
  return from;
}

function edge(values, { shape: [, height, width] }) {
  let [sum, count] = [0, 0];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    if (y > 0 && y < height - 1 && x > 0 && x < width - 1) continue;
    sum += values[y * width + x];
    count++;
  }
  return sum / count;
}

const percentile = (scores, value) => Math.round((100 * scores.filter((score) => score < value).length) / scores.length);

export function makeOwn({ box, store, scene, engine, say, fail }) {
  const result = box.querySelector("[data-score]");
  const drop = box.querySelector(".drop");
  const file = box.querySelector("input[type=file]");
  const invert = box.querySelector("[name=invert]");
  const pad = box.querySelector(".pad");
  let last = null; // {source, width, height}

  async function take(how) {
    if (!last) return;
    const { x, inverted } = fitted(last.source, last.width, last.height, scene, how);
    invert.checked = inverted;
    try {
      const { z, rate, distortion } = await engine.encode(x, store.state.c);
      store.set({ z, own: x, picked: null, moved: false });
      result.textContent = sentence(rate, distortion);
      say(`Your image is encoded. ${result.textContent}`);
    } catch (error) {
      fail(error);
    }
  }

  function sentence(rate, distortion) {
    const total = rate + distortion;
    if (!Number.isFinite(total)) return "Encoded and reconstructed; this model gives no score.";
    const than = scene.scores ? `: more than ${percentile(scene.scores, total)} % of the test images` : "";
    return `Score ${total.toFixed(1)} nats${than}. Rate ${rate.toFixed(1)}, distortion ${distortion.toFixed(1)}, at the posterior mean.`;
  }

  async function load(blob) {
    if (!blob || !blob.type.startsWith("image/")) {
      fail(new Error("this browser cannot read the file as an image"));
      return;
    }
    try {
      const bitmap = await createImageBitmap(blob);
      last = { source: bitmap, width: bitmap.width, height: bitmap.height };
    } catch {
      fail(new Error("this browser cannot read the file as an image"));
      return;
    }
    await take("auto");
  }

  file.addEventListener("change", () => file.files[0] && load(file.files[0]));
  invert.addEventListener("change", () => take(invert.checked));
  box.querySelector("[data-again]").addEventListener("click", () => take(invert.checked));
  const stop = (event) => event.preventDefault();
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      stop(event);
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    stop(event);
    drop.classList.remove("over");
    load(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const image = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (image) load(image);
  });
  drawing(pad, box.querySelector("[data-clear]"), () => {
    last = { source: pad, width: pad.width, height: pad.height };
    take("auto");
  });
}

// A pad to draw on: black on white, as paper is.
function drawing(pad, clear, done) {
  const context = pad.getContext("2d", { willReadFrequently: true });
  const wipe = () => {
    context.fillStyle = "white";
    context.fillRect(0, 0, pad.width, pad.height);
  };
  let from = null;
  const at = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
  };
  const line = (to) => {
    Object.assign(context, { strokeStyle: "black", lineWidth: pad.width / 12, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
    from = to;
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    from = at(event);
    line(from);
  });
  pad.addEventListener("pointermove", (event) => {
    if (!from) return;
    line(at(event));
    done();
  });
  pad.addEventListener("pointerup", () => {
    from = null;
    done();
  });
  clear.addEventListener("click", wipe);
  wipe();
}
