"""The training loop, read top to bottom."""

import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..config import Fit, Train, parse
from ..data import Batches
from ..data.loader_factory import LoaderFactory
from ..errors import ConfigError, DataError
from ..model import LatentVariableModel, check_model
from ..objectives import Loss, as_loss, elbo, module_of
from ..objectives.schedules import Adaptive, Constant, RateSchedule
from ..store import Checkpoint, Run
from ..store.journal import MOST_EPOCHS
from .checkpointer import Checkpointer
from .clock import CheckClock
from .cpu import Pace, flushed
from .data_checks import check_classes, check_rows, first_checked
from .learning_rate import LearningRateFactor
from .listener import Listener, Listeners
from .optimizers import adam
from .precision import find_precision
from .progress import Progress
from .ranks import ALONE, Ranks, check_ranks
from .signals import Interrupted, stop_requests
from .trainer import Record, Trainer, check_trainable, players_of

_ELSEWHERE = {  # what to do instead of setting an option that only runs have
    "device": "move the model first: model.to('cuda')",
    "seed": "call torch.manual_seed(…) first",
    "threads": "call torch.set_num_threads(…) first",
    "deterministic": "call torch.use_deterministic_algorithms(True) first",
}
CHECK_EVERY = 0.25  # seconds between two checks of the loss; each check waits for the device


def fit(
    model: LatentVariableModel,
    train: Any,
    validation: Any = None,
    *,
    objective: Callable[..., Any] = elbo,
    optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer] | None = None,
    schedule: RateSchedule | None = None,
    options: Fit | None = None,
    run: Run | None = None,
    resume: Checkpoint | None = None,
    listener: Listener | None = None,
    ranks: Ranks = ALONE,
    **settings: Any,
) -> list[Record]:
    """Train a model: minimise the mean of a loss over the rows of every batch.

    Afterwards the model holds the weights of the best validation, or the last ones without validation.

    Arguments:
        model: Any latent-variable model, on the device to train on.
        train: Training data, in any form that `vaekit.fit` takes.
        validation: Validation data, in the same forms. Their loss after every epoch chooses the best weights.
        objective: Function of a `Draw` that returns (B,) nats to be maximised; an `OfDraw` with options and K; or any
            other `objectives.Loss`. The ELBO by default.
        optimizer: An optimizer, or a function that makes one from the parameters to train, such as
            `partial(torch.optim.SGD, lr=0.1)`, with its own learning rate; Adam by default, with that of the options.
        schedule: Factor on the optimizer's learning rate.
        options: Training options.
        run: Folder for metrics and checkpoints.
        resume: Last checkpoint of `run`, to continue from.
        listener: Listener to the progress.
        ranks: All processes of this training, from `joined()`. Each of them calls `fit` in the same way.
        settings: Fields of `config.Fit` that override the options: `fit(model, train, epochs=3, batch_size=64)`.

    Returns:
        One record for each epoch: means over the rows by name, for training and validation, and timings.

    Raises:
        ConfigError: `model` is not a model, a setting is unknown or out of range, or the arguments do not fit together.
        DataError: The data have another shape than the model's, or values that the likelihood has no density for.
        NumericalError: The loss, a gradient or a weight is not finite, or the rate explodes; the model and `run` then
            hold the last good state.
        RankError: Another rank died; `run` holds the last good state.
        Interrupted: Ctrl-C, SIGTERM or a closed terminal stopped the training after a whole step; `run` has a
            checkpoint.
    """
    check_model(model)
    check_trainable(model)
    if not isinstance(run, Run | None):
        raise ConfigError(f"run is a vaekit.Run, as Run.create(…) gives it, got {type(run).__name__}")
    options = with_settings(options, settings, model, own_optimizer=optimizer is not None)
    loss = as_loss(objective)
    train, validation = loaders(model, train, validation, options, own_size="batch_size" in settings)
    check_loaded_rows(model, loss, train, validation, lenient=options.on_nan == "skip")
    module = module_of(loss)
    if module is not None:
        module.to(model.device)
    listeners = Listeners([listener])
    batches = check_fit(options, train, validation, schedule)
    players = players_of(model, loss, optimizer or partial(adam, learning_rate=options.learning_rate))
    check_ranks(ranks, model, loss, opponents=players[1:])
    ranks.synchronize(model)
    options, length = in_epochs(options, batches)
    trainer = Trainer(model, loss, players, options, LearningRateFactor(schedule, length), ranks)
    checkpointer = Checkpointer(trainer, train, run, options.checkpoint_every)
    records = checkpointer.synchronize(ranks, checkpointer.resume(resume))
    with flushed(), stop_requests() as stop, checkpointer.rescue():
        if records and not trainer.progress.batch:
            with trainer.with_averages():
                listeners.resumed(records[-1])
        monitor = _Monitor(checkpointer, CheckClock(ranks, CHECK_EVERY, stop), Pace(), listeners)
        while trainer.progress.epoch < options.epochs and not _out_of_patience(trainer.progress, options.patience):
            begun = time.perf_counter() - trainer.progress.seconds
            last = _epoch(trainer, train, batches, begun, monitor)
            record = trainer.close_epoch(time.perf_counter() - begun, validation, last)
            trainer.progress.seconds = 0.0
            records.append(record)
            checkpointer.after_epoch(record)
            with trainer.with_averages():
                listeners.epoch(record)
        checkpointer.save()
    trainer.load_tensors(trainer.best)
    model.eval()
    return records


@dataclass(frozen=True)
class _Monitor:
    """The helpers of an epoch: checkpoints, checks, pace and listeners."""

    checkpointer: Checkpointer
    clock: CheckClock
    pace: Pace
    listeners: Listeners


def _epoch(trainer: Trainer, train: Iterable[Any], batches: int | None, begun: float, monitor: _Monitor) -> Any:
    """Take the steps of an epoch, or the rest of them; return the last batch."""
    options, progress, clock = trainer.options, trainer.progress, monitor.clock
    trainer.training_mode()
    last: Any = None
    for batch in first_checked(trainer.model, train, trainer.loss, lenient=options.on_nan == "skip"):
        if options.steps is not None and progress.step >= options.steps:
            break
        trainer.step(batch, progress.epoch + (progress.batch / batches if batches else 0.0))
        last = batch
        if clock.due():
            progress.seconds = time.perf_counter() - begun
            monitor.listeners.step(progress, batches, trainer.check())
            times = monitor.pace.slower(clock.seconds)
            if times is not None:
                monitor.listeners.slower(times)
            stopping = clock.stopping()
            monitor.checkpointer.within_epoch(stop=stopping)
            clock.end()
            if stopping:
                raise Interrupted(f"stopped at epoch {progress.epoch + 1}, step {progress.step}")
    return last


def with_settings(
    options: Fit | None, settings: Mapping[str, Any], model: LatentVariableModel, *, own_optimizer: bool = False
) -> Fit:
    """Options with settings on top, checked; the precision "auto" becomes the model's.

    Arguments:
        options: The options; the defaults if None.
        settings: The settings.
        model: The model.
        own_optimizer: Whether the caller brings an optimizer, which has a learning rate of its own.

    Raises:
        ConfigError: A setting is unknown (the nearest one is named) or out of range, or only a run can follow it. Or a
            learning rate comes with an optimizer.
    """
    if not isinstance(options, Fit | None):
        raise ConfigError(
            f"options is a config.Fit, got {type(options).__name__}; or pass its fields, such as epochs=3"
        )
    if isinstance(options, Train):
        raise ConfigError("fit has no seed, device or threads; pass a config.Fit, as Train.for_fit() gives it")
    for name in settings.keys() & _ELSEWHERE.keys():
        raise ConfigError(f"fit has no {name}; {_ELSEWHERE[name]}")
    if own_optimizer and "learning_rate" in settings:
        raise ConfigError(
            f"learning_rate = {settings['learning_rate']} is Adam's, and the optimizer has its own; set it there: "
            "partial(torch.optim.SGD, lr=0.1)"
        )
    merged = (options or Fit()).model_dump() | dict(settings)
    valid = parse({"train": merged}, "fit").train.for_fit()
    return valid.model_copy(update={"precision": find_precision(valid.precision, model)})


def loaders(
    model: LatentVariableModel, train: Any, validation: Any, options: Fit, *, own_size: bool
) -> tuple[Iterable[Any], Iterable[Any] | None]:
    """Loaders of the training and validation data.

    Raises:
        ConfigError: `batch_size` is set for a loader, which makes its own batches.
        DataError: No loader can be made of the data.
    """
    factory = LoaderFactory(
        model.event_shape,
        model.value_kind,
        options.batch_size,
        model.device,
        conditional=bool(model.context_size),
        columns=model.columns,
        sees_missing=model.sees_missing,
    )
    training, validating = factory.loaders(train, validation)
    if own_size and training is train:
        raise ConfigError(f"batch_size is for data; {type(train).__name__} is a loader and makes its own batches")
    return training, validating


def check_loaded_rows(model: LatentVariableModel, loss: Loss, train: Any, validation: Any, *, lenient: bool) -> None:
    """Check all rows that are in memory.

    Raises:
        DataError: The model has no density for a value, or needs an unknown class.
    """
    for name, loader in (("training", train), ("validation", validation)):
        if isinstance(loader, Batches):
            check_rows(model, loader, lenient=lenient)
            check_classes(model, loss, loader, name)


def check_fit(
    options: Fit,
    train: Iterable[Any],
    validation: Iterable[Any] | None,
    schedule: RateSchedule | None,
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
            f"the schedule {name} lowers the rate when the validation loss stops falling; pass validation data"
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
    """Options with the epochs that `steps` need, if they are set; and the length in epochs.

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
