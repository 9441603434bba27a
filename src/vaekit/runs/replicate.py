"""One replicate of a series: trained in this process, or in its own, `python -m vaekit.runs.replicate`.

A replicate's process reads its task from stdin, as one line of JSON. It prints lines of JSON on stdout: a description
of the training, each epoch, each warning, and the reason why it stopped. When its stdin ends, because the parent has
closed it or has died, it stops at a whole step, as after Ctrl-C.
"""

import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import parse
from ..config.recipe import Recipe
from ..errors import VAEError
from ..store import Run
from ..training import Listener, Record
from .lifecycle import resume_run, train_run
from .restore import RestoredRun

STOPPED = 130  # exit status
STOP_SECONDS = 30.0  # seconds that a process may take to stop after its parent has died


@dataclass(frozen=True)
class Replicate:
    """A config with one of the seeds of a series.

    Attributes:
        number: Number in the series, from 0.
        recipe: The config, with its seed, resolved.
        name: Name of the run.
        preset: Name of the config.
        root: Folder of all runs.
        tensorboard: Whether to write event files for TensorBoard.
    """

    number: int
    recipe: Recipe
    name: str
    preset: str
    root: Path
    tensorboard: bool

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return self.recipe.config.train.seed

    def train(self, listener: Listener | None) -> None:
        """Train in this process, from the beginning or from the state of the run folder."""
        if not os.path.lexists(self.root / self.name):
            options: dict[str, Any] = {"name": self.name, "preset": self.preset, "root": self.root}
            train_run(self.recipe, **options, listener=listener, tensorboard=self.tensorboard)
            return
        run = Run.open(self.name, root=self.root)
        deadline = time.monotonic() + STOP_SECONDS
        while run.status == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        if run.status != "finished":
            restored = RestoredRun.of(run, trust=self.recipe.has_own_code)
            resume_run(restored, listener=listener, tensorboard=self.tensorboard)

    def task(self, threads: int) -> dict[str, Any]:
        """The task for its own process, ready for JSON."""
        names = ("number", "name", "preset", "tensorboard")
        return {
            "replicate": {"root": str(self.root), **{name: getattr(self, name) for name in names}},
            "config": self.recipe.config.model_dump(exclude_none=True),
            "trust": self.recipe.has_own_code,
            "threads": threads,
            "command": sys.argv,
            "path": sys.path,
        }


def main() -> None:
    """Train the replicate that stdin describes."""
    # The training handles signals itself. Outside of it there is nothing to save, and libraries turn a
    # KeyboardInterrupt during their import into other exceptions.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(STOPPED))
    parent = _Parent(os.dup(1))
    os.dup2(2, 1)  # all other output goes to stderr
    try:
        with open(0, "rb", buffering=0, closefd=False) as stdin:
            line = stdin.readline()
        if not line:  # the parent died before it sent a line
            raise KeyboardInterrupt
        threading.Thread(target=_stop_when_stdin_ends, daemon=True).start()
        _train(json.loads(line), parent)
    except KeyboardInterrupt as stop:
        parent.tell(stopped=str(stop))
        sys.exit(STOPPED)
    except VAEError as error:
        parent.tell(error=str(error), kind=type(error).__name__, arguments=error.arguments, command=error.command)
        sys.exit(2)


def _train(task: dict[str, Any], parent: "_Parent") -> None:
    torch.set_num_threads(task["threads"])
    sys.argv = task["command"]
    if task["trust"]:
        sys.path = task["path"]
    recipe = Recipe.resolve(parse(task["config"]), trust=task["trust"])  # trusted if the parent trusts it
    replicate = Replicate(**task["replicate"] | {"recipe": recipe, "root": Path(task["replicate"]["root"])})
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: parent.tell(warning=str(message))
        replicate.train(parent)


class _Parent(Listener):
    """The process that reads what this one prints."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def tell(self, **event: Any) -> None:
        """Print an event; a parent that has died does not hear it."""
        with suppress(BrokenPipeError):
            os.write(self.descriptor, json.dumps(event).encode() + b"\n")

    def begin(self, description: Sequence[str]) -> None:
        self.tell(begin=description)

    def epoch(self, record: Record) -> None:
        self.tell(epoch=record)


def _stop_when_stdin_ends() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
