"""Priors of discrete latents."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, OneHotCategorical

from ..errors import ConfigError
from .base import Prior, linear_in_context


class BernoulliPrior(Prior):
    """p(z | c) = Π_j Bernoulli(z_j; sigmoid(η_j(c))), η linear in c: fair coins at first.

    Arguments:
        latent_shape: Event shape of z, bits.
        context_size: C; 0 for one learned η.
    """

    latent_kind = "bits"

    def __init__(self, latent_shape: Sequence[int], context_size: int = 0) -> None:
        super().__init__()
        self.logits = Logits(latent_shape, context_size)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        logits = self.logits(c)
        return Independent(Bernoulli(logits=logits, validate_args=False), len(self.logits.shape))


class CategoricalPrior(Prior):
    """p(z | c) = Π_j Categorical(z_j; softmax(η_j(c))) over one-hot variables, η linear in c: uniform at first.

    Arguments:
        latent_shape: Event shape of z, (Z, categories).
        context_size: C; 0 for one learned η.

    Raises:
        ConfigError: The latents are not one-hot variables.
    """

    latent_kind = "categories"

    def __init__(self, latent_shape: Sequence[int], context_size: int = 0) -> None:
        super().__init__()
        if len(latent_shape) != 2:
            raise ConfigError(
                f"the prior 'categorical' needs one-hot latents (Z, categories), got shape {tuple(latent_shape)}; "
                "choose the posterior 'categorical' or 'gumbel-softmax'"
            )
        self.logits = Logits(latent_shape, context_size)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        return Independent(OneHotCategorical(logits=self.logits(c), validate_args=False), 1)


class Logits(nn.Module):
    """η(c) = b + W c, at first 0.

    Arguments:
        shape: Event shape of η.
        context_size: C; 0 for η = b.
    """

    def __init__(self, shape: Sequence[int], context_size: int) -> None:
        super().__init__()
        self.shape = torch.Size(shape)
        self.bias = nn.Parameter(torch.zeros(self.shape.numel()))
        self.weight = nn.Parameter(torch.zeros(self.shape.numel(), context_size)) if context_size else None

    def forward(self, c: Tensor | None) -> Tensor:
        """Logits, shape (*shape), or (B, *shape) for c of shape (B, C)."""
        flat = linear_in_context(c, self.weight, self.bias)
        logits: Tensor = flat.unflatten(-1, self.shape)
        return logits
