"""A model, its optimizer and where they stand: one step, one look, one state to save and to restore.

Not for: when any of these is done (`keeper`, `loop`).
"""

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DataError, NumericalError, RunError
from ..model import LatentVariableModel
from ..objectives import Objective
from ..objectives.schedules import RateSchedule
from ..rng import random_state, set_random_state
from ..store import Checkpoint
from .precision import Lowered
from .ranks import ALONE, Ranks, Share
from .validation import validate, widest

Record = dict[str, Any]
MEANS = ("loss", "neg_elbo", "rate", "distortion")
EXPLODED = 2.0**24  # nats an image: from here on float32 does not tell one nat from the next
MOST_SKIPPED = 100  # steps in a row; what fails so often does not mend itself


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

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> "Progress":
        """From a checkpoint, whose values are not believed.

        Raises:
            TypeError, ValueError: not the progress of a training.
        """
        found = cls(**table)
        counts = (found.epoch, found.batch, found.step, found.best_epoch)
        numbers = (found.seconds, found.learning_rate, found.best or 0.0)
        if not all(type(n) is int and 0 <= n < 2**63 for n in counts) or found.best_epoch > found.epoch:
            raise ValueError(f"no progress of a training: {table!r:.200}")
        if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
            raise ValueError(f"no progress of a training: {table!r:.200}")
        return found


@dataclass(frozen=True)
class Counts:
    """What is added up on the device, step by step: of one training, or of several, in a leading dimension R.

    Attributes:
        sums: Of the epoch: the means times the images, the images, the steps that were skipped; shape (…, 6).
        bad_step: The first step that was bad, or −1; shape (…), as all that follow.
        bad_in_a_row: Bad steps in a row until now.
        steps: Steps until now.
    """

    sums: Tensor
    bad_step: Tensor
    bad_in_a_row: Tensor
    steps: Tensor

    @classmethod
    def none(cls, device: torch.device) -> "Counts":
        """Of a training that is about to begin."""
        sums = torch.zeros(len(MEANS) + 2, dtype=widest(device), device=device)
        zero = torch.zeros((), dtype=torch.int64, device=device)
        return cls(sums, torch.full((), -1, device=device), zero, zero.clone())

    def add(self, sums: Tensor, images: int, norm: Tensor | None, skip: bool) -> Tensor:
        """Count a step and tell, without waiting for the device, whether it is bad.

        Arguments:
            sums: Loss, rate and distortion, each a sum over the images; shape (3, …).
            images: Over how many.
            norm: Norm of the gradient, if it matters.
            skip: Whether bad steps are skipped.
        """
        loss, rate, distortion = sums.unbind()
        total = torch.full_like(rate, images)
        bad = ~loss.isfinite() | (rate > EXPLODED * total)
        if norm is not None:
            bad = bad | ~norm.isfinite()
        sums = torch.stack((loss, rate + distortion, rate, distortion, total, torch.zeros_like(total)), -1)
        if skip:
            sums = torch.where(bad.unsqueeze(-1), torch.eye(sums.shape[-1], device=sums.device)[-1], sums)
        self.sums.add_(sums.to(self.sums.dtype))
        self.bad_in_a_row.copy_(torch.where(bad, self.bad_in_a_row + 1, 0))
        first = (self.bad_step < 0) & (self.bad_in_a_row > (MOST_SKIPPED if skip else 0))
        self.bad_step.copy_(torch.where(first, self.steps, self.bad_step))
        self.steps.add_(1)
        return bad


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
        skip: bool,
        precision: str = "fp32",
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.objective, self.optimizer, self.ranks = model, objective, optimizer, ranks
        self.schedule, self.epochs, self.clip_norm, self.ema, self.skip = schedule, epochs, clip_norm, ema, skip
        self.lowered = Lowered(model, precision)
        self.progress = Progress()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.parameters] if ema else []
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.fused = all(group.get("fused") for group in optimizer.param_groups)
        self.counts = Counts.none(model.device)
        self.best = self._weights()

    def step(self, batch: Any, epoch: float) -> None:
        """One step of the optimizer on one batch, the same on all ranks, at `epoch`, which need not be whole."""
        factor = self.schedule(epoch, self.epochs)
        self.progress.learning_rate = factor * self.rates[0]
        share = self.ranks.share(batch, self.objective.samples)
        rows = self.model.to_model(share.batch)
        x, c = rows.x, rows.c
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            _set_rate(group, factor * rate)
        self._advance(share, x, c, epoch)
        self.progress.step += 1
        self.progress.batch += 1

    def _advance(self, share: Share, x: Tensor, c: Tensor | None, epoch: float) -> None:
        """What a step does on the device, without waiting for it."""
        buffers = [buffer.clone() for buffer in self.model.buffers()] if self.skip else []
        for group in self.optimizer.param_groups:  # as zero_grad does, which takes a hundredth of a small step
            for parameter in group["params"]:
                parameter.grad = None
        with self.lowered:
            with share.noise:
                loss, rate, distortion = map(share.counted, losses(self.model, self.objective, x, c, epoch))
            (loss / share.total).backward()
        bad = self._count(torch.stack((loss.detach(), rate, distortion)), share.total)
        if self.skip:
            self._step_unless(bad, buffers)
            return
        self.optimizer.step()
        if self.ema:
            with torch.no_grad():  # or the averages would remember each step
                torch._foreach_lerp_(self.averages, list[Tensor](self.parameters), 1 - self.ema)

    def _gradient_norm(self) -> Tensor | None:
        """Norm of the whole gradient, which is clipped, where it is needed."""
        if self.clip_norm is not None:
            return nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        if self.skip:
            return nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        return None

    @torch.no_grad()
    def _count(self, sums: Tensor, images: int) -> Tensor:
        """Add up the gradients, and a step to the counts, and tell whether it is bad."""
        sums = self.ranks.add(sums, self.parameters)
        return self.counts.add(sums, images, self._gradient_norm(), self.skip)

    @torch.no_grad()
    def _step_unless(self, bad: Tensor, buffers: list[Tensor]) -> None:
        """A step that changes nothing where it is bad, decided on the device if the optimizer is fused.

        The very first one is decided here: torch's fused SGD leaves its momentum uninitialized when that is skipped.
        """
        if self.fused and self.optimizer.state:
            self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # as torch.amp.GradScaler does
            self.optimizer.step()
            del self.optimizer.found_inf  # type: ignore[attr-defined]
        elif not bad:
            self.optimizer.step()
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(torch.where(bad, before, buffer))
        if self.ema:
            towards = torch._foreach_sub(list[Tensor](self.parameters), self.averages)
            torch._foreach_mul_(towards, (1 - self.ema) * (~bad).to(self.averages[0].dtype))
            torch._foreach_add_(self.averages, towards)

    def look(self) -> dict[str, float]:
        """Means of the epoch so far, nats per image, its images and skipped steps: this waits for the device.

        Raises:
            NumericalError: the loss, a gradient or a weight is not finite, or the rate explodes.
        """
        self.ranks.check_in_step(self.model)
        bad = int(self.counts.bad_step)
        if bad < 0 and not all(torch.stack([p.isfinite().all() for p in self.parameters]).tolist()):
            bad = self.progress.step - 1
        if bad >= 0:
            raise NumericalError(
                f"the loss or its gradient is not finite, or the rate exceeds {EXPLODED:.0f} nats per image, at epoch "
                f"{self.progress.epoch + 1}, step {bad}; look for NaN or huge values in the data, or try a lower "
                + "train.learning_rate, train.clip_norm = 1"
                + (f"; {MOST_SKIPPED} steps before it were skipped" if self.skip else ' or train.on_nan = "skip"')
            )
        *sums, images, skipped = self.counts.sums.tolist()
        means = {name: value / max(images, 1.0) for name, value in zip(MEANS, sums, strict=True)}
        return means | {"images": images} | ({"skipped": skipped} if self.skip else {})

    def close_epoch(self, seconds: float, validation: Iterable[Any] | None) -> Record:
        """Finish an epoch: its record, with the validation, after which the best weights are known."""
        record: Record = {"epoch": self.progress.epoch + 1, **self.look(), "seconds": seconds}
        if not record["images"] and not record.get("skipped"):
            raise DataError("the training loader gave no batch; it must be a sequence of batches, not an iterator")
        record["images_per_second"] = record["images"] / max(seconds, 1e-9)
        with self.averaged():
            if validation is not None:
                found = validate(self.model, validation, self.objective, epoch=self.epochs, ranks=self.ranks)
                record |= {f"validation_{name}": value for name, value in found.items()}
            self._keep_if_best(record)
        record["learning_rate"] = self.progress.learning_rate
        self.progress.epoch += 1
        self.progress.batch = 0
        self.counts.sums.zero_()
        return record

    def _keep_if_best(self, record: Record) -> None:
        score, best = record.get("validation_loss", record.get("validation_neg_elbo")), self.progress.best
        if score is not None and not math.isfinite(score):
            score = None
        if best is None or (score is not None and score < best):
            self.progress.best, self.progress.best_epoch = score, record["epoch"]
            self.best = self._weights()

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
        tensors["progress/sums"] = self.counts.sums
        tensors |= {f"rng/{name}": tensor for name, tensor in random_state().items()}
        python = random.getstate()
        return tensors, {"progress": asdict(self.progress), "python": [python[0], list(python[1]), python[2]]}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Stand where `state` was taken; what does not fit this training changes nothing that could do harm.

        Raises:
            RunError: a state of another training, or none at all.
        """
        part = parts(checkpoint.tensors)
        try:
            progress = Progress.read(checkpoint.state["progress"])
            optimizer = self._optimizer_state(part.get("optimizer", {}))  # first: its trial touches the weights
            self.model.load_state_dict(part["model"])
            for i, average in enumerate(self.averages):
                average.copy_(like(average, part["ema"][str(i)], f"ema/{i}"))
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": optimizer})
            self.counts.sums.copy_(like(self.counts.sums, part["progress"]["sums"], "progress/sums"))
            set_random_state(part["rng"])
            version, internal, gauss = checkpoint.state["python"]
            random.setstate((version, tuple(internal), gauss))
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(f"the checkpoint does not fit this training: {' '.join(str(error).split())}") from error
        self.progress = progress
        self.counts.steps.fill_(progress.step)

    def _optimizer_state(self, part: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """What is stored of the optimizer, if it has the names, shapes and types that this optimizer gives it.

        The fused kernels do not look, and would write beyond the end of a tensor that is too small.
        """
        state: dict[int, dict[str, Tensor]] = {}
        if not part:
            return state
        expected = self._trial_state()
        for name, tensor in part.items():
            index, slot = name.split(".", 1)
            state.setdefault(int(index), {})[slot] = like(expected[int(index)][slot], tensor, f"optimizer/{name}")
        for i, slots in state.items():
            if slots.keys() != expected[i].keys():
                raise ValueError(f"optimizer/{i} has {', '.join(slots)} instead of {', '.join(expected[i])}")
        return state

    def _trial_state(self) -> dict[int, dict[str, Tensor]]:
        """The state of the optimizer after a step of length zero."""
        for group in self.optimizer.param_groups:
            _set_rate(group, 0.0)
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        slots: dict[int, dict[str, Any]] = self.optimizer.state_dict()["state"]
        return {i: {slot: torch.as_tensor(value) for slot, value in found.items()} for i, found in slots.items()}


def losses(
    model: LatentVariableModel, objective: Objective, x: Tensor, c: Tensor | None, epoch: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, rate and distortion of a new draw, nats, each a sum over the rows; the last two without a gradient."""
    draw = model.draw(x, objective.samples, c)
    loss = -objective(draw, epoch).sum()
    with torch.no_grad():
        return loss, draw.rate().sum(), draw.distortion.sum()


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def like(expected: Tensor, found: Tensor, name: str) -> Tensor:
    """`found`, if it has the shape and the type of `expected`.

    Raises:
        ValueError: it has not.
    """
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        shapes = f"{tuple(found.shape)} {found.dtype} instead of {tuple(expected.shape)} {expected.dtype}"
        raise ValueError(f"{name} is {shapes}")
    return found


def parts(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by part and name: "model/encoder.weight" is in "model" as "encoder.weight"."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        found.setdefault(part, {})[rest] = tensor
    return found
