"""Time the steps of R replicates at once and one after another: `python benchmarks/replicates.py`.

The two take turns, A B A B …, in one process on one thread: medians of the milliseconds of a step of all R, for
perceptrons of several widths on MNIST; and of the seconds of whole trainings, run folders and all.
"""

import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from common import processor
from vaekit import config, experiment
from vaekit.config import Config
from vaekit.data import Dataset, Split
from vaekit.replicates import train_replicates
from vaekit.training import is_faster, stack

RESULTS = Path(__file__).with_suffix(".json")
TIMES = 7  # each
WIDTHS, BATCHES, REPLICATES = (32, 64, 400), (16, 128), (1, 2, 5, 10)
WHOLE = ((32, 16, 5), (32, 16, 10))  # width, batch, replicates
IMAGES = 5_000


def configured(width: int, batch: int) -> Config:
    hidden = f"[{width}, {width}]"
    settings = [f"encoder.hidden={hidden}", f"decoder.hidden={hidden}", f"train.batch_size={batch}"]
    return config.read("vae", settings=[*settings, "train.device=cpu", "train.precision=fp32", "train.epochs=2"])


def step(width: int, batch: int, replicates: int) -> dict[str, Any]:
    job = experiment.Job.prepare(configured(width, batch))
    some = next(iter(job.batches(job.data.train, training=True)))

    def make() -> Any:
        return replace(job, model=experiment.build(job.config)).trainer()

    alone, works = stack.trial_work(make(), some), [stack.trial_work(make(), some) for _ in range(replicates)]
    together, streams = stack.Stack([work.trainer for work in works]), stack.trial_streams(replicates)
    ways = {
        "one after another": lambda: [alone.alone() for _ in range(replicates)],
        "at once": lambda: together.step(works, streams),
    }
    steps = max(2, 40 // replicates)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(TIMES + 1):
        for way, function in ways.items():
            begun = time.perf_counter()
            for _ in range(steps):
                function()
            times[way].append(1e3 * (time.perf_counter() - begun) / steps)
    found = {way: statistics.median(some[1:]) for way, some in times.items()}
    return {
        "hidden": [width, width],
        "batch": batch,
        "replicates": replicates,
        "milliseconds": {way: round(value, 3) for way, value in found.items()},
        "least": {way: round(min(some[1:]), 3) for way, some in times.items()},
        "faster": round(found["one after another"] / found["at once"], 2),
        "chosen": replicates > 1 and is_faster(make, some, replicates),
    }


def whole(width: int, batch: int, replicates: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"one after another": [], "at once": []}
    for _ in range(3):
        for way, some in seconds.items():
            with TemporaryDirectory() as root:
                begun = time.perf_counter()
                train_replicates(configured(width, batch), replicates, name="s", root=root, together=way == "at once")
                some.append(time.perf_counter() - begun)
    found = {way: statistics.median(some) for way, some in seconds.items()}
    return {
        "hidden": [width, width],
        "batch": batch,
        "replicates": replicates,
        "images": IMAGES,
        "epochs": 2,
        "seconds": {way: [round(value, 2) for value in some] for way, some in seconds.items()},
        "faster": round(found["one after another"] / found["at once"], 2),
    }


def few(**loading: Any) -> Dataset:
    """A part of MNIST."""
    data = load(**loading)
    parts = [
        Split(p.images[:n], p.labels[:n]) for p, n in ((data.train, IMAGES), (data.validation, 500), (data.test, 500))
    ]
    return Dataset(data.name, *parts, classes=data.classes, checksum=data.checksum)


load = experiment.load_data


def main() -> None:
    torch.set_num_threads(1)
    experiment.load_data = few
    before = os.getloadavg()[0]
    results: dict[str, Any] = {
        "command": "python benchmarks/replicates.py",
        "hardware": processor().rsplit(",", 1)[0] + ", 1 thread",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "precision": "fp32",
        "steps": [step(w, b, r) for w in WIDTHS for b in BATCHES for r in REPLICATES],
        "trainings": [whole(*case) for case in WHOLE],
    }
    results["load_average"] = [round(before, 1), round(os.getloadavg()[0], 1)]
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
