"""Ours against the rivals and against the floor, in pairs: `make benchmark`, or `python benchmarks/speed.py [PART …]`.

Each contender is a process of its own, in turn, A B C A B C …; what is reported is the median over the rounds, and
ratios of medians. Parts: training, evaluation, startup, memory, seeds, quality, rivals. `--full` runs more rounds, and
quality, which takes five minutes, and the rivals' way to it, which takes ten. Writes speed.json and the tables of
docs/speed.md.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from common import processor

HERE = Path(__file__).parent
RESULTS = HERE / "speed.json"
SEEDS = (0, 1, 2)
RIVALS = ("assignment", "pythae", "small")
EPOCHS = 10  # of the rivals, at most: what the assignment trains
VAE = [sys.executable, "-m", "vaekit"]


def contender(name: str, number: int = 0, **variables: str) -> dict[str, Any]:
    """One run of a contender, with the peak of its memory."""
    environment = os.environ | {"BEGAN": str(time.time())} | variables
    command = [sys.executable, str(HERE / "contenders.py"), name, str(number)]
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    found: dict[str, Any] = json.loads(out.decode().strip().splitlines()[-1])
    return found


def timed(command: list[str]) -> float:
    """Seconds of wall-clock time that a command takes."""
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def peak(command: list[str]) -> float:
    """Greatest resident memory of a command, MiB."""
    watched = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, "
        "stderr=subprocess.DEVNULL, check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    out = subprocess.run([sys.executable, "-c", watched, *command], capture_output=True, check=True).stdout
    return int(out) / (1024 if sys.platform != "darwin" else 1024**2)


def rounds_of(numbers: dict[str, int], rounds: int, key: str) -> dict[str, list[float]]:
    """All values of a key by contender, each with its own number of epochs or images, a round after the other."""
    found: dict[str, list[float]] = {name: [] for name in numbers}
    for _ in range(rounds):
        for name, number in numbers.items():
            record = contender(name, number)
            values = record[key]
            found[name] += values if isinstance(values, list) else [values]
            if name == "floor":
                found.setdefault("floor-bf16", []).extend(record["bf16"])
    return found


def training(full: bool) -> dict[str, Any]:
    """Seconds an epoch of the assignment's recipe, 55,000 images, batch 128."""
    epochs = dict.fromkeys(("ours", "assignment", "pythae", "ours-fp32", "floor"), 2)
    return summary(rounds_of(epochs, 7 if full else 3, "epoch_seconds"), "s per epoch") | {
        "precision": contender("ours", 1)["precision"]
    }


def evaluation(full: bool) -> dict[str, Any]:
    """Microseconds a sample of L_5000, the assignment's networks, fp32 but for one of ours."""
    images = {"ours-nll": 100, "ours-nll-bf16": 100, "pythae-nll": 10, "decoder-floor": 20}
    return summary(rounds_of(images, 7 if full else 3, "microseconds_per_sample"), "µs per sample")


def startup(full: bool) -> dict[str, Any]:
    """Seconds from the shell's point of view, files in the cache."""
    rounds = 15 if full else 7
    with tempfile.TemporaryDirectory() as folder:
        shown = ["--runs", folder, "--device", "cpu"]
        subprocess.run(
            [*VAE, "train", "standard-vae", "--epochs", "1", "--name", "r", *shown], check=True, capture_output=True
        )
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import torch": [sys.executable, "-c", "import torch"],
            "vae --help": [*VAE, "--help"],
            "vae runs": [*VAE, "runs", "--runs", folder],
            "vae sample": [*VAE, "sample", "r", "--runs", folder],
            "vae train, no step": [*VAE, "train", "course-vae", "--set", "train.steps=1", "--runs", f"{folder}/more"],
        }
        found: dict[str, list[float]] = {name: [] for name in commands}
        for name in (*commands, *(rounds * [*commands])):  # the first round warms up
            found[name].append(timed(commands[name]))
    found = {name: values[1:] for name, values in found.items()}
    found["load MNIST"] = [contender("mnist-load")["seconds"] for _ in range(rounds)]
    return summary(found, "s")


def memory(full: bool) -> dict[str, Any]:
    """Greatest resident memory, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--runs", folder, "--device", "cpu"]
        train = [*VAE, "train", "standard-vae", "--epochs", "1", "--name"]
        found = {
            "torch, the data and the model": [peak([sys.executable, str(HERE / "contenders.py"), "loaded"])],
            "vae train vae": [peak([*train, f"r{i}", *options]) for i in range(3)],
        }
    return summary(found, "MiB")


QUALITY = {  # goal, nats per image: what `vae train vae` is told
    "109.1": ("train.steps=220", "train.batch_size=64", "train.learning_rate=3e-3"),
    "100.0": ("train.epochs=1", "train.batch_size=64", "train.learning_rate=3e-3"),
    "97.4": ("train.epochs=2",),
    "95.1": ("train.steps=1400",),
    "93.5": (),
}


def quality(full: bool) -> dict[str, Any]:
    """Seconds from the start of the process until a test −ELBO, nats per image, is reached; three seeds."""
    found: dict[str, Any] = {"unit": "s", "goals": {}}
    for goal, settings in QUALITY.items():
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                command = ["train", "vae", "--seed", str(seed), *(word for s in settings for word in ("--set", s))]
                seconds = timed([*VAE, *command, "--name", "r", "--runs", folder, "--device", "cpu"])
                score = json.loads((Path(folder) / "r" / "test.json").read_text())["neg_elbo"]
            run = {"seed": seed, "command": "vae " + " ".join(command), "seconds": seconds, "test_neg_elbo": score}
            found["goals"].setdefault(goal, []).append(run)
            print(goal, f"{seconds:.1f} s, {score:.2f} nats", file=sys.stderr)
    return found


def rivals(full: bool) -> dict[str, Any]:
    """Seconds until the rivals reach a test −ELBO, nats per image, in at most ten epochs; three seeds."""
    found: dict[str, Any] = {"unit": "s"}
    for name in RIVALS:
        for seed in SEEDS:
            record = contender(f"{name}-quality", EPOCHS, SEED=str(seed))
            found.setdefault(name, []).append({"seed": seed, **record, "epochs": len(record["test_neg_elbo"])})
            found[name][-1].pop("epoch_seconds")
    return found


SERIES = {  # how four seeds are trained
    "one after another": [],
    "one after another, one thread": ["--set", "train.threads=1"],
    "two at a time": ["--set", "train.threads=1", "--jobs", "2"],
}


def seeds(full: bool) -> dict[str, Any]:
    """Seconds of `vae train course-vae --epochs 2 --seeds 4`; of the last two the weights are equal, bit for bit."""
    found: dict[str, list[float]] = {name: [] for name in SERIES}
    for _ in range(3 if full else 1):
        weights = []
        for name, options in SERIES.items():
            with tempfile.TemporaryDirectory() as folder:
                series = ["train", "course-vae", "--epochs", "2", "--seeds", "4", "--name", "r", *options]
                found[name].append(timed([*VAE, *series, "--runs", folder, "--device", "cpu"]))
                files = sorted(Path(folder).glob("*/checkpoints/best/model.safetensors"))
                weights.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
        if weights[1] != weights[2] or len(weights[2]) != 4:
            raise SystemExit("two at a time do not end in the weights of one after another")
    return summary(found, "s")


def summary(values: dict[str, list[float]], unit: str) -> dict[str, Any]:
    return {
        "unit": unit,
        "median": {name: statistics.median(found) for name, found in values.items()},
        "all": {name: [round(value, 4) for value in found] for name, found in values.items()},
    }


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "training": training,
    "evaluation": evaluation,
    "startup": startup,
    "memory": memory,
    "quality": quality,
    "rivals": rivals,
    "seeds": seeds,
}


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--full", is_flag=True, help="More rounds, and time to quality.")
def main(parts: tuple[str, ...], full: bool) -> None:
    import torch

    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in parts or [part for part in PARTS if full or part not in ("quality", "rivals")]:
        begun, load = time.perf_counter(), os.getloadavg()[0]
        results[part] = PARTS[part](full) | {
            "what": (PARTS[part].__doc__ or "").strip(),
            "command": f"python benchmarks/speed.py {part}{' --full' if full else ''}",
            "hardware": processor(),
            "load_before": round(load, 2),
            "torch": torch.__version__,
            "date": time.strftime("%Y-%m-%d"),
            "wall_clock_seconds": round(time.perf_counter() - begun, 1),
        }
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    import report

    report.write()
    print(report.speed())


if __name__ == "__main__":
    main()
