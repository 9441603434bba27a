"""The encoder of tables: columns of every kind as inputs of a network, missing values included.

Not for: the densities of columns (`likelihoods.per_column`).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..data.table.columns import Column
from ..data.table.standardization import Standardizer
from ..errors import ConfigError
from .base import Activation, Encoder
from .mlp import MLP


class ColumnView(nn.Module):
    """Rows of a table as a network sees them, shape (..., D) → (..., F).

    Numbers are standardized: real ones as they are, positive ones as log x, counts as log(1 + x). Levels are one-hot;
    the levels of a Bernoulli column are −1 and 1. A missing value is 0.

    Arguments:
        columns: The D columns.
        mask: Add D values: 1 where x is observed, else 0.

    Attributes:
        size: F.
    """

    loc: Tensor
    scale: Tensor
    level_column: Tensor
    level: Tensor

    def __init__(self, columns: Sequence[Column], *, mask: bool = True) -> None:
        super().__init__()
        self.mask = mask
        kinds = [column.kind for column in columns]
        several = [i for i, kind in enumerate(kinds) if kind in ("ordinal", "categorical")]
        self.single = [i for i in range(len(columns)) if i not in several]
        single = [columns[i] for i in self.single]
        self.standardize = Standardizer(single)
        flat = [(i, level) for i in several for level in range(len(columns[i].levels))]
        loc = [0.5 if column.kind == "bernoulli" else column.loc for column in single]
        scale = [0.5 if column.kind == "bernoulli" else column.scale for column in single]
        self.register_buffer("loc", torch.tensor(loc))
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("level_column", torch.tensor([i for i, _ in flat]).long(), persistent=False)
        self.register_buffer("level", torch.tensor([float(level) for _, level in flat]), persistent=False)
        self.size = len(single) + len(flat) + (len(columns) if mask else 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows, in which missing values are NaN."""
        missing = x.isnan()
        numbers = self.standardize(x[..., self.single], self.loc, self.scale)
        seen = [numbers.masked_fill(missing[..., self.single], 0)]
        seen.append((x[..., self.level_column] == self.level).to(x.dtype))
        return torch.cat([*seen, (~missing).to(x.dtype)] if self.mask else seen, -1)


class TableEncoder(Encoder):
    """A multilayer perceptron over the columns of a table, in which values may be missing.

    Arguments:
        in_shape: (D,).
        columns: The D columns; None if the data are not a table.
        context_size: Width of c; 0 for none.
        hidden: Widths of the hidden layers.
        activation: Nonlinearity of the hidden layers.
        norm: Normalization between a hidden layer and its activation.
        mask: Whether the network sees which values are observed, besides 0 for those that are not (Mattei and Frellsen
            2019, arXiv:1812.02633, section 3.4, have only the zeros).

    Raises:
        ConfigError: The data are not a table.
    """

    sees_missing = True

    def __init__(
        self,
        in_shape: Sequence[int],
        columns: Sequence[Column] | None,
        context_size: int = 0,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: Activation = "relu",
        norm: Literal["batch", "layer"] | None = None,
        mask: bool = True,
    ) -> None:
        if columns is None:
            raise ConfigError("the encoder 'table' takes a table, such as table.csv; for other data choose 'mlp'")
        view = ColumnView(columns, mask=mask)
        net = MLP((view.size,), None, context_size, hidden=hidden, activation=activation, norm=norm)
        super().__init__(in_shape, net.out_shape, context_size)
        self.view = view
        self.net = net

    def row_outputs(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, D) to (N, features)."""
        h: Tensor = self.net.row_outputs(self.view(x), c)
        return h
