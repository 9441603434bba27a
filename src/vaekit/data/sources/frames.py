"""Tables as files and frames: `.csv`, `.tsv`, `.parquet`, pandas; and arrays (N, D).

Not for: the meaning of a column (`data.kinds`, `data.columns`).
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, reason
from ...store import files
from ..columns import DAY, FIRST_DAY, LAST_DAY, Column, Level
from ..kinds import Raw
from .archives import array_of
from .arrays import FileRows
from .opening import read_file

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".parquet")
ARRAYS = (".npy", ".npz")
MOST_COLUMNS = 50_000  # checking them takes some seconds
_COPIES = 8  # memory for reading a file, in sizes of the file, at most: text, cells, numbers
_CELL = 256  # bytes, four times the size of a cell; a small .parquet can hold very many cells
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")


def is_table_file(name: str) -> bool:
    """Whether a path has the ending of a table."""
    return Path(name).suffix.lower() in SUFFIXES


def is_frame(data: object) -> bool:
    """Whether this is a frame of pandas, or can be turned into one."""
    return (
        hasattr(data, "columns") and hasattr(data, "dtypes") and (hasattr(data, "iloc") or hasattr(data, "to_pandas"))
    )


def pandas() -> Any:
    """The library.

    Raises:
        DataError: The library is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise DataError("tables need pandas; install vaekit[table]") from None
    return pandas


def read_frame(path: Path, *, as_text: bool = False) -> "pd.DataFrame":
    """A table from a file.

    Arguments:
        path: The file.
        as_text: Keep the cells of a text file as texts; an empty cell is "".

    Raises:
        DataError: The file is damaged; the message says where.
    """
    library = pandas()
    content = read_file(path, _COPIES)
    if path.suffix.lower() == ".parquet":
        return _valid_frame(_of_parquet(content, path), str(path))
    text = _text(content, path)
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False} if as_text else {"low_memory": False}
    separator = _separator(text, path)
    try:
        lines = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
        header, first = next(lines, []), next(lines, [])
        _check_names(header, str(path))  # before pandas, which is slow with many equal names
        frame = library.read_csv(io.StringIO(text), sep=separator, skipinitialspace=True, **options)
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as .csv ({error})") from None
    except library.errors.EmptyDataError:
        raise DataError(f"{path}: has no columns; its first line must name them") from None
    except library.errors.ParserError as error:
        raise DataError(f"{path}: {_parser_message(error)}") from None
    if len(header) == len(frame.columns):
        frame.columns = library.Index(header)  # without the suffix that pandas adds to a repeated name
    if len(first) > len(header):
        raise DataError(f"{path}: row 1 has more values than the {len(header)} names in the first line")
    return _with_whole_numbers(_valid_frame(frame, str(path)))


def _of_parquet(content: bytes, path: Path) -> "pd.DataFrame":
    try:
        from pyarrow import parquet

        size = parquet.ParquetFile(io.BytesIO(content)).metadata
        _check_names(size.schema.to_arrow_schema().names, str(path))
        if size.num_rows * size.num_columns * _CELL > files.MEMORY:
            raise DataError(
                f"{path}: has {size.num_rows:,} rows of {size.num_columns:,} columns, more than memory can hold here; "
                "split it"
            )
        frame: pd.DataFrame = pandas().read_parquet(io.BytesIO(content))
    except ImportError:
        raise DataError(f"{path}: .parquet needs pyarrow; install vaekit[table]") from None
    except DataError:
        raise
    except Exception as error:  # pyarrow raises many types
        raise DataError(f"{path}: cannot be read as .parquet ({reason(error)})") from error
    return frame


def _check_names(names: Sequence[str], name: str) -> None:
    """Refuse more columns than a table may have, or two of the same name."""
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{name}: has {len(names):,} columns, more than the {MOST_COLUMNS:,} that a table may have")
    repeated = next((column for column, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        places = [str(i + 1) for i, column in enumerate(names) if column == repeated]
        count = "two" if len(places) == 2 else str(len(places))
        listed = ", ".join(places[:9]) + (" …" if len(places) > 9 else "")
        raise DataError(f"{name}: {count} columns are called {repeated!r:.120} (numbers {listed}); rename them")


def _valid_frame(frame: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """The frame with texts as names, all different, and rows numbered from 0.

    Raises:
        DataError: The frame has no row or no column, too many columns, or two columns of one name.
    """
    names = [str(column) for column in frame.columns]
    _check_names(names, name)
    if not len(frame) or not names:
        raise DataError(f"{name}: has {len(frame)} rows and {len(names)} columns; at least one of each is needed")
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = content[error.start]
        raise DataError(
            f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8; if it is latin-1: "
            f"iconv -f latin1 -t utf8 {path.name}"
        ) from None


def _separator(text: str, path: Path) -> str:
    """The tab of a .tsv; else the first of comma, semicolon and tab that the first line has."""
    first = text[: text.find("\n")] if "\n" in text else text
    if path.suffix.lower() == ".tsv":
        return "\t"
    return next((mark for mark in (",", ";", "\t") if mark in first), ",")


def _parser_message(error: Exception) -> str:
    reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
    fields = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason)
    if fields:
        return f"line {fields[2]} has {fields[3]} values, the lines before it have {fields[1]}; quote texts with commas"
    quote = re.search(r"EOF inside string starting at row (\d+)", reason)
    if quote:
        return f"line {int(quote[1]) + 1} begins a quoted text that never ends; close or remove the quote"
    return f"cannot be read as .csv ({reason:.200})"


def raws_of(frame: "pd.DataFrame") -> list[Raw]:
    """The columns of a frame.

    Raises:
        DataError: Two columns have the same name, or there is no row.
    """
    frame = frame.to_pandas() if not hasattr(frame, "iloc") else frame  # type: ignore[operator]
    frame = _valid_frame(frame, "the frame")
    return [_raw(name, frame[name]) for name in frame.columns]


def _raw(name: str, series: "pd.Series[Any]") -> Raw:
    library = pandas()
    missing: NDArray[np.bool_] = series.isna().to_numpy()
    if isinstance(series.dtype, library.CategoricalDtype):
        levels = tuple(_plain(level) for level in series.cat.categories.tolist())
        return Raw(name, series.astype(object).to_numpy(), missing, "category", levels, bool(series.cat.ordered))
    if library.api.types.is_datetime64_any_dtype(series.dtype):
        return _dates(name, series, missing)
    if library.api.types.is_bool_dtype(series.dtype):
        return Raw(name, series.astype(object).to_numpy(), missing, "bool")
    if library.api.types.is_numeric_dtype(series.dtype) and not library.api.types.is_complex_dtype(series.dtype):
        dtype = str(series.dtype).lower()
        if missing.any() and library.api.types.is_extension_array_dtype(series.dtype):
            return Raw(name, series.astype("float64").to_numpy(), missing, dtype)
        return Raw(name, series.to_numpy(dtype), missing, dtype)
    return _objects(name, series, missing)


def _with_whole_numbers(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Make integers of float columns with whole numbers; pandas read floats because cells are missing."""
    for name in frame.columns:
        series = frame[name]
        known = series.dropna()
        has_gaps = series.dtype.kind == "f" and 0 < len(known) < len(series)
        if has_gaps and bool(((known == known.round()) & (known.abs() < 2**53)).all()):
            frame[name] = series.astype("Int64")
    return frame


def _objects(name: str, series: "pd.Series[Any]", missing: NDArray[np.bool_]) -> Raw:
    library = pandas()
    values = series.astype(object).to_numpy()
    known = values[~missing]
    if len(known) and all(isinstance(value, (bool, np.bool_)) for value in known):
        return Raw(name, values, missing, "bool")
    if len(known) and isinstance(known[0], str) and _ISO_DATE.fullmatch(known[0]):
        dates = library.to_datetime(series, format="ISO8601", errors="coerce")
        if bool((dates.isna().to_numpy() == missing).all()):
            return _dates(name, dates, missing)
    for row in np.flatnonzero(~missing):
        if not isinstance(values[row], (str, int, float, bool, np.generic)):
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


def _plain(value: Any) -> Level:
    return value.item() if isinstance(value, np.generic) else value


def raws_of_array(array: NDArray[Any], names: Sequence[str] | None = None) -> list[Raw]:
    """The columns of an array (N, D), called x0, x1, … unless they have names; NaN is missing.

    Raises:
        DataError: The array is not a table of numbers.
    """
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "biuf":
        raise DataError(f"a table must be numbers of shape (N, D), got {array.dtype} {array.shape}")
    names = [f"x{i}" for i in range(array.shape[1])] if names is None else names
    missing = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
    dtype = str(array.dtype)
    return [Raw(name, array[:, i], missing[:, i], dtype) for i, name in enumerate(names)]


def _array(path: Path) -> NDArray[Any]:
    """The whole array of a `.npy` or a `.npz`, as it is."""
    if path.suffix.lower() != ".npy":
        return array_of(path)
    rows = FileRows(path)
    return rows[np.arange(rows.shape[0])]


def read_raws(path: Path) -> list[Raw]:
    """The columns of a file: `.csv`, `.tsv`, `.parquet`, or an array (N, D) in `.npy` or `.npz`.

    Raises:
        DataError: The file is damaged, or not a table.
    """
    if path.suffix.lower() in ARRAYS:
        return raws_of_array(_array(path))
    return raws_of(read_frame(path))


def read_table(path: Path) -> "pd.DataFrame":
    """The table of a file as a frame; columns of an array are called x0, x1, …; cells of a text file stay texts.

    Raises:
        DataError: The file is damaged, or not a table.
    """
    if path.suffix.lower() not in ARRAYS:
        return read_frame(path, as_text=True)
    array = _array(path)
    return pandas().DataFrame({raw.name: raw.values for raw in raws_of_array(array)})


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


def check_writable(path: Path) -> None:
    """Check that `write_frame` can write a file of this ending.

    Raises:
        DataError: The ending is not .csv, .tsv, .parquet or .npy.
    """
    if path.suffix.lower() not in (*SUFFIXES, ".npy"):
        raise DataError(f"{path} must end in .csv, .tsv, .parquet or .npy")


def write_frame(frame: "pd.DataFrame", path: Path) -> None:
    """Write a table, in one step: `.csv`, `.tsv`, `.parquet`, or numbers as `.npy`.

    Raises:
        DataError: The ending is another one, or a column is not numeric and the file is a `.npy`.
        RunError: The file cannot be written.
    """
    check_writable(path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        content = frame.to_csv(index=False, sep="," if suffix == ".csv" else "\t").encode()
    elif suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        content = buffer.getvalue()
    else:
        buffer = io.BytesIO()
        try:
            np.save(buffer, frame.to_numpy("float64", na_value=np.nan), allow_pickle=False)
        except (TypeError, ValueError):
            raise DataError(f"{path}: a .npy has numbers only; write .csv or .parquet") from None
        content = buffer.getvalue()
    files.write(path, content)
