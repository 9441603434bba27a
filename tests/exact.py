"""What every family of models has to show: a run that was stopped and resumed ends with the very same bits."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import tiny
from vaekit import config
from vaekit.config.recipe import Recipe
from vaekit.runs import job, lifecycle
from vaekit.store import Run
from vaekit.training import Interrupted, Listener, checkpointer, loop

TRAIN = {"epochs": 2, "learning_rate": 0.01, "checkpoint_every": 1e-6, "patience": None, "ema": None}


class Stopper(Listener):
    """Asks the training to stop after some steps, as a terminal does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def step(self, progress: Any, *_: object) -> None:
        if progress.step == self.steps:
            os.kill(os.getpid(), signal.SIGTERM)


def small(preset: str, **sections: Any) -> config.Config:
    """A preset made so small that it trains on the data of `tiny` in a moment."""
    train = {key: value for key, value in TRAIN.items() if value is not None} | sections.pop("train", {})
    sizes = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}}
    return config.read(preset, sections=sizes | {"train": {"batch_size": 8, "device": "cpu"} | train} | sections)


def prove(preset: str, root: Path, monkeypatch: pytest.MonkeyPatch, *, load: Any = None, **sections: Any) -> Run:
    """Train once without a break and once stopped and resumed, compare all bits, and return the run."""
    monkeypatch.setattr(job, "load_data", load or tiny.dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    monkeypatch.setattr(job, "epoch_pictures", lambda *_, **__: [])
    monkeypatch.setattr(loop, "CHECK_EVERY", 0.0)
    monkeypatch.setattr(checkpointer, "SNAPSHOT_AFTER", 0.0)
    recipe = Recipe.resolve(small(preset, **sections))
    whole = lifecycle.train_run(recipe, name="whole", preset=preset, root=root)
    with pytest.raises(Interrupted):
        lifecycle.train_run(recipe, name="stopped", preset=preset, root=root, listener=Stopper(5))
    stopped = Run.open("stopped", root=root)
    assert stopped.load_checkpoint().state["progress"]["step"] == 5
    lifecycle.resume_run(stopped)
    assert tiny.outcome(stopped) == tiny.outcome(whole)
    return stopped
