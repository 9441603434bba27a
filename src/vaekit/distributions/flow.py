"""Normalizing flows: an invertible map between latents and noise.

Masked networks and splines are zuko's; the planar flow and the gate of the inverse autoregressive flow are here because
zuko lacks them. Importing zuko turns off argument checks in `torch.distributions` for the whole process, so this module
is imported only where a flow is used.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import zuko
from torch import Size, Tensor, nn
from torch.distributions import Transform, constraints
from torch.nn.functional import softplus
from zuko.distributions import NormalizingFlow

from ..errors import check_count
from .chain import Recalling

# Least slope of every map here, as in zuko's own: it keeps the inverse away from a division by zero.
SLOPE = 1e-3


class Flow(Recalling, NormalizingFlow):  # type: ignore[misc]
    """Latents z with f(z) ~ base. It remembers the density of its last sample, without inverting anything.

    At any other z, `log_prob` evaluates f, which is the slow direction for a posterior. The remembered density is a
    function of the noise, so it has no gradient with respect to z; `log_prob(z.view_as(z))` has one.

    Arguments:
        transform: f, from latents to noise.
        base: Distribution of the noise.

    Reference: Rezende and Mohamed 2015, arXiv:1505.05770, eq. 7.
    """

    @property
    def event_shape(self) -> Size:
        """(Z,), the shape of the noise. zuko asks the transform, but torch's affine one includes its batch shape."""
        return Size(self.base.event_shape)

    def rsample(self, shape: Sequence[int] = Size()) -> Tensor:
        """Draw z = f⁻¹(noise)."""
        z, log_prob = self.rsample_and_log_prob(Size(shape))
        return self._remember(z, log_prob)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of z, shape (..., Z)."""
        recalled: Tensor | None = self._recall(z)
        log_prob: Tensor = super().log_prob(z) if recalled is None else recalled
        return log_prob

    @property
    def mean(self) -> Tensor:
        """The latents of the mean noise: not the mean of z, which has no closed form, but a deterministic stand-in."""
        z: Tensor = self.transform.inv(self.base.mean)
        return z


class PlanarTransform(Transform):
    """y = x + û tanh(wᵀx + b), invertible because wᵀû ≥ −1 + 1e-3.

    û = u + (m(wᵀu) − wᵀu) w / ‖w‖² with m(a) = −κ + log(1 + (eᵏ − 1) eᵃ), κ = 1 − 1e-3. The paper has κ = 1 and 1 in
    place of eᵏ − 1; with ours m(0) = 0, so that u = 0 is the identity and û stays finite where w vanishes.

    Arguments:
        u: Direction, shape (..., Z).
        w: Normal of the plane, shape (..., Z).
        b: Offset of the plane, shape (...,).

    Reference: Rezende and Mohamed 2015, arXiv:1505.05770, eq. 10 to 12 and appendix A.1.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, u: Tensor, w: Tensor, b: Tensor) -> None:
        super().__init__()
        kappa = 1 - SLOPE
        wu, norm = (w * u).sum(-1, keepdim=True), w.square().sum(-1, keepdim=True)
        gain = softplus(wu + math.log(math.expm1(kappa))) - kappa
        self.u = u + (gain - wu) * w / norm.clamp_min(torch.finfo(w.dtype).tiny)
        self.w = w
        self.b = b
        self.gain = gain.squeeze(-1)

    def _call(self, x: Tensor) -> Tensor:
        return x + self.u * torch.tanh(self._height(x)).unsqueeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        # The height a = wᵀx + b solves a + wᵀû tanh(a) = wᵀy + b, increasing in a; it lies within |wᵀû| of wᵀy + b.
        target = self._height(y)
        gain = self.gain.expand_as(target)
        reach = gain.detach().abs()
        height = zuko.utils.bisection(
            lambda a: a + gain * torch.tanh(a),
            target,
            target - reach,
            target + reach,
            n=2 - round(math.log2(torch.finfo(y.dtype).eps)),
            phi=(gain,) if gain.requires_grad else (),
        )
        return y - self.u * torch.tanh(height).unsqueeze(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log |1 + wᵀû (1 − tanh²)|, shape (...)."""
        return torch.log1p(self.gain * (1 - torch.tanh(self._height(x)).square()))

    def _height(self, x: Tensor) -> Tensor:
        return (x * self.w).sum(-1) + self.b


class GatedTransform(Transform):
    """y = σ·x + (1 − σ)·m with σ = sigmoid(s + 2), kept above 1e-3: at first close to the identity.

    Arguments:
        m: Value with the weight 1 − σ.
        s: Logit of σ before the offset of 2.

    Reference: Kingma et al. 2016, arXiv:1606.04934, section 4.
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, m: Tensor, s: Tensor) -> None:
        super().__init__()
        self.gate = SLOPE + (1 - SLOPE) * torch.sigmoid(s + 2)
        self.shift = (1 - self.gate) * m

    def _call(self, x: Tensor) -> Tensor:
        return self.gate * x + self.shift

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.shift) / self.gate

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log σ, elementwise."""
        return self.gate.log().expand(x.shape)


def check_flow(steps: int, hidden: Sequence[int] = (), bins: int = 2) -> None:
    """Check the options of a flow.

    Raises:
        ConfigError: An option is too small.
    """
    check_count("steps", steps, 1)
    check_count("bins", bins, 2)
    for width in hidden:
        check_count("hidden", width, 1)


def masked_transform(
    flow: Callable[..., nn.Module], size: int, context_size: int, steps: int, hidden: Sequence[int], **options: Any
) -> nn.Module:
    """The masked autoregressive transform of one of zuko's flows, c → transform, without its base."""
    zuko_flow = flow(size, context_size, transforms=steps, hidden_features=tuple(hidden), activation=nn.ELU, **options)
    return zuko_flow.get_submodule("transform")
