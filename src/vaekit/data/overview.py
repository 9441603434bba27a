"""The columns of a table at a glance: their kinds, missing shares and values.

Not for: the choice of a kind (`kinds`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Column
from .sources.frames import series_of

SHOWN = 6  # levels of a column


def overview(columns: Sequence[Column], x: NDArray[np.float32]) -> list[dict[str, str]]:
    """A row for each column of a table, in words.

    Arguments:
        columns: The D columns.
        x: Encoded values, shape (N, D), NaN where missing.
    """
    rows = []
    for column, values in zip(columns, x.T, strict=True):
        known = values[~np.isnan(values)]
        missing = f"{1 - len(known) / len(values):.0%}"
        rows.append(
            {
                "column": column.name,
                "kind": column.kind,
                "type": column.dtype,
                "missing": missing,
                "values": _values(column, known),
            }
        )
    return rows


def _values(column: Column, known: NDArray[np.float32]) -> str:
    """The levels, or the least value, the median and the greatest."""
    if column.has_levels:
        levels = [str(level) for level in column.levels[:SHOWN]] + ["…"] * (len(column.levels) > SHOWN)
        return f"{len(column.levels)} levels: {', '.join(levels)}"
    quantiles = series_of(np.quantile(known, [0, 0.5, 1]).astype(float), column)
    return " … ".join(_short(value) for value in quantiles)


def _short(value: Any) -> str:
    return f"{value:%Y-%m-%d}" if hasattr(value, "strftime") else f"{value:.6g}"
