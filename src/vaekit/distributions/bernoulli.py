"""Bernoulli values with a log-mass in one pass, and the continuous Bernoulli."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, constraints
from torch.distributions.constraints import Constraint

from .polynomials import polynomial


class IndependentBernoulli(Independent[Bernoulli]):
    """Independent Bernoulli values with a log-mass in one pass; the last dimensions are the event.

    Arguments:
        base_distribution: torch's Bernoulli, given by logits.
        reinterpreted_batch_ndims: How many dimensions are the event, at least one.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of x, nats; of grey x in [0, 1] the negative binary cross-entropy. Rounding: 1e-7 per value."""
        dims = self.reinterpreted_batch_ndims
        value = value if value.is_floating_point() else value.to(self.base_dist.logits)
        total: Tensor = _BernoulliLogMass.apply(self.base_dist.logits.flatten(-dims), value.flatten(-dims))
        return total


class _BernoulliLogMass(torch.autograd.Function):
    """Σ (x − ½)·η − ½|η| + log sigmoid(|η|) over the last dimension, for η and x that broadcast.

    It takes logarithms of products of sigmoids, each at least ½ and too few to underflow: on a CPU a logarithm takes
    as long as six products. torch's own has a log1p, which takes ten times as long, and keeps four tensors for the
    gradient x − sigmoid(η).
    """

    @staticmethod
    def forward(logits: Tensor, x: Tensor) -> Tensor:
        size = logits.abs()
        total = ((x - 0.5) * logits).sub_(size, alpha=0.5).sum(-1)
        factors = _greatest_divisor(size.shape[-1], at_most=-math.frexp(torch.finfo(size.dtype).tiny)[1])
        products: Tensor = size.sigmoid_().unflatten(-1, (-1, factors)).prod(-1)
        return total.add_(products.log_().sum(-1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits, x = ctx.saved_tensors
        gradient = gradient.unsqueeze(-1)
        x_gradient = (gradient * logits).sum_to_size(x.shape) if ctx.needs_input_grad[1] else None
        return (gradient * (x - logits.sigmoid())).sum_to_size(logits.shape), x_gradient

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        """Put the mapped dimension in front and broadcast it; torch's own rule adds a tenth to a small step."""
        rows = [value if d is None else value.movedim(d, 0) for value, d in zip(inputs, dims, strict=True)]
        most = max(value.ndim - (d is not None) for value, d in zip(rows, dims, strict=True))
        for i, (value, d) in enumerate(zip(rows, dims, strict=True)):
            if d is not None:
                rows[i] = value.reshape(len(value), *[1] * (most + 1 - value.ndim), *value.shape[1:])
        return _BernoulliLogMass.apply(*rows), 0


def _greatest_divisor(n: int, at_most: int) -> int:
    return next(d for d in range(min(n, at_most), 0, -1) if n % d == 0)


class ContinuousBernoulli(Distribution):
    """p(x) = exp(η·x) / ∫₀¹ exp(η·t) dt on [0, 1]: the Bernoulli's exponential family on an interval.

    torch's own class works with λ = sigmoid(η): in float32 its mean and its gradient are wrong by 3e-3 at λ = 0.499,
    and beyond |η| = 16 its normalizer is constant. This class works with η: it takes a series where |η| < ½ and
    exponentials of −|η| elsewhere.

    Arguments:
        logits: η, any shape, any real number.

    Reference: Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845, with η = logit λ.

    >>> p = ContinuousBernoulli(torch.tensor([-20.0, 0.0, 20.0]))
    >>> p.mean
    tensor([0.0500, 0.5000, 0.9500])
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {"logits": constraints.real}
    support = constraints.unit_interval

    # Taylor coefficients of log(sinh(η/2)/(η/2)) in η², B₂ₙ/(2n·(2n)!); for |η| ≤ ½ the rest is below 4e-19.
    _series_limit = 0.5
    _series = (1 / 24, -1 / 2880, 1 / 181440, -1 / 9676800, 1 / 479001600, -691 / 15692092416000, 1 / 1046139494400)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def _branches(self) -> tuple[Tensor, Tensor, Tensor]:
        """A mask of the series' range; η clipped to it; |η| clipped to the other range. So no branch overflows."""
        limit = self._series_limit
        size = self.logits.abs()
        return size < limit, self.logits.clamp(-limit, limit), size.clamp(min=limit)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of x in [0, 1], nats."""
        eta = self.logits
        near, small, large = self._branches()
        series = small**2 * polynomial(self._series, small**2)
        exact = (-torch.expm1(-large)).log() - large.log()
        slope = torch.where(near, eta * (value - 0.5), -eta.abs() * torch.where(eta > 0, 1 - value, value))
        return slope - torch.where(near, series, exact)

    @property
    def mean(self) -> Tensor:
        """E x = 1/(1 − exp(−η)) − 1/η."""
        near, small, large = self._branches()
        slopes = [2 * (n + 1) * c for n, c in enumerate(self._series)]
        series = 0.5 + small * polynomial(slopes, small**2)
        upper = -1 / torch.expm1(-large) - 1 / large
        return torch.where(near, series, torch.where(self.logits > 0, upper, 1 - upper))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw by the inverse of the distribution function, shape (*sample_shape, *batch)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        size = self.logits.abs().clamp(min=torch.finfo(u.dtype).eps)
        x = -torch.log1p(u * torch.expm1(-size)) / size
        return torch.where(self.logits > 0, 1 - x, x)
