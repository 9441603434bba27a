"""Averages of a model's weights, which are validated and kept in place of the weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..config import Fit
from ..errors import ConfigError


class Averages:
    """Averages of weights: exponential moving averages by the option `ema`, or those that the optimizer keeps.

    Arguments:
        weights: The weights.
        optimizer: Their optimizer.
        options: Training options.

    Attributes:
        ema: The moving averages; empty without `options.ema`.
        good_steps: Number of steps that they cover; counted only with `ema_warm_up`, or if bad steps are skipped.

    Raises:
        ConfigError: The optimizer averages the weights, and `options.ema` would too.
    """

    def __init__(self, weights: Sequence[nn.Parameter], optimizer: Optimizer, options: Fit) -> None:
        self.weights: list[Tensor] = list(weights)
        self.decay = options.ema
        self.warms_up = options.ema_warm_up
        self.skip = options.skips_bad_steps
        self.of_optimizer: Any = getattr(optimizer, "averages", None)
        if self.decay and self.of_optimizer is not None:
            raise ConfigError("ema averages the weights, which this optimizer does already; leave it out")
        self.ema = [p.detach().clone() for p in self.weights] if self.decay else []
        self.good_steps = torch.zeros((), device=self.weights[0].device)

    def update(self, bad: Tensor) -> None:
        """Move the averages of `ema` towards the weights, unless the step was skipped.

        With `ema_warm_up` they first move faster, by 9/(10 + t) at step t, so that they cover the last tenth of a short
        training. With 1 − ema alone, the first weights would still be half of the average after 700 steps of
        ema = 0.999.

        Arguments:
            bad: Whether the step is bad, a boolean on the device.
        """
        if not self.decay:
            return
        if not self.warms_up and not self.skip:
            torch._foreach_lerp_(self.ema, self.weights, 1 - self.decay)
            return
        moves = ~bad if self.skip else torch.ones_like(bad)
        self.good_steps += moves
        share = (9 / (10 + self.good_steps)).clamp(min=1 - self.decay, max=1.0 if self.warms_up else 1 - self.decay)
        towards = torch._foreach_sub(self.weights, self.ema)
        torch._foreach_mul_(towards, (share * moves).to(self.ema[0].dtype))
        torch._foreach_add_(self.ema, towards)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the weights have the values of their averages, if there are any."""
        averages = self.ema if self.of_optimizer is None else self.of_optimizer(self.weights)
        if not averages:
            yield
            return
        raw = [weight.detach().clone() for weight in self.weights]
        self._set(averages)
        try:
            yield
        finally:
            self._set(raw)

    @torch.no_grad()
    def _set(self, values: Sequence[Tensor]) -> None:
        for weight, value in zip(self.weights, values, strict=True):
            weight.copy_(value)
