"""Grids of codes as latents: one certain grid for each row, and a uniform distribution over grids.

Not for: choosing a code (`vaekit.posteriors.quantized`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint


class Codebook(Protocol):
    """Codes by index: a bijection between indices and vectors of length D."""

    num_codes: int

    def codes_of(self, index: Tensor) -> Tensor:
        """The codes with these indices, shape (..., *places): latents, shape (..., D, *places)."""

    def index_of(self, z: Tensor) -> Tensor:
        """The indices of these codes."""


class _Grid(Constraint):
    """Grids of codes: discrete values."""

    is_discrete = True

    def __init__(self, event_dim: int) -> None:
        self.event_dim = event_dim

    def check(self, value: Tensor) -> Tensor:
        """Accept every finite value as a grid of codes."""
        return value.flatten(-self.event_dim).isfinite().all(-1)


class CertainCodes(Distribution):
    """One certain grid of codes for each row, with probability 1.

    Arguments:
        z: The codes, shape (B, D, *places), with the gradient for the encoder.
        penalties: Terms to subtract from the objective, each of shape (B,).
        logged: Values to log, each of shape (B,).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(
        self, z: Tensor, penalties: Mapping[str, Tensor] | None = None, logged: Mapping[str, Tensor] | None = None
    ) -> None:
        self.z = z
        self.penalties = dict(penalties or {})
        self.logged = dict(logged or {})
        super().__init__(z.shape[:1], z.shape[1:], validate_args=False)

    @property
    def support(self) -> Constraint:
        """Grids of codes."""
        return _Grid(len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The codes."""
        return self.z

    @property
    def mode(self) -> Tensor:
        """The codes."""
        return self.z

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """The codes, shape (*sample_shape, B, D, *places)."""
        return self.z.expand(*sample_shape, *self.z.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 for these codes and −∞ for others."""
        same = (value.detach() == self.z.detach()).flatten(-len(self.event_shape)).all(-1)
        return torch.zeros_like(same, dtype=value.dtype).masked_fill(~same, -math.inf)


class UniformCodes(Distribution):
    """Every code as likely as any other, at every place.

    Arguments:
        codebook: The codes.
        latent_shape: (D, *places).
        like: A tensor on the device of the samples.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, codebook: Codebook, latent_shape: Sequence[int], like: Tensor) -> None:
        self.codebook = codebook
        self.like = like
        super().__init__(Size(), Size(latent_shape), validate_args=False)

    @property
    def support(self) -> Constraint:
        """Grids of codes."""
        return _Grid(len(self.event_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw a code for each place, shape (*sample_shape, D, *places)."""
        places = (*sample_shape, *self.event_shape[1:])
        return self.codebook.codes_of(torch.randint(self.codebook.num_codes, places, device=self.like.device))

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum of −log N over all places."""
        places = math.prod(self.event_shape[1:])
        return value.new_full(value.shape[: -len(self.event_shape)], -places * math.log(self.codebook.num_codes))
