"""Priors over grids of codes: uniform, or autoregressive by a small recurrent network."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from ..distributions import UniformCodes
from ..distributions.grids import Codebook
from ..errors import check_count
from ..nets.unregistered import Unregistered
from .base import Prior


class UniformCodesPrior(Prior):
    """p(z) = Π 1/N over all places: every one of N codes as likely as any other, whatever c is.

    Arguments:
        posterior: The model's posterior; the prior shares its codes.
        latent_shape: (D, *places).
    """

    latent_kind = "codes"
    like: Tensor

    def __init__(self, posterior: nn.Module, latent_shape: Sequence[int]) -> None:
        super().__init__()
        self._posterior = Unregistered(posterior)
        self.latent_shape = tuple(latent_shape)
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape ()."""
        return UniformCodes(self._posterior.module, self.latent_shape, self.like)  # type: ignore[arg-type]


class AutoregressiveCodesPrior(Prior):
    """p(z | c) = Π_t p(z_t | z_<t, c), place by place in reading order, by a gated recurrent network.

    Training it with the model does not change the encoder, since no gradient goes through a code. It can also be fitted
    to the codes of a trained model.

    Arguments:
        posterior: The model's posterior; the prior shares its codes.
        latent_shape: (D, *places).
        context_size: C; 0 for an unconditional model.
        width: Width of the network's state.

    Reference: van den Oord, Vinyals and Kavukcuoglu 2017, arXiv:1711.00937, section 3.3, with a PixelCNN; Cho et al.
    2014, arXiv:1406.1078, for the network.
    """

    latent_kind = "codes"

    def __init__(
        self, posterior: nn.Module, latent_shape: Sequence[int], context_size: int = 0, *, width: int = 128
    ) -> None:
        super().__init__()
        check_count("width", width, 1, 1 << 14)
        self._posterior = Unregistered(posterior)
        self.latent_shape = tuple(latent_shape)
        codes: int = posterior.num_codes  # type: ignore[assignment]
        self.embed = nn.Embedding(codes + 1, width)  # the last one is "nothing yet"
        self.place = nn.Parameter(0.02 * torch.randn(math.prod(latent_shape[1:]), width))
        self.recur = nn.GRU(width, width, batch_first=True)
        self.context = nn.Linear(context_size, width) if context_size else None
        self.out = nn.Linear(width, codes)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape (), or (B,) for c of shape (B, C)."""
        return AutoregressiveCodes(self, self._posterior.module, c)  # type: ignore[arg-type]

    def start_state(self, c: Tensor | None, n: int) -> Tensor:
        """The network's first state for n rows, shape (1, n, width)."""
        if c is None or self.context is None:
            return self.place.new_zeros(1, n, self.place.shape[1])
        state: Tensor = self.context(c)
        return state.expand(n // len(c), -1, -1).reshape(1, n, -1)

    def logits(self, index: Tensor, c: Tensor | None) -> Tensor:
        """Logits of each place given those before it, shape (N, T, codes), for indices of codes (N, T)."""
        nothing = torch.full_like(index[:, :1], self.embed.num_embeddings - 1)
        before = torch.cat((nothing, index[:, :-1]), 1)
        states, _ = self.recur(self.embed(before) + self.place, self.start_state(c, len(index)))
        logits: Tensor = self.out(states)
        return logits


class AutoregressiveCodes(Distribution):
    """The distribution of an `AutoregressiveCodesPrior`.

    Arguments:
        prior: The network.
        codebook: The codes.
        c: Context, shape (B, C), or None.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, prior: AutoregressiveCodesPrior, codebook: Codebook, c: Tensor | None) -> None:
        self.prior = prior
        self.codebook = codebook
        self.c = c if prior.context is not None else None
        batch = Size() if self.c is None else self.c.shape[:1]
        super().__init__(batch, Size(prior.latent_shape), validate_args=False)

    @property
    def support(self) -> Constraint:
        """Grids of codes."""
        return UniformCodes(self.codebook, self.event_shape, self.prior.place).support

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of grids of codes, shape (..., B, D, *places), nats; no gradient goes through z."""
        index = self.codebook.index_of(value)
        leading = value.shape[: -len(self.event_shape)]
        rows = index.reshape(math.prod(leading), -1)
        log_p = self.prior.logits(rows, self.c).log_softmax(-1).gather(-1, rows.unsqueeze(-1))
        return log_p.squeeze(-1).sum(-1).reshape(leading)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw code after code, shape (*sample_shape, *batch, D, *places)."""
        leading = (*sample_shape, *self.batch_shape)
        n = math.prod(leading)
        prior, state = self.prior, self.prior.start_state(self.c, n)
        last = torch.full((n, 1), prior.embed.num_embeddings - 1, device=prior.place.device)
        chosen = []
        for place in prior.place:
            output, state = prior.recur(prior.embed(last) + place, state)
            last = prior.out(output[:, 0]).softmax(-1).multinomial(1)
            chosen.append(last)
        index = torch.cat(chosen, 1).reshape(*leading, *self.event_shape[1:])
        return self.codebook.codes_of(index)
