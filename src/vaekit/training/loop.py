"""The training loop, read top to bottom."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError, RankError
from ..model import LatentVariableModel
from ..objectives import Objective, elbo
from ..objectives.schedules import Constant, RateSchedule
from ..store import Checkpoint, Run
from .checkpointer import Checkpointer
from .precision import Precision, find_precision
from .ranks import ALONE, Looks, Ranks
from .trainer import Progress, Record, Trainer

LOOK_EVERY = 0.25  # seconds between two looks at the loss, each of which waits for the device


class Listener(Protocol):
    """Whoever wants to know how the training goes."""

    def step(self, progress: Progress, batches: int | None, means: Mapping[str, float]) -> None:
        """Called a few times a second, with the batches in an epoch, and its means and images until now."""

    def epoch(self, record: Record) -> None:
        """Called after every epoch."""


class Interrupted(KeyboardInterrupt):
    """The training was asked to stop, by Ctrl-C or a signal, and has stopped at a whole step."""


def fit(
    model: LatentVariableModel,
    train: Iterable[Any],
    validation: Iterable[Any] | None = None,
    *,
    objective: Callable[..., Tensor] = elbo,
    epochs: int = 10,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: RateSchedule | None = None,
    clip_norm: float | None = None,
    ema: float | None = None,
    patience: int | None = None,
    on_nan: str = "stop",
    precision: Precision = "fp32",
    run: Run | None = None,
    checkpoint_every: float = 60.0,
    resume: Checkpoint | None = None,
    listener: Listener | None = None,
    ranks: Ranks = ALONE,
) -> list[Record]:
    """Train a model: maximise the mean of an objective over the rows of every batch.

    Afterwards the model holds the weights of the best validation, or the last ones where there is no validation.

    Arguments:
        model: Any latent-variable model, on the device to train on.
        train: Loader of `(images, labels)` or of images; labels are classes, or context rows of shape (B, C).
        validation: Loader for the −ELBO after every epoch, by which the best weights are chosen; where the objective
            is no bound they are chosen by its own value there, `validation_loss`.
        objective: Function of a `Draw` that returns (B,) nats, or an `Objective` with options and K.
        epochs: How many passes over `train`.
        optimizer: Adam with learning rate 1e-3 by default.
        schedule: Factor on the optimizer's learning rate.
        clip_norm: Greatest norm of the whole gradient; None does not clip.
        ema: Decay of an exponential moving average of the weights, which is then what is validated and kept.
        patience: Stop after this many epochs without a better validation; None never stops early.
        on_nan: Whether a step whose loss or gradient is not finite, or whose rate explodes, stops the training or is
            skipped as if its batch were not there. Neither waits for the device, if the optimizer is fused.
        precision: Of the matrix products in the networks while training: "fp32", "tf32" or "bf16"; "auto" is the
            lowest that the hardware has and that is safe for the model. Validation is always exact.
        run: Run folder for metrics and checkpoints.
        checkpoint_every: Seconds of work that a kill may cost at most, with `run`.
        resume: Checkpoint of an interrupted training of the same run to go on from.
        listener: Told about the progress.
        ranks: All processes that train this model, as `joined` gives them. Each calls `fit` with the same model,
            loaders and options, but for `run`, `resume` and `listener`, which only the first has.

    Returns:
        One record an epoch, means in nats per image: `loss` (the negated objective), `neg_elbo`, `rate`, `distortion`,
        the same with `validation_` (the loss only of what is no bound), `images`, `seconds`, `images_per_second`,
        `learning_rate`, and with `on_nan="skip"` the steps `skipped`.

    Raises:
        NumericalError: the loss, a gradient or a weight is not finite, or the rate explodes; the model then holds the
            last state that was seen to be good, and so does `run`.
        RankError: another rank died; `run` holds the last state that was good.
        Interrupted: Ctrl-C or SIGTERM; the step was finished and, with `run`, a checkpoint written.
    """
    if epochs < 1:
        raise ConfigError(f"epochs must be at least 1, got {epochs}")
    if on_nan not in ("stop", "skip"):
        raise ConfigError(f"on_nan must be 'stop' or 'skip', got {on_nan!r}")
    objective = objective if isinstance(objective, Objective) else Objective(objective)
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    ranks.check(model, objective)
    ranks.synchronize(model)
    trainer = Trainer(
        *(model, objective, optimizer, schedule or Constant(), epochs, clip_norm, ema, on_nan == "skip"),
        *(find_precision(precision, model), ranks),
    )
    keeper = Checkpointer(trainer, train, run, checkpoint_every)
    records = keeper.follow(ranks, keeper.resume(resume))
    batches = len(train) if isinstance(train, Sized) else None
    with stop_requests() as stop, keeper.rescue():
        looks = Looks(ranks, LOOK_EVERY, stop)
        while trainer.progress.epoch < epochs and not _out_of_patience(trainer.progress, patience):
            progress, begun = trainer.progress, time.perf_counter() - trainer.progress.seconds
            model.train()
            for batch in train:
                trainer.step(batch, progress.epoch + (progress.batch / batches if batches else 0.0))
                if looks.due():
                    progress.seconds = time.perf_counter() - begun
                    means = trainer.look()
                    if listener is not None:
                        listener.step(progress, batches, means)
                    stopping = looks.stopping()
                    keeper.within_epoch(stop=stopping)
                    looks.end()
                    if stopping:
                        raise Interrupted(f"stopped at epoch {progress.epoch + 1}, step {progress.step}")
            record = trainer.close_epoch(time.perf_counter() - begun, validation)
            progress.seconds = 0.0
            records.append(record)
            keeper.after_epoch(record)
            if listener is not None:
                listener.epoch(record)
        keeper.save()
    model.load_state_dict(trainer.best)
    model.eval()
    return records


def _out_of_patience(progress: Progress, patience: int | None) -> bool:
    return patience is not None and progress.epoch - progress.best_epoch >= patience


@contextmanager
def stop_requests() -> Iterator[list[float]]:
    """A list that is empty until Ctrl-C or SIGTERM comes; a second one, half a second later or more, acts at once.

    One Ctrl-C under torchrun comes twice: from the terminal, and from torchrun.
    """
    received: list[float] = []

    def note(number: int, frame: object) -> None:
        now = time.monotonic()
        if received and now - received[0] >= 0.5:
            raise KeyboardInterrupt
        received.append(now)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    except RankError:
        before[signal.SIGTERM] = signal.SIG_IGN  # torchrun now ends all ranks; this one has yet to say why
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
