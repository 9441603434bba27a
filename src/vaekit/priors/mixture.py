"""Mixtures of normals as priors."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from ..distributions import diagonal_normal
from ..errors import check_count
from .base import MOST_COMPONENTS, Prior, linear_in_context


class NormalMixture(Prior):
    """p(z | c) = Σ_k π_k(c) N(z; μ_k, diag σ_k²).

    The context moves the weights only, π(c) = softmax(W c + b), at first all equal: classes share the components, and a
    conditional mixture costs no more than an unconditional one.

    Arguments:
        latent_size: Z.
        context_size: C; 0 for an unconditional model.
        components: Number of components; their means start at draws of N(0, I), their variances at 1.

    Reference: Tomczak and Welling 2018, arXiv:1705.07120, the MoG prior of section 4.
    """

    def __init__(self, latent_size: int, context_size: int = 0, *, components: int = 10) -> None:
        super().__init__()
        check_count("components", components, 1, MOST_COMPONENTS)
        self.mu = nn.Parameter(torch.randn(components, latent_size))
        self.log_var = nn.Parameter(torch.zeros(components, latent_size))
        self.bias = nn.Parameter(torch.zeros(components))
        self.weight = nn.Parameter(torch.zeros(components, context_size)) if context_size else None

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        logits = linear_in_context(c, self.weight, self.bias)
        return mixture_of(logits, diagonal_normal(self.mu, self.log_var).expand(logits.shape))


def mixture_of(logits: Tensor, components: Distribution) -> MixtureSameFamily:
    """The mixture of components, batch shape (..., K), with logits of its weights, shape (..., K)."""
    return MixtureSameFamily(Categorical(logits=logits, validate_args=False), components, validate_args=False)
