"""Priors made by a flow. Importing this module imports zuko."""

from collections.abc import Sequence

import torch
import zuko
from torch import Tensor, nn

from ..distributions import diagonal_normal
from ..distributions.flow import Flow, check_flow, masked_transform
from .base import Prior


class _FlowPrior(Prior):
    """p(z | c) with f(z; c) standard normal and f masked autoregressive: one pass for a density, Z for a sample."""

    zeros: Tensor

    def __init__(self, steps: nn.Module, latent_size: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("zeros", torch.zeros(latent_size), persistent=False)

    def forward(self, c: Tensor | None = None) -> Flow:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        zeros = self.zeros if c is None else self.zeros.expand(len(c), -1)
        return Flow(self.steps(c), diagonal_normal(zeros, zeros))


class MAFPrior(_FlowPrior):
    """A masked autoregressive flow as prior, conditional on c unless context_size is 0.

    Arguments:
        latent_size: Z.
        context_size: C; 0 for an unconditional model.
        steps: Number of autoregressive steps. Each step reverses the order of the dimensions.
        hidden: Widths of the hidden layers of each step's network.

    Reference: Papamakarios, Pavlakou and Murray 2017, arXiv:1705.07057.
    """

    def __init__(
        self, latent_size: int, context_size: int = 0, *, steps: int = 5, hidden: Sequence[int] = (128, 128)
    ) -> None:
        check_flow(steps, hidden)
        super().__init__(masked_transform(zuko.flows.MAF, latent_size, context_size, steps, hidden), latent_size)


class NSFPrior(_FlowPrior):
    """A neural spline flow as prior, conditional on c unless context_size is 0.

    Arguments:
        latent_size: Z.
        context_size: C; 0 for an unconditional model.
        steps: Number of autoregressive steps. Each step reverses the order of the dimensions.
        bins: Pieces of each spline on [−5, 5]; beyond, the prior is a standard normal one.
        hidden: Widths of the hidden layers of each step's network.

    Reference: Durkan et al. 2019, arXiv:1906.04032, with fully autoregressive steps.
    """

    def __init__(
        self,
        latent_size: int,
        context_size: int = 0,
        *,
        steps: int = 3,
        bins: int = 8,
        hidden: Sequence[int] = (128, 128),
    ) -> None:
        check_flow(steps, hidden, bins)
        super().__init__(
            masked_transform(zuko.flows.NSF, latent_size, context_size, steps, hidden, bins=bins), latent_size
        )
