"""Distributions over the 256 grey levels of an 8-bit image.

They live on the [0, 1] scale: the level k of 0 … 255 is the value k/255, and `log_prob(x)` is the log-mass of the level
nearest to x.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints
from torch.distributions.constraints import Constraint
from torch.distributions.utils import broadcast_all
from torch.nn.functional import logsigmoid

from .gamma import SHIFT, log_gamma_rest, log_gamma_sample

GREY_LEVELS = 256


TOP = GREY_LEVELS - 1


class _GreyLevels(Constraint):
    """The values k/255, k = 0 … 255, to within a thousandth of a level."""

    is_discrete = True
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0) & (value <= 1) & ((TOP * value - nearest_grey_level(value)).abs() < 1e-3)


grey_levels = _GreyLevels()


def nearest_grey_level(x: Tensor) -> Tensor:
    """The level, 0 … 255, that is nearest to x in [0, 1]."""
    return (TOP * x).round()


class DiscretizedLogistic(Distribution):
    """A logistic rounded to the nearest of 256 levels, with all mass beyond the ends in the levels 0 and 255.

    P(k) = σ((x + h − μ)/s) − σ((x − h − μ)/s) at x = k/255, h = ½/255, where the lower term is 0 at k = 0 and the upper
    one 1 at k = 255. It is computed as log σ(b) + log σ(−a) + log(1 − exp(a − b)), which equals this difference and
    never subtracts. So it needs no fallback to a density at the centre, as PixelCNN++'s code does.

    Arguments:
        loc: μ on the [0, 1] scale, any real number.
        scale: s > 0 on the same scale; broadcasts with `loc`.

    Reference: Kingma et al. 2016, arXiv:1606.04934; Salimans et al. 2017, arXiv:1701.05517, eq. 2.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {"loc": constraints.real, "scale": constraints.positive}
    support = grey_levels

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        loc, scale = broadcast_all(loc, scale)
        self.loc = loc
        self.scale = scale
        super().__init__(self.loc.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of the level nearest to x, nats."""
        level = nearest_grey_level(value)
        below = logsigmoid(((level + 0.5) / TOP - self.loc) / self.scale)
        above = logsigmoid((self.loc - (level - 0.5) / TOP) / self.scale)
        width = (-torch.expm1(-1 / (TOP * self.scale))).log()
        first, last = level <= 0, level >= TOP
        inside = torch.where(last, 0.0, below) + torch.where(first, 0.0, above)
        return inside + torch.where(first | last, 0.0, width)

    @property
    def mean(self) -> Tensor:
        """E x = Σ P(level ≥ k)/255 over k = 1 … 255; not μ, because of the ends."""
        total = torch.zeros_like(self.loc)
        for level in range(1, GREY_LEVELS):  # one at a time, since all would take 255 times the memory
            total = total + torch.sigmoid((self.loc - (level - 0.5) / TOP) / self.scale)
        return total / TOP

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw a logistic and round it, shape (*sample_shape, *batch)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        return nearest_grey_level((self.loc + self.scale * u.logit()).clamp(0, 1)) / TOP


class GreyLevelCategorical(Distribution):
    """Any distribution over the 256 levels.

    Arguments:
        logits: Unnormalized log-masses, shape (*batch, 256).
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    support = grey_levels

    def __init__(self, logits: Tensor) -> None:
        self.level = Categorical(logits=logits, validate_args=False)
        super().__init__(logits.shape[:-1], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of the level nearest to x, nats."""
        log_mass: Tensor = self.level.log_prob(nearest_grey_level(value))
        return log_mass

    @property
    def mean(self) -> Tensor:
        """E x, on the [0, 1] scale."""
        logits = self.level.logits
        values = torch.arange(GREY_LEVELS, dtype=logits.dtype, device=logits.device) / TOP
        return (logits.exp() * values).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw levels, on the [0, 1] scale, shape (*sample_shape, *batch)."""
        level: Tensor = self.level.sample(torch.Size(sample_shape))
        return level.to(self.level.logits.dtype) / TOP


class BetaBinomial(Distribution):
    """The level k is Binomial(255, π), π ~ Beta(α, β): P(k) = C(255, k)·B(k + α, 255 − k + β) / B(α, β).

    Arguments:
        alpha: α > 0.
        beta: β > 0; broadcasts with α.

    Reference: Townsend, Bird and Barber 2019, arXiv:1901.04866.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {"alpha": constraints.positive, "beta": constraints.positive}
    support = grey_levels

    def __init__(self, alpha: Tensor, beta: Tensor) -> None:
        alpha, beta = broadcast_all(alpha, beta)
        self.alpha = alpha
        self.beta = beta
        super().__init__(self.alpha.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of the level nearest to x, nats."""
        k, n, h = nearest_grey_level(value), TOP, SHIFT
        r, alpha, beta = n - k, self.alpha, self.beta
        total = alpha + beta
        top = total + n + h
        # Every log Γ(z) written as z·log(z + h) − z + rest(z); like terms meet in logs of ratios, small near the mode.
        result = k * ((alpha + k + h) / (k + 1 + h) * ((n + 1 + h) / top)).log()
        result = result + r * ((beta + r + h) / (r + 1 + h) * ((n + 1 + h) / top)).log()
        result = result + alpha * torch.log1p((k * (total + h) - n * (alpha + h)) / ((alpha + h) * top))
        result = result + beta * torch.log1p((r * (total + h) - n * (beta + h)) / ((beta + h) * top))
        result = result + 1 - ((k + 1 + h) * (r + 1 + h) / (n + 1 + h)).log()
        rest = log_gamma_rest(alpha + k) - log_gamma_rest(alpha) + log_gamma_rest(beta + r) - log_gamma_rest(beta)
        rest = rest + log_gamma_rest(total) - log_gamma_rest(total + n)
        choose = log_gamma_rest(total.new_full((), n + 1)) - log_gamma_rest(k + 1) - log_gamma_rest(r + 1)
        return result + rest + choose

    @property
    def mean(self) -> Tensor:
        """E x = α/(α + β), on the [0, 1] scale."""
        return self.alpha / (self.alpha + self.beta)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw levels, on the [0, 1] scale, shape (*sample_shape, *batch)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        logit = log_gamma_sample(self.alpha.expand(shape)) - log_gamma_sample(self.beta.expand(shape))
        return torch.binomial(torch.full_like(logit, TOP), logit.sigmoid()) / TOP
