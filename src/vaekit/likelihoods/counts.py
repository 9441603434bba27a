"""Likelihoods of counts: x = 0, 1, 2 …, as they are."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .. import distributions
from ..errors import ConfigError
from .base import PerValueLikelihood, soft_bound, soft_bound_inverse


class Counts(PerValueLikelihood):
    """p(x | z, c) = Π family(x; μ), log μ = net(z, c) + log s, with s = 1 or a size factor.

    A size factor is the depth at which a row was sampled, such as the total count of a cell. It is known beforehand: a
    covariate and not part of x. With `size_factor` the last column of the context c is log s, best centred to mean 0.
    The model is conditional on log s as on any other column, so sampling needs it too. The model then takes rows of
    numbers as contexts, and no classes: their one-hot rows have no column for log s.

    Arguments:
        net: Network (..., Z), (B, C) → log μ before s (..., *event), bounded softly by ±16.
        context_size: C.
        size_factor: Whether the last column of c is log s.
        log1p: Whether an encoder from a config sees log(1 + x); without it training on large counts diverges.

    Raises:
        ConfigError: `size_factor` is set, but there is no context.
    """

    value_kind = "counts"
    value_range = (0.0, float("inf"))
    discrete = True
    limit = 16.0  # μ ≤ 8.9e6

    def __init__(self, net: nn.Module, context_size: int = 0, *, size_factor: bool = False, log1p: bool = True) -> None:
        super().__init__(net)
        self.log1p = log1p
        if size_factor and not context_size:
            raise ConfigError(
                "size_factor is true, but the model has no context with log s as its last column; "
                "give it one or set it to false"
            )
        self.size_factor = size_factor
        self.takes_classes = not size_factor

    @staticmethod
    def encoder_transform(*, log1p: bool = True, **options: Any) -> Callable[[Tensor], Tensor] | None:
        """Log(1 + x), unless that is turned off."""
        return torch.log1p if log1p else None

    def output(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Log μ, shape (1, ..., B, *event)."""
        log_mu = soft_bound(super().output(z, c), self.limit)
        if c is None or not self.size_factor:
            return log_mu
        event_dims = log_mu.ndim - 1 - z.ndim + self.latent_dims
        return log_mu + c[:, -1].reshape(-1, *[1] * event_dims)

    def distribution(self, output: Tensor) -> Distribution:
        """Counts."""
        return self.family(output[0].exp())

    @abstractmethod
    def family(self, rate: Tensor) -> Distribution:
        """Independent counts of mean μ."""

    def parameters_at(self, mean: Tensor) -> Tensor:
        """The network's output at which the mean for s = 1 is `mean`, at least 0.001 and below the greatest one."""
        return soft_bound_inverse(mean.clamp(min=1e-3).log().clamp(max=0.99 * self.limit), self.limit)


class Poisson(Counts):
    """p(x | z, c) = Π Poisson(x; μ), log μ = net(z, c)."""

    def family(self, rate: Tensor) -> Distribution:
        """Poisson counts."""
        return distributions.Poisson(rate)


class NegativeBinomial(Counts):
    """p(x | z, c) = Π NB(x; μ, θ), of variance μ + μ²/θ, log μ = net(z, c), one learned θ for each feature of x.

    Arguments:
        net: Network (..., Z), (B, C) → log μ (..., *event).
        event_shape: Event shape of x.
        context_size: C.
        size_factor: Whether the last column of c is the log of a size factor of μ.
        log1p: Whether an encoder from a config sees log(1 + x).

    Reference: Lopez et al. 2018, doi:10.1038/s41592-018-0229-2 (scVI). There s is inferred, or the row's total count.
    """

    def __init__(
        self,
        net: nn.Module,
        event_shape: tuple[int, ...],
        context_size: int = 0,
        *,
        size_factor: bool = False,
        log1p: bool = True,
    ) -> None:
        super().__init__(net, context_size, size_factor=size_factor, log1p=log1p)
        self.log_theta = nn.Parameter(torch.zeros(event_shape))

    def family(self, rate: Tensor) -> Distribution:
        """Negative binomial counts."""
        return distributions.NegativeBinomial(rate, soft_bound(self.log_theta, 10.0).exp())
