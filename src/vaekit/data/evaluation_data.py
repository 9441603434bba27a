"""Data to validate or to evaluate a model on: all of their rows, read as the model reads its own data.

Not for: data to train on, of which some rows are held out (`loading`).
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from .batch import as_tensor, reshape_hint
from .by_path import is_path, load_all_by_path
from .dataset import SPLITS, DataKind, Dataset, Split
from .loading import load
from .registry import DATASET_NAMES, known_as
from .table.columns import Column
from .table.encoded_table import LabelColumn, open_table
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

    Data that are split keep their splits: a data set by name, a folder with train.csv, val.csv or test.csv, or with
    such subfolders of images, and a `.npz` with x_train and x_test.

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
        table = open_table(parts[split], columns, label)
        columns, classes = table.columns, table.classes
        splits[split] = table.split()
        table.add_to(digest)
    facts: Any = {"kind": "table", "columns": tuple(columns or ())}
    return Dataset.of_splits(name, splits, classes=classes, checksum=digest.hexdigest(), **facts)


def as_split(
    x: Tensor,
    labels: object = None,
    *,
    event_shape: tuple[int, ...] | None,
    value_kind: ValueKind,
    conditional: bool,
    sees_missing: bool = False,
) -> Split:
    """Rows in memory as a split.

    Arguments:
        x: Shape (N, *event); NaN is a missing value in a table, and for a model that sees missing values.
        labels: Classes, whole numbers, shape (N,), or a context, floating-point, shape (N, C).
        event_shape: Shape of a row of the model; None accepts any.
        value_kind: Meaning of the numbers.
        conditional: Whether labels, or a context, are needed.
        sees_missing: Whether the model takes NaN for a missing value.

    Raises:
        DataError: A shape or a type does not fit the model.
    """
    event = event_shape
    if event is not None and event[:1] == (1,) and tuple(x.shape[1:]) == event[1:]:
        x = x.unsqueeze(1)  # grey images without their channel
    if x.ndim < 2 or event not in (None, tuple(x.shape[1:])):
        wanted = "N, …" if event is None else ", ".join(map(str, ("N", *event)))
        shape = f"{tuple(x.shape)}{reshape_hint(x, event)}"
        raise DataError(f"the data must have shape ({wanted}), one row for each of N, got {shape}")
    if not x.is_floating_point() and x.dtype != torch.uint8:
        x = x.float()
    observed = None
    if (value_kind == "table" or sees_missing) and bool(x.isnan().any()):
        observed = ~x.isnan()
        x = x.masked_fill(~observed, 0)
    if labels is None and conditional:
        raise DataError("this model is conditional, but the data have no labels; pass (x, labels)")
    if labels is None:
        return Split(x, observed=observed)
    y = as_tensor(labels, "labels")
    if y.ndim == 2 and y.is_floating_point():
        return Split(x, observed=observed, c=y)
    return Split(x, y, observed)
