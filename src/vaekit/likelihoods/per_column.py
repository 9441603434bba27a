"""The likelihood of a table: one density for each column, and log p summed over the observed columns."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, LogNormal, StudentT
from torch.distributions import Normal as NormalDistribution
from torch.nn.functional import logsigmoid, softplus

from ..data.table.columns import KINDS, OF_LEVELS, Column
from ..distributions import (
    ColumnBlock,
    Columnwise,
    LevelDistribution,
    NegativeBinomial,
    at_least_float32,
    full_precision,
)
from ..errors import ConfigError, one_of
from .base import Likelihood, soft_bound
from .masking import NotAtRandom, SelfMasking, Sign

RealDensity = Literal["normal", "student-t"]
ColumnScale = Literal["column", "network"]
Missingness = Literal["at-random", "self-masking"]

LIMIT = 5.0  # bound on the log of a standardized scale: σ ≥ e⁻⁵, so that no density is unbounded
COUNT_LIMIT = 12.0  # bound on log μ / μ₀


class Columns(Likelihood):
    """p(x | z, c) = Π_d p_d(x_d | z, c), a density for each column of a table.

    | kind | density |
    |---|---|
    | real | N(x; μ, σ²), or Student's t; of the standardized value, in units of the value |
    | positive | N(log x; μ, σ²) / x |
    | count | NB(x; s μ, θ), s the size factor of the row over its median, if a column has one |
    | size-factor | log-normal, whatever z is |
    | ordinal | P(x ≤ r) = sigmoid(θ_r − μ), thresholds θ_1 < θ_2 … |
    | categorical | softmax of one output a level |
    | bernoulli | sigmoid |

    It has no `parameters_at`, because a table starts near the means of its columns, which are standardized.

    Arguments:
        net: Network (..., Z), (B, C) → (..., outputs).
        columns: The columns; None if the data are not a table.
        real: Density of real columns: "normal" or "student-t", which tolerates outliers.
        scale: σ: "column", one learned for each, or "network", which depends on z.
        missing: "at-random", or "self-masking": whether a value is missing depends on the value, and the mask has a
            density, too (`SelfMasking`).
        sign: For self-masking: whether "high" or "low" values are more likely to be missing, or "unknown".

    Raises:
        ConfigError: The data are not a table, a word is unknown, or `sign` is set for values missing at random.

    Reference: Nazábal et al. 2020, arXiv:1807.03653, section 2.2. Their counts are Poisson, ours negative binomial.
    """

    value_kind = "table"
    value_range = None  # each column has its own; see `data.table.columns.check_encoded`
    loc: Tensor
    unit: Tensor
    padding: Tensor
    level_counts: Tensor

    def __init__(
        self,
        net: nn.Module,
        columns: Sequence[Column] | None,
        *,
        real: RealDensity = "normal",
        scale: ColumnScale = "column",
        missing: Missingness = "at-random",
        sign: Sign = "unknown",
    ) -> None:
        super().__init__(net)
        self.columns = _table(columns)
        self.real = one_of("real", real, get_args(RealDensity))
        self.scale = one_of("scale", scale, get_args(ColumnScale))
        one_of("missing", missing, get_args(Missingness))
        one_of("sign", sign, get_args(Sign))
        if missing == "at-random" and sign != "unknown":
            raise ConfigError(f"sign = {sign!r} goes with missing = 'self-masking'; set it, too")
        self.mechanism = SelfMasking(self.columns, sign=sign) if missing == "self-masking" else None
        self.layout = OutputLayout(self.columns, scale)
        scaled = len(self.layout.real) + len(self.layout.positive)
        if scale == "column":
            self.log_scale = nn.Parameter(torch.zeros(scaled))
        if real == "student-t":
            self.freedom = nn.Parameter(torch.full((len(self.layout.real),), 2.0))
        self.log_theta = nn.Parameter(torch.zeros(len(self.layout.count)))
        self.steps = nn.Parameter(self.layout.first_steps())
        for name, kinds in self.layout.groups.items():
            self.register_buffer(f"{name}_index", torch.tensor(kinds).long(), persistent=False)
        self.register_buffer("loc", torch.tensor([column.loc for column in self.columns]))
        self.register_buffer("unit", torch.tensor([column.scale for column in self.columns]))
        self.register_buffer("padding", self.layout.padding(), persistent=False)
        self.register_buffer("level_counts", torch.tensor([len(c.levels) for c in self.columns]), persistent=False)

    @classmethod
    def out_shape(
        cls, event_shape: tuple[int, ...], *, columns: Sequence[Column] | None = None, **options: Any
    ) -> tuple[int, ...]:
        """Shape that the network has to produce."""
        return (OutputLayout(_table(columns), options.get("scale", "column")).outputs,)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Columnwise:
        """The likelihood of each row of z, shape (..., B, Z): batch shape (..., B), event shape (D,)."""
        with full_precision(z):
            output = at_least_float32(self.net(z, c))
            return self.distribution(output)

    def distribution(self, output: Tensor) -> Columnwise:
        """The density of rows, from the network's output, shape (..., outputs)."""
        parts = dict(zip(self.layout.sizes, output.split(list(self.layout.sizes.values()), -1), strict=True))
        density_of: dict[str, Callable[[Tensor], Distribution]] = {
            "real": self._real,
            "positive": self._positive,
            "count": self._count,
            "size-factor": self._size,
            "ordinal": self._ordinal,
            "categorical": self._categorical,
            "bernoulli": lambda out: Bernoulli(logits=out, validate_args=False),
        }
        blocks = []
        for kind, group in self.layout.groups.items():
            if not group:
                continue
            index = self._index(kind)
            levels = self.level_counts[index] if kind in OF_LEVELS else None
            blocks.append(ColumnBlock(index, density_of[kind](parts[kind]), levels))
        size = self.layout.groups["size-factor"]
        number = size[0] if size else None
        return Columnwise(blocks, number) if self.mechanism is None else NotAtRandom(blocks, number, self.mechanism)

    def _located(self, out: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Location and scale of real or positive columns."""
        index = self._index(kind)
        n = len(index)
        if self.scale == "column":
            start = 0 if kind == "real" else len(self.layout.real)
            log_scale = self.log_scale[start : start + n]
        else:
            log_scale = out[..., n:]
        scale = soft_bound(log_scale, LIMIT).exp()
        return self.loc[index] + self.unit[index] * out[..., :n], self.unit[index] * scale

    def _real(self, out: Tensor) -> Distribution:
        loc, scale = self._located(out, "real")
        if self.real == "student-t":
            return StudentT(2 + softplus(self.freedom), loc, scale, validate_args=False)
        return NormalDistribution(loc, scale, validate_args=False)

    def _positive(self, out: Tensor) -> Distribution:
        loc, scale = self._located(out, "positive")
        return LogNormal(loc, scale, validate_args=False)

    def _count(self, out: Tensor) -> Distribution:
        start = self.loc[self._index("count")].expm1().clamp_min(0.1).log()
        rate = (start + soft_bound(out, COUNT_LIMIT)).exp()
        return NegativeBinomial(rate, soft_bound(self.log_theta, 10.0).exp())

    def _size(self, out: Tensor) -> Distribution:
        index = self._index("size-factor")
        loc = self.loc[index].expand(*out.shape[:-1], len(index))
        return LogNormal(loc, self.unit[index], validate_args=False)

    def _ordinal(self, out: Tensor) -> Distribution:
        """From cumulative probabilities: σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b−a))."""
        rises = softplus(self.steps[:, 1:])
        thresholds = torch.cat((self.steps[:, :1], self.steps[:, :1] + rises.cumsum(-1)), -1)  # (n, L − 1)
        below = logsigmoid(thresholds - out.unsqueeze(-1))  # log P(x ≤ r)
        above = logsigmoid(out.unsqueeze(-1) - thresholds)  # log P(x > r)
        zeros = below.new_zeros(*below.shape[:-1], 1)
        apart = torch.cat((rises.new_zeros(len(rises), 1), (-rises).exp().neg().log1p()), -1)
        apart = torch.cat((apart, apart.new_zeros(len(rises), 1)), -1)
        index = self._index("ordinal")
        last = self.level_counts[index] - 1
        is_last = torch.arange(below.shape[-1] + 1, device=out.device) == last.unsqueeze(-1)
        logits = torch.cat((below, zeros), -1).masked_fill(is_last, 0) + torch.cat((zeros, above), -1)
        logits = logits + apart.masked_fill(is_last, 0)
        return LevelDistribution(logits.masked_fill(self._absent(index, logits.shape[-1]), -torch.inf))

    def _categorical(self, out: Tensor) -> Distribution:
        padded = torch.cat((out, out.new_full((*out.shape[:-1], 1), -torch.inf)), -1)
        return LevelDistribution(padded[..., self.padding])

    def _index(self, kind: str) -> Tensor:
        """The columns of a kind."""
        return self.get_buffer(f"{kind}_index")

    def _absent(self, index: Tensor, most: int) -> Tensor:
        """A mask of the levels that a column does not have, shape (n, most)."""
        return torch.arange(most, device=index.device) >= self.level_counts[index].unsqueeze(-1)


class OutputLayout:
    """The outputs of the network that belong to each column.

    Arguments:
        columns: Columns of the table.
        scale: See `Columns`.
    """

    def __init__(self, columns: Sequence[Column], scale: str) -> None:
        self.groups: dict[str, list[int]] = {
            kind: [i for i, column in enumerate(columns) if column.kind == kind] for kind in KINDS
        }
        self.columns = columns
        self.real = self.groups["real"]
        self.positive = self.groups["positive"]
        self.count = self.groups["count"]
        each = {"real": 1 + (scale == "network"), "positive": 1 + (scale == "network"), "size-factor": 0}
        self.sizes = {kind: each.get(kind, 1) * len(group) for kind, group in self.groups.items()}
        self.sizes["categorical"] = sum(len(columns[i].levels) for i in self.groups["categorical"])
        self.outputs = sum(self.sizes.values())

    def _most(self, kind: str) -> int:
        return max((len(self.columns[i].levels) for i in self.groups[kind]), default=2)

    def first_steps(self) -> Tensor:
        """Thresholds of ordinal columns at the start, shape (n, L − 1): the first, then the rises before softplus."""
        steps = torch.full((len(self.groups["ordinal"]), self._most("ordinal") - 1), 0.5)
        for row, i in enumerate(self.groups["ordinal"]):
            steps[row, 0] = -0.5 * (len(self.columns[i].levels) - 2)  # so that the middle is near 0
        return steps

    def padding(self) -> Tensor:
        """The places of the logits of each level of categorical columns, shape (n, L); the last place is padding."""
        group = self.groups["categorical"]
        places = torch.full((len(group), self._most("categorical")), self.sizes["categorical"])
        start = 0
        for row, i in enumerate(group):
            levels = len(self.columns[i].levels)
            places[row, :levels] = torch.arange(start, start + levels)
            start += levels
        return places


def _table(columns: Sequence[Column] | None) -> tuple[Column, ...]:
    if columns is None:
        raise ConfigError("the likelihood 'columns' takes a table, such as table.csv; for other data choose 'normal'")
    return tuple(columns)
