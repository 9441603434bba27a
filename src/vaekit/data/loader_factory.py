"""Loaders of batches from every kind of data that `fit` takes.

Not for: what a batch is (`batch`), or how batches are served (`batches`).
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import data as torch_data

from ..errors import DataError
from .batch import as_tensor, batch_fields, is_array
from .batches import Batches
from .dataset import Dataset, Split
from .evaluation_data import as_split, load_evaluation_data
from .labels import renumbered
from .loading import load
from .table.columns import Column, check_columns
from .table.frames import is_frame
from .value_kinds import ValueKind

_MEANT = (
    "a tensor or array (N, …), (x, labels), a Split, a Dataset, the name or path of one, a frame of a table, or a "
    "loader of batches"
)


@dataclass(frozen=True)
class LoaderFactory:
    """How rows become batches.

    Arguments:
        event_shape: Shape of the values of one row; None accepts any.
        value_kind: Meaning of the numbers.
        batch_size: Rows of a batch.
        device: Device of the batches.
        conditional: Whether labels, or a context, are needed.
        columns: Columns of the model's table; a data set must have the same.
        sees_missing: Whether the model takes NaN for a missing value.
    """

    event_shape: tuple[int, ...] | None
    value_kind: ValueKind
    batch_size: int
    device: torch.device
    conditional: bool = False
    columns: Sequence[Column] | None = None
    sees_missing: bool = False

    def loaders(self, train: Any, validation: Any = None) -> tuple[Iterable[Any], Iterable[Any] | None]:
        """Loaders for training and validation.

        Without `validation` the data set's own validation split is used. A path to validate with means all of its rows,
        read by the columns of the model or of the training table; data that are split give their validation split.

        Raises:
            DataError: The data cannot be turned into batches.
        """
        if isinstance(train, (str, os.PathLike)):
            train = load(train, value_kind=self.value_kind)
        train = self._encoded(train, self.columns)
        columns, classes = self.columns, None
        if isinstance(train, Dataset):
            check_columns(self.columns, train.columns)
            columns, classes = columns or train.columns, train.classes
            if validation is None and len(train.validation):
                validation = train.validation
            train = train.train
        if isinstance(validation, (str, os.PathLike)):
            validation = load_evaluation_data(
                validation, value_kind=self.value_kind, event_shape=self.event_shape, columns=columns
            )
        validation = self._encoded(validation, columns)
        if isinstance(validation, Dataset):
            check_columns(self.columns, validation.columns)
            validation = self._validating(validation, classes)
        batches = self.loader(train, shuffle=True)
        return batches, None if validation is None else self.loader(validation, shuffle=False)

    def _encoded(self, rows: Any, columns: Sequence[Column] | None) -> Any:
        """Rows, or (rows, labels), with a frame of a table encoded by the columns; other rows unchanged."""
        if columns is None:
            return rows
        if is_frame(rows):
            return load_evaluation_data(rows, columns=columns).test
        if isinstance(rows, tuple) and len(rows) == 2 and is_frame(rows[0]):
            return replace(load_evaluation_data(rows[0], columns=columns).test, labels=as_tensor(rows[1], "labels"))
        return rows

    def _validating(self, data: Dataset, classes: Sequence[str] | None) -> Split:
        """The rows of a data set to validate with: all if it is not split. Classes are numbered as in the training.

        Raises:
            DataError: There is no row, or a conditional model does not know the class of one.
        """
        split = data.split("validation" if data.is_split else "test")
        if not self.conditional or split.c is not None or classes in (None, data.classes):
            return split
        assert classes is not None
        labels = None if data.classes == ("all",) else split.labels
        if labels is None:
            raise DataError(
                f"this model is conditional, but the rows of {data.name!r} have no labels; pass (x, labels)"
            )
        return replace(split, labels=renumbered(labels, data.classes, classes))

    def loader(self, rows: Any, *, shuffle: bool) -> Iterable[Any]:
        """A loader of batches; a loader is returned unchanged.

        Raises:
            DataError: The rows cannot be turned into batches.
        """
        if isinstance(rows, Split):
            return self._batches(rows, shuffle)
        if isinstance(rows, torch_data.TensorDataset) and len(rows.tensors) <= 2:
            return self._batches(self._split(*rows.tensors), shuffle)
        if is_array(rows):
            x = as_tensor(rows, "the data")
            return list(x) if self._are_batches(x) else self._batches(self._split(x, None), shuffle)
        if self._is_labelled(rows):
            return self._batches(self._split(as_tensor(rows[0], "the data"), rows[1]), shuffle)
        if isinstance(rows, torch_data.IterableDataset):
            return torch_data.DataLoader(rows, batch_size=self.batch_size)
        if hasattr(rows, "__getitem__") and hasattr(rows, "__len__") and self._is_of_rows(rows):
            return torch_data.DataLoader(rows, batch_size=self.batch_size, shuffle=shuffle)
        if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes, Mapping)):
            raise DataError(f"the data must be {_MEANT}, got {type(rows).__name__}")
        return rows

    def _batches(self, split: Split, shuffle: bool) -> Batches:
        return Batches(
            split, batch_size=self.batch_size, shuffle=shuffle, device=self.device, value_kind=self.value_kind
        )

    def _split(self, x: Tensor, labels: object = None) -> Split:
        return as_split(
            x,
            labels,
            event_shape=self.event_shape,
            value_kind=self.value_kind,
            conditional=self.conditional,
            sees_missing=self.sees_missing,
        )

    def _are_batches(self, x: Tensor) -> bool:
        """Whether this is a tensor of batches."""
        return self.event_shape is not None and tuple(x.shape[2:]) == self.event_shape

    def _is_labelled(self, rows: Any) -> bool:
        """Whether this is (x, labels) of all rows, rather than two batches."""
        if not isinstance(rows, tuple) or len(rows) != 2 or not is_array(rows[0]) or len(rows[0]) == 0:
            return False
        x, y = rows[0], rows[1]
        has_rows = is_array(y) or (isinstance(y, Sequence) and not isinstance(y, str))
        if not has_rows or len(x) != len(y):
            return False
        shape = tuple(getattr(y, "shape", (len(y),)))
        return len(shape) < len(x.shape) or (self.conditional and shape[1:] != tuple(x.shape[1:]))

    def _is_of_rows(self, rows: Any) -> bool:
        """Whether the items of a sequence are single rows, as in a data set of torch.

        Raises:
            DataError: The items are single rows, but not tensors of the right shape.
        """
        if not len(rows):
            return False
        try:
            first = rows[0]
        except (KeyError, TypeError):
            return False
        x, label = _parts(first)
        is_dataset = isinstance(rows, torch_data.Dataset)
        if not is_array(x) or type(x).__module__.startswith("PIL"):
            if is_dataset:
                hint = (
                    "; pass it transform=torchvision.transforms.ToTensor()"
                    if type(x).__module__.startswith("PIL")
                    else ""
                )
                raise DataError(f"the data set gives {type(x).__name__}, but x must be a tensor or an array{hint}")
            return False
        shape = tuple(x.shape)
        if self.event_shape is None:
            return is_dataset or isinstance(label, int)
        if is_dataset and shape != self.event_shape and shape[1:] != self.event_shape:
            raise DataError(f"the data set gives x of shape {shape}, but a row of this model is {self.event_shape}")
        return shape == self.event_shape


def _parts(item: Any) -> tuple[Any, Any]:
    """Values and label of one row, or of a batch."""
    if isinstance(item, Mapping):
        fields = batch_fields(item)
        return fields["x"], fields.get("labels")
    if isinstance(item, (tuple, list)) and item:
        return item[0], item[1] if len(item) > 1 else None
    return item, None
