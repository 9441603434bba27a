"""Independent columns, each with a density of its own: a row of a table.

Not for: the parameters, which a network makes (`likelihoods.per_column`).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, LogNormal, constraints
from torch.distributions.constraints import Constraint
from torch.nn.functional import log_softmax

from .counts import NegativeBinomial


class LevelDistribution(Distribution):
    """A categorical distribution over the levels 0, 1, …, L − 1; the logit of a level that a column lacks is −∞.

    Arguments:
        logits: Shape (..., L).
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    support = constraints.nonnegative_integer

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.shape[:-1], validate_args=False)
        self.logits = log_softmax(logits, -1)

    @property
    def probs(self) -> Tensor:
        """Probabilities of the levels, shape (..., L)."""
        return self.logits.exp()

    @property
    def mean(self) -> Tensor:
        """The most probable level, since the mean of levels has no meaning."""
        return self.logits.argmax(-1).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability, nats, of levels, which broadcast with the batch shape; −∞ for other numbers."""
        levels = self.logits.shape[-1]
        index = value.long().clamp(0, levels - 1)
        logits, index = torch.broadcast_tensors(self.logits, index.unsqueeze(-1))
        log_prob: Tensor = logits.gather(-1, index[..., :1])[..., 0]
        return log_prob.where((value >= 0) & (value < levels), -torch.inf)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw levels, shape (*sample_shape, *batch)."""
        probs = self.probs.expand(*sample_shape, *self.logits.shape)
        drawn = torch.multinomial(probs.reshape(-1, probs.shape[-1]), 1)
        return drawn.view(probs.shape[:-1]).to(probs.dtype)


@dataclass(frozen=True)
class ColumnBlock:
    """Columns of a table that have densities of one family.

    Arguments:
        index: Indices of the columns, shape (n,), int64.
        p: Density of the columns, batch shape (..., n). The size factor of a row, if there is one, scales its counts.
        levels: Number of levels of each column, shape (n,); None for columns of numbers.
    """

    index: Tensor
    p: Distribution
    levels: Tensor | None = None


class Columnwise(Distribution):
    """p(x) = Π_d p_d(x_d), the columns of a table, in blocks of one family each. A value that is NaN is missing.

    A size factor s is a column, too: counts have the mean s / s₀ · μ, where s₀ is the median of s. A missing s is s₀.

    Arguments:
        blocks: Together they have every column once.
        size: Number of the column with the size factor, which is log-normal; None without one.

    Attributes:
        known_size: The size factor of each row, shape (..., 1), NaN where it is not known; see `given`.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    has_rsample = False

    def __init__(self, blocks: Sequence[ColumnBlock], size: int | None = None) -> None:
        shape = blocks[0].p.batch_shape[:-1]
        self.blocks = tuple(blocks)
        self.size = size
        self.known_size: Tensor | None = None
        self.order = torch.cat([block.index for block in blocks]).argsort()
        super().__init__(shape, torch.Size((len(self.order),)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the values that are not NaN, nats, of the batch shape."""
        missing = value.isnan()
        return self.log_prob_where(value, ~missing).masked_fill(missing, 0).sum(-1)

    def log_prob_where(self, value: Tensor, observed: Tensor) -> Tensor:
        """Log-density of each value, shape (..., D); only those at observed places mean something."""
        x = value.where(observed, torch.ones_like(value))  # every density is finite at 1
        scale = self._scale(value, observed)
        return self._joined([self._density(block, scale).log_prob(x[..., block.index]) for block in self.blocks])

    def given(self, value: Tensor, observed: Tensor) -> Self:
        """The same density of rows whose size factor is known where it is observed, so that it scales their counts."""
        if self.size is None:
            return self
        known, place = copy.copy(self), slice(self.size, self.size + 1)
        known.known_size = value[..., place].masked_fill(~observed[..., place], torch.nan)
        return known

    @property
    def _known_scale(self) -> Tensor | None:
        """The ratio s / s₀ of each row, shape (..., 1); 1 where s is not known; None if no row's is known."""
        return None if self.known_size is None else (self.known_size / self._median).nan_to_num(nan=1.0)

    @property
    def mean(self) -> Tensor:
        """Means of numbers, and the most probable levels; counts at the row's size factor, or at the median."""
        scale = self._known_scale
        return self._joined(
            [self._density(b, scale).mean if b.levels is None else b.p.mean.round() for b in self.blocks]
        )

    def level_probabilities(self, block: ColumnBlock) -> Tensor:
        """Probabilities of the levels of a block's columns, shape (..., n, L)."""
        return level_probs(block.p)

    def average(self, weights: Tensor) -> Tensor:
        """Average over weighted latents: means of numbers, and levels with the highest mean probability, shape (B, D).

        Arguments:
            weights: Shape (K, B) for a batch shape (K, B); they add up to 1 over K.
        """
        averages, scale = [], self._known_scale
        for block in self.blocks:
            if block.levels is None:
                averages.append((weights[..., None] * self._density(block, scale).mean).sum(0))
            else:
                probs = (weights[..., None, None] * self.level_probabilities(block)).sum(0)
                averages.append(probs.argmax(-1).to(weights.dtype))
        return self._joined(averages)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Rows, shape (*sample_shape, *batch, D)."""
        return self._drawn(sample_shape)

    def _drawn(self, sample_shape: Any, *, gradient: bool = False) -> Tensor:
        """Draw rows; `gradient` keeps the gradient of blocks with reparametrized samples."""
        scale: Tensor | None = None
        drawn: dict[int, Tensor] = {}
        first = [i for i, block in enumerate(self.blocks) if self.size is not None and self.size in block.index]
        for i in [*first, *(i for i in range(len(self.blocks)) if i not in first)]:
            p = self._density(self.blocks[i], scale)
            drawn[i] = p.rsample(sample_shape) if gradient and p.has_rsample else p.sample(sample_shape)
            if i in first:
                place = self.blocks[i].index.tolist().index(self.size)
                size = drawn[i][..., place, None]
                if self.known_size is not None:
                    size = torch.where(self.known_size.isnan(), size, self.known_size)
                scale = size / self._median
        return self._joined([drawn[i] for i in range(len(self.blocks))])

    def _density(self, block: ColumnBlock, scale: Tensor | None) -> Distribution:
        if scale is None or not isinstance(block.p, NegativeBinomial):
            return block.p
        return NegativeBinomial(block.p.rate * scale, block.p.inverse_dispersion)

    @property
    def _median(self) -> Tensor:
        """s₀."""
        block = next(block for block in self.blocks if self.size in block.index)
        assert isinstance(block.p, LogNormal)
        return block.p.loc[..., block.index == self.size].exp()

    def _scale(self, value: Tensor, observed: Tensor) -> Tensor | None:
        """The ratio s / s₀ of each row, shape (..., 1)."""
        if self.size is None:
            return None
        size = value[..., self.size : self.size + 1]
        is_known = observed[..., self.size : self.size + 1]
        return (size / self._median).where(is_known, torch.ones_like(size))

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        leading = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
        return torch.cat([part.expand(*leading, part.shape[-1]) for part in parts], -1)[..., self.order]

    @property
    def support(self) -> Any:
        """Numbers that are finite, in their range, and levels that exist."""
        return _OfColumns(self)


def level_probs(p: Distribution) -> Tensor:
    """Probabilities of the levels of columns, shape (..., n, L)."""
    if isinstance(p, Bernoulli):
        return torch.stack((1 - p.probs, p.probs), -1)
    assert isinstance(p, LevelDistribution)
    return p.probs


class _OfColumns(Constraint):
    """The support of `Columnwise`."""

    event_dim = 1

    def __init__(self, p: Columnwise) -> None:
        self.p = p
        self.is_discrete = all(_support(block.p).is_discrete for block in p.blocks)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether each row, shape (..., D), is inside, shape (...)."""
        inside = []
        for block in self.p.blocks:
            x = value[..., block.index]
            good = _support(block.p).check(x)
            inside.append((good & (x < block.levels) if block.levels is not None else good).all(-1))
        return torch.stack(inside).all(0)


def _support(p: Distribution) -> Any:
    return p.support
