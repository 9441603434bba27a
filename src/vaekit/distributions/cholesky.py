"""A multivariate normal given by the Cholesky factor of its covariance."""

import math
from collections.abc import Sequence

import torch
from torch import Size, Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, register_kl

from .chain import Recalling


class CholeskyNormal(Recalling, MultivariateNormal):
    """A multivariate normal that remembers the density of its last sample, computed from the noise.

    This density is exact even for a badly conditioned L, for which the triangular solve of torch's `log_prob`
    overflows.
    """

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw z = μ + L ε with ε ~ N(0, I)."""
        noise = torch.randn(self._extended_shape(Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        z = self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        return self._remember(z, -0.5 * noise.square().sum(-1) - self._log_volume())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of z, shape (..., Z)."""
        recalled: Tensor | None = self._recall(value)
        return super().log_prob(value) if recalled is None else recalled  # type: ignore[no-untyped-call]

    def _log_volume(self) -> Tensor:
        log_diagonal = self.scale_tril.diagonal(dim1=-2, dim2=-1).log()
        return log_diagonal.sum(-1) + 0.5 * math.log(2 * math.pi) * self.loc.shape[-1]


@register_kl(CholeskyNormal, Independent)  # type: ignore[untyped-decorator]
def _kl_cholesky_diagonal(q: CholeskyNormal, p: "Independent[Normal]") -> Tensor:
    """KL(N(μ, L Lᵀ) ‖ N(m, diag s²)) without inverting L."""
    if type(p.base_dist) is not Normal or p.reinterpreted_batch_ndims != 1:  # a subclass may have another density
        raise NotImplementedError
    m, s = p.base_dist.loc, p.base_dist.scale
    squares = (q.scale_tril.square().sum(-1) + (q.loc - m).square()) / s.square()
    log_diagonal = q.scale_tril.diagonal(dim1=-2, dim2=-1).log()
    return (0.5 * (squares - 1) + s.log() - log_diagonal).sum(-1)
