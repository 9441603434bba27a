"""A table as a data set: split into training, validation and test rows, its columns fitted to the training rows.

Not for: all rows of a table by the columns of a model (`encoded_table`), or reading files (`table_files`).
"""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, DataError
from ..chosen_rows import held_out
from ..dataset import SPLITS, Dataset
from ..origin import Origin
from .column_kinds import ColumnKinds
from .encoded_table import Table, encode_with_new_columns, open_source
from .standardization import statistics_of
from .table_files import split_files

ONE_IN = 10  # one row in ten to validate with


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

    The levels of a column, and the origin that is subtracted from its numbers, come from the rows of all three splits
    together; the column's statistics come from the training rows alone.

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
    opened = open_source(train, memory)
    ends = [opened.rows]
    for path in (validation_path, test_path):
        opened = opened if path is None else opened.followed_by(open_source(path, memory), str(path))
        ends.append(opened.rows)
    unfitted = encode_with_new_columns(opened, kinds)
    kept, validated, tested = held_out(
        name,
        ends[0],
        0 if validation_path else validation,
        None if isinstance(test, str) else test,
        row_word="row",
        has_own_test=test_path is not None,
        one_in=ONE_IN,
    )
    rows = {"train": kept[np.arange(len(kept))], "validation": validated, "test": tested}
    origins = {split: Origin(indices) for split, indices in rows.items()}
    for i, (split, path) in enumerate((("validation", validation_path), ("test", test_path))):
        if path is not None:
            rows[split] = np.arange(ends[i], ends[i + 1])
            origins[split] = Origin.of_all(len(rows[split]))
    table = _fitted(unfitted, rows["train"])
    splits = {split: table.split(rows[split], origins[split]) for split in SPLITS}
    checksum, columns = _checksum(table), table.columns
    return Dataset.of_splits(name, splits, classes=table.classes, checksum=checksum, kind="table", columns=columns)


def _files(source: Any, test: int | str | None) -> tuple[Any, Path | None, Path | None]:
    """The table to train on, and the paths of separate validation and test tables, or None."""
    if not isinstance(source, (str, os.PathLike)) or not os.path.isdir(os.path.expanduser(source)):
        return source, None, Path(os.path.expanduser(test)) if isinstance(test, str) else None
    files = split_files(source)
    if not files:
        raise DataError(f"{source}: is a folder without train.csv; give a table, or a folder of train.csv and test.csv")
    test_path = Path(os.path.expanduser(test)) if isinstance(test, str) else files.get("test")
    return files["train"], files.get("validation"), test_path


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


def _checksum(table: Table) -> str:
    """SHA-256 of the encoded rows, the labels, and the meaning of the numbers."""
    digest = hashlib.sha256(json.dumps([c.name for c in table.columns]).encode())
    digest.update(json.dumps([[c.kind, list(c.levels), c.origin] for c in table.columns]).encode())
    table.add_to(digest)
    if table.labels is not None:
        digest.update(np.ascontiguousarray(table.labels).data)
    return digest.hexdigest()
