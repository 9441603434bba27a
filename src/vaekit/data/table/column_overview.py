"""The columns of a table at a glance: their kinds, missing shares and values.

Not for: the choice of a kind (`column_kinds`).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..dataset import Dataset, Split
from ..ondisk import IN_MEMORY
from .columns import Column
from .encoded_rows import blocks
from .frames import series_of


def overview(columns: Sequence[Column], x: Iterable[NDArray[np.float32]]) -> list[dict[str, Any]]:
    """A record for each column of a table: its name, kind, type and missing share, and what values it has.

    A column with levels has `levels`; any other has `minimum`, `median` and `maximum`: numbers, or dates as texts. What
    does not apply is None. A channel without values has None for all four.

    Arguments:
        columns: The D columns.
        x: The encoded values of each column, shape (N,), NaN where missing.
    """
    records = []
    for column, values in zip(columns, x, strict=True):
        known = values[~np.isnan(values)]
        record = {"column": column.name, "kind": column.kind, "type": column.dtype}
        records.append({**record, "missing": 1 - len(known) / len(values), **_values(column, known)})
    return records


def overview_of_signals(data: Dataset) -> list[dict[str, Any]]:
    """A record for each channel of signals, as in `overview`; of signals on disk, from an evenly spread part."""
    splits = [split.in_memory(int(IN_MEMORY * 2**30)) for split in data.splits.values() if len(split)]
    masked = (
        split.x[:] if split.observed_in_memory is None else split.x[:].masked_fill(~split.observed_in_memory, np.nan)
        for split in splits
    )
    x = np.concatenate([part.numpy() for part in masked])
    columns = [Column(f"channel {i}", "real", str(x.dtype)) for i in range(x.shape[1])]
    records = overview(columns, (values.reshape(-1) for values in x.swapaxes(0, 1)))
    return [{**record, "kind": f"signal of {x.shape[2]} values"} for record in records]


def _values(column: Column, known: NDArray[np.float32]) -> dict[str, Any]:
    if column.has_levels:
        return {"levels": [_plain(level) for level in column.levels], "minimum": None, "median": None, "maximum": None}
    if not len(known):
        return dict.fromkeys(("levels", "minimum", "median", "maximum"))
    quantiles = series_of(np.quantile(known, [0, 0.5, 1]).astype(float), column)
    return {"levels": None, **dict(zip(("minimum", "median", "maximum"), map(_plain, quantiles), strict=True))}


def _plain(value: Any) -> Any:
    """A value that JSON can hold: a truth value, a number or a text; a date as YYYY-MM-DD."""
    if hasattr(value, "strftime"):
        return f"{value:%Y-%m-%d}"
    return value if isinstance(value, bool | int | float | str) else float(value)


def columns_with_nan(data: Dataset) -> Iterator[NDArray[np.float32]]:
    """Each column of a table over all rows, split by split, shape (N,), NaN for missing values."""
    splits = [split for split in data.splits.values() if len(split)]
    width = data.event_shape[0]
    in_memory = all(isinstance(split.x, Tensor) for split in splits)
    at_once = width if in_memory else max(1, int(IN_MEMORY * 2**30) // (4 * sum(map(len, splits))))
    for start in range(0, width, at_once):
        group = slice(start, start + at_once)
        x = np.concatenate([part[:, group] for split in splits for part in _parts_with_nan(split)])
        yield from x.T


def _parts_with_nan(split: Split) -> Iterator[NDArray[np.float32]]:
    for numbers in blocks(len(split), split.event_shape[0]):
        part = split.rows(slice(int(numbers[0]), int(numbers[-1]) + 1))
        yield with_nan(part.x[:], part.observed_in_memory)


def with_nan(x: Tensor, observed: Tensor | None) -> NDArray[np.float32]:
    """Rows as an array, with NaN for missing values."""
    values = x if observed is None else x.masked_fill(~observed, torch.nan)
    return values.cpu().float().numpy()
