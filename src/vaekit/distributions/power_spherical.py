"""Distributions on the unit sphere; their densities are with respect to its surface."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Dirichlet, Distribution, register_kl
from torch.nn.functional import normalize

from .curved import UnitSphere

UNIT_SPHERE = UnitSphere()


class PowerSpherical(Distribution):
    """p(z; μ, κ) ∝ (1 + μᵀz)^κ on the unit sphere in R^d; drawn without rejection, with an exact gradient.

    With a = (d − 1)/2 + κ and b = (d − 1)/2 the constant is 2^(a+b) π^b Γ(a)/Γ(a + b).

    Arguments:
        loc: μ, unit vectors, shape (..., d), d at least 2.
        concentration: κ ≥ 0, shape (...).

    Reference: De Cao and Aziz 2020, arXiv:2006.04437, eq. 4, 12 and algorithm 1.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = UNIT_SPHERE
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor) -> None:
        self.loc = loc
        self.concentration = concentration
        self.b = torch.full_like(concentration, 0.5 * (loc.shape[-1] - 1))
        self.a = self.b + concentration
        super().__init__(concentration.shape, loc.shape[-1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of z, shape (..., d), nats."""
        cosine = (self.loc * value).sum(-1)
        return self.concentration * torch.log1p(cosine.clamp_min(-1 + 1e-7)) - self.log_constant

    @property
    def log_constant(self) -> Tensor:
        """Log of ∫ (1 + μᵀz)^κ dz."""
        a, b = self.a, self.b
        return (a + b) * math.log(2) + b * math.log(math.pi) + torch.lgamma(a) - torch.lgamma(a + b)

    def entropy(self) -> Tensor:
        """E −log p(z), nats."""
        return self.log_constant - self.concentration * (
            math.log(2) + torch.digamma(self.a) - torch.digamma(self.a + self.b)
        )

    @property
    def mean(self) -> Tensor:
        """The mean direction μ, which lies on the sphere. The mean of z is this times (a − b)/(a + b)."""
        return self.loc

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw z: a length along the first axis, a direction across, and a reflection of the first axis to μ."""
        shape = self._extended_shape(Size(sample_shape))
        # Two parts that sum to one; each keeps its digits when the other is near one.
        near, far = Dirichlet(torch.stack((self.a, self.b), -1)).rsample(Size(sample_shape)).unbind(-1)
        across = normalize(torch.randn(*shape[:-1], shape[-1] - 1, dtype=near.dtype, device=near.device), dim=-1)
        along = (near - far).unsqueeze(-1)
        width = (4 * near * far).clamp_min(torch.finfo(near.dtype).tiny ** 0.5).sqrt().unsqueeze(-1)
        y = torch.cat((along, width * across), -1)
        first = torch.zeros_like(self.loc)
        first[..., 0] = 1
        mirror = normalize(first - self.loc, dim=-1)
        return y - 2 * mirror * (mirror * y).sum(-1, keepdim=True)


class UniformSphere(Distribution):
    """The uniform distribution on the unit sphere in R^d.

    Arguments:
        like: A tensor of d values with the type and device of the samples.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = UNIT_SPHERE
    has_rsample = True

    def __init__(self, like: Tensor) -> None:
        self.like = like
        super().__init__(Size(), like.shape, validate_args=False)

    @property
    def log_area(self) -> float:
        """Log of the sphere's area, 2 π^(d/2)/Γ(d/2)."""
        half = 0.5 * len(self.like)
        return math.log(2) + half * math.log(math.pi) - math.lgamma(half)

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the log of the area, for z of shape (..., d)."""
        return value.new_full(value.shape[:-1], -self.log_area)

    def entropy(self) -> Tensor:
        """The log of the area."""
        return self.like.new_tensor(self.log_area)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw z, shape (*sample_shape, d)."""
        noise = torch.randn(*sample_shape, len(self.like), dtype=self.like.dtype, device=self.like.device)
        return normalize(noise, dim=-1)


@register_kl(PowerSpherical, UniformSphere)  # type: ignore[untyped-decorator]
def _kl_power_uniform(q: PowerSpherical, p: UniformSphere) -> Tensor:
    """KL(q ‖ p) = log of the area − the entropy of q. Reference: De Cao and Aziz 2020, eq. 13."""
    return p.log_area - q.entropy()
