"""A training that goes from step to step and from epoch to epoch: it checks, validates, and chooses the best weights.

Not for: the arithmetic of a step (`step`), how long to train (`loop`), or saving (`state`, `checkpointer`).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ..config import Fit
from ..errors import DataError, NumericalError
from ..store.metrics import ROWS_KEY, SPEED_KEY
from .learning_rate import LearningRateFactor
from .meter import EXPLODED
from .progress import Progress
from .ranks import ALONE, Ranks
from .step import TrainingStep, set_learning_rate
from .trained_parts import TrainedParts
from .validation import validate

Record = dict[str, Any]
LARGEST_WEIGHT = 2.0**40  # a weight beyond it makes the next loss infinite or NaN


class Trainer:
    """A training and its progress.

    Arguments:
        trained: The model, its loss, and the players that take steps.
        options: Training options.
        factor: Factor on the learning rate of the model's optimizer; constant by default.
        ranks: All processes of this training.
    """

    def __init__(
        self,
        trained: TrainedParts,
        options: Fit,
        factor: LearningRateFactor | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.trained = trained
        self.options = options
        self.factor = factor or LearningRateFactor(None, options.epochs)
        self.ranks = ranks
        self.progress = Progress()
        self.learning_rates = [float(group["lr"]) for group in trained.players[0].optimizer.param_groups]
        self.training_step = TrainingStep(trained, options, ranks)
        self.meter = self.training_step.meter
        self.averages = self.training_step.averages
        self.best_weights = trained.copies()
        self.last_item: Any = None  # of the loader, after a step

    def step(self, item: Any, epoch: float) -> None:
        """One step on one batch, the same on all ranks, at `epoch`, which need not be whole."""
        factor = self.factor.at(epoch, self.progress)
        self.progress.learning_rate = factor * self.learning_rates[0]
        groups = self.trained.players[0].optimizer.param_groups
        for group, learning_rate in zip(groups, self.learning_rates, strict=True):
            set_learning_rate(group, factor * learning_rate)
        self.training_step(item, epoch)
        self.last_item = item
        self.progress.step += 1
        self.progress.batch += 1

    def check(self) -> dict[str, float]:
        """Means of the epoch so far, nats per row, its rows and skipped steps: this waits for the device.

        Raises:
            NumericalError: The loss, a gradient or a weight is not finite, or the rate explodes.
        """
        self.ranks.check_in_step(self.trained.model)
        bad = self.meter.first_bad()
        weights = [p for player in self.trained.players for p in player.parameters]
        if bad is None and not all(torch.stack([(p.abs() < LARGEST_WEIGHT).all() for p in weights]).tolist()):
            bad = self.progress.step - 1
        if bad is not None:
            raise NumericalError(self._failure_message(bad))
        return self.meter.means()

    def _failure_message(self, bad: int) -> str:
        """The message about a step that went wrong."""
        remedies = ["a lower learning_rate (in a config train.learning_rate)", "clip_norm = 1"]
        remedies += [] if self.options.precision == "fp32" else ['precision = "fp32"']
        remedies += [] if self.options.skips_bad_steps else ['on_nan = "skip"']
        before = min(bad, self.meter.allowed)
        skipped = f"; the {before} steps before it were skipped" if before else ""
        return (
            f"the loss or its gradient is not finite, or the rate exceeds {EXPLODED:.0f} nats per row, at epoch "
            f"{self.progress.epoch + 1}, step {bad}; look for NaN or huge values in the data, or try "
            f"{', '.join(remedies[:-1])} or {remedies[-1]}{skipped}"
        )

    def close_epoch(self, seconds: float, validation: Iterable[Any] | None) -> Record:
        """Finish an epoch: validate, choose the best weights, and return the record.

        Arguments:
            seconds: Duration of the epoch.
            validation: Batches for the validation.

        Raises:
            NumericalError: See `check`; or the final weights do not work.
            DataError: The epoch had no batch.
        """
        record: Record = {"epoch": self.progress.epoch + 1, **self.check(), "seconds": seconds}
        if not record[ROWS_KEY] and not record.get("skipped"):
            raise DataError(
                "the training loader gave no batch: it has too few rows, or is an iterator that has ended; pass a "
                "sequence of batches"
            )
        record[SPEED_KEY] = record[ROWS_KEY] / max(seconds, 1e-9)
        with self.averages.applied():
            means = {} if validation is None else self._validate(validation)
            record |= {f"validation_{name}": value for name, value in means.items()}
            self._check_final_weights(means)
            self._choose(record)
            self.factor.after_epoch(record["epoch"], self.progress)
        record["learning_rate"] = self.progress.learning_rate
        self.progress.epoch += 1
        self.progress.batch = 0
        self.progress.seconds = 0.0
        self.meter.sums.zero_()
        return record

    def _validate(self, batches: Iterable[Any]) -> dict[str, float]:
        """The means of the loss, its schedules just before their end: at the end itself a cycle would start again."""
        end = math.nextafter(self.options.epochs, 0)
        model, loss, lenient = self.trained.model, self.trained.loss, self.options.skips_bad_steps
        return validate(model, batches, loss, epoch=end, ranks=self.ranks, lenient=lenient)

    def _check_final_weights(self, means: Mapping[str, float]) -> None:
        """After the last epoch, compute the loss of the last batch once more: no later step checks the weights.

        Where bad steps are skipped, at least one step must have been good.

        Arguments:
            means: Means of this epoch's validation. One good validation in the training is enough.
        """
        is_last = self.progress.epoch + 1 == self.options.epochs
        if is_last and self.options.skips_bad_steps and int(self.meter.bad_in_a_row) == self.progress.step:
            raise NumericalError(self._failure_message(self.progress.step - 1))
        shown_to_work = self.progress.best is not None or (bool(means) and _works(means))
        if not is_last or shown_to_work or self.options.skips_bad_steps or self.last_item is None:
            return
        if not _works(self._validate([self.last_item])):
            raise NumericalError(self._failure_message(self.progress.step - 1))

    def _choose(self, record: Record) -> None:
        """Remember the weights if their validation loss is the least so far, or if no epoch has had a finite one."""
        score, best = record.get("validation_loss"), self.progress.best
        if score is not None and not math.isfinite(score):
            score = None
        if best is None or (score is not None and score < best):
            self.progress.best = score
            self.progress.best_epoch = record["epoch"]
            self.best_weights = self.trained.copies()


def _works(means: Mapping[str, float]) -> bool:
    """Whether the loss is finite, and the rate does not explode."""
    return math.isfinite(means.get("loss", 0.0)) and means.get("rate", 0.0) <= EXPLODED
