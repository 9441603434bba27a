"""Priors of several levels that share their networks with the posterior."""

from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import Chain, diagonal_normal
from ..errors import ConfigError
from ..nets.unregistered import Unregistered
from ..posteriors import LadderPosterior, TopDownPosterior
from ..posteriors.hierarchical import steps_given
from .base import Prior
from .normal import StandardNormal


class LadderPrior(Prior):
    """p(z_L) p(z_{L−1} | z_L, c) … p(z_1 | z_2, c), downwards from a standard normal by the posterior's own networks.

    Arguments:
        posterior: The model's posterior, a ladder.

    Raises:
        ConfigError: The posterior is of another kind.

    Reference: Sønderby et al. 2016, arXiv:1602.02282, eq. 1 to 3.
    """

    def __init__(self, posterior: nn.Module) -> None:
        super().__init__()
        if not isinstance(posterior, LadderPosterior):
            raise ConfigError(_wrong_posterior("ladder", posterior))
        self._posterior = Unregistered(posterior)
        self.first = StandardNormal(posterior.latent_sizes[-1])

    def forward(self, c: Tensor | None = None) -> Chain:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        posterior = self._posterior.module
        first = self.first(c) if c is None else self.first(c).expand((len(c),))
        return Chain(first, steps_given(posterior.downward, c), posterior.latent_sizes, downward=True)


class TopDownPrior(Prior):
    """p(z_L | c) … p(z_1 | z_2 … z_L, c) along the posterior's path of states, each a normal.

    Arguments:
        posterior: The model's posterior, a top-down one.

    Raises:
        ConfigError: The posterior is of another kind.

    Reference: Child 2021, arXiv:2011.10650, section 3.
    """

    def __init__(self, posterior: nn.Module) -> None:
        super().__init__()
        if not isinstance(posterior, TopDownPosterior):
            raise ConfigError(_wrong_posterior("top-down", posterior))
        self._posterior = Unregistered(posterior)
        sizes = posterior.latent_sizes
        self.nets = nn.ModuleList(posterior.network(posterior.width, 2 * size) for size in reversed(sizes))

    def forward(self, c: Tensor | None = None) -> Chain:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        return self._posterior.module.chain(c, self._level)

    def _level(self, i: int, state: Tensor) -> Distribution:
        """The distribution of a level, from the top, given the state there."""
        return diagonal_normal(*self.nets[i](state).chunk(2, -1))


def _wrong_posterior(name: str, posterior: nn.Module) -> str:
    return (
        f"the prior {name!r} shares its networks with the posterior of that name and needs a posterior with several "
        f"levels, got {type(posterior).__name__}; choose the posterior {name!r}"
    )
