"""Self-masking of tables: p(s | x), the probability that a value is missing, depends on the value.

Not for: values that are missing at random; their mask tells nothing about x.
"""

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from ..data.table.columns import Column
from ..data.table.standardization import Standardizer
from ..distributions import ColumnBlock, Columnwise, LevelDistribution, level_probs

Sign = Literal["unknown", "high", "low"]


class SelfMasking(nn.Module):
    """Whether a value is missing depends on that value alone: p(s_d = 0 | x_d) = sigmoid(w_d (u_d − b_d)).

    u is the standardized number. In a column of levels each level has its own logit.

    Arguments:
        columns: Columns of the table.
        sign: Values that are more likely to be missing, in all columns: "high" or "low" ones, or "unknown".

    Reference: Ipsen, Mattei and Frellsen 2021, "not-MIWAE", arXiv:2006.12871, section 3 and appendix B.
    """

    loc: Tensor
    unit: Tensor

    def __init__(self, columns: Sequence[Column], *, sign: Sign = "unknown") -> None:
        super().__init__()
        self.sign = sign
        self.standardize = Standardizer(columns)
        most = max([len(column.levels) for column in columns] + [1])
        self.slope = nn.Parameter(torch.zeros(len(columns)))
        self.threshold = nn.Parameter(torch.zeros(len(columns)))
        self.level_logits = nn.Parameter(torch.zeros(len(columns), most))
        self.register_buffer("loc", torch.tensor([column.loc for column in columns]))
        self.register_buffer("unit", torch.tensor([column.scale for column in columns]))

    def of_numbers(self, x: Tensor, index: Tensor) -> Tensor:
        """Logits of the probability that values (..., n) of the columns `index` are missing."""
        u = self.standardize(x, self.loc[index], self.unit[index], index)
        slope = self.slope[index]
        if self.sign != "unknown":
            slope = softplus(slope) if self.sign == "high" else -softplus(slope)
        return slope * (u - self.threshold[index])

    def of_levels(self, index: Tensor, levels: int) -> Tensor:
        """Logits of the probability that each level of the columns `index` is missing, shape (n, levels)."""
        return self.level_logits[index, :levels]


class NotAtRandom(Columnwise):
    """p(x_o, s | z) = p(x_o | z) ∫ p(s | x_o, x_m) p(x_m | z) dx_m: a table and the mask of its observed values.

    Missing numbers are drawn from p(x_m | z), once for each latent, since they belong to the latent's weight; missing
    levels are summed over. A count that is missing is drawn without a gradient. `given(x, observed)` is the density of
    the rows x; its draws stay the same, and `average` and `resample` return them.

    Arguments:
        blocks: See `Columnwise`.
        size: See `Columnwise`.
        mechanism: p(s | x).

    Reference: Ipsen, Mattei and Frellsen 2021, arXiv:2006.12871, eq. 6 to 8, which draw missing levels as well.
    """

    def __init__(self, blocks: Sequence[ColumnBlock], size: int | None, mechanism: SelfMasking) -> None:
        super().__init__(blocks, size)
        self.mechanism = mechanism
        self.rows: tuple[Tensor, Tensor] | None = None  # x and its mask, see `given`

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the values that are not NaN and of their mask, nats."""
        missing = value.isnan()
        return self.log_prob_observed(value.masked_fill(missing, 0), ~missing)

    def given(self, value: Tensor, observed: Tensor) -> Self:
        """The same density of these rows; see `Columnwise.given`."""
        known = copy.copy(super().given(value, observed))
        known.__dict__.pop("drawn", None)  # of other rows
        known.rows = value, observed
        return known

    @cached_property
    def drawn(self) -> Tensor:
        """The values of the given rows, and a draw of each missing one for each latent, shape (..., B, D)."""
        assert self.rows is not None
        x, observed = self.rows
        return torch.where(observed, x, self._drawn((), gradient=True))

    def log_prob_observed(self, x: Tensor, observed: Tensor) -> Tensor:
        """Log p(x_o, s), nats, of the batch shape; for rows that were not given, missing numbers are drawn anew.

        Arguments:
            x: Values, shape (..., D).
            observed: s, booleans of the shape of x.
        """
        log_x = self.log_prob_where(x, observed).masked_fill(~observed, 0).sum(-1)
        are_given = self.rows is not None and self.rows[0] is x and self.rows[1] is observed
        drawn = self.drawn if are_given else self.given(x, observed).drawn
        return log_x + sum(self._log_prob_of_mask(block, drawn, observed) for block in self.blocks)

    def _log_prob_of_mask(self, block: ColumnBlock, x: Tensor, observed: Tensor) -> Tensor:
        """Log p(s_d | x) of the columns of a block, summed over them."""
        is_observed, values = observed[..., block.index], x[..., block.index]
        if block.levels is None:
            logits = self.mechanism.of_numbers(values, block.index)
            return torch.where(is_observed, logsigmoid(-logits), logsigmoid(logits)).sum(-1)
        probs = level_probs(block.p)
        logits = self.mechanism.of_levels(block.index, probs.shape[-1])
        levels = values.long().unsqueeze(-1)
        level_logits = logits.expand(*levels.shape[:-1], -1).gather(-1, levels)[..., 0]
        log_missing = (probs * logits.sigmoid()).sum(-1).clamp_min(torch.finfo(probs.dtype).tiny).log()
        return torch.where(is_observed, logsigmoid(-level_logits), log_missing).sum(-1)

    def _if_missing(self, block: ColumnBlock) -> LevelDistribution:
        """Levels of a column given that they are missing: p(l | z, s = 0) ∝ p(l | z) p(s = 0 | l)."""
        probs = level_probs(block.p)
        return LevelDistribution(probs.log() + logsigmoid(self.mechanism.of_levels(block.index, probs.shape[-1])))

    def level_probabilities(self, block: ColumnBlock) -> Tensor:
        """Probabilities of the levels of missing values, shape (..., n, L)."""
        return self._if_missing(block).probs

    def average(self, weights: Tensor) -> Tensor:
        """Average over weighted latents of the given rows and the values drawn with them; see `Columnwise.average`."""
        averages = []
        for block in self.blocks:
            if block.levels is None:
                averages.append((weights[..., None] * self.drawn[..., block.index]).sum(0))
            else:
                probs = (weights[..., None, None] * self.level_probabilities(block)).sum(0)
                averages.append(probs.argmax(-1).to(weights.dtype))
        return self._joined(averages)

    def resample(self, chosen: Tensor) -> Tensor:
        """Rows for chosen latents, shape (n, B, D): the given rows, the numbers drawn with them, and new levels.

        Arguments:
            chosen: Indices of latents, shape (n, B).
        """
        rows = torch.arange(chosen.shape[1], device=chosen.device)
        parts = []
        for block in self.blocks:
            if block.levels is None:
                parts.append(self.drawn[chosen, rows][..., block.index])
            else:
                logits = self._if_missing(block).logits
                logits = logits.expand(*self.batch_shape, *logits.shape[-2:])
                parts.append(LevelDistribution(logits[chosen, rows]).sample())
        return self._joined(parts)
