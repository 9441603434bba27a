"""A mixture of normals with full covariances, fast enough for a prior in every training step."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints


class FullCovarianceMixture(Distribution):
    """p(z) = Σ_k π_k N(z; μ_k, Σ_k), Σ_k⁻¹ = T_kᵀ T_k with T_k lower triangular.

    With a gradient, log p of all components is one product of matrices: the features (z, z zᵀ) with (Λ μ, −½ Λ), where
    Λ = Tᵀ T, about the mean of the μ_k. In float32 that is exact to about 1e-6·|z|²·|Λ|. Without a gradient the
    residuals T (z − μ) are squared one by one, which is accurate for every z.

    Arguments:
        loc: μ, shape (K, Z).
        precision_tril: T, shape (K, Z, Z), with a positive diagonal.
        log_weights: log π, shape (K,), or (B, K) for a batch; −inf leaves a component out.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, loc: Tensor, precision_tril: Tensor, log_weights: Tensor) -> None:
        self.loc = loc
        self.precision_tril = precision_tril
        self.log_weights = log_weights
        super().__init__(log_weights.shape[:-1], loc.shape[-1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of z, shape (..., Z), nats."""
        quadratic = self._by_features(value) if torch.is_grad_enabled() else self._by_residuals(value)
        log_volume = self.precision_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = log_volume - 0.5 * math.log(2 * math.pi) * self.loc.shape[-1]
        log_prob: Tensor = (quadratic + (self.log_weights + constant)).logsumexp(-1)
        return log_prob

    @property
    def mean(self) -> Tensor:
        """E z, shape (..., Z)."""
        return self.log_weights.exp() @ self.loc

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw a component, and z from it, shape (*sample_shape, *batch, Z)."""
        shape = self._extended_shape(Size(sample_shape))
        rows = math.prod(shape[:-1])
        weights = self.log_weights.exp().expand(*shape[:-1], -1).reshape(rows, len(self.loc))
        chosen = torch.multinomial(weights, 1).squeeze(1)
        noise = torch.randn(rows, shape[-1], 1, dtype=self.loc.dtype, device=self.loc.device)
        deviation = torch.linalg.solve_triangular(self.precision_tril[chosen], noise, upper=False)
        z: Tensor = (self.loc[chosen] + deviation.squeeze(-1)).reshape(shape)
        return z

    def _by_features(self, value: Tensor) -> Tensor:
        """−½ |T (z − μ)|² of each component, shape (..., K), by one product."""
        centre = self.loc.detach().mean(0)
        z = (value - centre).reshape(-1, value.shape[-1])
        loc = self.loc - centre
        precision = self.precision_tril.mT @ self.precision_tril
        linear = (precision @ loc.unsqueeze(-1)).squeeze(-1)
        squares = (z.unsqueeze(2) * z.unsqueeze(1)).flatten(1)
        features = torch.cat((z, squares), 1)
        weights = torch.cat((linear, -0.5 * precision.flatten(1)), 1)
        offset = -0.5 * (linear * loc).sum(1)
        quadratic: Tensor = torch.addmm(offset, features, weights.T).reshape(*value.shape[:-1], len(self.loc))
        return quadratic

    def _by_residuals(self, value: Tensor) -> Tensor:
        z = value.reshape(-1, value.shape[-1])
        shift = (self.precision_tril @ self.loc.unsqueeze(-1)).flatten()
        residuals = torch.addmm(-shift, z, self.precision_tril.flatten(0, 1).T)
        quadratic: Tensor = -0.5 * residuals.square().unflatten(1, self.loc.shape).sum(2)
        return quadratic.reshape(*value.shape[:-1], len(self.loc))
