"""The shapes of a model and the meaning of its numbers, as a record.

Not for: the config that a model was made from.
"""

from dataclasses import dataclass
from math import prod

from ..data.table.column_kinds import ColumnKinds
from ..data.table.columns import Column
from ..data.value_kinds import ValueKind


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The shapes of a model, and the meaning of its numbers.

    Arguments:
        latent_shape: Event shape of z.
        context_size: C, the width of c; 0 for an unconditional model.
        takes_classes: Whether a class can stand for its one-hot row of c.
        class_names: Names of the classes, in their order; None where they are not known.
        event_shape: Event shape of x; None if the model takes every shape.
        value_kind: Meaning of the numbers in x.
        value_range: Least and greatest value of x; None if every number is allowed.
        columns: The columns of a table, for a model of tables.
        column_kinds: Kinds of a table's columns and labels as the config names them; None without a config.
        sees_missing: Whether the posterior gets NaN where a value is missing; otherwise it gets 0 there.
    """

    latent_shape: tuple[int, ...]
    context_size: int = 0
    takes_classes: bool = True
    class_names: tuple[str, ...] | None = None
    event_shape: tuple[int, ...] | None = None
    value_kind: ValueKind = "real"
    value_range: tuple[float, float] | None = None
    columns: tuple[Column, ...] | None = None
    column_kinds: ColumnKinds | None = None
    sees_missing: bool = False

    @property
    def latent_size(self) -> int:
        """Z, how many values z has."""
        return prod(self.latent_shape)
