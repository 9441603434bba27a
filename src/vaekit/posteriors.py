"""Posteriors q(z | x, c): modules that return a distribution with batch shape (B,) and event shape (Z,).

Not for: posteriors that bend a normal one by a flow (`flows`) or that have several levels (`hierarchy`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, register_kl

from .chain import Recalling
from .errors import ConfigError


def bounded(x: Tensor) -> Tensor:
    """Keep x within ±20 by a smooth function that is exactly the identity on [−10, 10].

    Beyond, it is sign(x)·(10 + 10·tanh((|x| − 10) / 10)). As a log-variance it keeps σ between 4.5e-5 and 2.2e4,
    whatever a network puts out; its value and its gradient are finite for every x, infinity included.

    >>> bounded(torch.tensor([-1e9, -3.0, 10.0, 1e9]))
    tensor([-20.,  -3.,  10.,  20.])
    """
    inner = x.clamp(-10, 10)
    return inner + 10 * torch.tanh((x - inner) / 10)


def diagonal_normal(mu: Tensor, log_var: Tensor) -> "Independent[Normal]":
    """N(μ, diag exp(bounded(log σ²))), the last dimension of μ being the event."""
    return Independent(Normal(mu, (0.5 * bounded(log_var)).exp(), validate_args=False), 1, validate_args=False)


def at_least(minimum: int, option: str, value: int) -> int:
    """The value of an option, checked.

    Raises:
        ConfigError: it is below the minimum.
    """
    if value < minimum:
        raise ConfigError(f"{option} must be at least {minimum}, got {value}")
    return value


class Amortized(nn.Module, ABC):
    """A posterior whose parameters are read off features h = net(x, c), among them a mean μ and a log-variance log σ².

    Arguments:
        net: Network (B, *image), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.
    """

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        super().__init__()
        self.net = net
        self.latent_size = latent_size
        self.mu = nn.Linear(features, latent_size)
        self.log_var = nn.Linear(features, latent_size)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """The posterior of each row of x."""
        return self.given(self.net(x, c))

    @abstractmethod
    def given(self, h: Tensor) -> Distribution:
        """The posterior given features, shape (B, features)."""


class DiagonalNormal(Amortized):
    """q(z | x, c) = N(z; μ(h), diag σ²(h)) with h = net(x, c).

    Arguments:
        net: Network (B, *image), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.

    Reference: Kingma and Welling 2013, arXiv:1312.6114, eq. 9.
    """

    def given(self, h: Tensor) -> "Independent[Normal]":
        """The posterior given features, shape (B, features)."""
        return diagonal_normal(self.mu(h), self.log_var(h))


class FullCovarianceNormal(Amortized):
    """q(z | x, c) = N(z; μ(h), L Lᵀ) with L lower triangular and σ(h) on its diagonal.

    Arguments:
        net: Network (B, *image), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.

    Reference: Kingma and Welling 2019, arXiv:1906.02691, section 2.5.1.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        super().__init__(net, features, latent_size)
        rows, columns = torch.tril_indices(latent_size, latent_size, -1)
        self.lower = nn.Linear(features, len(rows)) if len(rows) else None
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def given(self, h: Tensor) -> Distribution:
        """The posterior given features, shape (B, features)."""
        tril = (0.5 * bounded(self.log_var(h))).exp().diag_embed()
        if self.lower is not None:
            tril[..., self.rows, self.columns] = self.lower(h)
        return CholeskyNormal(self.mu(h), scale_tril=tril, validate_args=False)


class CholeskyNormal(Recalling, MultivariateNormal):
    """A multivariate normal that knows the density of its own last sample without solving for the noise behind it.

    It is exact however badly conditioned L is, where the triangular solve of torch's `log_prob` overflows.
    """

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw z = μ + L ε with ε ~ N(0, I)."""
        noise = torch.randn(self._extended_shape(Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        z = self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        return self._remember(z, -0.5 * noise.square().sum(-1) - self._log_volume())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of z, shape (..., Z)."""
        known: Tensor | None = self._recall(value)
        return super().log_prob(value) if known is None else known  # type: ignore[no-untyped-call]

    def _log_volume(self) -> Tensor:
        log_diagonal = self.scale_tril.diagonal(dim1=-2, dim2=-1).log()
        return log_diagonal.sum(-1) + 0.5 * math.log(2 * math.pi) * self.loc.shape[-1]


@register_kl(CholeskyNormal, Independent)  # type: ignore[untyped-decorator]
def _kl_cholesky_diagonal(q: CholeskyNormal, p: "Independent[Normal]") -> Tensor:
    """KL(N(μ, L Lᵀ) ‖ N(m, diag s²)) without inverting L."""
    if not isinstance(p.base_dist, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    m, s = p.base_dist.loc, p.base_dist.scale
    squares = (q.scale_tril.square().sum(-1) + (q.loc - m).square()) / s.square()
    log_diagonal = q.scale_tril.diagonal(dim1=-2, dim2=-1).log()
    return (0.5 * (squares - 1) + s.log() - log_diagonal).sum(-1)
