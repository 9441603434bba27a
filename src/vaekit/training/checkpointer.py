"""When to remember the state of a training: in memory, against a numerical failure; on disk, against a crash."""

import json
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ..errors import ConfigError, NumericalError, RankError, RunError
from ..rng import check_generator_state
from ..store import Checkpoint, Run
from .progress import Progress
from .ranks import Ranks
from .state import check_like, restore, state_of
from .trainer import Record, Trainer

SNAPSHOT_AFTER = 200.0  # times the seconds that a snapshot takes


@runtime_checkable
class Stateful(Protocol):
    """A loader that can tell where it stands, and continue from there."""

    def state_dict(self) -> dict[str, Any]:
        """The loader's position."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position."""


class Checkpointer:
    """Remembers the last good state of a training: in memory, against a numerical failure; on disk, against a crash.

    A state is good when a check has found nothing bad. Training can continue from it when the loader can tell where it
    stands or an epoch has just ended.

    Arguments:
        trainer: The training.
        loader: The training batches.
        run: Run folder to write to; None to remember in memory only.
        every: Seconds of work that may be lost.
    """

    def __init__(self, trainer: Trainer, loader: Iterable[Any], run: Run | None, every: float) -> None:
        self.trainer = trainer
        self.loader = loader
        self.run = run
        self.every = every
        self.saved_time = time.perf_counter()
        self.save_seconds = 0.0  # seconds that the last save took
        self.saved_progress = (-1, -1)  # epoch and step
        self.saved_best = 0  # epoch
        self.snapshot()
        if run is not None:
            _check_position(self.last_good.state.get("loader", {}))

    def resume(self, checkpoint: Checkpoint | None) -> list[Record]:
        """Put everything back to the state of the checkpoint, and return the records of the epochs before it."""
        if checkpoint is None:
            return []
        if self.run is None:
            raise ConfigError("a checkpoint is resumed in its own run; pass run= with resume=")
        self._restore(checkpoint)
        progress = self.trainer.progress
        self.run.truncate_metrics(progress.epoch)
        records = self.run.metrics()
        epochs = [record.get("epoch") for record in records]
        if epochs != list(range(1, progress.epoch + 1)):
            where = self.run.path / "metrics.jsonl"
            raise RunError(f"{where} is damaged: its epochs are not 1 to {progress.epoch}; train the run again")
        if progress.epoch:
            self._restore_best(self.run)
        self.snapshot()
        progress = self.trainer.progress
        is_saved = progress.best_epoch <= self.saved_best
        self.saved_progress = (progress.epoch, progress.step) if is_saved else (-1, -1)
        return records

    def broadcast_state(self, ranks: Ranks, records: list[Record]) -> list[Record]:
        """Take over the state of the first rank, and return its records."""
        good, best, records = ranks.broadcast((self.last_good, self.trainer.best_weights, records))
        if ranks.rank:
            self._restore(good)
            self.trainer.best_weights = best
            self.snapshot()
        return records

    def _restore(self, checkpoint: Checkpoint) -> None:
        position = checkpoint.part("loader")
        if isinstance(self.loader, Stateful):
            try:
                for state in position.values():
                    check_generator_state(state)
                self.loader.load_state_dict({**position, **checkpoint.state["loader"]})
            except (LookupError, TypeError, ValueError) as error:
                raise RunError(f"the checkpoint does not fit this training: {error}") from error
        restore(self.trainer, checkpoint)

    def _restore_best(self, run: Run) -> None:
        """Read the best weights of a run.

        They may be newer than the checkpoint: the epoch that gave them is then trained again. If the newest ones are
        damaged, older ones are used; if all are, the best weights are chosen anew.
        """
        progress = self.trainer.progress
        weights = self.trainer.best_weights
        try:
            stored = run.load_checkpoint("best", parts=tuple(self.trainer.trained.modules))
            tensors = stored.tensors
            if not stored.part("loss"):  # from an earlier version, which kept no weights of a loss here
                current = self.trainer.trained.copies().items()
                tensors |= {name: tensor for name, tensor in current if name.startswith("loss/")}
            self.trainer.best_weights = {name: check_like(weights[name], tensors[name], name) for name in weights}
            self.saved_best = int(stored.state["epoch"])
            if self.saved_best < progress.best_epoch:
                score = stored.state["loss"] if "loss" in stored.state else stored.state["neg_elbo"]  # the first runs
                older = {"best": score, "best_epoch": self.saved_best}
                self.trainer.progress = Progress.read(asdict(progress) | older)
        except (RunError, LookupError, TypeError, ValueError) as error:
            warnings.warn(f"{error}; the best weights are chosen anew from here on", stacklevel=2)
            progress.best = None
            progress.best_epoch = progress.epoch
            with self.trainer.averages.applied():
                self.trainer.best_weights = self.trainer.trained.copies()

    def snapshot(self) -> None:
        """Remember the state of the training in memory."""
        start = time.perf_counter()
        tensors, state = state_of(self.trainer)
        if isinstance(self.loader, Stateful):
            position = self.loader.state_dict()
            tensors |= {f"loader/{name}": value for name, value in position.items() if isinstance(value, Tensor)}
            state["loader"] = {name: value for name, value in position.items() if not isinstance(value, Tensor)}
        self.last_good = Checkpoint({name: tensor.detach().clone() for name, tensor in tensors.items()}, state)
        self.snapshot_time = time.perf_counter()
        self.snapshot_seconds = self.snapshot_time - start

    def within_epoch(self, *, stop: bool) -> None:
        """Remember the state if that costs at most 0.5 % of the time; save it if a save is due."""
        now = time.perf_counter()
        due = stop or (self.run is not None and now - self.saved_time >= self.every)
        if isinstance(self.loader, Stateful) and (
            due or now - self.snapshot_time >= SNAPSHOT_AFTER * self.snapshot_seconds
        ):
            self.snapshot()
        if due:
            self.save()

    def after_epoch(self, record: Record) -> None:
        """Remember the state and write the record; save if a save is due, or costs less than 2 % of the time."""
        self.snapshot()
        if self.run is None:
            return
        self.run.append_metrics(record)
        if time.perf_counter() - self.saved_time >= min(self.every, 50 * self.save_seconds):
            self.save()

    def save(self) -> None:
        """Write the last good state, unless it has been written."""
        progress = self.last_good.state["progress"]
        reached = progress["epoch"], progress["step"]  # the validation lies between the last step and the epoch's end
        if self.run is None or reached == self.saved_progress:
            return
        start = time.perf_counter()
        if progress["best_epoch"] > self.saved_best:  # before `last`, which names it by its epoch
            state = {"epoch": progress["best_epoch"], "loss": progress["best"]}
            self.run.save_checkpoint(self.trainer.best_weights, state, kind="best")
            self.saved_best = progress["best_epoch"]
        self.run.save_checkpoint(self.last_good.tensors, self.last_good.state)
        self.saved_progress = reached
        self.saved_time = time.perf_counter()
        self.save_seconds = self.saved_time - start

    @contextmanager
    def rescue(self) -> Iterator[None]:
        """If the block fails numerically or a rank dies, put the last good state back, and save it."""
        try:
            yield
        except (NumericalError, RankError) as error:
            self._restore(self.last_good)
            with suppress(RunError):  # it would hide the first error
                self.save()
            step = self.trainer.progress.step
            raise error.with_message(f"{error}; the last state that was good, after step {step}, is kept") from None


def _check_position(position: Mapping[str, Any]) -> None:
    """Refuse the position of a loader that no checkpoint can hold, before the training.

    Raises:
        ConfigError: A value is neither a tensor nor JSON.
    """
    for name, value in position.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"the loader's state_dict() gives {type(value).__name__} for {name!r}, which a checkpoint cannot hold: "
                "give tensors by name, and JSON; a loader without state_dict is not resumed within an epoch"
            ) from None
