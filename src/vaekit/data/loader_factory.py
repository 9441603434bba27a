"""Loaders of batches from every kind of data that `fit` takes.

Not for: telling the kinds apart (`given_data`), what a batch is (`batch`), or how batches are served (`batches`).
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils import data as torch_data

from ..errors import DataError
from .batches import Batches, num_batches
from .dataset import Dataset, Split
from .given_data import OneByOne, RowFormat
from .loading import load
from .table.columns import check_columns
from .table.table_files import is_table


@dataclass(frozen=True)
class LoaderFactory:
    """How rows become batches.

    Arguments:
        row_format: What the model takes as a row.
        batch_size: Rows of a batch.
        device: Device of the batches.
    """

    row_format: RowFormat
    batch_size: int
    device: torch.device

    def loaders(self, train: Any, validation: Any = None) -> tuple[Iterable[Any], Iterable[Any] | None]:
        """Loaders for training and validation.

        Without `validation` the data set's own validation split is used. A path to validate with means all of its rows,
        read by the columns of the model or of the training table; data that are split give their validation split.

        Raises:
            DataError: The data cannot be turned into batches.
        """
        rows = self.row_format
        if isinstance(train, (str, os.PathLike)):
            is_signals = len(rows.event_shape or ()) == 2 and os.fspath(train).lower().endswith((".npy", ".npz"))
            rows.check_label_is_known()
            kinds = rows.column_kinds if is_table(os.fspath(train), rows.value_kind) else None
            train = load(train, value_kind=rows.value_kind, kind="signal" if is_signals else None, columns=kinds)
        training = rows.interpreted(train)
        if isinstance(training, Dataset):
            check_columns(rows.columns, training.columns)
            if rows.class_names is not None:
                training = training.numbered_by(rows.class_names, rows.num_classes)
            rows = replace(rows, columns=rows.columns or training.columns, class_names=training.classes)
            if validation is None and len(training.validation):
                validation = training.validation
            training = training.train
        batches = self._served(training, shuffle=True)
        if validation is None:
            return batches, None
        if isinstance(validation, (str, os.PathLike)):
            validation = rows.loaded(validation)
        validating = rows.interpreted(validation)
        if isinstance(validating, Dataset):
            check_columns(self.row_format.columns, validating.columns)
            validating = _to_validate(validating, rows)
        return batches, self._served(validating, shuffle=False)

    def _served(self, rows: Split | OneByOne | Iterable[Any], *, shuffle: bool) -> Iterable[Any]:
        if isinstance(rows, Split):
            value_kind = self.row_format.value_kind
            return Batches(rows, batch_size=self.batch_size, shuffle=shuffle, device=self.device, value_kind=value_kind)
        if not isinstance(rows, OneByOne):
            return rows
        if rows.is_stream:
            return torch_data.DataLoader(rows.rows, batch_size=self.batch_size)
        order = (torch_data.RandomSampler if shuffle else torch_data.SequentialSampler)(rows.rows)
        return torch_data.DataLoader(rows.rows, batch_sampler=_IndexBatches(order, self.batch_size))


class _IndexBatches(torch_data.Sampler[list[int]]):
    """The indices of each batch; a single row at the end joins the batch before it, as in `Batches`.

    Arguments:
        order: The indices, in a new order in every epoch.
        batch_size: Rows of a batch.
    """

    def __init__(self, order: torch_data.Sampler[int], batch_size: int) -> None:
        self.order = order
        self.batch_size = batch_size

    def __len__(self) -> int:
        return num_batches(len(self.order), self.batch_size)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int]]:
        order, size = list(self.order), self.batch_size
        ends = [*range(size, len(self) * size, size), len(order)]
        for position in range(len(self)):
            yield order[position * size : ends[position]]


def _to_validate(data: Dataset, rows: RowFormat) -> Split:
    """The rows of a data set to validate with: all if it is not split. Classes are numbered as in the training.

    Raises:
        DataError: There is no row, or a conditional model does not know the class of one.
    """
    if rows.num_classes:
        data = data.numbered_by(rows.class_names, rows.num_classes)
    split = data.split("validation" if data.is_split else "test")
    if rows.num_classes and split.c is None and split.labels is None:
        raise DataError(f"this model is conditional, but the rows of {data.name!r} have no labels; pass (x, labels)")
    return split
