"""What an objective is: a function of a `Draw` that returns one number a row, in nats, to be maximised.

A function marked `@bound` is a lower bound on log p(x), in expectation, that the exact posterior attains. Only those
may be called an ELBO or an NLL. One marked `@couples_rows` compares the rows of a batch with one another. K is
`len(draw.z)`, B the number of rows. The keyword-only parameters are options of a config; a float among them may follow
a schedule.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from ..model import Draw

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
