"""What a caller gave as data: rows, a data set, or batches.

`RowFormat.interpreted` tells them apart; each form is one line there.

Not for: data by name or path (`loading`, `evaluation_data`), or serving rows in batches (`loader_factory`).
"""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils import data as torch_data

from ..errors import DataError
from .batch import Batch, as_tensor, batch_fields, is_array, reshape_hint
from .dataset import Dataset, Split
from .evaluation_data import load_evaluation_data
from .table.column_kinds import ColumnKinds
from .table.columns import Column
from .table.encoded_table import LabelColumn
from .table.frames import is_frame
from .value_kinds import ValueKind

_FORMS = (
    "a tensor or array (N, …), (x, labels), a Split, a Dataset, the name or path of one, a frame of a table, or a "
    "loader of batches"
)


@dataclass(frozen=True)
class OneByOne:
    """Rows that are given one by one, by a data set of torch or a list.

    Arguments:
        rows: The data set or the list. A row is x, (x, label), or a mapping with these values.
    """

    rows: Any

    @property
    def is_stream(self) -> bool:
        """Whether the rows have no numbers, so that they cannot be shuffled."""
        return isinstance(self.rows, torch_data.IterableDataset)


@dataclass(frozen=True)
class RowFormat:
    """What a model takes as a row.

    Arguments:
        event_shape: Shape of the values of one row; None accepts any.
        value_kind: Meaning of the numbers.
        num_classes: Number of classes, or of values of the context, of a conditional model; else 0.
        class_names: Names of the classes, where they are known.
        columns: Columns of the model's table.
        column_kinds: Kinds of the table's columns as a config names them, the label column included.
        sees_missing: Whether the model takes NaN for a missing value; in a table NaN is always a missing value.
    """

    event_shape: tuple[int, ...] | None
    value_kind: ValueKind
    num_classes: int = 0
    class_names: Sequence[str] | None = None
    columns: Sequence[Column] | None = None
    column_kinds: ColumnKinds | None = None
    sees_missing: bool = False

    @classmethod
    def of(cls, model: Any) -> Self:
        """What a `LatentVariableModel` takes as a row."""
        return cls(
            event_shape=model.event_shape,
            value_kind=model.value_kind,
            num_classes=model.context_size,
            class_names=model.class_names,
            columns=model.columns,
            column_kinds=model.column_kinds,
            sees_missing=model.sees_missing,
        )

    @property
    def label(self) -> LabelColumn | None:
        """The label column in the tables of a conditional model; None where it is not known."""
        if not self.num_classes or self.class_names is None:
            return None
        return LabelColumn.of(self.column_kinds, self.class_names)

    def check_label_is_known(self) -> None:
        """Refuse a table for a conditional model that does not know which column has the labels.

        Raises:
            DataError: The column is not known.
        """
        if self.num_classes and self.columns is not None and self.label is None:
            raise DataError(
                "this model is conditional, and does not know which column of a table has the labels; pass (frame, "
                "labels)"
            )

    def loaded(self, source: Any) -> Dataset:
        """All rows of a path, of a data set by name or of a frame, as the model reads them; see `load_evaluation_data`.

        Raises:
            DataError: The rows do not fit the model, or the model does not know which column has the labels.
        """
        self.check_label_is_known()
        return self._read(source, self.label)

    def _read(self, source: Any, label: LabelColumn | None) -> Dataset:
        return load_evaluation_data(
            source, value_kind=self.value_kind, event_shape=self.event_shape, columns=self.columns, label=label
        )

    def interpreted(self, given: Any) -> Split | Dataset | OneByOne | Iterable[Any]:
        """What was given: rows, rows one by one, or batches, which are returned unchanged.

        Arguments:
            given: Anything but a name or a path.

        Raises:
            DataError: The data have none of the known forms, or their rows do not fit the model.
        """
        if isinstance(given, Split | Dataset):
            return given
        given = _with_tensors(given)
        if isinstance(given, Batch):
            return Split(given.x, given.labels, given.observed, given.c)
        if self.columns is not None and is_frame(given):
            return self.loaded(given).test
        if self.columns is not None and isinstance(given, tuple) and len(given) == 2 and is_frame(given[0]):
            frame, labels = given
            return self.loaded(frame).test if labels is None else replace(self._read(frame, None).test, labels=labels)
        if isinstance(given, torch_data.TensorDataset) and len(given.tensors) <= 2:
            tensors = given.tensors
            return self.split(tensors[0], tensors[1] if len(tensors) == 2 else None)
        if is_array(given):
            x = as_tensor(given, "the data")
            return list(x) if self._are_batches(x) else self.split(x)
        if isinstance(given, tuple) and len(given) == 2 and self._are_labelled(*given):
            return self.split(as_tensor(given[0], "the data"), given[1])
        if isinstance(given, torch_data.IterableDataset) or self._gives_rows(given):
            return OneByOne(given)
        if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
            raise DataError(f"the data must be {_FORMS}, got {type(given).__name__}")
        return given

    def split(self, x: Tensor, labels: object = None) -> Split:
        """Rows in memory as a split.

        Arguments:
            x: Shape (N, *event), or (N, H, W) for grey images. NaN is a missing value in a table, and for a model that
                sees missing values.
            labels: Classes, whole numbers, shape (N,), or a context, such as one-hot rows, shape (N, C).

        Raises:
            DataError: A shape or a type does not fit the model.
        """
        event = self.event_shape
        if event is not None and event[:1] == (1,) and tuple(x.shape[1:]) == event[1:]:
            x = x.unsqueeze(1)  # grey images without their channel
        if x.ndim < 2 or event not in (None, tuple(x.shape[1:])):
            wanted = "N, …" if event is None else ", ".join(map(str, ("N", *event)))
            shape = f"{tuple(x.shape)}{reshape_hint(x, event)}"
            raise DataError(f"the data must have shape ({wanted}), one row for each of N, got {shape}")
        if not x.is_floating_point() and x.dtype != torch.uint8:
            x = x.float()
        observed = None
        if (self.value_kind == "table" or self.sees_missing) and bool(x.isnan().any()):
            observed = ~x.isnan()
            x = x.masked_fill(~observed, 0)
        if labels is None and self.num_classes:
            raise DataError("this model is conditional, but the data have no labels; pass (x, labels)")
        if labels is None:
            return Split(x, observed=observed)
        y = as_tensor(labels, "labels")
        if y.ndim == 2 and (y.is_floating_point() or y.shape[1] > 1):
            return Split(x, observed=observed, c=y if y.is_floating_point() else y.float())
        return Split(x, y, observed)

    def _are_batches(self, x: Tensor) -> bool:
        """A tensor of shape (M, B, *event) is M batches."""
        return self.event_shape is not None and tuple(x.shape[2:]) == self.event_shape

    def _are_labelled(self, x: Any, y: Any) -> bool:
        """(x, y) are rows and their labels, not two batches, if y is None or has fewer dimensions than x.

        For a conditional model y may have as many dimensions: a context, whose rows have another shape than those of x.
        """
        if not is_array(x) or isinstance(y, str) or not (y is None or is_array(y) or isinstance(y, Sequence)):
            return False
        shape = () if y is None else tuple(getattr(y, "shape", (len(y),)))
        return len(shape) < len(x.shape) or (self.num_classes > 0 and shape[1:] != tuple(x.shape[1:]))

    def _gives_rows(self, given: Any) -> bool:
        """A sequence gives rows one by one, not batches, if the x of its first item has the shape of a row.

        If a row may have any shape, the sequence must be a data set of torch, or the first label a whole number.

        Raises:
            DataError: A data set of torch gives neither rows nor batches of this model.
        """
        is_dataset = isinstance(given, torch_data.Dataset)
        if not (isinstance(given, Sized) and hasattr(given, "__getitem__")):
            return False
        if not len(given):
            if is_dataset:
                raise DataError("the data set has 0 rows; at least 1 is needed")
            return False
        try:
            x, label = _parts(given[0])
        except (KeyError, TypeError):
            return False
        is_picture = type(x).__module__.startswith("PIL")
        if is_dataset and (is_picture or not is_array(x)):
            hint = "; pass it transform=torchvision.transforms.ToTensor()" if is_picture else ""
            raise DataError(f"the data set gives {type(x).__name__}, but x must be a tensor or an array{hint}")
        if is_picture or not is_array(x):
            return False
        shape = tuple(x.shape)
        if self.event_shape is None:
            return is_dataset or isinstance(label, int)
        if is_dataset and self.event_shape not in (shape, shape[1:]):
            raise DataError(f"the data set gives x of shape {shape}, but a row of this model is {self.event_shape}")
        return shape == self.event_shape


def _with_tensors(given: Any) -> Any:
    """What was given; nested lists of numbers, alone or as x of (x, labels), become a tensor."""
    if _is_of_numbers(given):
        return as_tensor(given, "the data")
    if isinstance(given, tuple) and len(given) == 2 and _is_of_numbers(given[0]):
        return as_tensor(given[0], "the data"), given[1]
    return given


def _is_of_numbers(values: Any) -> bool:
    """Whether these are lists of lists of numbers."""
    if not (isinstance(values, list) and values and isinstance(values[0], list)):
        return False
    while isinstance(values, list) and values:
        values = values[0]
    return isinstance(values, int | float)


def _parts(item: Any) -> tuple[Any, Any]:
    """Values and label of one row, or of a batch."""
    if isinstance(item, Mapping):
        fields = batch_fields(item)
        return fields["x"], fields.get("labels")
    if isinstance(item, (tuple, list)) and item:
        return item[0], item[1] if len(item) > 1 else None
    return item, None
