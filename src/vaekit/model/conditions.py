"""The context of a conditional model, from classes, labels or rows of numbers.

Not for: the meaning of the columns (the data and the likelihood).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import as_tensor
from ..errors import DataError, check_count


def one_hot(labels: Any, num_classes: int) -> Tensor:
    """One-hot rows, float32, shape (*labels.shape, num_classes), for integer labels.

    Arguments:
        labels: Classes, of any shape: a tensor, an array, a list or one number. Their range is checked on the CPU only,
            as a check of integers on another device would wait for it.
        num_classes: C.

    Raises:
        DataError: A label is not a class.
        ConfigError: num_classes is not a whole number of at least 1.
    """
    check_count("num_classes", num_classes)
    labels = as_tensor(labels, "labels")
    _check_whole(labels)
    if labels.device.type == "cpu" and labels.numel():
        _check_classes(labels, num_classes)
    return nn.functional.one_hot(labels.long(), num_classes).float()


def _check_whole(labels: Tensor, context_size: int | None = None) -> None:
    """Refuse classes that are not whole numbers; the message says what a context of this size looks like."""
    if not labels.is_floating_point():
        return
    broken = (labels != labels.round()) | ~labels.isfinite()
    if bool(broken.any()):
        hint = "" if context_size is None else f"; a context must have shape (N, {context_size})"
        raise DataError(f"labels must be whole numbers, got {labels[broken][0].item():g}{hint}")


def rows_of_classes(classes: Tensor, size: int) -> Tensor:
    """One-hot rows, shape (N, C), of classes, shape (N,). This waits for the device.

    Classes may be floating-point numbers, as labels may (`check_labels`), if they are whole.

    Raises:
        DataError: A number is not a class.
    """
    _check_whole(classes, size)
    if classes.numel():
        _check_classes(classes, size)
    return one_hot(classes, size)


def _check_classes(classes: Tensor, size: int) -> None:
    low, high = int(classes.min()), int(classes.max())
    if not 0 <= low <= high < size:
        raise DataError(f"classes go from 0 to {size - 1}, got {low} to {high}")


def rows_of_labels(labels: Tensor, size: int) -> Tensor:
    """One-hot rows, shape (B, C), of labels, shape (B,), without waiting for the device.

    The row of an unknown class, −1, is NaN: only a loss that expects unknown classes can train on it.
    """
    rows = torch.cat((torch.eye(size, device=labels.device), torch.full((1, size), math.nan, device=labels.device)))
    return rows.index_select(0, labels.where(labels != -1, size))


def check_labels(labels: Tensor | None, size: int) -> Tensor:
    """Labels as int64, each a class or −1. Their range is checked only on the CPU.

    Raises:
        DataError: There are no labels, or a label is not a class.
    """
    if labels is None:
        raise DataError(f"this model is conditional on {size} classes, but the loader gives no labels")
    _check_whole(labels, size)
    if labels.device.type == "cpu" and labels.numel():
        low, high = int(labels.min()), int(labels.max())
        if low < -1 or high >= size:
            raise DataError(f"labels must be from 0 to {size - 1}, or −1 if unknown, got {low} to {high}")
    return labels.long()
