"""Distributions of latents that remember their last draw, and blocks of latents, each drawn given earlier ones.

Not for: networks and parameters (`posteriors`, `priors`) or flows (`distributions.flow`).
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any, ClassVar, TypeVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

T = TypeVar("T")


class Recalling:
    """A distribution that remembers a fact about its last sample, such as the sample's density.

    The fact holds for the same tensor only, not for an equal one or its `detach()`. A fact remembered without
    gradients is not returned where gradients are recorded.
    """

    _last: tuple[Tensor, bool, Any] | None = None

    def _remember(self, z: Tensor, fact: Any) -> Tensor:
        self._last = z, torch.is_grad_enabled(), fact
        return z

    def _recall(self, z: Tensor) -> Any:
        if self._last is None or z is not self._last[0] or torch.is_grad_enabled() > self._last[1]:
            return None
        return self._last[2]


ChainStep = Callable[[Sequence[Tensor]], Distribution]


class Chain(Recalling, Distribution):
    """Latents in blocks z = (z_1 ‖ … ‖ z_L), each drawn given those drawn before it.

    log p(z) = Σ_l log p(z_l | blocks drawn before z_l)

    Arguments:
        first: Distribution of the block that is drawn first, event shape (its size,).
        steps: A function for each later block, in the order of drawing: from the blocks drawn so far, the newest last,
            to the distribution of the next.
        sizes: Widths of the blocks in their order in z, the one nearest to the data first.
        downward: Draw the last block of z first and the first one last, as a prior does, instead of first to last.

    >>> from torch.distributions import Independent, Normal
    >>> top = Independent(Normal(torch.zeros(1), 1.0), 1)
    >>> step = lambda drawn: Independent(Normal(drawn[-1].expand(*drawn[-1].shape[:-1], 2), 0.1), 1)
    >>> p = Chain(top, [step], sizes=(2, 1), downward=True)
    >>> p.event_shape, p.sample((5,)).shape
    (torch.Size([3]), torch.Size([5, 3]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(
        self, first: Distribution, steps: Sequence[ChainStep], sizes: Sequence[int], *, downward: bool = False
    ) -> None:
        self.first = first
        self.steps = tuple(steps)
        self.sizes = tuple(sizes)
        self.downward = downward
        super().__init__(first.batch_shape, Size((sum(sizes),)), validate_args=False)

    def before(self, block: int) -> set[int]:
        """Indices of the blocks drawn before this one; its distribution may depend on them."""
        return set(range(block + 1, len(self.sizes)) if self.downward else range(block))

    def factors(self, z: Tensor) -> tuple[Distribution, ...]:
        """Distribution of each block given those drawn before it in z, shape (..., Z), in the order of the blocks."""
        recalled: tuple[Distribution, ...] | None = self._recall(z)
        if recalled is not None:
            return recalled
        blocks = self._turn(z.split(self.sizes, -1))
        later = (step(blocks[:i]) for i, step in enumerate(self.steps, 1))
        return self._turn((self.first, *later))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of z, shape (..., Z)."""
        blocks = value.split(self.sizes, -1)
        return reduce(add, [p.log_prob(block) for p, block in zip(self.factors(value), blocks, strict=True)])

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw every block in turn, with the gradient of each step."""
        return self._draw(lambda p, shape: p.rsample(shape), Size(sample_shape) + self.batch_shape)

    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw every block in turn, without gradients."""
        with torch.no_grad():
            return self._draw(lambda p, shape: p.sample(shape), Size(sample_shape) + self.batch_shape)

    @property
    def mean(self) -> Tensor:
        """Each block's mean given the means before it: not the mean of z, but a deterministic stand-in for it."""
        return self._draw(lambda p, shape: p.mean.expand(*shape, *p.mean.shape), self.batch_shape)

    def _draw(self, draw: Callable[[Distribution, Size], Tensor], shape: Size) -> Tensor:
        factors, blocks = [self.first], [draw(self.first, shape[: len(shape) - len(self.batch_shape)])]
        for step in self.steps:
            factors.append(step(blocks))
            # A step that ignores earlier blocks has fewer batch dimensions; its draw adds the missing ones.
            blocks.append(draw(factors[-1], shape[: len(shape) - len(factors[-1].batch_shape)]))
        z = torch.cat(self._turn(blocks), -1)
        return self._remember(z, self._turn(factors))

    def _turn(self, items: Sequence[T]) -> tuple[T, ...]:
        return tuple(reversed(items)) if self.downward else tuple(items)
