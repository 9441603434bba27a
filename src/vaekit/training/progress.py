"""The progress of a training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Progress:
    """The progress of a training between two steps.

    Attributes:
        epoch, batch, step: Whole epochs, batches of the current epoch, and steps in all, until now.
        seconds: Seconds of the current epoch.
        learning_rate: Learning rate of the model's last step.
        best, best_epoch: The least validation loss, and the epoch with the best weights, counted from 1.
        reductions, reduced_epoch: How often the schedule `plateau` has lowered the rate, and after which epoch last.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    reductions: int = 0
    reduced_epoch: int = 0

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> "Progress":
        """Read the progress from a checkpoint, and check its values.

        Raises:
            TypeError, ValueError: The table is not the progress of a training.
        """
        progress = cls(**table)
        counts = [progress.epoch, progress.batch, progress.step, progress.best_epoch]
        counts += [progress.reductions, progress.reduced_epoch]
        numbers = (progress.seconds, progress.learning_rate, progress.best or 0.0)
        if not all(type(n) is int and 0 <= n < 2**63 for n in counts) or progress.best_epoch > progress.epoch:
            raise ValueError(f"not the progress of a training: {table!r:.200}")
        if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
            raise ValueError(f"not the progress of a training: {table!r:.200}")
        return progress
