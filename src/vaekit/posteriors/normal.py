"""Normal posteriors."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from ..distributions import CholeskyNormal, bounded, diagonal_normal
from .base import MeanAndVariance


class DiagonalNormal(MeanAndVariance):
    """q(z | x, c) = N(z; μ(h), diag σ²(h)) with h = net(x, c).

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.

    Reference: Kingma and Welling 2013, arXiv:1312.6114, eq. 9.
    """

    def distribution(self, h: Tensor) -> "Independent[Normal]":
        """The posterior given features, shape (B, features)."""
        return diagonal_normal(self.mu(h), self.log_var(h))


class FullCovarianceNormal(MeanAndVariance):
    """q(z | x, c) = N(z; μ(h), L Lᵀ) with L lower triangular and σ(h) on its diagonal.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
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

    def distribution(self, h: Tensor) -> Distribution:
        """The posterior given features, shape (B, features)."""
        tril = (0.5 * bounded(self.log_var(h))).exp().diag_embed()
        if self.lower is not None:
            tril[..., self.rows, self.columns] = self.lower(h)
        return CholeskyNormal(self.mu(h), scale_tril=tril, validate_args=False)
