"""What the benchmark scripts share: one training by the command line, and a description of the machine."""

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vaekit.store import Run

ROOT = Path(os.environ.get("VAE_RUNS", "runs"))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads"


def train(preset: str, *options: str, seed: int = 0) -> dict[str, Any]:
    """Train a preset in a process of its own; what came out, as a record.

    An interrupted run of the same command is resumed, and its time is that of its epochs. Another run of the same name
    is replaced.
    """
    name = f"{preset}-seed{seed}"
    command = ["vae", "train", preset, *options, "--seed", str(seed)]
    where = ["--name", name, "--runs", str(ROOT), "--device", "cpu"]
    began = time.perf_counter()
    if _is_interrupted(ROOT / name, [*command, *where]):
        subprocess.run([sys.executable, "-m", "vaekit", "resume", name, "--runs", str(ROOT)], check=True)
        run = Run.open(name, root=ROOT)
        return record_of(run, command, seed, sum(record["seconds"] for record in run.metrics()))
    shutil.rmtree(ROOT / name, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "vaekit", *command[1:], *where], check=True)
    return record_of(Run.open(name, root=ROOT), command, seed, time.perf_counter() - began)


def _is_interrupted(folder: Path, command: list[str]) -> bool:
    """Whether a run of this command was interrupted there."""
    if not (folder / "environment.json").exists():
        return False
    run = Run(folder)
    return run.status == "interrupted" and run.environment["command"] == command


def record_of(run: Run, command: list[str], seed: int, wall_clock: float) -> dict[str, Any]:
    """What came out of a training, as a record."""
    metrics, test = run.metrics(), run.read_json("test.json")
    best = min(metrics, key=lambda m: m.get("validation_loss", m.get("validation_neg_elbo")))
    terms = [term for term in ("neg_elbo", "rate", "distortion") if term in test]  # an autoencoder has no bound
    return {
        "command": " ".join(command),
        "seed": seed,
        "epochs": len(metrics),
        "validation": {term: best[f"validation_{term}"] for term in terms},
        "test": {term: test[term] for term in terms},
        "seconds_per_epoch": sorted(m["seconds"] for m in metrics)[len(metrics) // 2],
        "wall_clock_seconds": round(wall_clock, 1),
        "precision": run.environment["precision"],
        "hardware": processor(),
        "date": time.strftime("%Y-%m-%d"),
        "torch": run.environment["torch"],
    }
