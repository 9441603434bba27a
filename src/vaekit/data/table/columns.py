"""A column of a table: its kind, and the conversion of its values to numbers and back.

Not for: the choice of a kind (`column_kinds`), or files and frames (`frames`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, unknown

ColumnKind = Literal["real", "positive", "count", "size-factor", "ordinal", "categorical", "bernoulli"]
LevelValue = str | int | float | bool
LEVEL_TYPES = (*get_args(LevelValue), np.generic)

KINDS: tuple[ColumnKind, ...] = get_args(ColumnKind)  # the order in which a likelihood reads its network's outputs
OF_LEVELS = ("ordinal", "categorical", "bernoulli")
TRANSFORM = {"positive": "log", "size-factor": "log", "count": "log1p"}  # applied before a number is standardized
DATES = ("date", "datetime")
DAY = np.timedelta64(86_400_000_000, "us")
FIRST_DAY, LAST_DAY = np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31", "us")  # as Python counts them
LARGEST_VALUE = 1e37  # greatest number that a column accepts, in single precision
TOTAL = "total"  # a size factor of this name is the sum of the counts, unless the table has such a column
_EPOCH = np.datetime64("1970-01-01", "us")
_RESOLUTION = 2.0**-24 * 1e4  # without an origin float32 must resolve a ten-thousandth of the spread


@dataclass(frozen=True)
class Column:
    """A column of a table, and how its values become numbers.

    Real, positive and count columns and size factors are numbers less an origin; a date is a number of days. Ordinal,
    categorical and Bernoulli columns are numbers of levels, 0, 1, …. A missing value is NaN.

    Arguments:
        name: Name of the column.
        kind: Kind of its values, which determines the density.
        dtype: Type of its values in the user's table: a NumPy type such as "int64", "bool", "str", "category", "date"
            or "datetime".
        levels: Possible values, if the column has levels.
        origin: Number that is subtracted, so that single precision tells values apart.
        loc: Mean over the training rows: of log x for a positive column or a size factor, of log(1 + x) for a count,
            else of x.
        scale: Standard deviation of the same.
        never_negative: Whether the column has integers, none below 0 in the training rows. `decode` then gives none
            below 0 either.
        zone: Time zone of dates that have one, such as "Europe/Paris"; as numbers they are in UTC.
        computed: Whether it is the sum of the counts, and not a column of the user's table.
    """

    name: str
    kind: ColumnKind
    dtype: str
    levels: tuple[LevelValue, ...] = ()
    origin: float = 0.0
    loc: float = 0.0
    scale: float = 1.0
    never_negative: bool = False
    zone: str = ""
    computed: bool = False

    @property
    def has_levels(self) -> bool:
        """Whether its numbers stand for levels."""
        return self.kind in OF_LEVELS

    @property
    def is_discrete(self) -> bool:
        """Whether it has probabilities rather than a density."""
        return self.has_levels or self.kind == "count"

    def encode(self, values: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Values as numbers, NaN where missing.

        Arguments:
            values: Shape (N,): numbers, dates, or levels.
            missing: Booleans, shape (N,).

        Raises:
            DataError: A value does not fit the column; the message names its row, counted from 1.
        """
        if self.has_levels:
            return self._numbers_of_levels(values, missing)
        numbers = as_numbers(self.name, values, missing)
        if self.kind in ("positive", "size-factor"):
            self._check(numbers, numbers > 0, missing, "is not greater than 0", "real")
        if self.kind == "count":
            is_count = (numbers >= 0) & (numbers == np.round(numbers))
            self._check(numbers, is_count, missing, "is not a whole number ≥ 0", "real")
        return np.where(missing, np.nan, numbers - self.origin).astype(np.float32)

    def _numbers_of_levels(self, values: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[np.float32]:
        numbers = np.full(len(values), np.nan, np.float32)
        codes = {level: float(i) for i, level in enumerate(self.levels)}
        texts, places = distinct(values[~missing])
        codes_of_texts = np.array([codes.get(value, np.nan) for value in texts], np.float32)
        if np.isnan(codes_of_texts).any():
            value = texts[int(np.isnan(codes_of_texts).argmax())]
            row = int(np.flatnonzero(~missing)[int((places == np.isnan(codes_of_texts).argmax()).argmax())]) + 1
            levels = [str(level) for level in self.levels]
            raise DataError(f"column {self.name!r}, row {row}: {unknown('level', str(value), levels)}")
        if len(texts):
            numbers[~missing] = codes_of_texts[places]
        return numbers

    def _check(
        self, numbers: NDArray[np.float64], good: NDArray[np.bool_], missing: NDArray[np.bool_], fault: str, kind: str
    ) -> None:
        bad = ~good & ~missing
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"column {self.name!r} is {self.kind}, but row {row + 1} has {numbers[row]:g}, which {fault}; "
                f"set columns.{self.name} = {kind!r}"
            )

    def decode(self, x: NDArray[Any]) -> NDArray[Any]:
        """Numbers as values: levels, dates, numbers of the column's own type. NaN must not be among them.

        Arguments:
            x: Shape (N,).
        """
        if self.has_levels:
            levels = np.array(self.levels, object if self.dtype in ("str", "category") else None)
            return levels[np.clip(np.rint(x), 0, len(levels) - 1).astype(int)]
        numbers = x.astype(np.float64) + self.origin
        if self.dtype in DATES:
            days = np.rint(numbers) if self.dtype == "date" else np.rint(numbers * 86_400) / 86_400
            days = np.clip(days, (FIRST_DAY - _EPOCH) / DAY, (LAST_DAY - _EPOCH) / DAY)
            return np.datetime64("1970-01-01", "us") + (days * 86_400_000_000).astype("timedelta64[us]")
        dtype = np.dtype(self.dtype)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            least = 0.0 if self.never_negative else float(limits.min)
            greatest = float(limits.max)
            if greatest > limits.max:  # 2⁶³ − 1 is not a float
                greatest = np.nextafter(greatest, 0)
            return np.clip(np.rint(numbers), least, greatest).astype(dtype)
        return (_rounded(x.astype(np.float64)) + self.origin).astype(dtype)

    def transformed(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """The known values among encoded ones, shape (N,), on the scale on which they are standardized."""
        known = x[~np.isnan(x)].astype(np.float64)
        function: Any = getattr(np, TRANSFORM[self.kind]) if self.kind in TRANSFORM else None
        return known if function is None else function(known)

    def fitted(self, mean: float, deviation: float, least: float) -> "Column":
        """The same column, with what its training rows tell about it.

        Arguments:
            mean: Mean of the transformed values.
            deviation: Standard deviation of the transformed values.
            least: The least encoded value; NaN if all are missing.
        """
        if self.has_levels or np.isnan(least):
            return self
        never_negative = self._is_whole and least + self.origin >= 0
        return replace(self, loc=mean, scale=deviation or 1.0, never_negative=never_negative)

    @property
    def _is_whole(self) -> bool:
        return self.dtype not in DATES and np.dtype(self.dtype).kind in "iu"

    def with_origin(self, values: NDArray[Any], missing: NDArray[np.bool_]) -> "Column":
        """The same column with an origin, if single precision needs one."""
        if self.kind != "real":
            return self
        numbers = as_numbers(self.name, values, missing)[~missing]
        if not len(numbers) or (self.dtype not in DATES and np.abs(numbers).max() * _RESOLUTION <= numbers.std()):
            return self
        return replace(self, origin=float(np.round(np.median(numbers))))

    def to_json(self) -> dict[str, Any]:
        """The column as a table that JSON can hold."""
        return {**asdict(self), "levels": list(self.levels)}

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> "Column":
        """Read a column from a table that `to_json` made.

        Raises:
            DataError: `table` does not describe a column.
        """
        try:
            older = {"computed": table["name"] == TOTAL and table["kind"] == "size-factor"}  # runs without this fact
            column = cls(**{**older, **table, "levels": tuple(table["levels"])})
            if not isinstance(column.name, str) or column.kind not in KINDS:
                raise ValueError(f"its kind is {column.kind!r}")
            if column.has_levels and len(column.levels) < 2:
                raise ValueError("it has fewer than two levels")
            if not all(isinstance(n, (int, float)) for n in (column.origin, column.loc, column.scale)):
                raise ValueError("it has texts for numbers")
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(f"not a column of a table: {table!r:.100} ({error})") from None
        return column


def check_columns(known: Sequence[Column] | None, given: Sequence[Column] | None) -> None:
    """Refuse a table if its columns differ from the columns of the model.

    Raises:
        DataError: A column differs in name, kind, levels or origin.
    """
    if known is None or given is None:
        return
    if [column.name for column in known] != [column.name for column in given]:
        names = (", ".join(column.name for column in columns) for columns in (known, given))
        raise DataError("the model's table has the columns {:.200}, but this one has {:.200}".format(*names))
    for expected, actual in zip(known, given, strict=True):
        if (expected.kind, expected.levels, expected.origin) != (actual.kind, actual.levels, actual.origin):
            raise DataError(
                f"column {expected.name!r} is read in another way than in the model's table, such as with other "
                "levels; to validate or evaluate, pass the path: fit and evaluate read a file by the model's columns"
            )


def _rounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers to the seven digits that single precision has."""
    scale = 10.0 ** (6 - np.floor(np.log10(np.abs(np.where(numbers == 0, 1, numbers)))))
    return np.where(numbers == 0, 0, np.round(numbers * scale) / scale)


def distinct(values: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """The different values, sorted if they can be compared, and the index of each value among them."""
    if values.dtype == object:
        numbers: dict[Any, int] = {}
        places = np.fromiter((numbers.setdefault(value, len(numbers)) for value in values), np.int64, len(values))
        try:
            order = sorted(numbers)
        except TypeError:
            order = sorted(numbers, key=str)
        rank = {value: i for i, value in enumerate(order)}
        moved = np.array([rank[value] for value in numbers], np.int64)
        return order, moved[places] if len(places) else places
    values_once, places = np.unique(values, return_inverse=True)
    return values_once.tolist(), places.reshape(-1)


def as_numbers(name: str, values: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Numbers, and dates as days since 1970, float64, NaN where missing.

    Raises:
        DataError: A value is neither a number nor a date, or is not finite.
    """
    if values.dtype.kind == "M":
        days = (values - _EPOCH) / DAY
        return np.where(missing, np.nan, days)
    if values.dtype.kind not in "biuf":
        for row in np.flatnonzero(~missing):
            try:
                float(values[row])
            except (TypeError, ValueError):
                text = f"column {name!r}, row {row + 1}: {values[row]!r:.60} is not a number"
                raise DataError(f"{text}; correct it, or set columns.{name} = 'categorical'") from None
        numbers = np.array([np.nan if gap else float(value) for value, gap in zip(values, missing, strict=True)])
    else:
        numbers = np.where(missing, np.nan, values.astype(np.float64))
    infinite = np.isinf(numbers)
    if infinite.any():
        first = int(infinite.argmax())
        raise DataError(f"column {name!r}, row {first + 1}: {numbers[first]} is not finite; leave the cell empty")
    huge = np.abs(numbers) > LARGEST_VALUE
    if huge.any():
        first = int(huge.argmax())
        raise DataError(
            f"column {name!r}, row {first + 1}: {numbers[first]:g} is beyond ±{LARGEST_VALUE:g}, which single "
            "precision cannot hold; correct it, or choose another unit"
        )
    return numbers


def check_encoded(columns: Sequence[Column], x: NDArray[Any]) -> None:
    """Refuse numbers that a column cannot have: not a level, not a count, or not positive where it must be.

    Arguments:
        columns: The D columns.
        x: Encoded rows, shape (N, D); NaN is missing.

    Raises:
        DataError: A column has such a number; the message names it.
    """
    for column, values in zip(columns, x.T, strict=True):
        if column.kind == "real":
            continue
        top = len(column.levels) - 1 if column.has_levels else np.inf
        is_wrong = (values < 0) | (values > top)
        if column.kind in ("positive", "size-factor"):
            is_wrong |= values == 0
        if column.is_discrete:
            is_wrong |= (values != np.round(values)) & ~np.isnan(values)
        if is_wrong.any():
            meaning = f"a number of one of its {top + 1} levels" if column.has_levels else f"a {column.kind} value"
            raise DataError(
                f"column {column.name!r}: {values[is_wrong][0]:g} is not {meaning}; these rows are not encoded as the "
                "model reads them: pass the frame, or the path of the table"
            )
