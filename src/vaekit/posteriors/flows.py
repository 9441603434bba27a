"""Posteriors that bend a normal one by a flow. Importing this module imports zuko."""

from collections.abc import Sequence

import torch
import zuko
from torch import Tensor, nn
from torch.distributions import AffineTransform
from zuko.transforms import ComposedTransform

from ..distributions import diagonal_normal
from ..distributions.flow import Flow, GatedTransform, PlanarTransform, check_flow, masked_transform
from .base import MeanAndVariance


class PlanarPosterior(MeanAndVariance):
    """A diagonal normal pushed through planar steps; their u, w and b come from the features h.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.
        steps: Number of planar steps.

    Reference: Rezende and Mohamed 2015, arXiv:1505.05770, algorithm 1.
    """

    def __init__(self, net: nn.Module, features: int, latent_size: int, *, steps: int = 10) -> None:
        super().__init__(net, features, latent_size)
        check_flow(steps)
        self.steps = nn.Linear(features, steps * (2 * latent_size + 1))

    def distribution(self, h: Tensor) -> Flow:
        """The posterior given features, shape (B, features)."""
        size = self.latent_size
        u, w, b = self.steps(h).unflatten(-1, (-1, 2 * size + 1)).split((size, size, 1), -1)
        steps = map(PlanarTransform, u.unbind(-2), w.unbind(-2), b.squeeze(-1).unbind(-1))
        return Flow(ComposedTransform(*steps).inv, diagonal_normal(self.mu(h), self.log_var(h)))


class IAFPosterior(MeanAndVariance):
    """A diagonal normal pushed through inverse autoregressive steps: masked networks of z and of the features h.

    Drawing z with its density takes one pass per step; the density at any other z takes Z passes per step.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.
        steps: Number of steps. Each step reverses the order of the dimensions.
        hidden: Widths of the hidden layers of each step's network.

    Reference: Kingma et al. 2016, arXiv:1606.04934, algorithm 1; there h is one more output of the encoder, here
    it is the features that also give μ and σ.
    """

    def __init__(
        self,
        net: nn.Module,
        features: int,
        latent_size: int,
        *,
        steps: int = 4,
        hidden: Sequence[int] = (128, 128),
    ) -> None:
        super().__init__(net, features, latent_size)
        check_flow(steps, hidden)
        gate = {"univariate": GatedTransform, "shapes": ((), ())}
        self.steps = masked_transform(zuko.flows.MAF, latent_size, features, steps, hidden, **gate)

    def distribution(self, h: Tensor) -> Flow:
        """The posterior given features, shape (B, features)."""
        return Flow(self.steps(h).inv, diagonal_normal(self.mu(h), self.log_var(h)))


class NSFPosterior(MeanAndVariance):
    """z = μ(h) + σ(h)·f(ε; h) with ε ~ N(0, I) and f a neural spline flow that sees the features h.

    The splines come before μ and σ because they act on [−5, 5] only, where ε lies and z need not. Drawing z with its
    density takes one pass per step; the density at any other z takes Z passes per step.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.
        steps: Number of autoregressive steps.
        bins: Pieces of each spline.
        hidden: Widths of the hidden layers of each step's network.

    Reference: Durkan et al. 2019, arXiv:1906.04032, with fully autoregressive steps.
    """

    def __init__(
        self,
        net: nn.Module,
        features: int,
        latent_size: int,
        *,
        steps: int = 3,
        bins: int = 8,
        hidden: Sequence[int] = (128, 128),
    ) -> None:
        super().__init__(net, features, latent_size)
        check_flow(steps, hidden, bins)
        self.steps = masked_transform(zuko.flows.NSF, latent_size, features, steps, hidden, bins=bins)

    def distribution(self, h: Tensor) -> Flow:
        """The posterior given features, shape (B, features)."""
        plain = diagonal_normal(self.mu(h), self.log_var(h))
        affine = AffineTransform(plain.base_dist.loc, plain.base_dist.scale, event_dim=1)
        zeros = torch.zeros_like(plain.mean)
        return Flow(ComposedTransform(self.steps(h), affine).inv, diagonal_normal(zeros, zeros))
