"""Normal priors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from ..distributions import diagonal_normal
from .base import Prior, linear_in_context


class StandardNormal(Prior):
    """p(z) = N(z; 0, I), whatever c is.

    Arguments:
        latent_shape: Event shape of z, or the width of vectors.
    """

    zeros: Tensor
    ones: Tensor

    def __init__(self, latent_shape: int | Sequence[int]) -> None:
        super().__init__()
        shape = (latent_shape,) if isinstance(latent_shape, int) else tuple(latent_shape)
        self.register_buffer("zeros", torch.zeros(shape), persistent=False)
        self.register_buffer("ones", torch.ones(shape), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape ()."""
        return Independent(Normal(self.zeros, self.ones, validate_args=False), self.zeros.ndim)


class LearnedNormal(Prior):
    """p(z | c) = N(z; μ(c), diag σ²(c)), μ and log σ² linear in c: one normal for each class, each at first N(0, I).

    Arguments:
        latent_size: Z.
        context_size: C; 0 for one learned μ and σ.

    Reference: Sohn, Lee and Yan 2015, "Learning structured output representation using deep conditional generative
    models", NeurIPS, section 4.1, where the prior is a network of c.
    """

    def __init__(self, latent_size: int, context_size: int = 0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2 * latent_size))
        self.weight = nn.Parameter(torch.zeros(2 * latent_size, context_size)) if context_size else None

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        parameters = linear_in_context(c, self.weight, self.bias)
        return diagonal_normal(*parameters.chunk(2, -1))
