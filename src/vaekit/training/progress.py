"""The progress of a training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Progress:
    """The progress of a training between two steps.

    It counts whole epochs, and batches of the current one. It has the best validation, the number of reductions by the
    schedule `plateau`, and the epoch of the last reduction.
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
