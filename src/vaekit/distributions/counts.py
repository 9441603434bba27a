"""Distributions over counts."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions import Poisson as TorchPoisson
from torch.distributions.constraints import Constraint
from torch.distributions.utils import broadcast_all

from .gamma import SHIFT, log_gamma_rest, log_gamma_sample


class Poisson(TorchPoisson):
    """Counts with mean and variance μ.

    torch's own subtracts numbers of the size of μ·log μ: in float32 its log p is wrong by 1 nat at μ = 8e5 and by 8 at
    8e6. The log p of this class is wrong by 3e-4 and 8e-4 there.

    Arguments:
        rate: μ > 0.
    """

    def __init__(self, rate: Tensor) -> None:
        super().__init__(rate, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of the count x, nats."""
        mu, top = self.rate, value + 1 + SHIFT
        # log x! written as (x + 1)·log(x + 1 + h) − (x + 1) + rest(x + 1).
        result = value * _log(mu / top, (mu - top) / top) + (value + 1 - mu)
        return result - top.log() - log_gamma_rest(value + 1)


def _log(ratio: Tensor, excess: Tensor) -> Tensor:
    """Log of a ratio; where the ratio is near 1, from its excess over 1, which is known more exactly."""
    return torch.where(excess.abs() < 0.5, torch.log1p(excess.clamp(-0.5, 0.5)), ratio.log())


class NegativeBinomial(Distribution):
    """Counts with mean μ and variance μ + μ²/θ; Poisson(μ) as θ → ∞.

    torch's own class is given by (θ, logit) and subtracts log-gamma functions of the size of θ·log θ: in float32 its
    log p is wrong by 4e-3 at θ = 8000 and by 0.06 at θ = 160 000, for any μ, and by 0.1 at counts of 1e6.

    Arguments:
        rate: μ > 0.
        inverse_dispersion: θ > 0; broadcasts with μ.

    Reference: Lopez et al. 2018, doi:10.1038/s41592-018-0229-2 (scVI), methods.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {
        "rate": constraints.positive,
        "inverse_dispersion": constraints.positive,
    }
    support = constraints.nonnegative_integer

    def __init__(self, rate: Tensor, inverse_dispersion: Tensor) -> None:
        rate, inverse_dispersion = broadcast_all(rate, inverse_dispersion)
        self.rate = rate
        self.inverse_dispersion = inverse_dispersion
        super().__init__(self.rate.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of the count x, nats."""
        mu, theta, h = self.rate, self.inverse_dispersion, SHIFT
        # Every log Γ(z) is written as z·log(z + h) − z + rest(z), and the products of logs are joined.
        excess = (theta * (mu - value - 1 - h) - mu) / (value + 1 + h) / (theta + mu)
        result = value * _log(mu / (value + 1 + h) * ((value + theta + h) / (theta + mu)), excess)
        result = result - theta * torch.log1p((mu - value + h * mu / theta) / (value + theta + h))
        result = result + 1 - (value + 1 + h).log()
        return result + log_gamma_rest(value + theta) - log_gamma_rest(theta) - log_gamma_rest(value + 1)

    @property
    def mean(self) -> Tensor:
        """E x = μ."""
        return self.rate

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw Poisson counts with gamma variables as rates, shape (*sample_shape, *batch)."""
        theta = self.inverse_dispersion.expand(self._extended_shape(torch.Size(sample_shape)))
        return torch.poisson((log_gamma_sample(theta) + (self.rate / theta).log()).exp())
