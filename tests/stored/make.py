"""Make the stored run of the current format: PYTHONPATH=tests python tests/stored/make.py, once before it is released.

An interrupted run of the tiny model, four steps into its third epoch, and beside it what it has to come to.
"""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import torch

import vaekit
from tiny import TIMES, install, tiny
from vaekit.runs import lifecycle
from vaekit.store import RUN_FORMAT, Run
from vaekit.training import Interrupted, Listener

HERE = Path(__file__).parent


class StopAt(Listener):
    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, progress: Any, *_: Any) -> None:
        if progress.step == self.at:
            os.kill(os.getpid(), signal.SIGINT)

    def epoch(self, record: Any) -> None:
        pass


def main() -> None:
    torch.set_num_threads(1)
    install()
    name = f"format-{RUN_FORMAT}"
    shutil.rmtree(HERE / name, ignore_errors=True)
    shutil.rmtree(HERE / "whole", ignore_errors=True)
    whole = lifecycle.train_run(tiny(), name="whole", root=HERE)
    try:
        lifecycle.train_run(tiny(), name=name, root=HERE, listener=StopAt(20))
    except Interrupted:
        run = Run.open(name, root=HERE)
    model = vaekit.load(run)
    samples = model.sample(2, generator=torch.Generator().manual_seed(0))
    expected = {
        "samples": samples.flatten(1).tolist(),
        "metrics": [{key: value for key, value in m.items() if key not in TIMES} for m in whole.metrics()],
        "test": whole.read_json("test.json"),
    }
    with run.lock():
        run.record(command=["vae", "train"], device_name="", platform="", git=None)
        run.write_json("expected.json", expected)
    for folder in ("samples", "checkpoints/last-previous", "checkpoints/best-previous", "../whole"):
        shutil.rmtree(run.path / folder, ignore_errors=True)
    (run.path / "lock").unlink()


if __name__ == "__main__":
    main()
