// A slider for each latent, those that say most first, ±3σ of the aggregate posterior; silent ones are folded away.

const FIRST = 20; // shown before the rest is folded away too

export function makeSliders({ box, store, scene }) {
  const { latent } = scene;
  const nats = latent.kl ?? latent.information;
  const inputs = [];
  const outputs = [];
  const silent = new Set(latent.silent);
  const speaking = latent.order.filter((i) => !silent.has(i));
  const hidden = latent.order.filter((i) => silent.has(i));

  function slider(i) {
    const row = document.createElement("div");
    row.className = "slider";
    const label = document.createElement("label");
    label.htmlFor = `z${i}`;
    const text = nats ? `${nats[i].toFixed(nats[i] < 0.1 ? 3 : 2)} nats` : "";
    const small = document.createElement("small");
    small.textContent = text;
    label.append(`z${i + 1} `, small);
    const input = Object.assign(document.createElement("input"), { type: "range", id: `z${i}` });
    input.min = latent.mean[i] - 3 * latent.sd[i];
    input.max = latent.mean[i] + 3 * latent.sd[i];
    input.step = latent.sd[i] / 50;
    const output = document.createElement("output");
    output.htmlFor = `z${i}`;
    input.addEventListener("input", () => {
      const z = Float32Array.from(store.state.z);
      z[i] = Number(input.value);
      store.set({ z, moved: true });
    });
    inputs[i] = input;
    outputs[i] = output;
    row.append(label, input, output);
    return row;
  }

  function folded(title, indices, where) {
    if (!indices.length) return;
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = title;
    details.append(summary, ...indices.map(slider));
    where.append(details);
  }

  box.append(...speaking.slice(0, FIRST).map(slider));
  folded(`${speaking.length - FIRST} more latents, each with fewer nats`, speaking.slice(FIRST), box);
  folded(`${hidden.length} silent latent${hidden.length > 1 ? "s" : ""}, below 0.01 nats`, hidden, box);

  if (nats) {
    const help = Object.assign(document.createElement("p"), { className: "help" });
    help.textContent = latent.kl ? "Nats: KL from the prior." : "Nats: information about the data, at most; with this prior, KL has no parts by latent.";
    box.append(help);
  }

  function show({ z }) {
    inputs.forEach((input, i) => {
      input.value = z[i];
      outputs[i].value = z[i].toFixed(2).replace("-", "−");
    });
  }
  store.listen(["z"], show);
  show(store.state);
}
