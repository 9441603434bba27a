"""Priors of several levels: … p(z_2 | z_3) p(z_1 | z_2); the decoder reads z_1."""

from collections.abc import Sequence

from torch import Tensor, nn

from ..distributions import Chain
from ..errors import ConfigError
from ..nets import Activation
from ..posteriors import HierarchicalPosterior
from ..posteriors.hierarchical import between_levels, steps_given
from .base import Prior
from .normal import StandardNormal


class HierarchicalPrior(Prior):
    """p(z | c) = … p(z_2 | z_3, c) p(z_1 | z_2, c), downwards from a standard normal, a diagonal normal at every level.

    Arguments:
        posterior: The model's posterior, a hierarchical one; the prior takes over its levels.
        context_size: C; 0 for an unconditional model.
        hidden: Widths of the hidden layers between two levels.
        activation: Nonlinearity of the hidden layers.

    Raises:
        ConfigError: The posterior is not hierarchical.

    Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, section 5 (two stochastic layers).
    """

    def __init__(
        self,
        posterior: nn.Module,
        context_size: int = 0,
        *,
        hidden: Sequence[int] = (100, 100),
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        if not isinstance(posterior, HierarchicalPosterior):
            raise ConfigError(
                f"the prior 'hierarchical' needs a posterior with several levels, got {type(posterior).__name__}; "
                "choose the posterior 'hierarchical'"
            )
        self.latent_sizes = posterior.latent_sizes
        self.first = StandardNormal(self.latent_sizes[-1])
        self.steps = between_levels(self.latent_sizes[::-1], context_size, hidden, activation)

    def forward(self, c: Tensor | None = None) -> Chain:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        first = self.first(c) if c is None else self.first(c).expand((len(c),))
        return Chain(first, steps_given(self.steps, c), self.latent_sizes, downward=True)
