"""How long threads should spin while they wait for one another: `python benchmarks/waiting.py`, 4 minutes.

Milliseconds of a training step of `course-vae` on two threads, for several settings of GNU OpenMP, alone and beside a
process that keeps one processor busy. Each is a process of its own, in turn, A B C A B C …; what is reported is the
median over the rounds of the means over the steps. Needs a machine of two processors on which nothing else runs.
Writes waiting.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from common import processor

RESULTS = Path(__file__).with_suffix(".json")
SETTINGS = {
    "as it comes": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=5000": {"GOMP_SPINCOUNT": "5000"},
    "GOMP_SPINCOUNT=20000": {"GOMP_SPINCOUNT": "20000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"THREADS": "1"},
}
SECONDS = 4.0  # of steps, in each process


def steps() -> None:
    """In a process of its own: the mean milliseconds of a step, since a few long waits are what costs."""
    import torch

    from vaekit.config import read
    from vaekit.config.recipe import Recipe
    from vaekit.runs.job import Job
    from vaekit.training.cpu import flushed

    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    with flushed():
        job = Job.prepare(Recipe.resolve(read("course-vae", settings=["train.device=cpu"])))
        trainer = job.trainer()
        taken: list[float] = []
        begun = time.perf_counter()
        for batch in job.batches(job.data.train, training=True):
            before = time.perf_counter()
            trainer.step(batch, 0.0)
            taken.append(1e3 * (time.perf_counter() - before))
            if time.perf_counter() - begun > SECONDS:
                break
    print(statistics.mean(taken[len(taken) // 5 :]))


def measured(variables: dict[str, str]) -> float:
    """Milliseconds of a step under some variables of the environment."""
    cleared = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, __file__, "--steps"]
    with tempfile.TemporaryDirectory() as folder:
        out = subprocess.run(command, env=cleared | variables, cwd=folder, stdout=subprocess.PIPE, check=True).stdout
    return float(out.decode().split()[-1])


@click.command(help=__doc__)
@click.option("--rounds", default=3, show_default=True)
@click.option("--steps", "only_steps", is_flag=True, hidden=True)
def main(rounds: int, only_steps: bool) -> None:
    if only_steps:
        steps()
        return
    begun, load = time.perf_counter(), os.getloadavg()[0]
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for beside in ("alone", "beside a busy process"):
            busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"])] if beside != "alone" else []
            try:
                for name, variables in SETTINGS.items():
                    found.setdefault(name, {}).setdefault(beside, []).append(round(measured(variables), 2))
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
    record: dict[str, Any] = {
        "what": "milliseconds of a training step of course-vae, batch 128",
        "median": {n: {k: statistics.median(v) for k, v in by.items()} for n, by in found.items()},
        "all": found,
        "command": "python benchmarks/waiting.py",
        "hardware": processor(),
        "load_before": round(load, 2),
        "date": time.strftime("%Y-%m-%d"),
        "wall_clock_seconds": round(time.perf_counter() - begun, 1),
    }
    RESULTS.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    for name, by in record["median"].items():
        print(f"{name:24}" + "".join(f"  {where} {value:8.2f} ms" for where, value in by.items()))


if __name__ == "__main__":
    main()
