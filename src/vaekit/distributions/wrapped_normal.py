"""Normal distributions wrapped onto the Poincaré ball; their densities are with respect to volume in R^d."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from .chain import Recalling
from .curved import PoincareBall, length, moebius_add

BALL = PoincareBall()
EDGE = {torch.float32: 1e-5, torch.float64: 1e-12}  # the least distance of a point from the edge of the ball


class WrappedNormal(Recalling, Distribution):
    """z = exp_μ(v/λ_μ) with v ~ N(0, diag σ²): a normal in the tangent space at μ, carried along geodesics.

    log p(z) = log N(v; 0, diag σ²) − (d − 1) log(sinh r / r) + d log λ_z with v = λ_μ log_μ(z) and r = |v|, the
    distance from μ to z. The last term makes it a density with respect to volume in R^d.

    Arguments:
        loc: μ, points of the unit ball, shape (..., d).
        scale: σ, shape (..., d).

    Reference: Mathieu et al. 2019, arXiv:1901.06033, eq. 4 and 15, with curvature −1; Nagano et al. 2019,
    arXiv:1902.02992.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = BALL
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        loc, scale = torch.broadcast_tensors(loc, scale)
        self.loc = loc
        self.scale = scale
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """μ, the point that the distribution is wrapped about."""
        return self.loc

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw z, with the gradient of both parameters."""
        shape = self._extended_shape(Size(sample_shape))
        v = self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        r = length(v, keep=True).clamp_min(1e-12)
        z = inside(moebius_add(self.loc.expand(shape), torch.tanh(0.5 * r) * v / r))
        self._remember(z, v)
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of z, shape (..., d), nats."""
        recalled: Tensor | None = self._recall(value)
        v = self._tangent(value) if recalled is None else recalled
        r = length(v).clamp_min(1e-12)
        normal = -0.5 * (v / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        return normal.sum(-1) - (v.shape[-1] - 1) * log_sinh_over(r) + v.shape[-1] * log_conformal(value)

    def _tangent(self, z: Tensor) -> Tensor:
        """The vector v = λ_μ log_μ(z); its length is the distance from μ to z."""
        way = moebius_add(-self.loc.expand(torch.broadcast_shapes(self.loc.shape, z.shape)), z)
        far = length(way, keep=True).clamp(1e-12, 1 - EDGE.get(z.dtype, 1e-5) / 4)
        v: Tensor = 2 * torch.atanh(far) * way / far
        return v


def exponential_at_zero(v: Tensor) -> Tensor:
    """The point of the ball that lies at distance |v| from 0 in the direction of v, shape (..., d)."""
    r = length(v, keep=True).clamp_min(1e-12)
    return inside(torch.tanh(0.5 * r) * v / r)


def inside(z: Tensor) -> Tensor:
    """Move points that rounding put on the edge of the ball or beyond a little inside."""
    most = 1 - EDGE.get(z.dtype, 1e-5)
    return z * (most / length(z, keep=True).clamp_min(1e-12)).clamp_max(1.0)


def log_conformal(z: Tensor) -> Tensor:
    """Log λ_z = log 2 − log(1 − |z|²)."""
    return math.log(2) - torch.log1p(-z.square().sum(-1).clamp_max(1 - EDGE.get(z.dtype, 1e-5)))


def log_sinh_over(r: Tensor) -> Tensor:
    """log(sinh r / r) for r > 0, by its series for small r."""
    large = r.clamp_min(1e-2)
    exact = large + torch.log1p(-torch.exp(-2 * large)) - math.log(2) - large.log()
    return torch.where(r < 1e-2, r.square() / 6, exact)
