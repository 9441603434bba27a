"""A caller's rows and context, as a model takes them.

Not for: contexts of classes and labels (`conditions`).
"""

import math
from dataclasses import replace
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn

from ..data import Batch
from ..data.batch import as_tensor, reshape_hint
from ..data.pixels import to_floats
from ..data.table.column_kinds import ColumnKinds
from ..data.table.columns import Column, check_encoded
from ..data.value_kinds import RANGES, ValueKind, check_values
from ..errors import DataError
from .conditions import check_labels, rows_of_classes, rows_of_labels

Context = Tensor | int | None


class ModelInputs(nn.Module):
    """The rows and the context that a model takes, and their conversion from what callers and loaders give.

    The attributes are those of `LatentVariableModel`.
    """

    context_size: int = 0
    takes_classes: bool = True
    class_names: tuple[str, ...] | None = None
    event_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    columns: tuple[Column, ...] | None = None
    column_kinds: ColumnKinds | None = None
    sees_missing: bool = False

    @property
    def device(self) -> torch.device:
        """The device of the weights; the CPU for a model without any."""
        return self._first_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights; torch's default for a model without any."""
        return self._first_weight.dtype

    @property
    def _first_weight(self) -> Tensor:
        weight = next(chain(self.parameters(), (b for b in self.buffers() if b.is_floating_point())), None)
        return torch.empty(0) if weight is None else weight

    @cached_property
    def value_kind(self) -> ValueKind:
        """The meaning of the numbers in x. By default it is "pixels" if the range is [0, 1], else "real"."""
        return "pixels" if self.value_range == RANGES["pixels"] else "real"

    def as_rows(self, x: Tensor) -> Tensor:
        """Rows x on the model's device, in the type of its weights; bytes become pixel / 255, unless x are counts.

        Nothing here waits for the device.

        Raises:
            DataError: x is not (B, *event_shape).
        """
        x, shape = as_tensor(x, "x"), self.event_shape
        if shape is not None and tuple(x.shape[1:]) != shape:
            single = "; these are the values of one row, x must be a batch of rows" if tuple(x.shape) == shape else ""
            hint = single or reshape_hint(x, shape)
            raise DataError(f"x must have shape ({', '.join(map(str, ('B', *shape)))}), got {tuple(x.shape)}{hint}")
        return to_floats(x.to(self.device), self.value_kind, self.dtype).to(self.dtype)

    def known_values(self, x: Tensor, observed: Tensor | None) -> Tensor | None:
        """The mask of known values: `observed`, or not NaN if the model `sees_missing`; None if all are known."""
        if observed is not None or not self.sees_missing:
            return observed
        known = ~x.isnan()
        return None if x.device.type == "cpu" and bool(known.all()) else known  # elsewhere asking waits for the device

    def check_values(self, x: Tensor, observed: Tensor | None = None) -> None:
        """Refuse numbers, of any shape, that the model has no density for, where observed. This waits for the device.

        Raises:
            DataError: A value of x is outside `value_range`, is not finite, or its column of a table cannot have it.
        """
        known = None if observed is None else observed.to(x.device)
        if self.columns is not None and x.ndim == 2:
            with_gaps = x if known is None else x.masked_fill(~known, math.nan)
            check_encoded(self.columns, with_gaps.detach().float().cpu().numpy())
        if self.sees_missing:
            known = ~x.isnan() if known is None else known & ~x.isnan()
        self.check_known(x if known is None else x[known])

    def check_known(self, values: Tensor) -> None:
        """Refuse known numbers, of any shape, that the model has no density for. This waits for the device.

        Raises:
            DataError: A value is outside `value_range`, or not finite.
        """
        check_values(values, self.value_range)

    def checked(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Rows x as `as_rows` gives them, with their values checked where observed.

        Raises:
            DataError: x has the wrong shape, or values that the model has no density for.
        """
        x = self.as_rows(x)
        self.check_values(x, observed)
        return x

    def context(self, c: Context, n: int) -> Tensor | None:
        """The context of n rows as floats, shape (n, C), from one-hot rows, classes, or one class for all.

        Raises:
            DataError: A conditional model gets no c, an unconditional one gets c, or c does not fit.
        """
        size = self.context_size
        if c is None:
            if size and not self.takes_classes:
                raise DataError(f"this model is conditional; pass rows of context, shape (N, {size}), as c")
            if size:
                raise DataError(f"this model is conditional on {size} classes; pass a class, 0 to {size - 1}, as c")
            return None
        if not size:
            raise DataError("this model is unconditional; leave the class out")
        c = as_tensor(c, "c, classes or rows of context,").to(self.device)
        if c.ndim == 0:
            c = c.expand(n)
        if c.ndim == 1:
            self._check_takes_classes()
            c = rows_of_classes(c, size)
        self._check_context(c, n)
        return c.to(self.dtype)

    def to_model(self, batch: Batch) -> Batch:
        """A batch for the model: on its device, in its type, with one-hot rows of the labels as context.

        Nothing here waits for the device. The row of an unknown class, −1, is NaN.

        Raises:
            DataError: The shape of x is wrong, or a conditional model gets neither a context nor labels of its classes.
        """
        size = self.context_size
        if size and batch.c is None:
            self._check_takes_classes()
            batch = replace(batch, labels=check_labels(batch.labels, size))
        batch = replace(batch, observed=self.known_values(batch.x, batch.observed)).to(self.device)
        batch = replace(batch, x=self.as_rows(batch.x))
        if not size:
            return replace(batch, c=None)
        if batch.c is None:
            assert batch.labels is not None
            return replace(batch, c=rows_of_labels(batch.labels, size).to(batch.x.dtype))
        self._check_context(batch.c, len(batch))
        return replace(batch, c=batch.c.to(batch.x.dtype))

    def _check_context(self, c: Tensor, n: int) -> None:
        if c.shape != (n, self.context_size):
            classes = f"; or pass classes, shape ({n},)" if self.takes_classes else ""
            raise DataError(f"the context must have shape ({n}, {self.context_size}), got {tuple(c.shape)}{classes}")

    def _check_takes_classes(self) -> None:
        if not self.takes_classes:
            raise DataError(
                "a class cannot stand for this model's context, which holds other numbers too, such as a size factor; "
                f"pass rows of context, shape (N, {self.context_size})"
            )
