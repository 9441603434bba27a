"""Record what runs survive and what that costs: `python benchmarks/reliability.py`; some ten minutes.

Kills, stops and damaged input are those of the tests, in larger numbers; the cost is that of a whole training.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from common import processor
from vaekit import config
from vaekit.runs import job, lifecycle
from vaekit.store import Run
from vaekit.training.checkpointer import Checkpointer

HERE = Path(__file__).parent
RESULTS = HERE / "reliability.json"
DEATHS, INPUTS, EPOCHS = 200, 1000, 5


def script(name: str, *arguments: object) -> tuple[str, dict[str, Any]]:
    """A script of the tests: its command, and the JSON that it prints last."""
    command = [f"tests/{name}", *map(str, arguments)]
    done = subprocess.run([sys.executable, *command], cwd=HERE.parent, check=True, capture_output=True, text=True)
    return " ".join(["python", *command]), json.loads(done.stdout.splitlines()[-1])


def timed(calls: list[tuple[str, float]], real: Callable[..., None]) -> Callable[..., None]:
    """The same function, which notes what kind of checkpoint it wrote, if any, and its seconds."""

    def call(*arguments: Any, **options: Any) -> None:
        begun = time.perf_counter()
        real(*arguments, **options)
        calls.append((options.get("kind", "last"), time.perf_counter() - begun))

    return call


def cost(root: Path) -> dict[str, Any]:
    """What the checkpoints of a training of the preset `vae` take, with every fsync and every copy in memory."""
    given = config.read("standard-vae", settings=[f"train.epochs={EPOCHS}", 'train.device="cpu"'])
    written: list[tuple[str, float]] = []
    kept: list[tuple[str, float]] = []
    fits: list[tuple[str, float]] = []
    Run.save_checkpoint = timed(written, Run.save_checkpoint)  # type: ignore[method-assign]
    Checkpointer.snapshot = timed(kept, Checkpointer.snapshot)  # type: ignore[method-assign]
    job.train_epochs = timed(fits, job.train_epochs)  # type: ignore[assignment]
    run = lifecycle.train_run(given, name="cost", root=root)
    last = sorted(seconds for kind, seconds in written if kind == "last")
    size = sum(file.stat().st_size for file in (run.path / "checkpoints" / "last").iterdir())
    [(_, training)] = fits
    return {
        "command": f"vae train standard-vae --epochs {EPOCHS} --device cpu",
        "checkpoint_every": given.train.checkpoint_every,
        "checkpoints": len(last),
        "megabytes": size / 1e6,
        "seconds_per_checkpoint": last[len(last) // 2],
        "seconds_training": training,
        "share": sum(seconds for _, seconds in [*written, *kept]) / training,
    }


def main() -> None:
    facts = {"date": time.strftime("%Y-%m-%d"), "hardware": processor(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as root:
        price = cost(Path(root))
        command, found = script("kills.py", Path(root) / "kills", DEATHS)
    kills = {"command": command.replace(root, "FOLDER"), "deaths": found["deaths"], "ways": found["ways"]}
    kills["runs"] = found["runs"]
    command, found = script("fuzz.py", INPUTS)
    results = facts | {"kills": kills, "fuzz": {"command": command, **found}, "cost": price}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if "OMP_NUM_THREADS" not in os.environ:
        sys.exit("set OMP_NUM_THREADS=1: weights are compared bit for bit")
    main()
