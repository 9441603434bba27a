"""The training loop: `fit`, for any model, any objective and any loader.

Not for: reading configs or writing pictures (`experiment`).
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .draw import Draw
from .errors import ConfigError, DataError, DeviceError, NumericalError
from .model import LatentVariableModel
from .objectives import Objective, elbo
from .rng import random_state, seeded, set_random_state
from .run import Checkpoint, Run
from .schedules import Constant, RateSchedule

Record = dict[str, Any]
LOOK_EVERY = 0.25  # seconds between two looks at the loss, each of which waits for the device
MEANS = ("loss", "neg_elbo", "rate", "distortion")


class Listener(Protocol):
    """Whoever wants to know how the training goes."""

    def step(self, progress: "Progress", batches: int | None, means: Mapping[str, float]) -> None:
        """Called a few times a second, with the batches in an epoch, and its means and images until now."""

    def epoch(self, record: Record) -> None:
        """Called after every epoch."""


@runtime_checkable
class Stateful(Protocol):
    """A loader that can tell where it stands, and go on from there."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Interrupted(KeyboardInterrupt):
    """The training was asked to stop, by Ctrl-C or a signal, and has stopped at a whole step."""


@dataclass
class Progress:
    """Where a training stands between two steps: whole epochs, batches of the one begun, and the best validation."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    best: float | None = None
    best_epoch: int = 0


class Trainer:
    """A model, its optimizer and where they stand: one step, one look, one state to save."""

    def __init__(
        self,
        model: LatentVariableModel,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        schedule: RateSchedule,
        epochs: int,
        clip_norm: float | None,
        ema: float | None,
    ) -> None:
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.schedule, self.epochs, self.clip_norm, self.ema = schedule, epochs, clip_norm, ema
        self.progress = Progress()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.parameters] if ema else []
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.sums = torch.zeros(len(MEANS) + 1, dtype=_widest(model.device), device=model.device)
        self.bad_step = torch.full((), -1, device=model.device)
        self.good = self._weights()
        self.best = self.good

    def step(self, x: Tensor, c: Tensor | None, epoch: float) -> None:
        """One step of the optimizer on one batch, at `epoch`, which need not be whole."""
        factor = self.schedule(epoch, self.epochs)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = factor * rate
        self.progress.learning_rate = factor * self.rates[0]
        draw = self.model.draw(x, self.objective.samples, c)
        objective = self.objective(draw, epoch)
        loss = -objective.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        if self.ema:
            torch._foreach_lerp_(self.averages, list[Tensor](self.parameters), 1 - self.ema)
        self._count(draw, objective.detach(), loss.detach())

    @torch.no_grad()
    def _count(self, draw: Draw, objective: Tensor, loss: Tensor) -> None:
        rate, distortion = draw.rate().sum(), draw.distortion.sum()
        images = rate.new_full((), len(objective))
        self.sums += torch.stack((-objective.sum(), rate + distortion, rate, distortion, images)).to(self.sums.dtype)
        self.bad_step = torch.where((self.bad_step < 0) & ~loss.isfinite(), self.progress.step, self.bad_step)
        self.progress.step += 1
        self.progress.batch += 1

    def look(self) -> dict[str, float]:
        """Means of the epoch so far, nats per image, and its images: this waits for the device.

        Raises:
            NumericalError: the loss or a weight is not finite; the weights of the last look are put back.
        """
        bad = int(self.bad_step)
        if bad < 0 and not all(torch.stack([p.isfinite().all() for p in self.parameters]).tolist()):
            bad = self.progress.step - 1
        if bad >= 0:
            self.model.load_state_dict(self.good)
            raise NumericalError(
                f"not finite: the loss at epoch {self.progress.epoch + 1}, step {bad}; the last good weights are kept; "
                "try a lower train.learning_rate or train.clip_norm = 1, and look for NaN or huge values in the data"
            )
        self.good = self._weights()
        *sums, images = self.sums.tolist()
        means = {name: value / max(images, 1.0) for name, value in zip(MEANS, sums, strict=True)}
        return means | {"images": images}

    def close_epoch(self, seconds: float, validation: Iterable[Any] | None) -> Record:
        """Finish an epoch: its record, with the validation, after which the best weights are known."""
        record: Record = {"epoch": self.progress.epoch + 1, **self.look(), "seconds": seconds}
        if not record["images"]:
            raise DataError("the training loader gave no batch; it must be a sequence of batches, not an iterator")
        record["images_per_second"] = record["images"] / seconds
        with self.averaged():
            if validation is not None:
                record |= {f"validation_{name}": value for name, value in validate(self.model, validation).items()}
            score = record.get("validation_neg_elbo")
            if score is None or self.progress.best is None or score < self.progress.best:
                self.progress.best, self.progress.best_epoch = score, record["epoch"]
                self.best = self._weights()
        record["learning_rate"] = self.progress.learning_rate
        self.progress.epoch += 1
        self.progress.batch = 0
        self.sums.zero_()
        return record

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the model has the averaged weights, where there are any."""
        raw = [p.detach().clone() for p in self.parameters] if self.ema else []
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(raw)

    @torch.no_grad()
    def _put(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=False):
            parameter.copy_(weight)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on, as tensors by name and as JSON."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"ema/{i}": tensor for i, tensor in enumerate(self.averages)}
        for i, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
        tensors["progress/sums"] = self.sums
        tensors |= {f"rng/{name}": tensor for name, tensor in random_state().items()}
        python = random.getstate()
        return tensors, {"progress": asdict(self.progress), "python": [python[0], list(python[1]), python[2]]}

    def restore(self, checkpoint: Checkpoint, best: Checkpoint) -> None:
        """Stand where the checkpoint was taken."""
        part = _parts(checkpoint.tensors)
        self.model.load_state_dict(part["model"])
        for i, average in enumerate(self.averages):
            average.copy_(part["ema"][str(i)])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part.get("optimizer", {}).items():
            index, slot = name.split(".", 1)
            state.setdefault(int(index), {})[slot] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.sums.copy_(part["progress"]["sums"])
        self.progress = Progress(**checkpoint.state["progress"])
        self.good = self._weights()
        self.best = _parts(best.tensors)["model"]
        set_random_state(part["rng"])
        version, internal, gauss = checkpoint.state["python"]
        random.setstate((version, tuple(internal), gauss))


class _Saver:
    """When to write what of a training into its run folder; nothing without one."""

    def __init__(self, trainer: Trainer, loader: Iterable[Any], run: Run | None, every: float) -> None:
        self.trainer, self.loader, self.run, self.every = trainer, loader, run, every
        self.last = time.perf_counter()
        self.cost = 0.0

    def restore(self, checkpoint: Checkpoint | None) -> list[Record]:
        """Put everything back to where the checkpoint was taken; the records of the epochs before it."""
        if checkpoint is None or self.run is None:
            return []
        best = self.run.load_checkpoint("best") if checkpoint.state["progress"]["epoch"] else checkpoint
        self.trainer.restore(checkpoint, best)
        if isinstance(self.loader, Stateful):
            position = _parts(checkpoint.tensors)["loader"]
            self.loader.load_state_dict({**position, **checkpoint.state["loader"]})
        self.run.truncate_metrics(self.trainer.progress.epoch)
        return self.run.metrics()

    def within_epoch(self) -> None:
        """Save if the work since the last checkpoint is worth it."""
        if isinstance(self.loader, Stateful) and self._idle() >= self.every:
            self.save()

    def after_epoch(self, record: Record) -> None:
        """Keep the record and the best weights; save if that costs less than 2 % of the time."""
        if self.run is None:
            return
        self.run.append_metrics(record)
        if self.trainer.progress.best_epoch == record["epoch"]:
            best = {f"model/{name}": tensor for name, tensor in self.trainer.best.items()}
            self.run.save_checkpoint(best, {"epoch": record["epoch"]}, kind="best")
        if self._idle() >= min(self.every, 50 * self.cost) or self.trainer.progress.epoch == self.trainer.epochs:
            self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        if self.run is None:
            return
        start = time.perf_counter()
        tensors, state = self.trainer.state()
        if isinstance(self.loader, Stateful):
            position = self.loader.state_dict()
            tensors |= {f"loader/{name}": value for name, value in position.items() if isinstance(value, Tensor)}
            state["loader"] = {name: value for name, value in position.items() if not isinstance(value, Tensor)}
        self.run.save_checkpoint(tensors, state)
        self.last = time.perf_counter()
        self.cost = self.last - start

    def _idle(self) -> float:
        return time.perf_counter() - self.last


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
    run: Run | None = None,
    checkpoint_every: float = 60.0,
    resume: Checkpoint | None = None,
    listener: Listener | None = None,
) -> list[Record]:
    """Train a model: maximise the mean of an objective over the rows of every batch.

    Afterwards the model holds the weights of the best validation, or the last ones where there is no validation.

    Arguments:
        model: Any latent-variable model, on the device to train on.
        train: Loader of `(images, labels)` or of images; labels are classes, or context rows of shape (B, C).
        validation: Loader for the −ELBO after every epoch, by which the best weights are chosen.
        objective: Function of a `Draw` that returns (B,) nats, or an `Objective` with options and K.
        epochs: How many passes over `train`.
        optimizer: Adam with learning rate 1e-3 by default.
        schedule: Factor on the optimizer's learning rate.
        clip_norm: Greatest norm of the whole gradient; None does not clip.
        ema: Decay of an exponential moving average of the weights, which is then what is validated and kept.
        patience: Stop after this many epochs without a better validation; None never stops early.
        run: Run folder for metrics and checkpoints.
        checkpoint_every: Seconds of work that a kill may cost at most, with `run`.
        resume: Checkpoint of an interrupted training of the same run to go on from.
        listener: Told about the progress.

    Returns:
        One record an epoch, means in nats per image: `loss` (the negated objective), `neg_elbo`, `rate`, `distortion`,
        the same with `validation_` but the loss, `images`, `seconds`, `images_per_second`, `learning_rate`.

    Raises:
        NumericalError: the loss is not finite; the model then holds the last weights that were seen to be good.
        Interrupted: Ctrl-C or SIGTERM; the step was finished and, with `run`, a checkpoint written.
    """
    if epochs < 1:
        raise ConfigError(f"epochs must be at least 1, got {epochs}")
    objective = objective if isinstance(objective, Objective) else Objective(objective)
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    trainer = Trainer(model, objective, optimizer, schedule or Constant(), epochs, clip_norm, ema)
    saver = _Saver(trainer, train, run, checkpoint_every)
    records = saver.restore(resume)
    batches = len(train) if isinstance(train, Sized) else None
    with _stop_requests() as stop:
        while trainer.progress.epoch < epochs and not _out_of_patience(trainer.progress, patience):
            progress, begun = trainer.progress, time.perf_counter() - trainer.progress.seconds
            looked = time.perf_counter()
            model.train()
            for batch in train:
                x, c = _split(batch, model)
                trainer.step(x, c, progress.epoch + (progress.batch / batches if batches else 0.0))
                now = time.perf_counter()
                if stop or now - looked >= LOOK_EVERY:
                    looked, progress.seconds = now, now - begun
                    means = trainer.look()
                    if listener is not None:
                        listener.step(progress, batches, means)
                    if stop:
                        saver.save()
                        raise Interrupted(f"stopped at epoch {progress.epoch + 1}, step {progress.step}")
                    saver.within_epoch()
            record = trainer.close_epoch(time.perf_counter() - begun, validation)
            progress.seconds = 0.0
            records.append(record)
            saver.after_epoch(record)
            if listener is not None:
                listener.epoch(record)
    model.load_state_dict(trainer.best)
    model.eval()
    return records


@torch.no_grad()
def validate(model: LatentVariableModel, loader: Iterable[Any], *, seed: int = 0) -> dict[str, float]:
    """The true −ELBO of a model over a loader, with one sample an image and the same noise at every call.

    Returns:
        `neg_elbo`, `rate` and `distortion`, means in nats per image.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=_widest(model.device), device=model.device)
    with seeded(torch.Generator().manual_seed(seed)):
        for batch in loader:
            x, c = _split(batch, model)
            draw = model.draw(x, 1, c)
            rate, distortion = draw.rate().sum(), draw.distortion.sum()
            sums += torch.stack((rate, distortion, rate.new_full((), len(x)))).to(sums.dtype)
    model.train(was_training)
    rate_sum, distortion_sum, images = sums.tolist()
    if not images:
        raise DataError("the loader gave no batch; it must be a sequence of batches, not an iterator")
    return {
        "neg_elbo": (rate_sum + distortion_sum) / images,
        "rate": rate_sum / images,
        "distortion": distortion_sum / images,
    }


def find_device(name: str = "auto") -> torch.device:
    """A device by name; "auto" is CUDA where there is one, then MPS, then the CPU.

    Raises:
        DeviceError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError):
        here = ["cpu", *(["mps"] if torch.backends.mps.is_available() else [])]
        here += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise DeviceError(f"device {name!r} is not here; available: {', '.join(here)}") from None
    return found


def _split(batch: Any, model: LatentVariableModel) -> tuple[Tensor, Tensor | None]:
    """Images and context of a batch, on the model's device; classes become one-hot rows without waiting for it."""
    x, labels = (batch[0], batch[1]) if isinstance(batch, (tuple, list)) else (batch, None)
    x = x.to(model.device, non_blocking=True)
    if not model.context_size:
        return x, None
    if labels is None:
        raise DataError(f"this model is conditional on {model.context_size} classes, but the loader gives no labels")
    labels = labels.to(model.device, non_blocking=True)
    if labels.ndim == 1:
        labels = torch.eye(model.context_size, device=model.device).index_select(0, labels)
    return x, labels


def _out_of_patience(progress: Progress, patience: int | None) -> bool:
    return patience is not None and progress.epoch - progress.best_epoch >= patience


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor
    return parts


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM comes; the second one acts at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
