"""Posteriors of several levels, drawn downwards like the prior: at each level they correct the prior.

Not for: levels that are drawn upwards (`hierarchical`), or the distribution itself (`distributions.chain`).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import Chain, ChainStep, at_least_float32, bounded, diagonal_normal, full_precision
from ..errors import check_count
from ..nets import MLP, Activation
from ..nets.base import map_shapes_of, maps_of
from ..nets.unregistered import Unregistered
from .base import Posterior
from .hierarchical import between_levels, level_sizes, steps_given


class LadderPosterior(Posterior):
    """q(z_L | x) … q(z_1 | z_2, x), downwards: each level joins the prior's normal and the data's by their precisions.

    A network goes up from the features, d_1 = h, d_l = net_l(d_{l−1}), and gives a normal N(μ̂_l, σ̂_l²) at every level.
    q(z_L | x) is the last of these. Each lower level joins its normal with p(z_l | z_{l+1}) = N(μ_p, σ_p²):
    1/σ² = 1/σ̂² + 1/σ_p² and μ = σ² (μ̂/σ̂² + μ_p/σ_p²).

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of the network's output.
        latent_size: Width of z_1, which the decoder reads.
        context_size: C; 0 for an unconditional model.
        upper_sizes: Widths of z_2, z_3, …; by default one level half as wide as z_1.
        hidden: Widths of the hidden layers between two levels, upwards and downwards.
        activation: Nonlinearity of the hidden layers.

    Attributes:
        latent_sizes: Widths of all levels, z_1 first.
        downward: Modules of p(z_l | z_{l+1}, c), from the top; the prior 'ladder' shares them.

    Reference: Sønderby et al. 2016, arXiv:1602.02282, eq. 8 to 12.
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
        activation: Activation = "leaky-relu",
    ) -> None:
        sizes = level_sizes(latent_size, upper_sizes)
        check_count("the number of hidden layers", len(hidden), 1)
        super().__init__((sum(sizes),))
        self.latent_sizes = sizes
        self.net = net
        ups = (MLP((a,), hidden=hidden, activation=activation) for a in (features, *[hidden[-1]] * (len(sizes) - 2)))
        self.upward = nn.ModuleList(ups)
        inputs = (features, *[hidden[-1]] * (len(sizes) - 1))
        self.mu = nn.ModuleList(nn.Linear(a, size) for a, size in zip(inputs, sizes, strict=True))
        self.log_var = nn.ModuleList(nn.Linear(a, size) for a, size in zip(inputs, sizes, strict=True))
        self.downward = between_levels(sizes[::-1], context_size, hidden, activation)

    @property
    def decoded_shape(self) -> tuple[int, ...]:
        """(width of z_1,): the decoder reads the level nearest to the data."""
        return self.latent_sizes[:1]

    def forward(self, x: Tensor, c: Tensor | None = None) -> Chain:
        """The posterior of each row of x."""
        d = [self.net(x, c)]
        for up in self.upward:
            d.append(up(d[-1]))
        with full_precision(d[0]):
            upcast = [at_least_float32(h) for h in d]
            bottom_up = [(mu(h), log_var(h)) for mu, log_var, h in zip(self.mu, self.log_var, upcast, strict=True)]
        lower, (top_mu, top_log_var) = bottom_up[:-1], bottom_up[-1]
        priors = steps_given(self.downward, c)
        steps = [
            partial(_corrected, prior, mu, log_var)
            for prior, (mu, log_var) in zip(priors, reversed(lower), strict=True)
        ]
        return Chain(diagonal_normal(top_mu, top_log_var), steps, self.latent_sizes, downward=True)


def _corrected(prior: ChainStep, mu: Tensor, log_var: Tensor, drawn: Sequence[Tensor]) -> Distribution:
    """The product of the data's normal and the prior's."""
    p = prior(drawn).base_dist  # type: ignore[attr-defined]
    data_precision, prior_precision = (-bounded(log_var)).exp(), p.scale.square().reciprocal()
    precision = data_precision + prior_precision
    return diagonal_normal((mu * data_precision + p.loc * prior_precision) / precision, -precision.log())


class TopDownPosterior(Posterior):
    """q(z_L | x) … q(z_1 | z_2 … z_L, x) along a path of states; prior, posterior and decoder share its networks.

    The path begins at a learned state s_L, plus a linear map of the context. At level l the prior reads s_l, and the
    posterior reads s_l and the encoder's features; then s_{l−1} = s_l + W z_l + net_l(s_l + W z_l). The decoder reads
    s_0. The top level reads the encoder's features; lower levels read its finer feature maps, if it has some.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features), perhaps with `maps`.
        features: Width of the network's output.
        latent_size: Width of z at every level.
        context_size: C; 0 for an unconditional model.
        levels: L.
        width: Width of the states.
        hidden: Widths of the hidden layers of every network along the path.
        activation: Nonlinearity of the hidden layers.

    Attributes:
        latent_sizes: Widths of all levels, z_1 first.

    Reference: Child 2021, arXiv:2011.10650, section 3 and figure 3, with vectors for grids and one block per level.
    """

    def __init__(
        self,
        net: nn.Module,
        features: int,
        latent_size: int,
        context_size: int = 0,
        *,
        levels: int = 3,
        width: int = 128,
        hidden: Sequence[int] = (128,),
        activation: Activation = "silu",
    ) -> None:
        check_count("levels", levels, 2)
        check_count("width", width, 1)
        check_count("the number of hidden layers", len(hidden), 1)
        self.latent_sizes = (latent_size,) * levels
        super().__init__((sum(self.latent_sizes),))
        self.net = net
        self.width = width
        shapes = map_shapes_of(net, features)
        read = [torch.Size(shapes[max(0, len(shapes) - 1 - i)]).numel() for i in range(levels)]  # from the top
        self.begin = nn.Parameter(torch.zeros(width))
        self.begin_context = nn.Linear(context_size, width, bias=False) if context_size else None
        self.hidden = tuple(hidden)
        self.activation = activation
        self.data = nn.ModuleList(nn.Linear(size, width) for size in read)
        self.nets = nn.ModuleList(self.network(2 * width, 2 * latent_size) for _ in range(levels))
        self.enter = nn.ModuleList(nn.Linear(latent_size, width) for _ in range(levels))
        self.onward = nn.ModuleList(self.network(width, width) for _ in range(levels))

    @property
    def decoded_shape(self) -> tuple[int, ...]:
        """(width of a state,): the decoder reads the last state."""
        return (self.width,)

    def network(self, size_in: int, size_out: int) -> MLP:
        """A network along the path."""
        return MLP((size_in,), (size_out,), hidden=self.hidden, activation=self.activation)

    def wrap_decoder(self, decoder: nn.Module) -> nn.Module:
        """Turn a decoder of the last state into a decoder of all latents."""
        return LastState(decoder, self)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Chain:
        """The posterior of each row of x."""
        maps = maps_of(self.net, x, c)
        read = [maps[max(0, len(maps) - 1 - i)].flatten(1) for i in range(len(self.latent_sizes))]
        with full_precision(read[0]):
            data = [layer(at_least_float32(d)) for layer, d in zip(self.data, read, strict=True)]

        def level(i: int, state: Tensor) -> Distribution:
            both = torch.cat(torch.broadcast_tensors(state, data[i]), -1)
            mu, log_var = self.nets[i](both).chunk(2, -1)
            return diagonal_normal(mu, log_var)

        return self.chain(c, level)

    def chain(self, c: Tensor | None, level: Callable[[int, Tensor], Distribution]) -> Chain:
        """All levels along the path, from the top.

        Arguments:
            c: Context, shape (B, C), or None.
            level: Function from the index of a level, 0 at the top, and its state to its distribution.
        """
        path = StatePath(self, c)

        def step(drawn: Sequence[Tensor]) -> Distribution:
            return level(len(drawn), path(drawn))

        return Chain(step(()), [step] * (len(self.latent_sizes) - 1), self.latent_sizes, downward=True)

    def last_state(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """s_0 of all latents, shape (..., B, Z): shape (..., B, width)."""
        return StatePath(self, c)(z.split(self.latent_sizes, -1)[::-1])


class StatePath:
    """States along the path of a posterior, each computed once for the same tensors of latents above it.

    Posterior, prior and decoder each have a path, so a draw with its densities computes the states three times.

    Arguments:
        posterior: The posterior that the path belongs to.
        c: Context, shape (B, C), or None.
    """

    def __init__(self, posterior: TopDownPosterior, c: Tensor | None) -> None:
        self.posterior = posterior
        self.c = c
        self.last: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, drawn: Sequence[Tensor]) -> Tensor:
        """The state after the drawn levels, from the top, shape (..., width)."""
        posterior, count = self.posterior, len(drawn)
        if not count:
            begin: Tensor = posterior.begin
            if self.c is None or posterior.begin_context is None:
                return begin
            beside: Tensor = posterior.begin_context(self.c.to(begin.dtype))
            return begin + beside
        remembered = self.last.get(count)
        if remembered is not None and remembered[0] is drawn[-1]:
            return remembered[1]
        state: Tensor = self(drawn[:-1]) + posterior.enter[count - 1](drawn[-1])
        state = state + posterior.onward[count - 1](state)
        self.last[count] = drawn[-1], state
        return state


class LastState(nn.Module):
    """A decoder that reads the state at the end of a posterior's path.

    Arguments:
        net: Network (..., width), (B, C) → (..., *out_shape).
        posterior: The posterior that the path belongs to. It is not a submodule: its weights would be stored twice.
    """

    def __init__(self, net: nn.Module, posterior: TopDownPosterior) -> None:
        super().__init__()
        self.net = net
        self._posterior = Unregistered(posterior)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map all latents, (..., Z), to (..., *out_shape)."""
        out: Tensor = self.net(self._posterior.module.last_state(z, c), c)
        return out
