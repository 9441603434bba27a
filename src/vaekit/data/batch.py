"""What a loader gives and a model takes: a batch of rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """B rows of data. It unpacks as `x, labels`, as the batch of a PyTorch loader does.

    Arguments:
        x: Values, shape (B, *event).
        c: Context, shape (B, C), or None.
        observed: Which values of x are known, booleans of x's shape; None where all are.
        labels: Classes, shape (B,), int64, −1 where unknown; None where there are none.
    """

    x: Tensor
    c: Tensor | None = None
    observed: Tensor | None = None
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.x, self.labels))

    def __getitem__(self, index: int) -> Any:
        """The values, 0, or the labels, 1: `batch[0]` is what it is of a PyTorch loader. Rows are `rows(index)`."""
        return (self.x, self.labels)[index]

    def rows(self, index: slice | Tensor) -> "Batch":
        """Some of the rows."""
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> "Batch":
        """The same rows on a device, without waiting for it."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, function: Any) -> "Batch":
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: function(tensor) for name, tensor in given.items() if tensor is not None})


def as_batch(item: object) -> Batch:
    """The batch that any loader gives: a `Batch`, a tensor, `(x,)`, `(x, labels)`, or a mapping with Batch's names.

    Labels of shape (B, C) are a context.

    Raises:
        DataError: it is none of these.
    """
    if isinstance(item, Batch):
        return item
    if isinstance(item, Tensor):
        return Batch(item)
    if isinstance(item, Sequence) and 1 <= len(item) <= 2 and isinstance(item[0], Tensor):
        x, labels = item[0], item[1] if len(item) == 2 else None
        if labels is None or isinstance(labels, Tensor):
            return Batch(x, labels=labels) if labels is None or labels.ndim == 1 else Batch(x, c=labels)
    if isinstance(item, Mapping) and "x" in item and item.keys() <= {field.name for field in fields(Batch)}:
        return Batch(**item)
    raise DataError(
        f"a batch must be a tensor, (x,), (x, labels), a dict with x, or a Batch, got {type(item).__name__}"
    )
