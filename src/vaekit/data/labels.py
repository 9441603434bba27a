"""Labels of rows as numbers of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, unknown

NumberedLabels = tuple[NDArray[np.int64], tuple[str, ...]]
_MOST_CLASSES = 1 << 16


def renumbered(labels: Tensor, classes: Sequence[str], known: Sequence[str]) -> Tensor:
    """Labels in another numbering, by the names of the classes; −1, unknown, stays −1.

    Arguments:
        labels: Classes, shape (N,), int64; label i means `classes[i]`.
        classes: Names of the classes.
        known: Names of the classes in the other numbering.

    Raises:
        DataError: A row is of a class that is not known.

    >>> renumbered(torch.tensor([0, 1, -1]), ["dog", "cat"], ["bird", "cat", "dog"])
    tensor([ 2,  1, -1])
    """
    labels_of = {name: i for i, name in enumerate(known)}
    for label in labels.unique().tolist():
        if label >= 0 and classes[label] not in labels_of:
            raise DataError(unknown("class", classes[label], known))
    return torch.tensor([*(labels_of.get(name, -1) for name in classes), -1])[labels]


def numbered_labels(values: NDArray[Any], count: int, name: str) -> NumberedLabels:
    """Labels as numbers 0, 1, …, and the names of the classes, which are the labels that occur. −1 stays: unknown.

    Arguments:
        values: Texts or whole numbers, shape (N,).
        count: N.
        name: What has the labels, for messages.

    Raises:
        DataError: The labels are not one text or one whole number from −1 to 65,535 for each row, or all are −1.
    """
    if values.shape == (count,) and values.dtype.kind == "U":
        classes, labels = np.unique(values, return_inverse=True)
        return labels.reshape(count).astype(np.int64), tuple(map(str, classes.tolist()))
    if values.shape != (count,) or values.dtype.kind not in "iu":
        raise DataError(f"{name}: labels must be {count} integers, one per row, got {values.dtype} {values.shape}")
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < -1 or high >= _MOST_CLASSES:
        raise DataError(
            f"{name}: labels must be from 0 to {_MOST_CLASSES - 1}, −1 if unknown, got {low} to {high}; renumber them"
        )
    known = values >= 0
    if count and not known.any():
        raise DataError(f"{name}: all labels are −1, unknown; leave the labels out")
    numbers = np.full(count, -1, np.int64)
    classes, numbers[known] = np.unique(values[known], return_inverse=True)
    return numbers, tuple(map(str, classes.tolist()))


def class_numbers(labels: Tensor, rows: int) -> Tensor:
    """Labels as int64.

    Raises:
        DataError: The labels are not one whole number ≥ −1 for each row.
    """
    if labels.shape != (rows,):
        raise DataError(f"labels must be ({rows},), one per row, got {tuple(labels.shape)}")
    whole = labels.long()
    broken = (whole.double() != labels.double()) | (whole < -1)  # torch cannot compare uint64 with int64
    if bool(broken.any()):
        raise DataError(
            f"labels must be whole numbers, one class per row, −1 if it is unknown, got {labels[broken][0].item():g}; "
            "numbers to condition on must be (N, C)"
        )
    return whole
