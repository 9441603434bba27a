"""The factor on the learning rate during one training.

Not for: a schedule itself (`objectives.schedules`).
"""

import sys

from ..errors import check_range
from ..objectives.schedules import Adaptive, Constant, LearningRateSchedule
from .progress import Progress


class LearningRateFactor:
    """The factor of a schedule over one training, and the reductions of an adaptive schedule.

    Arguments:
        schedule: Factor on the rate by epoch; constant by default.
        epochs: Length of the training, which need not be whole.
    """

    def __init__(self, schedule: LearningRateSchedule | None, epochs: float) -> None:
        self.schedule = schedule or Constant()
        self.epochs = epochs
        self.adaptive = self.schedule if isinstance(self.schedule, Adaptive) else None

    def at(self, epoch: float, progress: Progress) -> float:
        """The factor at an epoch, which need not be whole.

        Raises:
            ConfigError: The schedule gives a negative number, or a number that is not finite.
        """
        factor = check_range("the factor of the schedule", self.schedule(epoch, self.epochs), 0, sys.float_info.max)
        return factor if self.adaptive is None else factor * self.adaptive.factor**progress.reductions

    def after_epoch(self, epoch: int, progress: Progress) -> None:
        """Count a reduction if one is due after this epoch, counted from 1."""
        since = epoch - max(progress.best_epoch, progress.reduced_epoch)
        if self.adaptive is not None and self.adaptive.is_due(since):
            progress.reductions += 1
            progress.reduced_epoch = epoch
