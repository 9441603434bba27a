"""Batches of rows, which a loader gives and a model takes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

# Names of the parts of a batch in other packages; the name in `Batch` comes first.
FIELD_NAMES = {
    "x": ("x", "image", "images", "img", "pixel_values", "input", "inputs", "data"),
    "labels": ("labels", "label", "y", "target", "targets"),
    "c": ("c", "context"),
    "observed": ("observed",),
}


@dataclass(frozen=True, eq=False)
class Batch:
    """B rows of data.

    It unpacks as `x, labels`, like a batch of a PyTorch loader; `len(batch)` is B. It cannot be indexed: use `batch.x`
    and `batch.labels`, or `batch.rows(index)` for a part of its rows.

    Arguments:
        x: Values, shape (B, *event).
        c: Context, shape (B, C), or None.
        observed: Booleans of x's shape, true where a value is known; None if all values are known.
        labels: Classes, shape (B,), int64; −1 is an unknown class. None without labels.
    """

    x: Tensor
    _: KW_ONLY
    c: Tensor | None = None
    observed: Tensor | None = None
    labels: Tensor | None = None

    def __repr__(self) -> str:
        others = [name for name in ("c", "observed", "labels") if getattr(self, name) is not None]
        return f"Batch({described(self.x)}{', with ' if others else ''}{', '.join(others)})"

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.x, self.labels))

    @property
    def zero_filled(self) -> Tensor:
        """x, with 0 for each value that is not observed."""
        return self.x if self.observed is None else self.x.masked_fill(~self.observed, 0)

    def rows(self, index: slice | Tensor) -> "Batch":
        """The rows of an index."""
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> "Batch":
        """The same rows on a device, without waiting for it."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, function: Any) -> "Batch":
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items() if tensor is not None})


def as_batch(item: object) -> Batch:
    """Convert the item of a loader to a `Batch`: a `Batch`, a tensor, `(x,)`, `(x, labels)`, or a mapping.

    NumPy arrays are accepted too. The keys of a mapping are in `FIELD_NAMES`. Labels of shape (B, C) are a context.

    Raises:
        DataError: The item is of another type.
    """
    if isinstance(item, Batch):
        return item
    if is_array(item):
        return _batch(x=item)
    if isinstance(item, Mapping):
        return _batch(**batch_fields(item))
    if isinstance(item, Sequence) and 1 <= len(item) <= 2 and is_array(item[0]):
        return _batch(x=item[0], labels=item[1] if len(item) == 2 else None)
    raise DataError(
        f"a batch must be a tensor, (x,), (x, labels), a dict with x, or a Batch, got {type(item).__name__}"
        + (f" of {len(item)}" if isinstance(item, (list, tuple)) else "")
    )


def batch_fields(item: Mapping[Any, Any]) -> dict[str, Any]:
    """The values of a mapping under the field names of `Batch`.

    Raises:
        DataError: The mapping has no x, two keys for one field, or an unknown key.
    """
    meaning = {name: field for field, names in FIELD_NAMES.items() for name in names}
    fields_of_batch: dict[str, Any] = {}
    for key, value in item.items():
        field = meaning.get(key)
        if field is None or field in fields_of_batch:
            raise DataError(
                f"a batch must be a tensor, (x, labels) or a dict with x and maybe labels, c and observed; "
                f"the key {key!r:.100} {f'gives {field} twice' if field else 'is unknown'}: leave it out"
            )
        fields_of_batch[field] = value
    if fields_of_batch.get("x") is None:
        missing = "x = None" if "x" in fields_of_batch else f"the keys {list(item)!r:.200}"
        raise DataError(f"a batch must be a tensor, (x, labels) or a dict with x, got {missing}")
    return fields_of_batch


def is_array(value: object) -> bool:
    """Whether a value is a tensor, or can be read as one by NumPy, and has at least one dimension."""
    return (isinstance(value, Tensor) or hasattr(value, "__array__")) and len(getattr(value, "shape", ())) > 0


def described(x: Any) -> str:
    """The number of rows, their shape and their type.

    >>> described(torch.zeros(6, 1, 8, 8))
    '6 rows of 1×8×8, float32'
    """
    return f"{len(x):,} rows of {'×'.join(map(str, x.shape[1:]))}, {str(x.dtype).removeprefix('torch.')}"


def reshape_hint(x: Tensor, shape: tuple[int, ...] | None) -> str:
    """The advice to reshape x to rows of a shape; "" if the numbers of values differ.

    >>> reshape_hint(torch.zeros(5, 784), (1, 28, 28))
    '; pass x.reshape(-1, 1, 28, 28)'
    """
    if shape is None or x.ndim < 2 or x[0].numel() != math.prod(shape):
        return ""
    return f"; pass x.reshape(-1, {', '.join(map(str, shape))})"


def as_tensor(value: object, what: str) -> Tensor:
    """A value as a dense tensor of real numbers, which shares the memory of the value if it can.

    Raises:
        DataError: The value is not made of real numbers.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DataError(f"{what} has masked values; fill them in, and pass a mask of the others as observed")
    try:
        if not isinstance(value, Tensor):
            array = np.asarray(value)
            if any(stride < 0 for stride in array.strides):  # torch has no negative strides
                array = array.copy()
            value = torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), "W"))
    except (TypeError, ValueError, RuntimeError):
        shown = " ".join(repr(value).split())
        are_names = what.endswith("labels") and isinstance(_first(value), str)
        remedy = "; number the classes: np.unique(labels, return_inverse=True)[1]" if are_names else ""
        raise DataError(f"{what} must be numbers, a tensor or a NumPy array, got {shown:.80}{remedy}") from None
    if value.layout != torch.strided:
        raise DataError(f"{what} must be dense, got {value.layout}; pass .to_dense()")
    if value.is_complex():
        raise DataError(f"{what} must be real numbers, got {value.dtype}; pass .real, or both parts as two channels")
    return value


def _first(values: Any) -> Any:
    """The first of nested values, or None."""
    while isinstance(values, (list, tuple)) and values:
        values = values[0]
    return next(iter(np.asarray(values, object).flat), None)


def check_observed(observed: Any, x: Any) -> None:
    """Check a mask of the observed values of x.

    Raises:
        DataError: The mask is not made of booleans, or does not have x's shape.
    """
    if observed.dtype != torch.bool or observed.shape != x.shape:
        raise DataError(
            f"observed must be booleans of shape {tuple(x.shape)}, got {observed.dtype} of {tuple(observed.shape)}"
        )


def _batch(x: Any, labels: Any = None, c: Any = None, observed: Any = None) -> Batch:
    values = {"x": x, "labels": labels, "c": c, "observed": observed}
    tensors = {
        name: as_tensor(value, f"a batch must be a tensor or (x, labels): {name}")
        for name, value in values.items()
        if value is not None
    }
    if tensors["x"].ndim == 0:
        raise DataError(f"a batch: x must be (B, …), got the number {tensors['x'].item():g}")
    rows = {name: tensor.shape[:1] for name, tensor in tensors.items()}
    for name, count in rows.items():
        if count != rows["x"]:
            raise DataError(f"a batch: {name} must have {len(tensors['x'])} rows, as x has, got {tuple(count)}")
    if "observed" in tensors:
        check_observed(tensors["observed"], tensors["x"])
    if labels is not None and c is None and tensors["labels"].ndim > 1:
        tensors["c"] = tensors.pop("labels")
    return Batch(**tensors)
