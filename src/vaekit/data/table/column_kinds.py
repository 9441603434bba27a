"""The kinds of a table's columns, from the types of their values or from the user.

Not for: the meaning of the kinds (`columns`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, DataError, unknown
from .columns import KINDS, LEVEL_TYPES, OF_LEVELS, Column, ColumnKind, LevelValue, as_numbers, distinct

ColumnKinds = Mapping[str, str | Sequence[LevelValue]]

CHOICES = (*KINDS, "label", "ignore")  # values of data.columns.NAME
EVERY = "*"  # stands for all columns that are not named
MOST_LEVELS = 1000
_FEW = 50  # rows; with more, a column of mostly different texts is an identifier


@dataclass(frozen=True, eq=False)
class Raw:
    """A column as it was read.

    Arguments:
        name: Name of the column.
        values: Shape (N,): numbers, booleans, dates (datetime64), or objects.
        missing: Booleans, shape (N,).
        dtype: Type of its values, as in `Column`.
        levels: Categories of a categorical column, else None.
        ordered: Whether the categories are in order.
        zone: Time zone of dates, which are in UTC here; "" without one.
    """

    name: str
    values: NDArray[Any]
    missing: NDArray[np.bool_]
    dtype: str
    levels: tuple[LevelValue, ...] | None = None
    ordered: bool = False
    zone: str = ""

    def followed_by(self, more: "Raw") -> "Raw":
        """The column with the rows of another table after its own.

        It keeps its type, unless this is an integer type that cannot hold the other table's numbers.

        Arguments:
            more: The same column of the other table.
        """
        first, second = self.values, more.values
        if first.dtype.kind != second.dtype.kind and "O" in (first.dtype.kind, second.dtype.kind):
            first, second = first.astype(object), second.astype(object)
        values, missing = np.concatenate((first, second)), np.concatenate((self.missing, more.missing))
        return replace(self, values=values, missing=missing, dtype=self._type_with(more))

    def _type_with(self, more: "Raw") -> str:
        known = more.values[~more.missing]
        if not self.dtype.startswith(("int", "uint")) or known.dtype.kind not in "iuf":
            return self.dtype
        limits = np.iinfo(self.dtype)
        fits = (known >= limits.min) & (known <= limits.max) & (known == np.rint(known))
        return self.dtype if fits.all() else str(np.result_type(self.dtype, more.dtype))


def column_of(raw: Raw, given: str | Sequence[LevelValue] | None = None) -> Column:
    """Make a `Column` from a raw column.

    Arguments:
        raw: The column.
        given: Kind of the column, or its levels in order; None to infer the kind.

    Raises:
        DataError: The column has no values, one value, too many levels, or values that fit no kind.
        ConfigError: Texts or dates cannot have the given kind.
    """
    values_once, _ = distinct(raw.values[~raw.missing])
    hint = f"set columns.{raw.name} = 'ignore'"
    if not values_once:
        raise DataError(f"column {raw.name!r} has no value in any of {len(raw.values)} rows; {hint}")
    if len(values_once) == 1:
        raise DataError(f"column {raw.name!r} has the same value, {values_once[0]!s:.60}, in all rows; {hint}")
    if given is not None and not isinstance(given, str):
        return Column(raw.name, "ordinal", raw.dtype, tuple(given))
    kind = inferred(raw, values_once) if given is None else _checked_kind(raw, given)
    if kind in OF_LEVELS:
        levels = tuple(values_once) if raw.levels is None else raw.levels
        _check_levels(raw, kind, levels, hint)
        return Column(raw.name, kind, raw.dtype, levels)
    as_numbers(raw.name, raw.values, raw.missing)
    dtype = raw.dtype if raw.dtype not in ("str", "category", "bool") else "float64"
    return Column(raw.name, kind, dtype, zone=raw.zone).with_origin(raw.values, raw.missing)


def inferred(raw: Raw, seen: Sequence[Any]) -> ColumnKind:
    """The kind that the type of a column's values suggests.

    Booleans and two values are Bernoulli; ordered categories are ordinal; texts and other categories are categorical;
    numbers and dates are real. Counts and positive numbers are real, too, unless the user says more.

    Raises:
        DataError: The column mixes numbers and texts.
    """
    if raw.ordered:
        return "ordinal"
    if raw.dtype in ("date", "datetime"):
        return "real"
    if len(seen) == 2 and (raw.levels is None or len(raw.levels) == 2):
        return "bernoulli"
    if raw.dtype in ("str", "category"):
        if raw.dtype == "str":
            _check_texts(raw)
        return "categorical"
    return "real"


def _checked_kind(raw: Raw, kind: str) -> ColumnKind:
    if kind == "bernoulli" and len(distinct(raw.values[~raw.missing])[0]) > 2:
        raise DataError(f"column {raw.name!r} is to be bernoulli, but it has more than two values; use 'categorical'")
    if kind == "ordinal" and raw.dtype == "str":
        raise ConfigError(
            f"column {raw.name!r} has texts, whose order is not known; give it: "
            f'columns.{raw.name} = ["low", "middle", "high"]'
        )
    if kind in OF_LEVELS and raw.dtype in ("date", "datetime"):
        raise ConfigError(
            f"column {raw.name!r} has dates, which are real numbers here and cannot be {kind}; leave "
            f"columns.{raw.name} out, or turn them into texts that are not dates, such as months"
        )
    return kind  # type: ignore[return-value]


def _check_texts(raw: Raw) -> None:
    """Refuse a column of numbers with a few texts: each text is an error, or means "missing"."""
    known = np.flatnonzero(~raw.missing)
    texts = [row for row in known if not _is_number(raw.values[row])]
    if texts and 2 * len(texts) < len(known):
        row = texts[0]
        raise DataError(
            f"column {raw.name!r} has numbers in {len(known) - len(texts)} rows, but {raw.values[row]!r:.60} in row "
            f"{row + 1}; correct or empty that cell, or set columns.{raw.name} = 'categorical'"
        )


def _check_levels(raw: Raw, kind: str, levels: Sequence[Any], hint: str) -> None:
    rows = int((~raw.missing).sum())
    if len(levels) > MOST_LEVELS or (kind == "categorical" and raw.dtype == "str" and 2 * len(levels) > rows > _FEW):
        raise DataError(
            f"column {raw.name!r} has {len(levels)} different values in {rows} rows, more than {MOST_LEVELS} or "
            f"more than half of the rows; if it is an identifier, {hint}"
        )


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def kind_of(name: str, kinds: ColumnKinds) -> str | Sequence[LevelValue] | None:
    """The user's kind for a column: under its name, else under "*"; None without one."""
    return kinds.get(name, kinds.get(EVERY))


def check_kinds(kinds: ColumnKinds, names: Sequence[str], computed: Sequence[str] = ()) -> None:
    """Refuse an unknown kind or an unknown column.

    Raises:
        ConfigError: A kind or a column is unknown, a list has fewer than two levels or one of them twice, or two
            columns have a kind that only one can have.
    """
    for name, kind in kinds.items():
        if not isinstance(kind, (list, tuple)) and not (isinstance(kind, str) and kind in CHOICES):
            raise ConfigError(f"columns.{name}: {unknown('kind of column', kind, CHOICES)}")
        if not isinstance(kind, str):
            _check_given_levels(name, kind)
        if name != EVERY and name not in names and name not in computed:
            raise ConfigError(f"columns: {unknown('column', name, names)}")
    chosen = [kind_of(name, kinds) for name in names]
    chosen += [kinds[name] for name in computed if name in kinds and name not in names]
    for single in ("label", "size-factor"):
        count = sum(kind == single for kind in chosen if isinstance(kind, str))
        if count > 1:
            raise ConfigError(f"columns: only one column can be a {single}, but {count} are; name the one column")
        if kinds.get(EVERY) == single:
            raise ConfigError(f"columns: '*' is for several columns, but only one can be a {single}; name it")


def _check_given_levels(name: str, levels: Sequence[LevelValue]) -> None:
    odd = next((level for level in levels if not isinstance(level, LEVEL_TYPES)), None)
    if odd is not None:
        raise ConfigError(f"columns.{name}: a level is a text or a number, got {odd!r:.60}")
    if len(set(levels)) < 2:
        raise ConfigError(f"columns.{name} must have at least two levels, got {list(levels)}")
    repeated = [level for i, level in enumerate(levels) if level in levels[:i]]
    if repeated:
        raise ConfigError(f"columns.{name} has the level {repeated[0]!r:.60} twice; give each level once")
