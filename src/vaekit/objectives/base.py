"""What an objective is: a function of a `Draw` that returns one number a row, in nats, to be maximised.

A function marked `@bound` is a lower bound on log p(x), in expectation, that the exact posterior attains. Only those
may be called an ELBO or an NLL. One marked `@couples_rows` compares the rows of a batch with one another. K is
`len(draw.z)`, B the number of rows. The keyword-only parameters are options of a config; a float among them may follow
a schedule.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..data import Batch
from ..model import Draw, LatentVariableModel

F = TypeVar("F", bound=Callable[..., Tensor])


def bound(function: F) -> F:
    """Mark an objective as a lower bound on log p(x) that the exact posterior attains."""
    function.is_bound = True  # type: ignore[attr-defined]
    return function


def couples_rows(function: F) -> F:
    """Mark an objective whose value for a row depends on the other rows of the batch."""
    function.couples_rows = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True)
class Objective:
    """An objective with its options filled in, some of which may be schedules over epochs.

    Arguments:
        function: Objective function, called with a `Draw` and the options.
        options: Keyword arguments; a callable one is a schedule and is given the epoch, a float.
        samples: K, how many samples the function wants for each row.
    """

    function: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 1

    def __call__(self, draw: Draw, epoch: float = math.inf) -> Tensor:
        """The objective of each row, shape (B,), nats; after the last step of every schedule by default."""
        options = {name: value(epoch) if callable(value) else value for name, value in self.options.items()}
        return self.function(draw, **options)

    @property
    def is_scheduled(self) -> bool:
        """Whether an option follows a schedule."""
        return any(callable(value) for value in self.options.values())

    @property
    def is_bound(self) -> bool:
        """Whether it is a lower bound on log p(x)."""
        return getattr(self.function, "is_bound", False)

    @property
    def couples_rows(self) -> bool:
        """Whether the value of a row depends on the other rows of the batch."""
        return getattr(self.function, "couples_rows", False)


@dataclass(frozen=True)
class Terms:
    """What a loss says about a batch.

    Arguments:
        loss: What is minimised, shape (B,).
        logged: What is written down, by name: tensors of shape (B,) without a gradient, whose means over the epoch go
            into metrics.jsonl, the progress line and the curves under these names.
    """

    loss: Tensor
    logged: Mapping[str, Tensor] = field(default_factory=dict)


class Loss(Protocol):
    """What a trainer minimises. A loss may be a module with weights of its own, and may bring opponents."""

    def __call__(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """The loss of each row of a batch that is on the model's device, at an epoch that need not be whole."""


@dataclass(frozen=True)
class Player:
    """Who else takes a step on every batch, after the model: a discriminator, for one.

    Arguments:
        name: Under which its optimizer is stored in a checkpoint.
        parameters: What it may change; they are the loss module's, not the model's.
        loss: What it minimises; what that logs is written down beside the model's.
        optimizer: Over its parameters.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    loss: Loss
    optimizer: torch.optim.Optimizer
