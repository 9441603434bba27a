"""A second VAE, over the latents of a first one, as its prior.

Not for: fitting it (`vaekit.evaluation.latent_space.ex_post`).
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Normal
from torch.distributions.constraints import real_vector

from ..errors import check_count
from .base import Prior


class SecondStagePrior(Prior):
    """p(z | c) = ∫ N(z; μ(u, c), γ² I) N(u; 0, I) du, a VAE of latents; u has the dimensions of z.

    Its log_prob is the logarithm of an unbiased estimate of p(z | c), from importance samples of q(u | z, c), drawn
    anew for every call. The expectation of log_prob is at most log p(z | c), so every bound with it stays a bound.

    Arguments:
        latent_size: Z.
        context_size: C; 0 for an unconditional model.
        hidden: Widths of the hidden layers of encoder and decoder.
        samples: K, importance samples of each latent.

    Reference: Dai and Wipf 2019, arXiv:1903.05789, section 4, with K = 1.
    """

    def __init__(
        self, latent_size: int, context_size: int = 0, *, hidden: Sequence[int] = (128, 128), samples: int = 8
    ) -> None:
        super().__init__()
        self.samples = check_count("samples", samples, 1)
        self.latent_size = latent_size
        self.encoder = _network(latent_size + context_size, hidden, 2 * latent_size)
        self.decoder = _network(latent_size + context_size, hidden, latent_size)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        return SecondStage(self, c)


class SecondStage(Distribution):
    """The distribution of a `SecondStagePrior`.

    Arguments:
        prior: Encoder, decoder and scale.
        c: Context, shape (B, C), or None.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = real_vector

    def __init__(self, prior: SecondStagePrior, c: Tensor | None) -> None:
        self.prior = prior
        self.c = c
        super().__init__(Size() if c is None else c.shape[:1], Size((prior.latent_size,)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of an unbiased estimate of p(z), shape (...) for latents (..., Z), nats."""
        prior = self.prior
        mu, log_sigma = prior.encoder(self._with_context(value)).chunk(2, -1)
        q = Normal(mu, log_sigma.clamp(-8, 8).exp(), validate_args=False)
        u = q.rsample(Size((prior.samples,)))
        z = self._decoded(u)
        log_w = z.log_prob(value) + Normal(0.0, 1.0).log_prob(u) - q.log_prob(u)
        estimate: Tensor = log_w.sum(-1).logsumexp(0) - math.log(prior.samples)
        return estimate

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw u and then z, shape (*sample_shape, *batch, Z)."""
        shape = (*sample_shape, *self.batch_shape, self.prior.latent_size)
        like = self.prior.log_scale
        drawn: Tensor = self._decoded(torch.randn(shape, device=like.device, dtype=like.dtype)).sample()
        return drawn

    def _decoded(self, u: Tensor) -> Normal:
        return Normal(self.prior.decoder(self._with_context(u)), self.prior.log_scale.exp(), validate_args=False)

    def _with_context(self, values: Tensor) -> Tensor:
        if self.c is None:
            return values
        return torch.cat((values, self.c.to(values).expand(*values.shape[:-1], -1)), -1)


def _network(size: int, hidden: Sequence[int], out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(size, width), nn.SiLU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, out))
