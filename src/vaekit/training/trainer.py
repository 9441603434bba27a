"""A model, its loss and its optimizer, and the progress of their training.

    step.py      a step
    meter.py     the sums of an epoch
    progress.py  the progress

Not for: saving and restoring a training (`state`), or the time for it (`loop`, `checkpointer`).
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..config import Fit
from ..data import as_batch
from ..errors import ConfigError, DataError, NumericalError
from ..model import LatentVariableModel
from ..objectives import Loss, Player, module_of
from ..objectives.base import Minimised
from ..rng import seeded
from ..store.metrics import ROWS_KEY, SPEED_KEY
from .learning_rate import LearningRateFactor
from .meter import EXPLODED
from .progress import Progress
from .ranks import ALONE, Ranks
from .step import TrainingStep, checked, set_learning_rate
from .validation import validate

Record = dict[str, Any]
LARGEST_WEIGHT = 2.0**40  # of a weight: with a larger one the next loss would not be a number


class Trainer:
    """A model, its loss and its optimizer, and the progress of their training.

    Arguments:
        model: The model, on the device to train on.
        loss: The model's loss.
        players: Players that take a step, from `players_of`.
        options: Training options.
        factor: Factor on the learning rate of the model's optimizer; constant by default.
        ranks: All processes of this training.
    """

    def __init__(
        self,
        model: LatentVariableModel,
        loss: Loss,
        players: Sequence[Player],
        options: Fit,
        factor: LearningRateFactor | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self.loss = loss
        self.players = list(players)
        self.options = options
        own_weights = module_of(loss)
        self.learners = {"model": model} if own_weights is None else {"model": model, "loss": own_weights}
        self.factor = factor or LearningRateFactor(None, options.epochs)
        self.ranks = ranks
        self.progress = Progress()
        self.learning_rates = [float(group["lr"]) for group in self.players[0].optimizer.param_groups]
        self.parameters = [p for player in self.players for p in player.parameters]
        self.training_step = TrainingStep(model, loss, self.players, options, ranks)
        self.meter = self.training_step.meter
        self.best = self.weights()
        self.lenient = options.on_nan == "skip"
        self.last_item: Any = None  # of the loader, after a step

    @property
    def ema_weights(self) -> list[Tensor]:
        """The averages that `options.ema` keeps of the model's weights; none without it."""
        return self.training_step.ema_weights

    @property
    def good_steps(self) -> Tensor:
        """The number of steps in the averages."""
        return self.training_step.good_steps

    def training_mode(self) -> None:
        """Put the model, and the loss if it is a module, into training mode."""
        for module in self.training_step.modules:
            module.train()

    def step(self, item: Any, epoch: float) -> None:
        """One step on one batch, the same on all ranks, at `epoch`, which need not be whole."""
        factor = self.factor.at(epoch, self.progress)
        self.progress.learning_rate = factor * self.learning_rates[0]
        for group, learning_rate in zip(self.players[0].optimizer.param_groups, self.learning_rates, strict=True):
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
        self.ranks.check_in_step(self.model)
        bad = self.meter.first_bad()
        if bad is None and not all(torch.stack([(p.abs() < LARGEST_WEIGHT).all() for p in self.parameters]).tolist()):
            bad = self.progress.step - 1
        if bad is not None:
            raise NumericalError(self._numerical(bad))
        return self.meter.means()

    def _numerical(self, bad: int) -> str:
        """The message about a step that went wrong."""
        lowered = self.options.precision not in ("fp32", "auto")
        return (
            f"the loss or its gradient is not finite, or the rate exceeds {EXPLODED:.0f} nats per row, at epoch "
            f"{self.progress.epoch + 1}, step {bad}; look for NaN or huge values in the data, or try a lower "
            + "learning_rate (in a config train.learning_rate), clip_norm = 1"
            + (', precision = "fp32"' if lowered else "")
            + (f"; {self.meter.allowed} steps before it were skipped" if self.meter.skip else ' or on_nan = "skip"')
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
        with self.with_averages():
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
        """The means of the loss at the end of its schedules; at the very end a schedule of cycles begins anew."""
        end = math.nextafter(self.options.epochs, 0)
        return validate(self.model, batches, self.loss, epoch=end, ranks=self.ranks, lenient=self.lenient)

    def _check_final_weights(self, means: Mapping[str, float]) -> None:
        """After the last epoch, compute the loss of the last batch once more: no later step checks the weights.

        Arguments:
            means: Means of this epoch's validation. One good validation in the training is enough.
        """
        is_last = self.progress.epoch + 1 == self.options.epochs
        shown_to_work = self.progress.best is not None or (bool(means) and _works(means))
        if not is_last or shown_to_work or self.lenient or self.last_item is None:
            return
        if not _works(self._validate([self.last_item])):
            raise NumericalError(self._numerical(self.progress.step - 1))

    def _choose(self, record: Record) -> None:
        """Remember the weights if they are the best by validation."""
        score, best = record.get("validation_loss"), self.progress.best
        if score is not None and not math.isfinite(score):
            score = None
        if best is None or (score is not None and score < best):
            self.progress.best = score
            self.progress.best_epoch = record["epoch"]
            self.best = self.weights()

    @contextmanager
    def with_averages(self) -> Iterator[None]:
        """Within the block the model has the averaged weights, if there are any."""
        averages = self.training_step.weights_to_keep()
        if not averages:
            yield
            return
        raw = [p.detach().clone() for p in self.training_step.weights]
        self._set_weights(averages)
        try:
            yield
        finally:
            self._set_weights(raw)

    @torch.no_grad()
    def _set_weights(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self.training_step.weights, weights, strict=True):
            parameter.copy_(weight)

    def tensors(self) -> dict[str, Tensor]:
        """The weights and buffers of the model, "model/name", and of the loss where it has some, "loss/name"."""
        return {
            f"{part}/{name}": tensor
            for part, module in self.learners.items()
            for name, tensor in module.state_dict().items()
        }

    def weights(self) -> dict[str, Tensor]:
        """A copy of `tensors`."""
        return {name: tensor.detach().clone() for name, tensor in self.tensors().items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load weights and buffers, named as in `tensors`, into the model, and into the loss if it has any."""
        for part, module in self.learners.items():
            prefix = f"{part}/"
            named = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            module.load_state_dict(named)


def _works(means: Mapping[str, float]) -> bool:
    """Whether the loss is finite, and the rate does not explode."""
    return math.isfinite(means.get("loss", 0.0)) and means.get("rate", 0.0) <= EXPLODED


def players_of(
    model: LatentVariableModel,
    loss: Loss,
    optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer],
) -> list[Player]:
    """The players: the model, then the opponents that its loss brings.

    A loss may be asked for its opponents several times.

    Arguments:
        model: The model.
        loss: The model's loss.
        optimizer: The model's optimizer, or a function that makes it from the weights to train: the model's, and those
            of the loss that no opponent trains. The other weights stay as they are.

    Raises:
        ConfigError: No weight is trained, or the optimizer is not one that takes a step after each batch.
    """
    opponents = list(loss.opponents(model))
    taken = {id(p) for player in opponents for p in player.parameters}
    parameters = [p for p in model.parameters() if p.requires_grad]
    module = module_of(loss)
    if module is not None:
        taken |= {id(p) for p in parameters}
        parameters += [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
    if not parameters:
        raise ConfigError(
            "no weight of the model requires a gradient; model.requires_grad_(True) makes all of them do so"
        )
    given = optimizer
    if callable(given) and not isinstance(given, Optimizer):
        optimizer = given(parameters)
    if not isinstance(optimizer, Optimizer) or _needs_closure(optimizer):
        raise ConfigError(
            "an optimizer is a torch.optim.Optimizer that needs no closure, or a function that makes one, such as "
            f"partial(torch.optim.SGD, lr=0.1), got {given!r:.80}"
        )
    in_optimizer = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    ordered = [p for p in parameters if in_optimizer.pop(id(p), None) is not None]
    if not ordered:
        raise ConfigError("the optimizer has no weight of this model; make it of model.parameters()")
    ordered += in_optimizer.values()  # weights of neither the model nor the loss
    return [Player("loss", ordered, loss, optimizer), *opponents]


def _needs_closure(optimizer: Optimizer) -> bool:
    """Whether a step of the optimizer computes the loss by itself, and several times, as that of L-BFGS."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def check_trainable(model: LatentVariableModel) -> None:
    """Check that gradients can be taken at the weights of a model.

    Raises:
        ConfigError: Gradients are turned off, or a weight has no value or only half of the precision.
    """
    if not torch.is_grad_enabled():
        raise ConfigError(
            "a training takes gradients, which are off here; call it outside of no_grad and inference_mode"
        )
    for name, weight in model.named_parameters():
        if weight.is_meta or weight.dtype in (torch.float16, torch.bfloat16):
            kind = "has no value" if weight.is_meta else f"is {weight.dtype}"
            raise ConfigError(
                f"the weight {name} {kind}; train a model of float32 weights, with precision = 'bf16' for products of "
                "bfloat16"
            )


def try_once(model: LatentVariableModel, losses: Iterable[Minimised], item: Any) -> None:
    """Compute losses once, before a training begins, with their graphs, and change nothing.

    Arguments:
        model: The model, which is in evaluation mode afterwards.
        losses: The losses of the model and its opponents.
        item: A batch of a loader.

    Raises:
        VAEError: The model, the loss and the batch do not fit together.
    """
    batch = model.to_model(as_batch(item))
    model.eval()
    with seeded(torch.Generator().manual_seed(0)):
        for loss in losses:
            checked(loss(model, batch, 0.0), len(batch))
