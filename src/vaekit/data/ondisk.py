"""`Stored`: rows that stay on disk and are read on access, and reading ahead in the background.

Not for: file formats (`sources`), or the order of rows in an epoch (`batches`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IN_MEMORY = 1.0  # GiB up to which rows are read into memory, unless the caller says otherwise
_ROWS_PER_READ = 128  # rows that a thread reads at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


class Reader(Protocol):
    """A source of rows.

    Attributes:
        shape: Shape of the values of one row.
        dtype: torch.uint8, torch.float32, or torch.bool for a mask of the observed values.
        threads: Number of threads that read fastest.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    threads: int

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """The rows of these indices, a new tensor (n, *shape); called by several threads at once.

        Raises:
            DataError: A row is damaged or differs from the others.
        """


class RowIndices(Protocol):
    """Indices of rows: an array, or an object that is indexed like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[np.int64]: ...


@final
class Remainder:
    """The indices 0 … n − 1 in order, except `excluded`. Memory grows only with the excluded ones.

    >>> Remainder(6, np.array([4, 1]))[np.arange(4)].tolist()
    [0, 2, 3, 5]
    """

    def __init__(self, n: int, excluded: NDArray[np.int64]) -> None:
        self.length = n - len(excluded)
        self.kept_before = np.sort(excluded) - np.arange(len(excluded))  # how many indices are kept before each

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[np.int64]:
        return index + np.searchsorted(self.kept_before, index, side="right")


@final
class Steps:
    """The indices of `rows` at a range of places, such as every tenth. They take no memory.

    >>> Steps(Remainder(6, np.array([4, 1])), range(0, 4, 2))[np.arange(2)].tolist()
    [0, 3]
    """

    def __init__(self, rows: RowIndices, places: range) -> None:
        self.rows = rows
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[np.int64]:
        return self.rows[self.places.start + self.places.step * index]


def row_index(index: Any, count: int) -> slice | Tensor:
    """An index of rows as a slice with a step above 0, or as indices from 0, int64.

    Arguments:
        index: A slice, whole numbers, of which negative ones count from the end, or a mask of booleans.
        count: Number of rows.

    Raises:
        IndexError: The index is not one of these, or a row does not exist.

    >>> row_index([2, -1], 4), row_index([], 4).dtype
    (tensor([2, 3]), torch.int64)
    """
    if isinstance(index, slice):
        return index if (index.step or 1) > 0 else torch.tensor(range(*index.indices(count)), dtype=torch.int64)
    rows = torch.as_tensor(index)
    if rows.ndim != 1 or (rows.is_floating_point() and len(rows)):
        raise IndexError(f"rows are chosen by a slice, a list of whole numbers or a mask, got {index!r:.60}")
    if rows.dtype == torch.bool:
        if len(rows) != count:
            raise IndexError(f"a mask of rows must be ({count},), got ({len(rows)},)")
        return rows.nonzero().flatten()
    rows = rows.long()
    if bool(((rows < -count) | (rows >= count)).any()):
        raise IndexError(f"rows must be from 0 to {count - 1}, got {rows.tolist()!s:.100}")
    return rows.where(rows >= 0, rows + count)


@final
class Stored:
    """Rows on disk. They are indexed like a tensor (N, *event), by rows only; each access reads the disk.

    Arguments:
        reader: Reads them from disk.
        rows: The reader's indices of these rows, in this order.
    """

    device = torch.device("cpu")

    def __init__(self, reader: Reader, rows: RowIndices) -> None:
        self.reader = reader
        self.rows = rows
        self.shape = torch.Size((len(rows), *reader.shape))
        self.dtype = reader.dtype

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes that the rows would take in memory."""
        return self.shape.numel() * self.dtype.itemsize

    def is_floating_point(self) -> bool:
        """Whether values are floats."""
        return self.dtype.is_floating_point

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Read these rows in the calling thread."""
        assert dim == 0
        return self.reader.read(self.rows[index.numpy()])

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """Read rows with all threads: one, or several; see `row_index`."""
        if isinstance(index, int):
            return self.index_select(0, torch.tensor([range(len(self))[index]]))[0]
        rows = row_index(index, len(self))
        rows = torch.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        x = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        chunks = (rows[start : start + _ROWS_PER_READ] for start in range(0, len(rows), _ROWS_PER_READ))
        for i, part in enumerate(self.ahead(lambda chunk: self.index_select(0, chunk), chunks)):
            x[i * _ROWS_PER_READ : (i + 1) * _ROWS_PER_READ] = part
        return x

    def ahead(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`map(work, items)` with the number of threads that is fastest here; see the function `ahead`."""
        return ahead(work, items, threads=self.reader.threads)


def ahead(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """`map(work, items)` in order, computed in the background at most `threads` + 2 items ahead.

    >>> list(ahead(abs, (-1, 2, -3), threads=2))
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="vae-data")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > threads + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
