"""Priors on curved spaces: the sphere and the Poincaré ball."""

import torch
from torch import Tensor

from ..distributions import UniformSphere, WrappedNormal
from ..errors import check_range
from .base import Prior


class UniformSpherePrior(Prior):
    """p(z) = 1/area: every direction is as likely as any other, whatever c is.

    Arguments:
        latent_size: Z, the dimensions of the space around the sphere.

    Reference: Davidson et al. 2018, arXiv:1804.00891, section 3.
    """

    latent_kind = "directions"
    zeros: Tensor

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_size), persistent=False)

    def forward(self, c: Tensor | None = None) -> UniformSphere:
        """The prior, batch shape ()."""
        return UniformSphere(self.zeros)


class WrappedNormalPrior(Prior):
    """p(z): a normal of the same standard deviation along every axis, wrapped onto the Poincaré ball about 0.

    Arguments:
        latent_size: Z.
        scale: The standard deviation.

    Raises:
        ConfigError: The standard deviation is not positive.

    Reference: Mathieu et al. 2019, arXiv:1901.06033, section 3.1.
    """

    latent_kind = "ball"
    zeros: Tensor
    scales: Tensor

    def __init__(self, latent_size: int, *, scale: float = 1.0) -> None:
        super().__init__()
        check_range("scale", scale, 0, ends="()")
        self.register_buffer("zeros", torch.zeros(latent_size), persistent=False)
        self.register_buffer("scales", torch.full((latent_size,), scale), persistent=False)

    def forward(self, c: Tensor | None = None) -> WrappedNormal:
        """The prior, batch shape ()."""
        return WrappedNormal(self.zeros, self.scales)
