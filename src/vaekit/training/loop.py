"""The training loop, read top to bottom."""

import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..config import Fit
from ..data import Batches
from ..errors import ConfigError, DataError
from ..model import LatentVariableModel
from ..objectives import Loss, module_of
from ..objectives.schedules import Adaptive, Constant, LearningRateSchedule
from ..store import Checkpoint, Run
from ..store.journal import MOST_EPOCHS
from .checkpointer import Checkpointer
from .clock import CheckClock
from .cpu import Pace, flushed
from .data_checks import check_classes, check_rows, checking_first
from .learning_rate import LearningRateFactor
from .listener import Listener, Listeners
from .players import check_trainable, players_of
from .precision import find_precision
from .progress import Progress
from .ranks import ALONE, Ranks, check_ranks
from .signals import Interrupted, stop_requests
from .trained_parts import TrainedParts
from .trainer import Record, Trainer

CHECK_EVERY = 0.25  # seconds between two checks of the loss; each check waits for the device


@dataclass(frozen=True)
class TrainingPlan:
    """How a model is trained.

    Arguments:
        loss: What is minimised.
        optimizer: An optimizer, or a function that makes one from the parameters to train.
        schedule: Factor on the optimizer's learning rate; constant if None.
        options: Training options; the precision "auto" becomes the model's.
    """

    loss: Loss
    optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer]
    schedule: LearningRateSchedule | None
    options: Fit

    def trainer(self, model: LatentVariableModel, epochs: float, ranks: Ranks = ALONE) -> Trainer:
        """A trainer of a model by this plan.

        Arguments:
            model: The model.
            epochs: Length of the training, which need not be whole.
            ranks: All processes of the training.
        """
        options = self.options
        if options.precision == "auto":
            options = options.model_copy(update={"precision": find_precision("auto", model)})
        players = players_of(model, self.loss, self.optimizer)
        check_ranks(ranks, model, self.loss, opponents=players[1:])
        ranks.convert_batch_norm(model)
        trained = TrainedParts(model, self.loss, players)
        return Trainer(trained, options, LearningRateFactor(self.schedule, epochs), ranks)

    def for_loaders(
        self, model: LatentVariableModel, train: Iterable[Any], validation: Iterable[Any] | None, ranks: Ranks = ALONE
    ) -> tuple[Trainer, int | None]:
        """A trainer for the length of loaders, and their batches in an epoch; None if they have no length.

        Arguments:
            model: The model.
            train: Batches, or anything with their length.
            validation: Batches to validate with.
            ranks: All processes of the training.

        Raises:
            ConfigError, DataError: The training cannot begin.
        """
        batches = batches_per_epoch(self.options, train, validation, self.schedule)
        options, length = in_epochs(self.options, batches)
        return replace(self, options=options).trainer(model, length, ranks), batches


def train_epochs(
    model: LatentVariableModel,
    plan: TrainingPlan,
    train: Iterable[Any],
    validation: Iterable[Any] | None = None,
    *,
    run: Run | None = None,
    resume: Checkpoint | None = None,
    listener: Listener | None = None,
    ranks: Ranks = ALONE,
) -> list[Record]:
    """Train a model by a plan: minimise the mean of its loss over the rows of every batch. See `vaekit.fit`.

    Arguments:
        model: Any latent-variable model, on the device to train on.
        plan: How to train it.
        train: Batches.
        validation: Batches to validate with after every epoch.
        run: Folder for metrics and checkpoints.
        resume: Last checkpoint of `run`, to continue from.
        listener: Listener to the progress.
        ranks: All processes of this training. Each of them makes the same call.

    Returns:
        One record for each epoch.

    Raises:
        VAEError, Interrupted: See `vaekit.fit`.
    """
    check_trainable(model)
    loss, options = plan.loss, plan.options
    _check_loaded_rows(model, loss, train, validation, lenient=options.skips_bad_steps)
    module = module_of(loss)
    if module is not None:
        module.to(model.device)
    listeners = Listeners([listener])
    trainer, batches = plan.for_loaders(model, train, validation, ranks)
    options = trainer.options
    checkpointer = Checkpointer(trainer, train, run, options.checkpoint_every)
    records = checkpointer.broadcast_state(ranks, checkpointer.resume(resume))
    with flushed(), stop_requests() as stop, checkpointer.rescue():
        if records and not trainer.progress.batch:
            with trainer.averages.applied():
                listeners.resumed(records[-1])
        monitor = _Monitor(trainer, batches, checkpointer, listeners, CheckClock(ranks, CHECK_EVERY, stop))
        while trainer.progress.epoch < options.epochs and not _out_of_patience(trainer.progress, options.patience):
            begun = time.perf_counter() - trainer.progress.seconds
            _take_steps(trainer, train, begun, monitor)
            record = trainer.close_epoch(time.perf_counter() - begun, validation)
            records.append(record)
            checkpointer.after_epoch(record)
            with trainer.averages.applied():
                listeners.epoch(record)
        checkpointer.save()
    trainer.trained.load_tensors(trainer.best_weights)
    model.eval()
    return records


@dataclass(frozen=True)
class _Monitor:
    """Checks a training between two steps: it reports the progress, saves, and stops when asked to.

    Arguments:
        trainer: The trainer.
        batches: Number of batches in an epoch, if it is known.
        checkpointer: Writes the checkpoints within an epoch.
        listeners: Hear about the progress, and about steps that have become slow.
        clock: Says when to check.
        pace: Compares the duration of steps with that of earlier ones.
    """

    trainer: Trainer
    batches: int | None
    checkpointer: Checkpointer
    listeners: Listeners
    clock: CheckClock
    pace: Pace = field(default_factory=Pace)

    def after_step(self, begun: float) -> None:
        """Check the training if it is time to.

        Arguments:
            begun: Start of the epoch, moved back by the seconds that it took before an interruption.

        Raises:
            NumericalError: See `Trainer.check`.
            Interrupted: A rank is asked to stop.
        """
        if not self.clock.due():
            return
        progress = self.trainer.progress
        progress.seconds = time.perf_counter() - begun
        self.listeners.step(progress, self.batches, self.trainer.check())
        slowdown = self.pace.slowdown(self.clock.seconds)
        if slowdown is not None:
            self.listeners.slower(slowdown)
        stopping = self.clock.stopping()
        self.checkpointer.within_epoch(stop=stopping)
        self.clock.end()
        if stopping:
            raise Interrupted(f"stopped at epoch {progress.epoch + 1}, step {progress.step}")


def _take_steps(trainer: Trainer, train: Iterable[Any], begun: float, monitor: _Monitor) -> None:
    """Take the steps of an epoch, or the rest of them."""
    options, progress, trained, batches = trainer.options, trainer.progress, trainer.trained, monitor.batches
    trained.training_mode()
    for batch in checking_first(trained.model, train, trained.loss, lenient=options.skips_bad_steps):
        if options.steps is not None and progress.step >= options.steps:
            break
        trainer.step(batch, progress.epoch + (progress.batch / batches if batches else 0.0))
        monitor.after_step(begun)


def _check_loaded_rows(model: LatentVariableModel, loss: Loss, train: Any, validation: Any, *, lenient: bool) -> None:
    """Check all rows that are in memory.

    Raises:
        DataError: The model has no density for a value, or the loss needs an unknown class.
    """
    for name, loader in (("training", train), ("validation", validation)):
        if isinstance(loader, Batches):
            check_rows(model, loader, lenient=lenient)
            check_classes(model, loss, loader, name)


def batches_per_epoch(
    options: Fit,
    train: Iterable[Any],
    validation: Iterable[Any] | None,
    schedule: LearningRateSchedule | None,
) -> int | None:
    """The number of batches in an epoch, or None if the loader has no length.

    Raises:
        ConfigError: The options or the schedule need a validation set, or the number of batches.
        DataError: There is no batch.
    """
    if schedule is not None:
        _check_schedule(schedule)
    if isinstance(schedule, Adaptive) and validation is None:
        name = type(schedule).__name__.lower()
        raise ConfigError(
            f"the schedule {name} lowers the learning rate when the validation loss stops falling; pass validation data"
        )
    if options.patience is not None and validation is None:
        raise ConfigError(
            "patience ends the training when the validation loss stops falling; pass validation data, or patience=None"
        )
    batches = _length(train)
    for name, length in (("training", batches), ("validation", None if validation is None else _length(validation))):
        if length == 0:
            raise DataError(f"the {name} data have no batch: there are no rows, or too few for one with drop_last=True")
    if batches is not None:
        return batches
    if schedule is not None and not isinstance(schedule, Constant):
        raise ConfigError(
            f"the schedule {type(schedule).__name__} needs to know how many batches an epoch has; give the loader a "
            "length, or leave the schedule out"
        )
    return None


def _check_schedule(schedule: object) -> None:
    """Check that a schedule can be called.

    Raises:
        ConfigError: The schedule is a class, or not a function of two numbers.
    """
    try:
        if inspect.isclass(schedule):
            raise TypeError
        inspect.signature(schedule).bind(0.0, 1.0)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(
            f"a schedule is a function of (epoch, epochs), such as vaekit.schedules.OneCycle(), got {schedule!r:.80}"
        ) from None


def _length(loader: Iterable[Any]) -> int | None:
    """The number of batches of a loader, if it has a length."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:  # a loader over an iterable data set has the method, and raises this too
        return None


def in_epochs(options: Fit, batches: int | None) -> tuple[Fit, float]:
    """The options, with as many epochs as `steps` needs if it is set; and the length of the training in epochs.

    Arguments:
        options: Training options.
        batches: Number of batches in an epoch, if it is known.

    Raises:
        ConfigError: The length is given in steps, and `batches` is unknown; or it is more than 100,000 epochs.
    """
    if options.steps is None:
        return options, options.epochs
    if batches is None:
        raise ConfigError("steps needs to know how many batches an epoch has; give the loader a length, or set epochs")
    epochs = -(-options.steps // batches)
    if epochs > MOST_EPOCHS:
        raise ConfigError(
            f"steps must be at most {MOST_EPOCHS * batches} ({MOST_EPOCHS} epochs of {batches} batches), got "
            f"{options.steps}"
        )
    return options.model_copy(update={"epochs": epochs}), options.steps / batches


def _out_of_patience(progress: Progress, patience: int | None) -> bool:
    return patience is not None and progress.epoch - progress.best_epoch >= patience
