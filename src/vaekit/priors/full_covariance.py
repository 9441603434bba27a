"""A mixture of normals with full covariances as a prior."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import Chain, FullCovarianceMixture
from ..errors import ConfigError, check_count, check_range
from .base import MOST_COMPONENTS, Prior


class FullCovarianceNormalMixture(Prior):
    """p(z | c) = Σ_k π_k(c) N(z; μ_k, Σ_k), Σ_k⁻¹ = T_kᵀ T_k: many small normals, each with its own axes.

    With a context of C classes, K // C components, at least one, belong to each class, and π(c) weighs the classes by
    c; classes share nothing.

    With training data each mean starts at the encoder's mean of a row of its class; without, at a draw of N(0, I).
    Variances start at `variance`.

    Arguments:
        latent_size: Z.
        context_size: C; 0 for an unconditional model.
        components: K.
        variance: Variance of every component along every axis at the start.

    Attributes:
        learning_rate_factor: Factor on the learning rate of its parameters, since few rows use each of them.
        decays: Whether weight decay is applied to them.

    Raises:
        ConfigError: The number of components is below 1, or the variance is not positive.
    """

    learning_rate_factor = 3.0
    decays = False

    def __init__(
        self, latent_size: int, context_size: int = 0, *, components: int = 100, variance: float = 0.37
    ) -> None:
        super().__init__()
        check_count("components", components, 1, MOST_COMPONENTS)
        if context_size:
            components = max(1, components // context_size) * context_size
        check_range("variance", variance, 0, ends="()")
        self.context_size = context_size
        self.loc = nn.Parameter(torch.randn(components, latent_size))
        start = torch.zeros(components, latent_size, latent_size)
        start.diagonal(dim1=1, dim2=2).fill_(-0.5 * math.log(variance))
        self.tril = nn.Parameter(start)  # T below the diagonal, and the log of T's diagonal on it
        self.logits = nn.Parameter(torch.zeros(components))

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        diagonal = self.tril.diagonal(dim1=1, dim2=2).exp().diag_embed()
        return FullCovarianceMixture(self.loc, self.tril.tril(-1) + diagonal, self._log_weights(c))

    def _log_weights(self, c: Tensor | None) -> Tensor:
        if c is None or not self.context_size:
            return self.logits.log_softmax(0)
        by_class = self.logits.unflatten(0, (-1, self.context_size)).log_softmax(0)
        weights: Tensor = (by_class + (c / c.sum(-1, keepdim=True)).log().unsqueeze(-2)).flatten(-2)
        return weights

    @torch.no_grad()
    def start(self, posterior: nn.Module, x: Tensor, c: Tensor | None = None) -> None:
        """Put the means at the posterior's means of training rows; component k takes a row of class k mod C.

        Arguments:
            posterior: The model's posterior, (x, c) → q(z | x, c).
            x: Training rows, shape (N, *event).
            c: Context of these rows, shape (N, C), for a conditional model.
        """
        if self.context_size and c is None:
            return  # the classes of the rows are unknown: the means stay where they are
        order = torch.randperm(len(x))
        if c is not None:
            labels = c.argmax(1)[order]
            class_rows = [order[labels == k] for k in range(self.context_size)]
            if not all(map(len, class_rows)):
                return  # a class has no rows: the means stay where they are
            pairs = (divmod(k, self.context_size) for k in range(len(self.loc)))
            chosen = torch.stack([class_rows[k][turn % len(class_rows[k])] for turn, k in pairs])
        else:
            chosen = order[torch.arange(len(self.loc)) % len(order)]
        q = posterior(x[chosen], None if c is None else c[chosen])
        if isinstance(q, Chain):
            raise ConfigError(
                "the prior 'full-covariance-mixture' is for one latent level, this posterior has several; choose "
                "the posterior 'diagonal-normal'"
            )
        self.loc.copy_(q.mean.flatten(1))
