"""Posteriors on curved spaces: the sphere and the Poincaré ball."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from ..distributions import PowerSpherical, WrappedNormal, bounded, exponential_at_zero
from ..errors import check_count
from .base import FromFeatures, MeanAndVariance


class PowerSphericalPosterior(FromFeatures):
    """q(z | x, c) ∝ (1 + μ(h)ᵀz)^κ(h) on the unit sphere in R^Z, κ = 1 + softplus(·), with h = net(x, c).

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z, at least 2; the sphere has Z − 1 dimensions.

    Reference: De Cao and Aziz 2020, arXiv:2006.04437, section 4.1.
    """

    latent_kind = "directions"

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        check_count("latent_size of a sphere", latent_size, 2)
        super().__init__(net, (latent_size,))
        self.mu = nn.Linear(features, latent_size)
        self.kappa = nn.Linear(features, 1)

    def distribution(self, h: Tensor) -> PowerSpherical:
        """The posterior given features, shape (B, features)."""
        return PowerSpherical(normalize(self.mu(h), dim=-1), 1 + softplus(self.kappa(h).squeeze(-1)))


class WrappedNormalPosterior(MeanAndVariance):
    """q(z | x, c): a normal with standard deviations σ(h), wrapped onto the Poincaré ball about exp₀(μ(h)).

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.

    Reference: Mathieu et al. 2019, arXiv:1901.06033, section 3.2.
    """

    latent_kind = "ball"

    def distribution(self, h: Tensor) -> WrappedNormal:
        """The posterior given features, shape (B, features)."""
        scale = torch.exp(0.5 * bounded(self.log_var(h)))
        return WrappedNormal(exponential_at_zero(self.mu(h)), scale)
