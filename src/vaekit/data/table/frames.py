"""Convert frames of pandas and arrays (N, D) to the columns of a table, and back.

Not for: files (`table_files`), or the meaning of a column (`column_kinds`, `columns`).
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from .column_kinds import Raw
from .columns import DAY, FIRST_DAY, LAST_DAY, LEVEL_TYPES, Column, LevelValue

if TYPE_CHECKING:
    import pandas as pd

MOST_COLUMNS = 50_000  # checking them takes some seconds
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")


def is_frame(data: object) -> bool:
    """Whether this is a frame of pandas, or can be turned into one."""
    return (
        hasattr(data, "columns") and hasattr(data, "dtypes") and (hasattr(data, "iloc") or hasattr(data, "to_pandas"))
    )


def pandas() -> Any:
    """The module `pandas`.

    Raises:
        DataError: The package is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise DataError("tables need pandas; install vaekit[table]") from None
    return pandas


def check_names(names: Sequence[str], name: str) -> None:
    """Refuse more columns than a table may have, or two of the same name.

    Arguments:
        names: Names of the columns.
        name: Name of the table, for messages.

    Raises:
        DataError: There are too many columns, or two have the same name.
    """
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{name}: has {len(names):,} columns, more than the {MOST_COLUMNS:,} that a table may have")
    repeated = next((column for column, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        places = [str(i + 1) for i, column in enumerate(names) if column == repeated]
        count = "two" if len(places) == 2 else str(len(places))
        listed = ", ".join(places[:9]) + (" …" if len(places) > 9 else "")
        raise DataError(f"{name}: {count} columns are called {repeated!r:.120} (numbers {listed}); rename them")


def valid_frame(frame: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """The frame with texts as names, all different, and rows numbered from 0.

    Raises:
        DataError: The frame has no row or no column, too many columns, or two columns of one name.
    """
    names = [str(column) for column in frame.columns]
    check_table(names, len(frame), name)
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def check_table(names: Sequence[str], rows: int, name: str) -> None:
    """Refuse a table without a row or a column, with too many columns, or with two of the same name.

    Raises:
        DataError: The table is one of these.
    """
    check_names(names, name)
    if not rows or not names:
        raise DataError(f"{name}: has {rows} rows and {len(names)} columns; at least one of each is needed")


def raws_of(frame: "pd.DataFrame") -> list[Raw]:
    """The columns of a frame.

    Raises:
        DataError: Two columns have the same name, or there is no row.
    """
    frame = frame.to_pandas() if not hasattr(frame, "iloc") else frame  # type: ignore[operator]
    frame = valid_frame(frame, "the frame")
    return [raw_of(name, frame[name]) for name in frame.columns]


def raw_of(name: str, series: "pd.Series[Any]") -> Raw:
    """A column of a frame, whose rows are numbered from 0."""
    library = pandas()
    missing: NDArray[np.bool_] = series.isna().to_numpy()
    if isinstance(series.dtype, library.CategoricalDtype):
        if not all(isinstance(level, LEVEL_TYPES) for level in series.cat.categories.tolist()):
            series = series.cat.rename_categories(str)  # such as the intervals of pandas.cut
        levels = tuple(_plain(level) for level in series.cat.categories.tolist())
        return Raw(name, series.astype(object).to_numpy(), missing, "category", levels, bool(series.cat.ordered))
    if library.api.types.is_datetime64_any_dtype(series.dtype):
        return _dates(name, series, missing)
    if library.api.types.is_bool_dtype(series.dtype):
        return Raw(name, series.astype(object).to_numpy(), missing, "bool")
    if library.api.types.is_numeric_dtype(series.dtype) and not library.api.types.is_complex_dtype(series.dtype):
        if isinstance(series.dtype, np.dtype):
            return Raw(name, series.to_numpy(), missing, str(series.dtype))
        known = series[~missing].to_numpy()  # of pandas, pyarrow, or sparse
        if known.dtype.kind in "iuf":
            values = series.to_numpy("float64", na_value=np.nan) if missing.any() else known
            return Raw(name, values, missing, str(known.dtype))
    return _objects(name, series, missing)


def with_whole_numbers(series: "pd.Series[Any]") -> "pd.Series[Any]":
    """Integers in place of floats that are whole; pandas reads floats if cells are missing."""
    known = series.dropna()
    has_gaps = series.dtype.kind == "f" and 0 < len(known) < len(series)
    is_whole = has_gaps and bool(((known == known.round()) & (known.abs() < 2**53)).all())
    return series.astype("Int64") if is_whole else series


def _objects(name: str, series: "pd.Series[Any]", missing: NDArray[np.bool_]) -> Raw:
    library = pandas()
    values = series.astype(object).to_numpy()
    known = values[~missing]
    if len(known) and all(isinstance(value, (bool, np.bool_)) for value in known):
        return Raw(name, values, missing, "bool")
    if len(known) and isinstance(known[0], str) and _ISO_DATE.fullmatch(known[0]):
        try:
            dates = library.to_datetime(series, format="ISO8601", errors="coerce")
        except ValueError:  # times of several offsets, such as summer and winter time
            dates = library.to_datetime(series, format="ISO8601", errors="coerce", utc=True)
        if bool((dates.isna().to_numpy() == missing).all()):
            return _dates(name, dates, missing)
    for row in np.flatnonzero(~missing):
        if not isinstance(values[row], LEVEL_TYPES):
            type_name = type(values[row]).__name__
            raise DataError(f"column {name!r}, row {row + 1}: a {type_name} is neither a number, a text nor a date")
    if len(known) and all(isinstance(value, (int, float, np.number)) for value in known):
        whole = all(isinstance(value, (int, np.integer)) for value in known)
        numbers = np.array([np.nan if gap else float(value) for value, gap in zip(values, missing, strict=True)])
        return Raw(name, numbers, missing, "int64" if whole else "float64")
    if any(not isinstance(value, str) for value in known):
        values = np.array([None if gap else _plain(value) for value, gap in zip(values, missing, strict=True)], object)
    return Raw(name, values, missing, "str")


def _dates(name: str, series: "pd.Series[Any]", missing: NDArray[np.bool_]) -> Raw:
    zone = "" if series.dt.tz is None else str(series.dt.tz)
    if zone:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    values = series.to_numpy("datetime64[us]")
    known = values[~missing]
    if len(known) and not (known.min() >= FIRST_DAY and known.max() < LAST_DAY + DAY):
        raise DataError(f"column {name!r} has a date before the year 1 or after the year 9999; correct or empty it")
    whole = bool((known == known.astype("datetime64[D]")).all())
    return Raw(name, values, missing, "date" if whole else "datetime", zone=zone)


def _plain(value: Any) -> LevelValue:
    return value.item() if isinstance(value, np.generic) else value


def raws_of_array(array: NDArray[Any], names: Sequence[str] | None = None) -> list[Raw]:
    """The columns of an array (N, D), called x0, x1, … unless they have names; NaN is missing.

    Raises:
        DataError: The array is not a table of numbers.
    """
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "biuf":
        signals = "; for signals (N, C, L) set kind = 'signal'" if array.ndim == 3 else ""
        raise DataError(f"a table must be numbers of shape (N, D), got {array.dtype} {array.shape}{signals}")
    names = [f"x{i}" for i in range(array.shape[1])] if names is None else names
    missing = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
    dtype = str(array.dtype)
    return [Raw(name, array[:, i], missing[:, i], dtype) for i, name in enumerate(names)]


def frame_of(x: NDArray[Any], columns: Sequence[Column]) -> "pd.DataFrame":
    """A frame of encoded rows: each column has its own type and levels.

    Arguments:
        x: Shape (N, D); NaN is missing.
        columns: The columns of the table.
    """
    library = pandas()
    return library.DataFrame({column.name: series_of(x[:, i], column) for i, column in enumerate(columns)})


def series_of(x: NDArray[Any], column: Column) -> "pd.Series[Any]":
    """One column of a frame, from encoded values, shape (N,)."""
    library = pandas()
    missing = np.isnan(x)
    values = column.decode(np.where(missing, 0, x))
    if column.dtype == "category":
        values[missing] = None
        values = library.Categorical(values, categories=list(column.levels), ordered=column.kind == "ordinal")
    series: pd.Series[Any] = library.Series(values, name=column.name)
    if column.dtype == "category":
        return series
    if column.zone:
        series = series.dt.tz_localize("UTC").dt.tz_convert(column.zone)
    if not missing.any():
        return series
    if series.dtype.kind in "iu":
        series = series.astype("Int64")
    elif series.dtype.kind == "b":
        series = series.astype(object)
    return series.mask(library.Series(missing))
