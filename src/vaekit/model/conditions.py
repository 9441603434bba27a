"""The context of a conditional model, from classes, labels or rows of numbers.

Not for: the meaning of the columns (the data and the likelihood).
"""

import math

import torch
from torch import Tensor, nn

from ..errors import DataError


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """One-hot rows, float32, shape (*labels.shape, num_classes), for integer labels."""
    return nn.functional.one_hot(labels.long(), num_classes).float()


def rows_of_classes(classes: Tensor, size: int) -> Tensor:
    """One-hot rows, shape (N, C), of classes, shape (N,). This waits for the device.

    Raises:
        DataError: A number is not a class.
    """
    if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) < size:
        raise DataError(f"classes go from 0 to {size - 1}, got {int(classes.min())} to {int(classes.max())}")
    return one_hot(classes, size)


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
    if labels.is_floating_point() and bool((labels != labels.round()).any()):
        raise DataError(f"labels must be whole numbers, got {labels.dtype}; a context must have shape (B, {size})")
    if labels.device.type == "cpu" and labels.numel():
        low, high = int(labels.min()), int(labels.max())
        if low < -1 or high >= size:
            raise DataError(f"labels must be from 0 to {size - 1}, or −1 if unknown, got {low} to {high}")
    return labels.long()
