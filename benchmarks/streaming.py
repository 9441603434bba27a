"""Training from memory, a memory-mapped file and a folder, and how time grows: `python benchmarks/streaming.py`.

With the argument `table`, only the table is measured, and the other numbers stay.

The conv-vae preset at one thread, in the precision that `vae train` chooses, on the same images: rounds of memory,
file, folder, memory, file, folder … in one process, since other work on the machine then disturbs all three alike.
Tables: a .csv and a .npy of numbers are loaded and trained on for 500 steps, in processes of their own: with all rows
in memory, and read in pieces. The memory of the libraries alone is subtracted from their greatest memory.

Growth: a small MLP on 8 × 8 pixels, for which everything but arithmetic counts most. Processor time, of all threads,
is recorded beside the wall clock, as it depends less on what else the machine does.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import numpy as np
import torch
from PIL import Image

import vaekit
from common import processor

RESULTS = Path(__file__).parent / "streaming.json"
KINDS = {"28 × 28 grey, PNG": (28, "png", 10_000), "64 × 64 colour, JPEG": (64, "jpg", 1_500)}
ROUNDS = 5
ROWS, COLUMNS = 200_000, 150  # of the .csv; the .npy has four times as many rows
ONE_TABLE = """
import json, re, sys, time
import torch, pandas, pyarrow.parquet, vaekit
torch.set_num_threads(1)
def most():  # KiB; ru_maxrss would begin with the memory of the parent process
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before, began = most(), time.perf_counter()
data = vaekit.data.load(sys.argv[1], memory=float(sys.argv[2]), value_kind="table")
loaded, read = most(), time.perf_counter()
torch.manual_seed(0)
model = vaekit.build("table-vae", columns=data.columns)
train = vaekit.data.Batches(data.train, batch_size=128, shuffle=True)
vaekit.fit(model, train, steps=500)
peak = most()
print(json.dumps({
    "checksum": data.checksum[:16],
    "weights": float(sum(w.double().sum() for w in model.parameters())),
    "MiB of the rows": round(4 * sum(map(len, data.splits.values())) * len(data.columns) / 2**20),
    "MiB for loading": round((loaded - before) / 1024),
    "MiB for loading and training": round((peak - before) / 1024),
    "seconds to load": round(read - began, 1),
    "seconds for 500 steps": round(time.perf_counter() - read, 1),
}))
"""
COUNTS = (1_000, 10_000, 100_000, 1_000_000)


def epochs(data: vaekit.data.Dataset, preset: str, n: int = 1, **sections: Any) -> dict[str, float]:
    """Microseconds per image by the wall clock, median over epochs, and of all threads of this process."""
    torch.manual_seed(0)
    model = vaekit.build(preset, event_shape=data.event_shape, **sections)
    train = vaekit.data.Batches(data.train, batch_size=128, shuffle=True)
    began = time.process_time()
    records = vaekit.fit(model, train, epochs=n, precision="auto")
    processor_time = (time.process_time() - began) / n
    seconds = [record["seconds"] for record in records]
    found = {"wall": statistics.median(seconds), "processor": processor_time}
    found |= {"first 20 epochs": statistics.median(seconds[:20]), "last 20 epochs": statistics.median(seconds[-20:])}
    return {name: round(1e6 * value / len(data.train), 2) for name, value in found.items()}


def sources(folder: Path, side: int, suffix: str, count: int) -> dict[str, vaekit.data.Dataset]:
    """The same images, MNIST's, three times."""
    images = folder / suffix
    images.mkdir()
    for i, digit in enumerate(vaekit.data.load("mnist").train.x[:count, 0].numpy()):
        image = Image.fromarray(digit).resize((side, side))
        (image if suffix == "png" else image.convert("RGB")).save(images / f"{i:05d}.{suffix}")
    held_out = {"validation": 0, "test": 1}
    memory = vaekit.data.load(images, **held_out)
    np.save(folder / f"{suffix}.npy", torch.cat((memory.train.x, memory.test.x)).numpy())
    return {
        "memory": memory,
        "npy": vaekit.data.load(folder / f"{suffix}.npy", memory=0, **held_out),
        "folder": vaekit.data.load(images, memory=0, **held_out),
    }


def compared(found: dict[str, vaekit.data.Dataset]) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in found}
    epochs(found["memory"], "conv-vae")  # a first one, which is slower
    for _, (name, data) in itertools.product(range(ROUNDS), found.items()):
        rounds[name].append(epochs(data, "conv-vae"))

    def of(name: str, clock: str) -> list[float]:
        return [one[clock] for one in rounds[name]]

    return {
        name: {
            "images_per_second": [round(1e6 / wall) for wall in of(name, "wall")],
            "median_images_per_second": round(1e6 / statistics.median(of(name, "wall"))),
            "median_ratio_to_memory": round(
                statistics.median(a / b for a, b in zip(of("memory", "wall"), of(name, "wall"), strict=True)), 3
            ),
            "processor_microseconds_per_image": statistics.median(of(name, "processor")),
        }
        for name in rounds
    }


def tables(folder: Path) -> dict[str, Any]:
    noise = np.random.default_rng(0)
    text, array = folder / "table.csv", folder / "table.npy"
    with text.open("w") as file:
        file.write(",".join(f"c{i}" for i in range(COLUMNS)) + "\n")
        for _ in range(ROWS // 1000):
            np.savetxt(file, noise.normal(size=(1000, COLUMNS)), "%.6f", ",")
    np.save(array, noise.standard_normal((4 * ROWS, COLUMNS), np.float32))
    return {path.suffix: one_table(path) for path in (text, array)}


def one_table(path: Path) -> dict[str, Any]:
    def measured(memory: int) -> Any:
        command = [sys.executable, "-c", ONE_TABLE, str(path), str(memory)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])

    results = {name: measured(memory) for name, memory in (("in memory", 100), ("in pieces", 0))}
    return {"columns": COLUMNS, "MiB of the file": round(path.stat().st_size / 2**20), **results}


def growth(folder: Path) -> dict[str, Any]:
    small = {"encoder": {"hidden": [32]}, "decoder": {"hidden": [32]}, "model": {"latent_size": 2}}
    noise = np.random.default_rng(0)
    files = {}
    for count in COUNTS:
        np.save(folder / f"{count}.npy", noise.integers(0, 256, (count + 1, 8, 8), np.uint8))
        files[count] = vaekit.data.load(folder / f"{count}.npy", validation=0, test=1, memory=0)
    rounds: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    for _, count in itertools.product(range(3), COUNTS):
        rounds[count].append(epochs(files[count], "standard-vae", max(1, 100_000 // count), **small))
    return {
        "microseconds_per_image_by_images": {
            count: {clock: statistics.median(one[clock] for one in found) for clock in ("wall", "processor")}
            for count, found in rounds.items()
        },
        "microseconds_per_image_by_epoch": epochs(files[COUNTS[0]], "standard-vae", 300, **small),
    }


def main(only_table: bool) -> None:
    torch.set_num_threads(1)
    facts = {
        "command": "python benchmarks/streaming.py" + " table" * only_table,
        "hardware": processor(),
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
    with tempfile.TemporaryDirectory() as name:
        if only_table:
            results = json.loads(RESULTS.read_text()) | {"table": facts | tables(Path(name))}
        else:
            results = facts | {f"conv-vae, {kind}": compared(sources(Path(name), *how)) for kind, how in KINDS.items()}
            results |= {"growth": growth(Path(name)), "table": tables(Path(name))}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(only_table="table" in sys.argv)
