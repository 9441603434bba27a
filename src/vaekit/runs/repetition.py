"""Train a finished run again, to see whether the weights come out the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..store import Run
from ..training import Listener
from . import environment
from .lifecycle import train_run
from .restore import RestoredRun


@dataclass(frozen=True)
class Repetition:
    """A run that repeats another one, and how the two compare.

    Attributes:
        run: The new run.
        weights: SHA-256 of model.safetensors in the old run and in the new one, for the best and the last weights.
        differences: Keys in which their set-ups differ, with the values before and now.
    """

    run: Run
    weights: dict[str, tuple[str, str]]
    differences: dict[str, tuple[Any, Any]]

    @property
    def agrees(self) -> bool:
        """Whether the weights are the same, bit for bit."""
        return all(before == now for before, now in self.weights.values())


def repeat_run(
    run: Run | RestoredRun,
    *,
    name: str | None = None,
    root: Path | str = "runs",
    listener: Listener | None = None,
) -> Repetition:
    """Train a finished run again, from its config and with the same number of threads, in a new run folder.

    Arguments:
        run: The run to repeat; a `RestoredRun` if its config names parts by import path.
        name: Name of the new run folder; the preset's name and the time by default.
        root: Folder of all runs.
        listener: A listener to the progress.

    Raises:
        RunError: The run is not finished, or was resumed with other settings.
    """
    restored = RestoredRun.of(run)
    run = restored.run
    if run.status != "finished":
        raise RunError(
            f"run {run.name} is {run.status}; resume it to its end, then it can be repeated",
            command=f"resume {run.name}",
        )
    if any(session["settings"] for session in run.sessions):
        raise RunError(
            f"the settings of run {run.name} were changed on the way; its sessions say when", command=f"info {run.name}"
        )
    preset = run.recorded("preset", kind=str)
    with environment.computing_as(run):
        repetition = train_run(restored.recipe, name=name, preset=preset, root=root, listener=listener)
    weights = {kind: f"checkpoints/{kind}/model.safetensors" for kind in ("best", "last")}
    return Repetition(
        repetition,
        {kind: (run.sha256(file), repetition.sha256(file)) for kind, file in weights.items()},
        environment.differences(run.environment, repetition.environment),
    )
