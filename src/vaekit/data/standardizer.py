"""Numbers of a table as networks see them.

Not for: means and standard deviations; columns hold them (`columns`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .columns import TRANSFORM, Column


class Standardizer:
    """(t − loc) / scale, where t is log x of positive numbers, log(1 + x) of counts, and x of real numbers.

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
