"""What the scripts of published figures share: train by the paper's protocol, evaluate, record in `<row>.json`.

Every script describes one row and calls `main`. Training and evaluation are `vae train --seeds` and `vae evaluate` in
processes of their own: what is recorded is what their users get, and an interrupted script goes on where it stopped.
"""

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaekit.runs.series import mean_and_sd
from vaekit.store import Run

HERE = Path(__file__).parent
ROOT = Path(os.environ.get("VAE_RUNS", "runs"))
# A cheaper schedule than thousands of epochs of 20 images; what it gives is labelled as ours.
SHORT = (
    *("train.batch_size=100", "train.learning_rate=3e-3", "schedule.name=one-cycle"),
    *("optimizer.betas=[0.9, 0.999]", "optimizer.eps=1e-8"),
)


@dataclass(frozen=True)
class Variant:
    """One published figure.

    Arguments:
        label: What tells it from the others of its row.
        published: The figure.
        preset: What to train.
        settings: On top of the preset, as for `vae train --set`.
        evaluation: Options of `vae evaluate`.
        metric: Name of the value that is compared.
        series: Name of the trained runs, where another row has trained them.
    """

    label: str
    published: float
    preset: str
    settings: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ("--samples", "5000")
    metric: str = "nll"
    series: str | None = None


@dataclass(frozen=True)
class Row:
    """Published figures of one protocol.

    Arguments:
        name: Of the row and its JSON.
        title: For people.
        paper: Where the figures are from.
        unit: Of the figures.
        protocol: Of the paper.
        cost: What a run by the paper's protocol takes, estimated.
        source: Against what the published figures were checked.
        variants: The figures.
        note: Why ours differs, where it does.
    """

    name: str
    title: str
    paper: str
    unit: str
    protocol: str
    cost: str
    source: str
    variants: tuple[Variant, ...]
    note: str = ""

    @property
    def results(self) -> Path:
        """The record."""
        return HERE / f"{self.name}.json"

    def recorded(self) -> list[dict[str, Any]]:
        """What came out so far."""
        found: list[dict[str, Any]] = json.loads(self.results.read_text()) if self.results.exists() else []
        return found


def main(row: Row) -> None:
    """Train, evaluate and record, as the command line says."""
    parser = argparse.ArgumentParser(description=f"{row.title}: {row.paper}. {row.protocol}.")
    labels = [variant.label for variant in row.variants]
    parser.add_argument("--variants", nargs="+", choices=labels, default=labels, help="which figures; all by default")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each")
    parser.add_argument("--epochs", type=int, help="fewer epochs than the paper: labelled as ours")
    parser.add_argument("--short", action="store_true", help="batch 100 and a one-cycle rate: labelled as ours")
    parser.add_argument("--samples", type=int, help="another K of the evaluation: labelled as ours")
    parser.add_argument("--images", type=int, help="only the first test images: labelled as ours")
    parser.add_argument("--temperatures", type=int, help="of AIS: labelled as ours")
    parser.add_argument("--device", default="auto", help="cpu, cuda …")
    options = parser.parse_args()
    for variant in row.variants:
        if variant.label in options.variants:
            _record(row, _measured(row, variant, options))


def _measured(row: Row, variant: Variant, options: argparse.Namespace) -> dict[str, Any]:
    changed = options.short or options.epochs is not None
    series = (variant.series or slug(f"{row.name}-{variant.label}")) + ("-ours" if changed else "")
    settings = [*variant.settings, *(SHORT if options.short else ())]
    train = ["train", variant.preset, *(word for setting in settings for word in ("--set", setting))]
    train += ["--epochs", str(options.epochs)] if options.epochs is not None else []
    train += ["--seeds", str(options.seeds), "--name", series]
    runs = [Path(run) for run in _vae(*train, "--device", options.device)["runs"]]
    evaluation = [*variant.evaluation]
    evaluation += ["--samples", str(options.samples)] if options.samples is not None else []
    evaluation += ["--images", str(options.images)] if options.images is not None else []
    evaluation += ["--temperatures", str(options.temperatures)] if options.temperatures is not None else []
    found, values, evaluations = {}, [], []
    began = time.perf_counter()
    for run in runs:
        found = _vae("evaluate", run.name, *evaluation, "--device", options.device)
        value = next(value for value in found["values"] if value["name"] == variant.metric)
        values.append({"seed": Run(run).environment["seed"], **value})
        evaluations.append(found["values"])
    evaluated = time.perf_counter() - began
    environment = Run(runs[0]).environment
    seconds = [sum(epoch["seconds"] for epoch in Run(run).metrics()) for run in runs]
    return {
        "variant": variant.label,
        "schedule": _schedule(options),
        "script": shlex.join(["python", f"benchmarks/published/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commands": [
            shlex.join(["vae", *train]),
            *(shlex.join(["vae", "evaluate", run.name, *evaluation]) for run in runs),
        ],
        "published": variant.published,
        "values": values,
        "ours": mean_and_sd([value["value"] for value in values]),
        "protocol": found["protocol"],
        "warnings": found["warnings"],
        "evaluations": evaluations,
        "wall_clock_seconds": {"training": [round(s, 1) for s in seconds], "evaluation": round(evaluated, 1)},
        "hardware": hardware(environment),
        "torch": environment["torch"],
        "date": time.strftime("%Y-%m-%d"),
    }


def _schedule(options: argparse.Namespace) -> str:
    changes = [
        "batch 100, one-cycle rate" if options.short else "",
        f"{options.epochs} epochs" if options.epochs is not None else "",
        f"K = {options.samples}" if options.samples is not None else "",
        f"{options.temperatures} temperatures" if options.temperatures is not None else "",
        f"{options.images} evenly spread test images" if options.images is not None else "",
    ]
    said = ", ".join(change for change in changes if change)
    return f"ours: {said}" if said else "the paper's"


def _vae(*arguments: str) -> dict[str, Any]:
    """What a command prints as JSON; its progress goes to the terminal."""
    command = [sys.executable, "-m", "vaekit", *arguments, "--runs", str(ROOT), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _record(row: Row, result: dict[str, Any]) -> None:
    same = (result["variant"], result["schedule"])
    kept = [old for old in row.recorded() if (old["variant"], old["schedule"]) != same]
    labels = [variant.label for variant in row.variants]
    found = sorted([*kept, result], key=lambda r: (labels.index(r["variant"]), r["schedule"]))
    row.results.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def slug(text: str) -> str:
    """The text as a name of a run."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def hardware(environment: dict[str, Any]) -> str:
    """The machine that a run was trained on."""
    device = environment.get("device_name") or platform.processor()
    return f"{device}, {environment.get('threads', '?')} thread(s) of {os.cpu_count()} cores"
