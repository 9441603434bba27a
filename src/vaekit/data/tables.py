"""A table as a data set: from a file, a frame or an array, with a kind for each column; or as rows for a trained model.

Not for: what a column is (`columns`), which kind it has (`kinds`), or reading files (`sources.frames`).
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
TOTAL = "total"  # a size factor of this name, where the table has no such column, is the sum of the counts


@dataclass(frozen=True, eq=False)
class Table:
    """Encoded rows.

    Arguments:
        x: Values, shape (N, D), float32; NaN is missing.
        columns: The D columns.
        labels: Classes, shape (N,), int64, −1 where unknown; None where there are none.
        classes: Names of the classes.
    """

    x: NDArray[np.float32]
    columns: tuple[Column, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]

    def split(self, rows: NDArray[np.int64] | slice) -> Split:
        """Some of the rows, missing values being 0."""
        return split_of(self.x[rows], None if self.labels is None else self.labels[rows])


class LabelColumn(NamedTuple):
    """The column whose classes a model of each class is given, and their names."""

    name: str
    classes: Sequence[str]

    @classmethod
    def of(cls, kinds: ColumnKinds | None, classes: Sequence[str]) -> Self | None:
        """The one that the config calls "label", if there is one."""
        return next((cls(name, classes) for name, kind in (kinds or {}).items() if kind == "label"), None)

    def numbered(self, table: Table) -> dict[str, Any]:
        """The labels of a table as the model counts classes, −1 where unknown, and the names of these classes.

        Raises:
            DataError: A class that the model does not know.
        """
        assert table.labels is not None
        for name in table.classes:
            if name not in self.classes:
                raise DataError(f"column {self.name!r}: {unknown('class', name, self.classes)}")
        numbers = np.array([*map(list(self.classes).index, table.classes), -1])
        return {"labels": numbers[table.labels], "classes": tuple(self.classes)}


def split_of(x: NDArray[np.float32], labels: NDArray[np.int64] | None = None) -> Split:
    """Rows whose missing values are NaN as a split, where they are 0 and not observed."""
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
        name: What it is called.
        validation: How many rows to hold out; 10 % by default.
        test: How many to test on, 10 % by default; or the path of a table to test on.
        kinds: Kinds of columns by name, or their levels in order; "*" is for all others.

    Raises:
        DataError: No such file, or one that is damaged; a column of no kind; too few rows.
        ConfigError: A kind or a number of rows that cannot be.
    """
    kinds = kinds or {}
    train, validated_on, tested_on = _files(source, test)
    for option, number, path in (("validation", validation, validated_on), ("test", test, tested_on)):
        if isinstance(number, int) and path is not None:
            raise ConfigError(f"data.{option} = {number}, but the rows are in {path.name} already; leave it out")
    raws = together = _raws(train)
    count = len(raws[0].values)
    ends = [count]
    for path in (validated_on, tested_on):
        together = together if path is None else _stacked(together, _raws(path), str(path))
        ends.append(len(together[0].values))
    columns, label = _columns(together, kinds)
    table = _encoded(together, columns, label)
    rest, validation_numbers, test_numbers = held_out(
        name,
        count,
        0 if validated_on else validation,
        test if isinstance(test, int) else None,
        what="rows",
        elsewhere=tested_on is not None,
        share=SHARE,
    )
    train_numbers = rest[np.arange(len(rest))]
    if tested_on is not None:
        test_numbers = np.arange(ends[1], ends[2])
    if validated_on is not None:
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
    """The table to train on, and the paths of those to validate with and to test on, where these lie elsewhere."""
    if not isinstance(source, (str, os.PathLike)) or not os.path.isdir(os.path.expanduser(source)):
        return source, None, Path(os.path.expanduser(test)) if isinstance(test, str) else None
    parts = {path.stem: path for path in split_files(source)}
    if not parts:
        raise DataError(f"{source}: is a folder without train.csv; give a table, or a folder of train.csv and test.csv")
    tested = parts.get("test") if not isinstance(test, str) else Path(os.path.expanduser(test))
    return parts["train"], parts.get("val", parts.get("validation", parts.get("valid"))), tested


def split_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The tables of a folder that is split: train.csv, val.csv, test.csv; empty where there is no train.csv."""
    path = Path(os.path.expanduser(folder))
    files = [path / f"{part}{suffix}" for suffix in SUFFIXES for part in PARTS]
    files = [file for file in files if file.is_file()]
    return files if any(file.stem == "train" for file in files) else []


def is_table(name: str, values: Values = "table") -> bool:
    """Whether a path is that of a table: by its ending, a folder of such files, or an array where one is wanted."""
    if is_table_file(name) or (values == "table" and Path(name).suffix.lower() in ARRAYS):
        return True
    return os.path.isdir(os.path.expanduser(name)) and bool(split_files(name))


def open_table(source: Any, columns: Sequence[Column], label: LabelColumn | None = None) -> Table:
    """All rows of a table for a model that knows its columns; others are passed over.

    Arguments:
        source: A path, a frame, or an array (N, D).
        columns: What the model knows.
        label: The column of the classes, for a model of each class.

    Raises:
        DataError: A column is not there, or has a value or a class that the model does not know.
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
    """The rows of two tables of the same columns."""
    of_test = {raw.name: raw for raw in more}
    lacking = [raw.name for raw in raws if raw.name not in of_test]
    if lacking:
        raise DataError(f"{name}: has no column {lacking[0]!r}, which the table to train on has")
    return [
        replace(
            raw,
            values=_joined(raw.values, of_test[raw.name].values),
            missing=np.concatenate((raw.missing, of_test[raw.name].missing)),
        )
        for raw in raws
    ]


def _joined(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    if first.dtype.kind != second.dtype.kind and "O" in (first.dtype.kind, second.dtype.kind):
        first, second = first.astype(object), second.astype(object)
    return np.concatenate((first, second))


def _columns(raws: list[Raw], kinds: ColumnKinds) -> tuple[list[Column], Raw | None]:
    """The columns, and the raw one that has the labels."""
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
    """The mean count of each row times the number of counts: their sum, where none is missing; NaN where it is 0."""
    counts = x[:, [column.kind == "count" for column in columns]].astype(np.float64)
    known = ~np.isnan(counts)
    mean = np.where(known, counts, 0).sum(1) / np.maximum(known.sum(1), 1)
    total = (mean * counts.shape[1]).astype(np.float32)
    return np.where(total > 0, total, np.float32(np.nan))


def _labels(raw: Raw) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Numbers of the classes that occur, −1 where missing, and their names."""
    seen, places = distinct(raw.values[~raw.missing])
    if not seen:
        raise DataError(f"column {raw.name!r} is the label, but has no value")
    labels = np.full(len(raw.values), -1, np.int64)
    labels[~raw.missing] = places
    return labels, tuple(map(str, seen))


def _check_constant(columns: Sequence[Column], x: NDArray[np.float32]) -> None:
    """Refuse a column that has no two values among the training rows."""
    for i, column in enumerate(columns):
        known = x[~np.isnan(x[:, i]), i]
        if column.kind != "size-factor" and (not len(known) or (known == known[0]).all()):
            what = "no value" if not len(known) else "the same value"
            raise DataError(
                f"column {column.name!r} has {what} in all {len(x)} training rows; hold out fewer rows, or set "
                f"data.columns.{column.name} = 'ignore'"
            )


def _checksum(table: Table) -> str:
    """SHA-256 over the encoded rows, the labels, and what the numbers mean."""
    digest = hashlib.sha256(json.dumps([c.name for c in table.columns]).encode())
    digest.update(json.dumps([[c.kind, list(c.levels), c.origin] for c in table.columns]).encode())
    digest.update(np.ascontiguousarray(table.x).data)
    if table.labels is not None:
        digest.update(np.ascontiguousarray(table.labels).data)
    return digest.hexdigest()


def rows_with_nan(data: Dataset) -> NDArray[np.float32]:
    """All rows of a table, split by split, in which missing values are NaN."""
    return np.concatenate([with_nan(split.x[:], split.observed) for split in data.splits.values()])


def with_nan(x: Tensor, observed: Tensor | None) -> NDArray[np.float32]:
    """Rows as an array in which missing values are NaN."""
    values = x if observed is None else x.masked_fill(~observed, torch.nan)
    return values.cpu().float().numpy()
