"""Time one training on 1 and on 2 ranks of one thread each, same global batch: `python benchmarks/ranks.py`.

The two take turns, A B A B …, on a part of MNIST: medians of the images per second of the last epoch, and of the
processor time for each image, of all ranks together, which depends less on what else the machine does.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from common import processor
from vaekit import config, fit
from vaekit.config.recipe import Recipe
from vaekit.data import Split
from vaekit.runs.job import Job
from vaekit.training import Listener, joined

RESULTS = Path(__file__).with_suffix(".json")
TIMES = 3  # each
# Preset, global batch, images of an epoch.
CASES = (("course-vae", 128, 12_800), ("course-vae", 1024, 20_480), ("conv-vae", 128, 2_560))


class Clock(Listener):
    """Remembers the processor time at the end of each epoch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def epoch(self, record: dict[str, Any]) -> None:
        self.times.append(time.process_time())


def measure(preset: str, batch: int, images: int) -> None:
    """Train for two epochs; print the images per second of the last one."""
    torch.set_num_threads(1)
    settings = [f"train.batch_size={batch}", "train.epochs=2", "train.device=cpu"]
    with joined() as ranks:
        job = Job.prepare(Recipe.resolve(config.read(preset, settings=settings)), ranks=ranks)
        some = Split(job.data.train.x[:images], job.data.train.labels[:images])
        records = fit(
            job.model,
            job.batches(some, training=True),
            objective=job.recipe.loss(job.model, dataset_size=images),
            optimizer=job.recipe.optimizer(job.model),
            schedule=job.recipe.schedule(),
            options=job.config.train.for_fit(),
            listener=(clock := Clock()),
            ranks=ranks,
        )
        spent = clock.times[-1] - clock.times[-2]  # without what a process does once
        processor_time = ranks.all_reduce(torch.tensor([spent], dtype=torch.float64)).item()
        found = {"speed": records[-1]["rows_per_second"], "precision": job.config.train.precision}
        if not ranks.rank:
            print(json.dumps(found | {"microseconds": 1e6 * processor_time / images}))


def run(ranks: int, *arguments: object) -> dict[str, Any]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launcher, __file__, *map(str, arguments)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return json.loads(done.stdout.splitlines()[-1])


def compare(preset: str, batch: int, images: int) -> dict[str, Any]:
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    load = []
    for _ in range(TIMES):
        for ranks in found:
            load.append(os.getloadavg()[0])
            found[ranks].append(run(ranks, preset, batch, images))
    speeds = {ranks: [one["speed"] for one in some] for ranks, some in found.items()}
    medians = {ranks: statistics.median(some) for ranks, some in speeds.items()}
    work = {ranks: statistics.median(one["microseconds"] for one in some) for ranks, some in found.items()}
    return {
        "preset": preset,
        "global_batch": batch,
        "images": images,
        "precision": found[1][0]["precision"],
        "images_per_second": {str(ranks): [round(speed) for speed in some] for ranks, some in speeds.items()},
        "median": {str(ranks): round(speed) for ranks, speed in medians.items()},
        "speedup": round(medians[2] / medians[1], 2),
        "efficiency": round(medians[2] / medians[1] / 2, 2),
        "processor_microseconds_per_image": {str(ranks): round(spent, 1) for ranks, spent in work.items()},
        "load_average": {"least": round(min(load), 1), "greatest": round(max(load), 1)},
    }


def main() -> None:
    results = {
        "command": "python benchmarks/ranks.py",
        "hardware": processor().rsplit(",", 1)[0] + ", 1 thread a rank",
        "backend": "gloo",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "runs": [],
    }
    for case in CASES:
        results["runs"].append(compare(*case))
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
