"""Data to validate or to evaluate a model on: all of their rows, read as the model reads its own data.

Not for: data to train on, of which some rows are held out (`loading`).
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DataError
from .by_path import is_path, load_all_by_path
from .dataset import SPLITS, DataKind, Dataset, Split
from .loading import load
from .registry import DATASET_NAMES, known_as
from .table.columns import Column
from .table.encoded_table import LabelColumn, encode_table
from .table.frames import is_frame
from .table.table_files import is_table, split_files
from .value_kinds import ValueKind


def load_evaluation_data(
    source: Any,
    *,
    value_kind: ValueKind = "pixels",
    event_shape: Sequence[int] | None = None,
    columns: Sequence[Column] | None = None,
    label: LabelColumn | None = None,
    size: int | None = None,
) -> Dataset:
    """Data outside the training data. All rows of a path or a frame are test rows.

    Data that are split keep their splits: a data set by name; a folder with train.csv, and perhaps val.csv and
    test.csv; a folder of images with subfolders such as train and test; a `.npz` with x_train and x_test.

    Arguments:
        source: A name, a path, or a frame for a model of a table.
        value_kind: Meaning of the numbers in an array.
        event_shape: Shape of a row of the model: (C, L) reads signals, and (3, H, W) makes grey images in colour.
        columns: Columns of the model's table, by which a table is read; without them they are learned from the file.
        label: Label column of a class-conditional model.
        size: Crop the images of a folder to their central square and resize to this side.

    Raises:
        DataError: The data do not exist, are damaged, or have a value that the columns do not know.
    """
    if is_frame(source):
        return _table("the frame", {"test": source}, columns, label)
    if not isinstance(source, str | os.PathLike):
        raise DataError(f"the data must be the name or the path of a data set, or a frame, got {type(source).__name__}")
    name = known_as(os.fspath(source))
    if name in DATASET_NAMES or not (is_path(name) or columns is not None):
        return load(name, value_kind=value_kind)
    if columns is not None or is_table(name, value_kind):
        return _table(name, split_files(name) or {"test": name}, columns, label)
    shape = tuple(event_shape or ())
    kind: DataKind | None = "signal" if len(shape) == 2 else None
    return load_all_by_path(name, size=size, colour=len(shape) == 3 and shape[0] == 3, value_kind=value_kind, kind=kind)


def _table(name: str, parts: Mapping[str, Any], columns: Sequence[Column] | None, label: LabelColumn | None) -> Dataset:
    """A data set of tables, one for each split."""
    digest = hashlib.sha256()
    splits: dict[str, Split] = {}
    classes: tuple[str, ...] = ()
    for split in (split for split in SPLITS if split in parts):
        table = encode_table(parts[split], columns, label)
        columns, classes = table.columns, table.classes
        splits[split] = table.split()
        table.add_to(digest)
    as_table: Any = {"kind": "table", "columns": tuple(columns or ())}
    return Dataset.of_splits(name, splits, classes=classes, checksum=digest.hexdigest(), **as_table)
