"""A distribution with all its mass on one point, for an encoder without noise."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints


class PointMass(Distribution):
    """One certain z for each row. It has no density, so that neither a rate nor a bound on log p(x) exists.

    Arguments:
        z: The points, shape (B, *event), one batch dimension.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real
    has_rsample = True

    def __init__(self, z: Tensor) -> None:
        self.z = z
        super().__init__(z.shape[:1], z.shape[1:], validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """The points, shape (*sample_shape, B, *event)."""
        return self.z.expand(*sample_shape, *self.z.shape)

    @property
    def mean(self) -> Tensor:
        """The points."""
        return self.z

    @property
    def stddev(self) -> Tensor:
        """Zeros."""
        return torch.zeros_like(self.z)
