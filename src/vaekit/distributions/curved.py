"""The curved spaces of latents: whether a point lies in one, and the shortest path between two points."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from .supports import support_of

NEAR = 1e-3  # how far from length 1 a unit vector may be, in any type


class Curved(Constraint):
    """A curved space of latents, as the support of a distribution."""

    is_discrete = False
    event_dim = 1
    name: str
    where: str

    def check(self, value: Tensor) -> Tensor:
        """Whether points, shape (..., d), lie in the space; shape (...)."""
        raise NotImplementedError

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """The point at the fraction t of the shortest path from a to b; both have shape (..., d), and broadcast."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.name


class UnitSphere(Curved):
    """Vectors of length 1."""

    name = "the unit sphere"
    where = "on the unit sphere"

    def check(self, value: Tensor) -> Tensor:
        """Whether points, shape (..., d), lie on the sphere."""
        return (length(value) - 1).abs() < NEAR

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """A point of the great circle through a and b; for opposite points it takes one of the circles.

        Reference: Shoemake 1985, "Animating rotation with quaternion curves", SIGGRAPH.
        """
        cosine = (a * b).sum(-1, keepdim=True).clamp(-1, 1)
        across = b - cosine * a
        aside = torch.zeros_like(a)
        aside.scatter_(-1, a.abs().argmin(-1, keepdim=True), 1.0)
        aside = aside - (aside * a).sum(-1, keepdim=True) * a
        across = torch.where(length(across, keep=True) > 1e-6, across, aside)
        across = across / length(across, keep=True)
        angle = t * torch.atan2((b * across).sum(-1, keepdim=True), cosine)
        return angle.cos() * a + angle.sin() * across


class PoincareBall(Curved):
    """The open ball of radius 1 with the hyperbolic metric of curvature −1, λ² |dz|² with λ = 2/(1 − |z|²)."""

    name = "the Poincaré ball"
    where = "in the Poincaré ball"

    def check(self, value: Tensor) -> Tensor:
        """Whether points, shape (..., d), lie in the ball."""
        return length(value) < 1

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """A point of the geodesic from a to b.

        Reference: Ganea, Bécigneul and Hofmann 2018, arXiv:1805.09112, eq. 7.
        """
        way = moebius_add(-a, b)
        far = length(way, keep=True).clamp(1e-12, 1 - 1e-7)
        return moebius_add(a, torch.tanh(t * torch.atanh(far)) * way / far)


def length(z: Tensor, *, keep: bool = False) -> Tensor:
    """Length of vectors along the last dimension; `keep` keeps this dimension."""
    norm: Tensor = torch.linalg.vector_norm(z, dim=-1, keepdim=keep)
    return norm


def moebius_add(x: Tensor, y: Tensor) -> Tensor:
    """Möbius sum x ⊕ y in the unit ball. Reference: Ganea, Bécigneul and Hofmann 2018, arXiv:1805.09112, eq. 2."""
    xy, xx, yy = (x * y).sum(-1, keepdim=True), x.square().sum(-1, keepdim=True), y.square().sum(-1, keepdim=True)
    sum_: Tensor = ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy).clamp_min(1e-15)
    return sum_


def support_in(p: Any) -> Curved | None:
    """The curved space that a distribution lives in, or None."""
    support = support_of(p)
    return support if isinstance(support, Curved) else None
