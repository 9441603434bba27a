"""Objectives: functions of a `Draw` that return one number a row, in nats, to be maximised.

`is_bound(f)` tells whether f is a lower bound on log p(x) that the exact posterior attains. Only those may be called an
ELBO or an NLL.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from .draw import KL, Draw

F = TypeVar("F", bound=Callable[..., Tensor])


def bound(function: F) -> F:
    """Mark an objective as a lower bound on log p(x) that the exact posterior attains."""
    function.is_bound = True  # type: ignore[attr-defined]
    return function


@bound
def elbo(draw: Draw, *, kl: KL = "auto") -> Tensor:
    """Evidence lower bound: E_q log p(x | z) − KL(q(z | x) ‖ p(z)).

    Arguments:
        draw: K samples for each of B rows; the reconstruction term is averaged over K.
        kl: The KL term in closed form ("analytic"), from the samples ("sampled"), or in closed form where there is one.

    Returns:
        Shape (B,), nats.

    Reference: Kingma and Welling 2013, arXiv:1312.6114, eq. 3 ("analytic") and eq. 2 ("sampled").
    """
    return -draw.distortion - draw.rate(kl)


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
        """The objective of each row, shape (B,), nats."""
        options = {name: value(epoch) if callable(value) else value for name, value in self.options.items()}
        return self.function(draw, **options)

    @property
    def is_bound(self) -> bool:
        """Whether it is a lower bound on log p(x)."""
        return getattr(self.function, "is_bound", False)
