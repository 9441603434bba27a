"""Posteriors of several levels, q(z_1 | x) q(z_2 | z_1) … upwards from the data.

The latents of all levels stand side by side, z = (z_1 ‖ z_2 ‖ …), so that the model has the same three methods as any
other; `Draw.levels` tells the levels apart.

Not for: the distribution itself (`distributions.chain`).
"""

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import Chain, ChainStep
from ..errors import check_count
from ..nets import MLP, Activation
from .base import Posterior
from .normal import DiagonalNormal


class HierarchicalPosterior(Posterior):
    """q(z | x, c) = q(z_1 | x, c) q(z_2 | z_1, c) …, upwards from the data, a diagonal normal at every level.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of the network's output.
        latent_size: Width of z_1, which the decoder reads.
        context_size: C; 0 for an unconditional model.
        upper_sizes: Widths of z_2, z_3, …; by default one level half as wide as z_1.
        hidden: Widths of the hidden layers between two levels.
        activation: Nonlinearity of the hidden layers.

    Attributes:
        latent_sizes: Widths of all levels, z_1 first.
        latent_size: Z, their sum.

    Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, section 5 (two stochastic layers).
    """

    def __init__(
        self,
        net: nn.Module,
        features: int,
        latent_size: int,
        context_size: int = 0,
        *,
        upper_sizes: Sequence[int] | None = None,
        hidden: Sequence[int] = (100, 100),
        activation: Activation = "tanh",
    ) -> None:
        sizes = level_sizes(latent_size, upper_sizes)
        super().__init__((sum(sizes),))
        self.latent_sizes = sizes
        self.first = DiagonalNormal(net, features, latent_size)
        self.steps = between_levels(self.latent_sizes, context_size, hidden, activation)

    @property
    def decoded_shape(self) -> tuple[int, ...]:
        """(width of z_1,): the decoder reads the level nearest to the data."""
        return self.latent_sizes[:1]

    def forward(self, x: Tensor, c: Tensor | None = None) -> Chain:
        """The posterior of each row of x."""
        return Chain(self.first(x, c), steps_given(self.steps, c), self.latent_sizes)


def level_sizes(latent_size: int, upper_sizes: Sequence[int] | None) -> tuple[int, ...]:
    """Widths of all levels, z_1 first: by default two, the upper one half as wide."""
    upper = (max(1, latent_size // 2),) if upper_sizes is None else upper_sizes
    check_count("the number of upper_sizes", len(upper), 1)
    return latent_size, *(check_count("upper_sizes", size, 1) for size in upper)


def between_levels(
    sizes: Sequence[int], context_size: int, hidden: Sequence[int], activation: Activation
) -> nn.ModuleList:
    """Diagonal normals from each level to the next, with the widths `sizes`; each has its own network."""
    check_count("the number of hidden layers between two levels", len(hidden), 1)
    nets = (MLP((size,), None, context_size, hidden=hidden, activation=activation) for size in sizes[:-1])
    return nn.ModuleList(DiagonalNormal(net, hidden[-1], size) for net, size in zip(nets, sizes[1:], strict=True))


def steps_given(modules: Iterable[nn.Module], c: Tensor | None) -> list[ChainStep]:
    """The steps of a chain, each given the level drawn before it and c."""
    return [partial(_step, module, c) for module in modules]


def _step(module: nn.Module, c: Tensor | None, drawn: Sequence[Tensor]) -> Distribution:
    q: Distribution = module(drawn[-1], c)
    return q
