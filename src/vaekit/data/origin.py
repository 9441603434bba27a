"""Where the rows of a split come from, and their names.

Not for: reading the rows (`ondisk`, `sources`).
"""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from .ondisk import Remainder, RowIndices, Steps


@final
class Origin:
    """The places of rows in their source: the user's own file, folder or frame. Rows in order take no memory.

    Arguments:
        rows: Indices of the rows in the source.
        files: The file of each row of the source; None if rows have numbers only.

    >>> Origin(np.array([4, 1, 7]), ["a", "b", "c", "d", "e", "f", "g", "h"])[torch.tensor([2, 0])].names()
    ['h', 'e']
    """

    def __init__(self, rows: RowIndices, files: Sequence[str] | None = None) -> None:
        self.rows = rows
        self.files = files

    @classmethod
    def of_all(cls, count: int) -> "Origin":
        """The origin of all rows of a source, in order."""
        return cls(Remainder(count, np.empty(0, np.int64)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor) -> "Origin":
        """The origin of some of the rows."""
        if isinstance(index, slice):
            return Origin(Steps(self.rows, range(*index.indices(len(self)))), self.files)
        return Origin(self.rows[torch.arange(len(self))[index.cpu()].numpy()], self.files)

    def names(self, first: int = 0) -> list[str]:
        """The file of each row, or its number in the source.

        Arguments:
            first: Number of the first row of the source.
        """
        indices = self.rows[np.arange(len(self))].tolist()
        return [str(index + first) if self.files is None else self.files[index] for index in indices]
