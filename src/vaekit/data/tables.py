"""A table as a data set: from a file, a frame or an array, with a kind for each column; or as rows for a trained model.

Not for: columns (`columns`), the choice of their kinds (`column_kinds`), or reading files (`sources.table_files`).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, DataError
from .batch import as_tensor
from .by_path import IN_MEMORY
from .column_kinds import ColumnKinds, Raw, check_kinds, column_of, kind_of
from .column_statistics import statistics_of
from .columns import TOTAL, Column, distinct
from .dataset import Dataset, Split
from .encoded_rows import ColumnReader, Rows, RowsInMemory, RowsOnDisk, blocks
from .held_out import held_out
from .labels import renumbered
from .ondisk import Stored
from .sources.frames import is_frame, raws_of, raws_of_array
from .sources.large_tables import LazyColumns, is_large, read_columns
from .sources.table_files import ARRAY_SUFFIXES, TABLE_SUFFIXES, is_table_file, read_raws
from .value_kinds import ValueKind

TABLE_PARTS = ("train", "val", "validation", "valid", "test")
SHARE = 10  # one row in ten to validate with


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

    def split(self, rows: NDArray[np.int64] | slice) -> Split:
        """These rows as a split, in which missing values are 0."""
        labels = None if self.labels is None else self.labels[rows]
        if isinstance(self.x, np.ndarray):
            return split_of(self.x[rows], labels)
        index = np.arange(len(self.x))[rows] if isinstance(rows, slice) else rows
        x = Stored(ColumnReader(self.x), index)
        has_gaps = bool(self.x.has_gaps[index].any())
        observed = Stored(ColumnReader(self.x, observed=True), index) if has_gaps else None
        return Split(x, None if labels is None else torch.from_numpy(labels), observed)

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


def split_of(x: NDArray[np.float32], labels: NDArray[np.int64] | None = None) -> Split:
    """A split from rows with NaN for missing values; in the split these are 0 and not observed."""
    missing = np.isnan(x)
    observed = torch.from_numpy(~missing) if missing.any() else None
    known_labels = None if labels is None else torch.from_numpy(labels)
    return Split(torch.from_numpy(np.where(missing, np.float32(0), x)), known_labels, observed)


def load_table(
    source: Any,
    *,
    name: str = "table",
    validation: int | None = None,
    test: int | str | None = None,
    memory: float | None = None,
    kinds: ColumnKinds | None = None,
) -> Dataset:
    """A table as a data set; see `vaekit.data.load`.

    Arguments:
        source: A path, a frame, or an array (N, D).
        name: Name of the data set.
        validation: Rows to hold out; 10 % by default.
        test: Rows to test on, 10 % by default; or the path of a table to test on.
        memory: GiB up to which a file is read into memory; 1 by default.
        kinds: Kinds of columns by name, or their levels in order; "*" is for all others.

    Raises:
        DataError: A file is missing or damaged, a column fits no kind, or there are too few rows.
        ConfigError: A kind is unknown, or a number of rows is out of range.
    """
    if memory is not None and not isinstance(source, (str, os.PathLike)):
        raise ConfigError("memory is for rows of your own, by path; leave it out with a table in memory")
    kinds = {str(column): kind for column, kind in (kinds or {}).items()}  # a frame's names may be numbers
    train, validation_path, test_path = _files(source, test)
    for option, number, path in (("validation", validation, validation_path), ("test", test, test_path)):
        if number is not None and not isinstance(number, str) and path is not None:
            raise ConfigError(f"{option} = {number}, but the rows are in {path.name} already; leave it out")
    opened = _open(train, memory)
    ends = [opened.rows]
    for path in (validation_path, test_path):
        opened = opened if path is None else opened.followed_by(_open(path, memory), str(path))
        ends.append(opened.rows)
    unfitted = _learned(opened, kinds)
    rest, validation_indices, test_indices = held_out(
        name,
        ends[0],
        0 if validation_path else validation,
        None if isinstance(test, str) else test,
        row_word="row",
        elsewhere=test_path is not None,
        share=SHARE,
    )
    train_indices = rest[np.arange(len(rest))]
    if test_path is not None:
        test_indices = np.arange(ends[1], ends[2])
    if validation_path is not None:
        validation_indices = np.arange(ends[0], ends[1])
    table = _fitted(unfitted, train_indices)
    train_rows, validation_rows, test_rows = (
        table.split(rows) for rows in (train_indices, validation_indices, test_indices)
    )
    checksum, columns = _checksum(table), table.columns
    return Dataset(name, train_rows, validation_rows, test_rows, table.classes, checksum, kind="table", columns=columns)


def _files(source: Any, test: int | str | None) -> tuple[Any, Path | None, Path | None]:
    """The table to train on, and the paths of separate validation and test tables, or None."""
    if not isinstance(source, (str, os.PathLike)) or not os.path.isdir(os.path.expanduser(source)):
        return source, None, Path(os.path.expanduser(test)) if isinstance(test, str) else None
    parts = {path.stem: path for path in split_files(source)}
    if not parts:
        raise DataError(f"{source}: is a folder without train.csv; give a table, or a folder of train.csv and test.csv")
    test_path = parts.get("test") if not isinstance(test, str) else Path(os.path.expanduser(test))
    return parts["train"], parts.get("val", parts.get("validation", parts.get("valid"))), test_path


def split_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The tables of a folder with splits: train.csv, val.csv, test.csv; empty without a train.csv."""
    path = Path(os.path.expanduser(folder))
    files = [path / f"{part}{suffix}" for suffix in TABLE_SUFFIXES for part in TABLE_PARTS]
    files = [file for file in files if file.is_file()]
    return files if any(file.stem == "train" for file in files) else []


def is_table(name: str, value_kind: ValueKind = "table") -> bool:
    """Whether a path leads to a table: a table file, a folder of them, or an array if `value_kind` asks for a table."""
    if is_table_file(name) or (value_kind == "table" and Path(name).suffix.lower() in ARRAY_SUFFIXES):
        return True
    return os.path.isdir(os.path.expanduser(name)) and bool(split_files(name))


def open_table(
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
    opened = _open(source, memory)
    if columns is None:
        return _learned(opened, {})
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
class _Opened:
    """A table to read.

    Arguments:
        raws: Columns of the table by name, in memory or read when asked for.
        rows: Number of rows.
        is_large: Whether the rows are to stay on disk.
    """

    raws: Mapping[str, Raw]
    rows: int
    is_large: bool = False

    def followed_by(self, more: "_Opened", name: str) -> "_Opened":
        """The rows of two tables with the same columns, one table after the other."""
        lacking = [column for column in self.raws if column not in more.raws]
        if lacking:
            raise DataError(f"{name}: has no column {lacking[0]!r}, which the table to train on has")
        raws = LazyColumns(list(self.raws), lambda column: self.raws[column].followed_by(more.raws[column]))
        return _Opened(raws, self.rows + more.rows, self.is_large or more.is_large)


def _open(source: Any, memory: float | None) -> _Opened:
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.path.expanduser(source))
        if is_large(path, IN_MEMORY if memory is None else memory):
            return _Opened(*read_columns(path), is_large=True)
        raws = read_raws(path)
    else:
        raws = raws_of(source) if is_frame(source) else raws_of_array(_numbers(source))
    return _Opened({raw.name: raw for raw in raws}, len(raws[0].values))


def _numbers(source: Any) -> NDArray[Any]:
    x = as_tensor(source, "a table").detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def _learned(opened: _Opened, kinds: ColumnKinds) -> Table:
    """The rows of a table whose columns get kinds now."""
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
    opened: _Opened, names: Sequence[str], column: Callable[[Raw], Column], label: str | None, total: Column | None
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


def _fitted(table: Table, rows: NDArray[np.int64]) -> Table:
    """The same table, with columns that know the statistics of the training rows.

    Raises:
        DataError: A column has no two different values in these rows.
    """
    statistics = statistics_of(table.columns, table.x, rows)
    for column, least, greatest in zip(table.columns, statistics.least, statistics.greatest, strict=True):
        if column.kind != "size-factor" and not least < greatest:
            content = "no value" if np.isnan(least) else "the same value"
            raise DataError(
                f"column {column.name!r} has {content} in all {len(rows)} training rows; hold out fewer rows, or set "
                f"columns.{column.name} = 'ignore'"
            )
    return replace(table, columns=statistics.fitted(table.columns))


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


def _checksum(table: Table) -> str:
    """SHA-256 of the encoded rows, the labels, and the meaning of the numbers."""
    digest = hashlib.sha256(json.dumps([c.name for c in table.columns]).encode())
    digest.update(json.dumps([[c.kind, list(c.levels), c.origin] for c in table.columns]).encode())
    table.add_to(digest)
    if table.labels is not None:
        digest.update(np.ascontiguousarray(table.labels).data)
    return digest.hexdigest()


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
