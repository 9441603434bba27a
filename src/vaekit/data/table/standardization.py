"""Means and standard deviations of a table's columns, and its numbers as networks see them.

Not for: the record that holds a column's mean and deviation (`columns`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .columns import TRANSFORM, Column
from .encoded_rows import FloatRows, Rows, blocks


@dataclass(frozen=True, eq=False)
class ColumnStatistics:
    """Numbers about each of D columns, shape (D,).

    Arguments:
        least: The least encoded value, NaN if all are missing.
        greatest: The greatest encoded value.
        mean: Mean of the known values, transformed as `Column.transformed` does.
        deviation: Standard deviation of these transformed values.
    """

    least: NDArray[np.float64]
    greatest: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def fitted(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        """The columns with these statistics."""
        each = zip(columns, self.mean, self.deviation, self.least, strict=True)
        return tuple(column.fitted(float(mean), float(sd), float(least)) for column, mean, sd, least in each)


def statistics_of(columns: Sequence[Column], x: Rows, rows: NDArray[np.int64]) -> ColumnStatistics:
    """Statistics of the columns, over some rows.

    Arguments:
        columns: The D columns.
        x: Encoded rows, NaN where missing.
        rows: Indices of the rows.
    """

    def parts() -> Iterator[FloatRows]:
        return (x[rows[part]] for part in blocks(len(rows), len(columns)))

    def sums(of: Callable[[int, NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        total = np.zeros(len(columns))
        for part in parts():
            for i, column in enumerate(columns):
                total[i] += of(i, column.transformed(part[:, i])).sum()
        return total

    least, greatest, known = np.full(len(columns), np.nan), np.full(len(columns), np.nan), np.zeros(len(columns))
    for part in parts():
        known += (~np.isnan(part)).sum(0)
        least = np.fmin(least, np.fmin.reduce(part, 0))
        greatest = np.fmax(greatest, np.fmax.reduce(part, 0))
    count = np.maximum(known, 1)
    mean = sums(lambda i, values: values) / count
    deviation = np.sqrt(sums(lambda i, values: np.square(values - mean[i])) / count)
    return ColumnStatistics(least, greatest, mean, deviation)


class Standardizer:
    """(t − loc) / scale, where t is log x of positive numbers and size factors, log(1 + x) of counts, else x.

    It has no buffers: the modules that standardize store loc and scale, each under names of its own.

    Arguments:
        columns: The D columns.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.functions = [TRANSFORM.get(column.kind) for column in columns]

    def __call__(self, x: Tensor, loc: Tensor, scale: Tensor, index: Tensor | None = None) -> Tensor:
        """Standardize numbers.

        Arguments:
            x: Values, shape (..., n).
            loc: Means, shape (n,).
            scale: Standard deviations, shape (n,).
            index: Indices of their columns, shape (n,); all columns by default.
        """
        functions = self.functions if index is None else [self.functions[i] for i in index.tolist()]
        transformed = x.clone()
        for name in sorted(set(filter(None, functions))):
            places = [i for i, function in enumerate(functions) if function == name]
            transformed[..., places] = getattr(torch, name)(transformed[..., places])
        return (transformed - loc) / scale
