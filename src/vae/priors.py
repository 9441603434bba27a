"""Priors p(z | c): modules that return a distribution with event shape (Z,) and batch shape () or (B,)."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal


class StandardNormal(nn.Module):
    """p(z) = N(z; 0, I), whatever c is."""

    zeros: Tensor
    ones: Tensor

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_size), persistent=False)
        self.register_buffer("ones", torch.ones(latent_size), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape ()."""
        return Independent(Normal(self.zeros, self.ones, validate_args=False), 1)
