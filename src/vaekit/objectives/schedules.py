"""Values that change while a model trains, as functions of the epoch, a float that counts from 0.

Two kinds: an objective's option follows a *value schedule*, `epoch → value`; the learning rate follows a
*learning-rate schedule*, `(epoch, epochs) → factor`, which multiplies the configured learning rate. Both are pure
functions, so that a resumed run needs nothing but the epoch.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..errors import check_count, check_range


class LearningRateSchedule(Protocol):
    """A factor on the learning rate."""

    def __call__(self, epoch: float, epochs: float) -> float:
        """The factor at `epoch` of a training of `epochs`, which need not be whole."""


@runtime_checkable
class Adaptive(LearningRateSchedule, Protocol):
    """A schedule that also reduces the learning rate by the validation loss; the trainer counts the reductions."""

    @property
    def factor(self) -> float:
        """The factor on the learning rate of each reduction."""

    def is_due(self, epochs: int) -> bool:
        """Whether to reduce the rate, given the epochs since the later of the best epoch and the last reduction."""


@dataclass(frozen=True, kw_only=True)
class Linear:
    """From `start` to `end` over the first `epochs`, constant afterwards: the KL warm-up.

    Reference: Sønderby et al. 2016, arXiv:1602.02282, section 2.3.

    >>> warm_up = Linear(epochs=10)
    >>> warm_up(0), warm_up(5), warm_up(20)
    (0.0, 0.5, 1.0)
    """

    start: float = 0.0
    end: float = 1.0
    epochs: float = 10.0

    def __post_init__(self) -> None:
        check_range("epochs of a schedule", self.epochs, 0, ends="()")

    def __call__(self, epoch: float) -> float:
        """The value at `epoch`."""
        return self.start + (self.end - self.start) * min(epoch / self.epochs, 1.0)


@dataclass(frozen=True, kw_only=True)
class Cyclical:
    """From `start` to `end` over the first part `ramp` of each `period`, then `end` until the period is over.

    Reference: Fu et al. 2019, arXiv:1903.10145, eq. 6.
    """

    start: float = 0.0
    end: float = 1.0
    period: float = 10.0
    ramp: float = 0.5

    def __post_init__(self) -> None:
        check_range("period of a schedule", self.period, 0, ends="()")
        check_range("ramp", self.ramp, 0, 1, ends="(]")

    def __call__(self, epoch: float) -> float:
        """The value at `epoch`; `end` for an infinite one."""
        if math.isinf(epoch):
            return self.end
        part = (epoch % self.period) / self.period
        return self.start + (self.end - self.start) * min(part / self.ramp, 1.0)


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same learning rate throughout."""

    def __call__(self, epoch: float, epochs: float) -> float:
        """Always 1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """A cosine from `start` up to 1 over the first part `warm_up` of the training, then a cosine down to `end`.

    Reference: Smith and Topin 2017, arXiv:1708.07120; the cosine form is PyTorch's.
    """

    warm_up: float = 0.3
    start: float = 0.04
    end: float = 0.0

    def __post_init__(self) -> None:
        check_range("warm_up, a part of the training,", self.warm_up, 0, 1)

    def __call__(self, epoch: float, epochs: float) -> float:
        """The factor at `epoch`."""
        part = min(epoch / epochs, 1.0)
        if part < self.warm_up:
            return _cosine(self.start, 1.0, part / self.warm_up)
        return _cosine(1.0, self.end, (part - self.warm_up) / (1 - self.warm_up))


@dataclass(frozen=True, kw_only=True)
class Decay:
    """A straight line up from 0 over the first part `warm_up` of the training, and a straight line down to `end`."""

    warm_up: float = 0.0
    end: float = 0.0

    def __post_init__(self) -> None:
        check_range("warm_up, a part of the training,", self.warm_up, 0, 1)

    def __call__(self, epoch: float, epochs: float) -> float:
        """The factor at `epoch`."""
        part = min(epoch / epochs, 1.0)
        if part < self.warm_up:
            return part / self.warm_up
        return 1.0 + (self.end - 1.0) * (part - self.warm_up) / (1 - self.warm_up)


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The factor 10^(−i/7) for 3^i epochs, i = 0 … 7: 3,280 epochs in all.

    With another number of epochs the stages are stretched to fit.

    Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, section 5.
    """

    def __call__(self, epoch: float, epochs: float) -> float:
        """The factor at `epoch`."""
        reached = min(epoch / epochs, 1.0) * _STAGED_EPOCHS
        stage = int(math.log(2 * reached + 1, 3) + 1e-9)
        return math.pow(10.0, -min(stage, 7) / 7)


@dataclass(frozen=True, kw_only=True)
class StepDecay:
    """The factor gamma^⌊epoch/step_size⌋: times gamma after every `step_size` epochs, as torch's StepLR."""

    step_size: float = 30.0
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_range("step_size of a schedule", self.step_size, 0, ends="()")
        check_range("gamma of a schedule", self.gamma, 0, ends="()")

    def __call__(self, epoch: float, epochs: float) -> float:
        """The factor at `epoch`."""
        return self.gamma ** math.floor(epoch / self.step_size + 1e-9)


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """The factor gamma^⌊epoch⌋: times gamma after every epoch, as torch's ExponentialLR."""

    gamma: float = 0.95

    def __post_init__(self) -> None:
        check_range("gamma of a schedule", self.gamma, 0, ends="()")

    def __call__(self, epoch: float, epochs: float) -> float:
        """The factor at `epoch`."""
        return self.gamma ** math.floor(epoch + 1e-9)


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Times `factor` after every `patience` epochs without a better validation loss.

    torch's ReduceLROnPlateau waits one epoch longer. The epochs count from the best one or from the last reduction,
    whichever is later. The trainer counts the reductions, and a checkpoint stores them.
    """

    factor: float = 0.1
    patience: int = 10

    def __post_init__(self) -> None:
        check_range("factor of schedule plateau", self.factor, 0, 1, ends="()")
        check_count("patience of a schedule", self.patience)

    def __call__(self, epoch: float, epochs: float) -> float:
        """1 at every epoch: the trainer counts the reductions."""
        return 1.0

    def is_due(self, epochs: int) -> bool:
        """Whether the validation has not been better for `patience` epochs."""
        return epochs >= self.patience


_STAGED_EPOCHS = sum(3**i for i in range(8))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
