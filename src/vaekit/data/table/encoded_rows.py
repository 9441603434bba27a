"""The encoded rows of a table, made one column at a time: in memory, or on disk.

Not for: the conversion of values to numbers (`columns`), or reading the table (`table_files`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from ..sources.arrays import FileRows
from ..sources.file_access import disk_errors, temporary_file

_BLOCK_VALUES = 1 << 24  # 64 MiB of rows at a time

FloatRows = NDArray[np.float32]


@final
class EncodedRows:
    """Encoded rows on disk, indexed like an array (N, D) by the indices of its rows; NaN is missing.

    Arguments:
        rows: The rows.
        has_gaps: Whether a row has missing values, booleans, shape (N,).
    """

    def __init__(self, rows: FileRows, has_gaps: NDArray[np.bool_]) -> None:
        self.rows = rows
        self.shape = rows.shape
        self.has_gaps = has_gaps

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: NDArray[np.int64]) -> FloatRows:
        return self.rows[index]


Rows = NDArray[np.float32] | EncodedRows


@final
class ColumnReader:
    """Reads encoded rows for `Stored`: either their values, 0 where one is missing, or a mask of the observed ones."""

    threads = 4  # they wait for the disk, not for a processor

    def __init__(self, rows: EncodedRows, *, observed: bool = False) -> None:
        self.rows = rows
        self.observed = observed
        self.shape = rows.shape[1:]
        self.dtype = torch.bool if observed else torch.float32

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """The rows of these indices, shape (n, D)."""
        x = torch.from_numpy(self.rows[rows])
        missing = x.isnan()
        return ~missing if self.observed else x.masked_fill_(missing, 0)


@final
class RowsInMemory:
    """An array (N, D) that is filled column by column.

    Arguments:
        width: D.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.x: FloatRows | None = None
        self.added = 0

    def add(self, values: FloatRows) -> None:
        """Add a column, shape (N,)."""
        if self.x is None:
            self.x = np.empty((len(values), self.width), np.float32)
        self.x[:, self.added] = values
        self.added += 1

    def finish(self, complete: Callable[[FloatRows], None]) -> Rows:
        """All rows.

        Arguments:
            complete: Function that takes an array of rows and fills in the columns that are computed from others.
        """
        assert self.x is not None
        complete(self.x)
        return self.x


@final
class RowsOnDisk:
    """Encoded rows in an unnamed temporary file: written by column, then rewritten by row."""

    def __init__(self) -> None:
        self.columns = temporary_file(self)
        self.added = 0
        self.count = 0

    def add(self, values: FloatRows) -> None:
        """Add a column, shape (N,)."""
        with disk_errors():
            self.columns.write(np.ascontiguousarray(values, "<f4").data)
        self.count = len(values)
        self.added += 1

    def finish(self, complete: Callable[[FloatRows], None]) -> Rows:
        """All rows; see `RowsInMemory`."""
        file = temporary_file(self)
        has_gaps = np.zeros(self.count, bool)
        with disk_errors():
            header = {"descr": "<f4", "fortran_order": False, "shape": (self.count, self.added)}
            npy.write_array_header_2_0(file, header)
            step = max(1, _BLOCK_VALUES // self.added)
            for start in range(0, self.count, step):
                block = self._rows(start, min(start + step, self.count))
                complete(block)
                has_gaps[start : start + len(block)] = np.isnan(block).any(1)
                file.write(block.data)
            file.flush()
        return EncodedRows(FileRows(Path("the rows of a large table"), file), has_gaps)

    def _rows(self, start: int, end: int) -> FloatRows:
        block = np.empty((end - start, self.added), "<f4")
        for i in range(self.added):
            self.columns.seek(4 * (i * self.count + start))
            block[:, i] = np.frombuffer(self.columns.read(4 * (end - start)), "<f4")
        return block


def blocks(count: int, width: int, most: int = 1 << 16) -> list[NDArray[np.int64]]:
    """The indices 0 … count − 1 in blocks, of at most `most` rows and 64 MiB."""
    step = max(1, min(most, _BLOCK_VALUES // width))
    return [np.arange(start, min(start + step, count)) for start in range(0, count, step)]
