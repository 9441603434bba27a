"""The VampPrior: a mixture of the posterior's own densities at learned pseudo-inputs."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from ..distributions import PointMass
from ..errors import ConfigError, check_count, one_of
from ..nets.unregistered import Unregistered
from .base import MOST_COMPONENTS, Prior
from .mixture import mixture_of

PseudoInputStart = Literal["data", "random"]


class VampPrior(Prior):
    """p(z | c) = (1/K) Σ_k q(z | u_k, c), a mixture of the posterior's own densities at K learned pseudo-inputs u_k.

    u_k = low + (high − low)·sigmoid(r_k) stays in the range of the data; the paper clips instead, which leaves no
    gradient where a pixel is black or white. The model owns the posterior: its parameters are not parameters of
    this module, so that they are trained once and saved once.

    With a context, the posterior is evaluated at K pseudo-inputs for each *different* row of c. The number of these
    rows depends on the data, so this is the one prior that waits for the device.

    Arguments:
        posterior: The model's posterior, (x, c) → q(z | x, c).
        event_shape: Event shape of x.
        x: Training rows, shape (N, *event_shape). Their least and greatest value bound the pseudo-inputs; without rows
            the bounds are 0 and 1.
        components: K.
        init: Start of the pseudo-inputs: "data", rows drawn from x, or "random"; without x it is random too.

    Reference: Tomczak and Welling 2018, arXiv:1705.07120, section 3.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        posterior: nn.Module,
        event_shape: Sequence[int],
        x: Tensor | None = None,
        *,
        components: int = 500,
        init: PseudoInputStart = "data",
    ) -> None:
        super().__init__()
        check_count("components", components, 1, MOST_COMPONENTS)
        # Its weights belong to the model; a deepcopy of the model keeps the two together.
        self._posterior = Unregistered(posterior)
        low, high = (0.0, 1.0) if x is None else (x.min().item(), x.max().item())
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))
        raw = torch.randn(components, *event_shape)
        if one_of("init", init, get_args(PseudoInputStart)) == "data" and x is not None:
            rows = torch.randperm(len(x))[torch.arange(components) % len(x)]
            share = (x[rows.to(x.device)].to(raw) - low) / max(high - low, 1e-12)
            # Pixels at either end would learn nothing, and copies of one row would learn the same for ever.
            raw = torch.logit(share, eps=0.01) + 0.01 * raw
        self.raw = nn.Parameter(raw)

    @property
    def pseudo_inputs(self) -> Tensor:
        """The pseudo-inputs u, shape (K, *event_shape)."""
        return self.low + (self.high - self.low) * torch.sigmoid(self.raw)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        u = self.pseudo_inputs
        if c is None:
            return mixture_of(u.new_zeros(len(u)), self._components(u))
        rows, index = torch.unique(c, dim=0, return_inverse=True)
        repeated = u.repeat(len(rows), *[1] * (u.ndim - 1))
        components = self._components(repeated, rows.repeat_interleave(len(u), 0))
        if len(components.event_shape) != 1:
            raise ConfigError(
                "the prior 'vamp' of a conditional model needs latents that are a vector, but these have the shape "
                f"{tuple(components.event_shape)}; choose a prior for them, or leave the condition out"
            )
        return _GroupedMixture(components, len(u), index)

    def _components(self, u: Tensor, c: Tensor | None = None) -> Distribution:
        q: Distribution = self._posterior.module(u, c)
        if isinstance(q, PointMass):
            raise ConfigError(
                "the prior 'vamp' is a mixture of posteriors, and a deterministic one has no density; choose another "
                "prior, such as 'mixture'"
            )
        return q


class _GroupedMixture(Distribution):
    """A batch of mixtures: row b is the uniform mixture of the components of group index[b].

    Rows of one group are put side by side, so that each is compared with its own group's components only.

    Arguments:
        components: Batch shape (groups·k,), the k components of a group side by side.
        k: Components in a group.
        index: Group of each row, shape (B,).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, components: Distribution, k: int, index: Tensor) -> None:
        self.components = components
        self.k = k
        self.index = index
        self.groups = components.batch_shape[0] // k
        counts = index.bincount(minlength=self.groups)
        order = index.argsort(stable=True)
        first = (counts.cumsum(0) - counts)[index[order]]
        self.rank = torch.empty_like(index).index_put((order,), torch.arange(len(index), device=index.device) - first)
        self.depth = int(counts.max())
        super().__init__(index.shape, components.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of z, shape (..., B, Z)."""
        z = value.expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape) + self.event_shape)
        slots = z.new_zeros(*z.shape[:-2], self.depth, self.groups, z.shape[-1])
        slots[..., self.rank, self.index, :] = z
        log_prob: Tensor = self.components.log_prob(slots.repeat_interleave(self.k, -2))
        mixed = log_prob.reshape(*log_prob.shape[:-1], self.groups, self.k).logsumexp(-1) - math.log(self.k)
        return mixed[..., self.rank, self.index]

    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw a component of each row's group, and z from it."""
        with torch.no_grad():
            z: Tensor = self.components.sample(Size((*sample_shape, self.depth)))
            groups = z.reshape(*z.shape[:-2], self.groups, self.k, z.shape[-1])
            by_row = groups[..., self.rank, self.index, :, :]
            chosen = torch.randint(self.k, by_row.shape[:-2], device=z.device)[..., None, None]
            return by_row.take_along_dim(chosen, -2).squeeze(-2)
