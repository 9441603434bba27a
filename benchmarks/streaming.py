"""Training from memory, a memory-mapped file and a folder, and how time grows: `python benchmarks/streaming.py`.

The conv-vae preset at one thread on the same MNIST images: rounds of memory, file, folder, memory, file, folder … in
one process, since other work on the machine then disturbs all three alike. Growth: a small MLP on 8 × 8 pixels, for
which everything but arithmetic counts most.
"""

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import numpy as np
import torch
from PIL import Image

import vae
from common import processor

RESULTS = Path(__file__).parent / "streaming.json"
IMAGES, ROUNDS = 10_000, 7
COUNTS = (1_000, 10_000, 100_000, 1_000_000)


def epoch(data: vae.data.Dataset, preset: str, epochs: int = 1, **sections: Any) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    model = vae.build(preset, image_shape=data.image_shape, **sections)
    train = vae.data.Batches(data.train, batch_size=128, shuffle=True)
    return vae.fit(model, train, epochs=epochs)


def sources(folder: Path) -> dict[str, vae.data.Dataset]:
    """The same images three times."""
    pixels = vae.data.load("mnist").train.images[:IMAGES, 0].numpy()
    np.save(folder / "images.npy", pixels)
    (folder / "images").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{i:05d}.png")
    held_out = {"validation": 0, "test": 1}
    return {
        "memory": vae.data.load(folder / "images.npy", **held_out),
        "npy": vae.data.load(folder / "images.npy", memory=0, **held_out),
        "folder": vae.data.load(folder / "images", memory=0, **held_out),
    }


def compared(folder: Path) -> dict[str, Any]:
    found = sources(folder)
    speeds: dict[str, list[float]] = {name: [] for name in found}
    epoch(found["memory"], "conv-vae")  # a first one, which is slower
    for _, (name, data) in itertools.product(range(ROUNDS), found.items()):
        speeds[name].append(round(epoch(data, "conv-vae")[0]["images_per_second"]))
    ratios = {
        name: statistics.median(a / b for a, b in zip(speeds[name], speeds["memory"], strict=True)) for name in speeds
    }
    return {
        "images": IMAGES,
        "images_per_second": speeds,
        "median": {name: statistics.median(values) for name, values in speeds.items()},
        "median_ratio_to_memory": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }


def growth(folder: Path) -> dict[str, Any]:
    """Microseconds per image of one epoch by number of images, and of an epoch by its number."""
    small = {"encoder": {"hidden": [32]}, "decoder": {"hidden": [32]}, "model": {"latent_size": 2}}
    noise = np.random.default_rng(0)
    times: dict[int, list[float]] = {count: [] for count in COUNTS}
    for count in COUNTS:
        file = np.lib.format.open_memmap(folder / f"{count}.npy", "w+", np.uint8, (count + 1, 8, 8))
        for start in range(0, count, 100_000):
            part = file[start : start + 100_000]
            part[:] = noise.integers(0, 256, part.shape, np.uint8)
    for _, count in itertools.product(range(3), COUNTS):
        data = vae.data.load(folder / f"{count}.npy", validation=0, test=1, memory=0)
        epochs = max(1, 10_000 // count)
        seconds = [record["seconds"] for record in epoch(data, "vae", epochs, **small)]
        times[count].append(round(1e6 * statistics.median(seconds) / count, 2))
    data = vae.data.load(folder / f"{COUNTS[0]}.npy", validation=0, test=1, memory=0)
    seconds = [round(1e6 * record["seconds"] / COUNTS[0], 2) for record in epoch(data, "vae", 300, **small)]
    return {
        "microseconds_per_image_by_images": times,
        "microseconds_per_image_by_epoch": {
            name: statistics.median(part) for name, part in (("1-20", seconds[:20]), ("281-300", seconds[-20:]))
        },
    }


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        results = {"conv-vae": compared(Path(name)), "growth": growth(Path(name))}
    facts = {
        "command": "python benchmarks/streaming.py",
        "hardware": processor(),
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
    RESULTS.write_text(json.dumps(facts | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
