"""All rows of a table as numbers: from a file, a frame or an array, by the columns of a model or by new ones.

Not for: columns (`columns`), the choice of their kinds (`column_kinds`), or data sets with splits (`table_dataset`).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ConfigError, DataError
from ..batch import as_tensor
from ..dataset import Split
from ..labels import renumbered
from ..ondisk import IN_MEMORY, Stored
from ..origin import Origin
from .column_kinds import ColumnKinds, Raw, check_kinds, column_of, kind_of
from .columns import TOTAL, Column, distinct
from .encoded_rows import ColumnReader, EncodedRows, Rows, RowsInMemory, RowsOnDisk, blocks
from .frames import is_frame, raws_of, raws_of_array
from .large_tables import LazyColumns, is_large, read_columns
from .table_files import read_raws


@dataclass(frozen=True, eq=False)
class Table:
    """Encoded rows.

    Arguments:
        x: Values, shape (N, D), float32; NaN is missing.
        columns: The D columns.
        labels: Classes, shape (N,), int64; −1 is an unknown class. None without labels.
        classes: Names of the classes.
    """

    x: Rows
    columns: tuple[Column, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]

    def split(self, rows: NDArray[np.int64] | None = None, origin: Origin | None = None) -> Split:
        """Rows as a split, in which missing values are 0 and not observed.

        Arguments:
            rows: Indices of the rows; all by default.
            origin: Where these rows come from; by default they are all rows of their source.
        """
        index = np.arange(len(self.x)) if rows is None else rows
        labels = None if self.labels is None else torch.from_numpy(self.labels[index])
        if isinstance(self.x, EncodedRows):
            x = Stored(ColumnReader(self.x), index)
            has_gaps = bool(self.x.has_gaps[index].any())
            known = Stored(ColumnReader(self.x, observed=True), index) if has_gaps else None
            return Split(x, labels, known, origin=origin)
        values = self.x[index]
        missing = np.isnan(values)
        values[missing] = 0
        observed = torch.from_numpy(~missing) if missing.any() else None
        return Split(torch.from_numpy(values), labels, observed, origin=origin)

    @property
    def array(self) -> NDArray[np.float32]:
        """The values in memory."""
        return self.x if isinstance(self.x, np.ndarray) else self.x[np.arange(len(self.x))]

    def add_to(self, digest: Any) -> None:
        """Add the bytes of the values to a digest of `hashlib`."""
        for index in blocks(len(self.x), len(self.columns)):
            digest.update(np.ascontiguousarray(self.x[index]).data)


class LabelColumn(NamedTuple):
    """The label column of a class-conditional model, and the names of its classes."""

    name: str
    classes: Sequence[str]

    @classmethod
    def of(cls, kinds: ColumnKinds | None, classes: Sequence[str]) -> Self | None:
        """The column of kind "label" in a config; None without one."""
        return next((cls(name, classes) for name, kind in (kinds or {}).items() if kind == "label"), None)

    def numbered(self, table: Table) -> dict[str, Any]:
        """The labels of a table in the model's numbering, −1 where unknown, and the model's class names.

        Raises:
            DataError: The table has a class that the model does not know.
        """
        assert table.labels is not None
        try:
            labels = renumbered(torch.from_numpy(table.labels), table.classes, self.classes)
        except DataError as error:
            raise DataError(f"column {self.name!r}: {error}") from None
        return {"labels": labels.numpy(), "classes": tuple(self.classes)}


def encode_table(
    source: Any, columns: Sequence[Column] | None, label: LabelColumn | None = None, *, memory: float | None = None
) -> Table:
    """All rows of a table, with the columns of a model; other columns are ignored.

    Arguments:
        source: A path, a frame, or an array (N, D).
        columns: Columns of the model; without them they are learned from the table.
        label: Label column of a class-conditional model.
        memory: GiB up to which a file is read into memory; 1 by default.

    Raises:
        DataError: A column is missing, or has a value or a class that the model does not know.
    """
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(source)):
        raise DataError(f"{source}: is a folder; name one of its tables, such as {Path(source) / 'test.csv'}")
    opened = open_source(source, memory)
    if columns is None:
        return encode_with_new_columns(opened, {})
    names = [column.name for column in columns if not column.computed or column.name in opened.raws]
    names += [] if label is None else [label.name]
    lacking = [name for name in names if name not in opened.raws]
    if lacking:
        present = ", ".join(map(repr, list(opened.raws)[:20]))
        raise DataError(
            f"the table lacks {'columns' if len(lacking) > 1 else 'column'} {', '.join(map(repr, lacking))}, which the "
            f"model knows; it has: {present}; where all values are missing, add an empty column"
        )
    by_name = {column.name: column for column in columns}
    label_name = None if label is None else label.name
    table = _encoded(opened, list(by_name), lambda raw: by_name[raw.name], label_name, by_name.get(TOTAL))
    return table if label is None or table.labels is None else replace(table, **label.numbered(table))


@dataclass(frozen=True, eq=False)
class OpenedTable:
    """A table to read.

    Arguments:
        raws: Columns of the table by name, in memory or read when asked for.
        rows: Number of rows.
        is_large: Whether the rows are to stay on disk.
    """

    raws: Mapping[str, Raw]
    rows: int
    is_large: bool = False

    def followed_by(self, more: "OpenedTable", name: str) -> "OpenedTable":
        """The rows of two tables with the same columns, one table after the other.

        Arguments:
            more: The second table; its further columns are ignored.
            name: Name of the second table, for messages.

        Raises:
            DataError: The second table lacks a column.
        """
        lacking = [column for column in self.raws if column not in more.raws]
        if lacking:
            raise DataError(f"{name}: has no column {lacking[0]!r}, which the table to train on has")
        raws = LazyColumns(list(self.raws), lambda column: self.raws[column].followed_by(more.raws[column]))
        return OpenedTable(raws, self.rows + more.rows, self.is_large or more.is_large)


def open_source(source: Any, memory: float | None) -> OpenedTable:
    """A table to read, from any of the sources of `encode_table`.

    Raises:
        DataError: The source is damaged, or not a table.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.path.expanduser(source))
        if is_large(path, IN_MEMORY if memory is None else memory):
            columns, count = read_columns(path)
            return OpenedTable(columns, count, is_large=True)
        raws = read_raws(path)
    else:
        raws = raws_of(source) if is_frame(source) else raws_of_array(_numbers(source))
    return OpenedTable({raw.name: raw for raw in raws}, len(raws[0].values))


def _numbers(source: Any) -> NDArray[Any]:
    x = as_tensor(source, "a table").detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def encode_with_new_columns(opened: OpenedTable, kinds: ColumnKinds) -> Table:
    """The rows of a table; each column has its kind in `kinds`, or the kind that its values suggest.

    Raises:
        ConfigError: A kind or a column is unknown, or no column is left.
        DataError: A column fits no kind.
    """
    names = list(opened.raws)
    check_kinds(kinds, names, (TOTAL,))
    kind_by_name = {name: kind_of(name, kinds) for name in names}
    label = next((name for name, kind in kind_by_name.items() if kind == "label"), None)
    chosen = [name for name, kind in kind_by_name.items() if kind not in ("label", "ignore")]
    if kinds.get(TOTAL) == "size-factor" and TOTAL not in names:
        if "count" not in kind_by_name.values():
            raise ConfigError(f"columns.{TOTAL} is the sum of the columns of kind 'count', but there is none")
        chosen.append(TOTAL)
    if not chosen:
        raise ConfigError("the kinds in columns leave no column to learn from; ignore fewer")
    total = Column(TOTAL, "size-factor", "float64", computed=True)
    return _encoded(opened, chosen, lambda raw: column_of(raw, kind_by_name[raw.name]), label, total)


def _encoded(
    opened: OpenedTable, names: Sequence[str], column: Callable[[Raw], Column], label: str | None, total: Column | None
) -> Table:
    """The rows of a table.

    Arguments:
        opened: The table.
        names: Names of the columns.
        column: Function from a column as it was read to its `Column`.
        label: Name of the label column.
        total: The column `TOTAL`, which is computed if `names` has it and the table does not.
    """
    writer = RowsOnDisk() if opened.is_large else RowsInMemory(len(names))
    columns: list[Column] = []
    for name in names:
        if name in opened.raws:
            raw = opened.raws[name]
            columns.append(column(raw))
            writer.add(columns[-1].encode(raw.values, raw.missing))
        else:
            assert total is not None
            columns.append(total)
            writer.add(np.full(opened.rows, np.nan, np.float32))
    labels, classes = (None, ("all",)) if label is None else _labels(opened.raws[label])
    computed = [i for i, name in enumerate(names) if name not in opened.raws]

    def complete(x: NDArray[np.float32]) -> None:
        for i in computed:
            x[:, i] = _totals(x, columns)

    return Table(writer.finish(complete), tuple(columns), labels, classes)


def _totals(x: NDArray[np.float32], columns: Sequence[Column]) -> NDArray[np.float32]:
    """The mean count of each row times the number of counts: their sum, if none is missing. NaN in place of 0."""
    counts = x[:, [column.kind == "count" for column in columns]].astype(np.float64)
    known = ~np.isnan(counts)
    mean = np.where(known, counts, 0).sum(1) / np.maximum(known.sum(1), 1)
    total = (mean * counts.shape[1]).astype(np.float32)
    return np.where(total > 0, total, np.float32(np.nan))


def _labels(raw: Raw) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The class of each row as a number, −1 where missing, and the names of the classes that occur."""
    seen, places = distinct(raw.values[~raw.missing])
    if not seen:
        raise DataError(f"column {raw.name!r} is the label, but has no value")
    labels = np.full(len(raw.values), -1, np.int64)
    labels[~raw.missing] = places
    return labels, tuple(map(str, seen))
