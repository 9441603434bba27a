"""A table as a data set: from a file, a frame or an array, with a kind for each column; or as rows for a trained model.

Not for: columns (`columns`), the choice of their kinds (`kinds`), or reading files (`sources.frames`).
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, DataError, unknown
from .columns import Column, distinct
from .dataset import Dataset, Split
from .held_out import held_out
from .kinds import ColumnKinds, Raw, check_kinds, column_of, kind_of
from .sources.frames import ARRAYS, SUFFIXES, is_frame, is_table_file, raws_of, raws_of_array, read_raws
from .values import Values

PARTS = ("train", "val", "validation", "valid", "test")
SHARE = 10  # one row in ten to validate with
TOTAL = "total"  # a size factor of this name is the sum of the counts, unless the table has such a column


@dataclass(frozen=True, eq=False)
class Table:
    """Encoded rows.

    Arguments:
        x: Values, shape (N, D), float32; NaN is missing.
        columns: The D columns.
        labels: Classes, shape (N,), int64; −1 is an unknown class. None without labels.
        classes: Names of the classes.
    """

    x: NDArray[np.float32]
    columns: tuple[Column, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]

    def split(self, rows: NDArray[np.int64] | slice) -> Split:
        """These rows as a split, in which missing values are 0."""
        return split_of(self.x[rows], None if self.labels is None else self.labels[rows])


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
        for name in table.classes:
            if name not in self.classes:
                raise DataError(f"column {self.name!r}: {unknown('class', name, self.classes)}")
        numbers = np.array([*map(list(self.classes).index, table.classes), -1])
        return {"labels": numbers[table.labels], "classes": tuple(self.classes)}


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
    kinds: ColumnKinds | None = None,
) -> Dataset:
    """A table as a data set; see `vaekit.data.load`.

    Arguments:
        source: A path, a frame, or an array (N, D).
        name: Name of the data set.
        validation: Rows to hold out; 10 % by default.
        test: Rows to test on, 10 % by default; or the path of a table to test on.
        kinds: Kinds of columns by name, or their levels in order; "*" is for all others.

    Raises:
        DataError: A file is missing or damaged, a column fits no kind, or there are too few rows.
        ConfigError: A kind is unknown, or a number of rows is out of range.
    """
    kinds = kinds or {}
    train, validation_path, test_path = _files(source, test)
    for option, number, path in (("validation", validation, validation_path), ("test", test, test_path)):
        if isinstance(number, int) and path is not None:
            raise ConfigError(f"data.{option} = {number}, but the rows are in {path.name} already; leave it out")
    raws = stacked = _raws(train)
    count = len(raws[0].values)
    ends = [count]
    for path in (validation_path, test_path):
        stacked = stacked if path is None else _stacked(stacked, _raws(path), str(path))
        ends.append(len(stacked[0].values))
    columns, label = _columns(stacked, kinds)
    table = _encoded(stacked, columns, label)
    rest, validation_numbers, test_numbers = held_out(
        name,
        count,
        0 if validation_path else validation,
        test if isinstance(test, int) else None,
        what="rows",
        elsewhere=test_path is not None,
        share=SHARE,
    )
    train_numbers = rest[np.arange(len(rest))]
    if test_path is not None:
        test_numbers = np.arange(ends[1], ends[2])
    if validation_path is not None:
        validation_numbers = np.arange(ends[0], ends[1])
    fitted = tuple(column.fitted(table.x[train_numbers, i]) for i, column in enumerate(table.columns))
    _check_constant(fitted, table.x[train_numbers])
    table = replace(table, columns=fitted)
    train_rows, validation_rows, test_rows = (
        table.split(rows) for rows in (train_numbers, validation_numbers, test_numbers)
    )
    checksum = _checksum(table)
    return Dataset(name, train_rows, validation_rows, test_rows, table.classes, checksum, kind="table", columns=fitted)


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
    files = [path / f"{part}{suffix}" for suffix in SUFFIXES for part in PARTS]
    files = [file for file in files if file.is_file()]
    return files if any(file.stem == "train" for file in files) else []


def is_table(name: str, values: Values = "table") -> bool:
    """Whether a path leads to a table: a table file, a folder of them, or an array if `values` asks for a table."""
    if is_table_file(name) or (values == "table" and Path(name).suffix.lower() in ARRAYS):
        return True
    return os.path.isdir(os.path.expanduser(name)) and bool(split_files(name))


def open_table(source: Any, columns: Sequence[Column], label: LabelColumn | None = None) -> Table:
    """All rows of a table, with the columns of a model; other columns are ignored.

    Arguments:
        source: A path, a frame, or an array (N, D).
        columns: Columns of the model.
        label: Label column of a class-conditional model.

    Raises:
        DataError: A column is missing, or has a value or a class that the model does not know.
    """
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(source)):
        raise DataError(f"{source}: is a folder; name one of its tables, such as {Path(source) / 'test.csv'}")
    raws = {raw.name: raw for raw in _raws(source)}
    names = [column.name for column in columns if column.name != TOTAL or TOTAL in raws]
    names += [] if label is None else [label.name]
    lacking = [name for name in names if name not in raws]
    if lacking:
        present = ", ".join(map(repr, list(raws)[:20]))
        raise DataError(
            f"the table lacks {'columns' if len(lacking) > 1 else 'column'} {', '.join(map(repr, lacking))}, which the "
            f"model knows; it has: {present}; where all values are missing, add an empty column"
        )
    table = _encoded(list(raws.values()), list(columns), None if label is None else raws[label.name])
    return table if label is None or table.labels is None else replace(table, **label.numbered(table))


def _raws(source: Any) -> list[Raw]:
    if isinstance(source, (str, os.PathLike)):
        return read_raws(Path(os.path.expanduser(source)))
    if is_frame(source):
        return raws_of(source)
    return raws_of_array(np.asarray(source))


def _stacked(raws: list[Raw], more: list[Raw], name: str) -> list[Raw]:
    """The rows of two tables with the same columns, one table after the other."""
    more_by_name = {raw.name: raw for raw in more}
    lacking = [raw.name for raw in raws if raw.name not in more_by_name]
    if lacking:
        raise DataError(f"{name}: has no column {lacking[0]!r}, which the table to train on has")
    return [
        replace(
            raw,
            values=_joined(raw.values, more_by_name[raw.name].values),
            missing=np.concatenate((raw.missing, more_by_name[raw.name].missing)),
        )
        for raw in raws
    ]


def _joined(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    if first.dtype.kind != second.dtype.kind and "O" in (first.dtype.kind, second.dtype.kind):
        first, second = first.astype(object), second.astype(object)
    return np.concatenate((first, second))


def _columns(raws: list[Raw], kinds: ColumnKinds) -> tuple[list[Column], Raw | None]:
    """The columns, and the raw column of the labels."""
    check_kinds(kinds, [raw.name for raw in raws], (TOTAL,))
    columns, label = [], None
    for raw in raws:
        kind = kind_of(raw.name, kinds)
        if kind == "label":
            label = raw
        elif kind != "ignore":
            columns.append(column_of(raw, kind))
    if kinds.get(TOTAL) == "size-factor" and all(column.name != TOTAL for column in columns):
        if not any(column.kind == "count" for column in columns):
            raise ConfigError(f"data.columns.{TOTAL} is the sum of the columns of kind 'count', but there is none")
        columns.append(Column(TOTAL, "size-factor", "float64"))
    if not columns:
        raise ConfigError("data.columns leaves no column to learn from; leave out fewer")
    return columns, label


def _encoded(raws: Sequence[Raw], columns: Sequence[Column], label: Raw | None) -> Table:
    by_name = {raw.name: raw for raw in raws}
    x = np.empty((len(raws[0].values), len(columns)), np.float32)
    for i, column in enumerate(columns):
        if column.name in by_name:
            x[:, i] = column.encode(by_name[column.name].values, by_name[column.name].missing)
    for i, column in enumerate(columns):
        if column.name not in by_name:
            x[:, i] = _totals(x, columns)
    labels, classes = (None, ("all",)) if label is None else _labels(label)
    return Table(x, tuple(columns), labels, classes)


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


def _check_constant(columns: Sequence[Column], x: NDArray[np.float32]) -> None:
    """Refuse a column without two different values in the training rows."""
    for i, column in enumerate(columns):
        known = x[~np.isnan(x[:, i]), i]
        if column.kind != "size-factor" and (not len(known) or (known == known[0]).all()):
            content = "no value" if not len(known) else "the same value"
            raise DataError(
                f"column {column.name!r} has {content} in all {len(x)} training rows; hold out fewer rows, or set "
                f"data.columns.{column.name} = 'ignore'"
            )


def _checksum(table: Table) -> str:
    """SHA-256 of the encoded rows, the labels, and the meaning of the numbers."""
    digest = hashlib.sha256(json.dumps([c.name for c in table.columns]).encode())
    digest.update(json.dumps([[c.kind, list(c.levels), c.origin] for c in table.columns]).encode())
    digest.update(np.ascontiguousarray(table.x).data)
    if table.labels is not None:
        digest.update(np.ascontiguousarray(table.labels).data)
    return digest.hexdigest()


def rows_with_nan(data: Dataset) -> NDArray[np.float32]:
    """All rows of a table, split by split, with NaN for missing values."""
    return np.concatenate([with_nan(split.x[:], split.observed) for split in data.splits.values()])


def with_nan(x: Tensor, observed: Tensor | None) -> NDArray[np.float32]:
    """Rows as an array, with NaN for missing values."""
    values = x if observed is None else x.masked_fill(~observed, torch.nan)
    return values.cpu().float().numpy()
