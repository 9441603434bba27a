"""Tables in files: `.csv`, `.tsv` and `.parquet`, and arrays (N, D); read into memory, and written.

Not for: files that are too large for memory (`large_tables`), or frames (`frames`).
"""

import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, reason
from ...store import files
from ..dataset import SPLIT_WORDS
from ..sources.archives import array_of
from ..sources.arrays import FileRows
from ..sources.file_access import read_file
from ..value_kinds import ValueKind
from .column_kinds import Raw
from .columns import DATES, Column
from .frames import check_names, pandas, raws_of, raws_of_array, valid_frame, with_whole_numbers

if TYPE_CHECKING:
    import pandas as pd

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
ARRAY_SUFFIXES = (".npy", ".npz")
_COPIES = 8  # reading a file takes at most this many times its size: text, cells, numbers
_CELL = 256  # bytes, four times the size of a cell; a small .parquet can hold very many cells
_QUOTED = re.compile(r'(?<![^,;\t ])"(?:[^"]|"")*"')  # a quoted name


def is_table_file(name: str) -> bool:
    """Whether a path has the ending of a table."""
    return Path(name).suffix.lower() in TABLE_SUFFIXES


def split_files(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """The tables of a folder by split, such as train.csv, val.csv and test.csv; empty without a table to train on."""
    path = Path(os.path.expanduser(folder))
    files: dict[str, Path] = {}
    for split, words in SPLIT_WORDS.items():
        choices = (path / f"{word}{suffix}" for word in words for suffix in reversed(TABLE_SUFFIXES))
        file = next(filter(Path.is_file, choices), None)
        if file is not None:
            files[split] = file
    return files if "train" in files else {}


def is_table(name: str, value_kind: ValueKind = "table") -> bool:
    """Whether a path leads to a table: a table file, a folder of them, or an array if `value_kind` asks for a table."""
    if is_table_file(name) or (value_kind == "table" and Path(name).suffix.lower() in ARRAY_SUFFIXES):
        return True
    return os.path.isdir(os.path.expanduser(name)) and bool(split_files(name))


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
        return valid_frame(_of_parquet(content, path), str(path))
    text = _text(content, path)
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False} if as_text else {"low_memory": False}
    with text_errors(path):
        separator, header = first_lines(io.StringIO(text), path)
        frame = library.read_csv(io.StringIO(text), sep=separator, skipinitialspace=True, **options)
    names = column_names(frame.columns, header)
    frame = valid_frame(frame.set_axis(names, axis=1), str(path))
    for name in frame.columns:
        frame[name] = with_whole_numbers(frame[name])
    return frame


def first_lines(text: Iterable[str], path: Path) -> tuple[str, list[str]]:
    """The separator of a text file, and the names in its first line.

    Raises:
        DataError: Two columns have the same name, or the first row has more values than there are names.
    """
    lines = iter(text)
    first = next(lines, "")
    separator = _separator(first, path)
    rows = csv.reader(itertools.chain([first], lines), delimiter=separator, skipinitialspace=True)
    header, row = next(rows, []), next(rows, [])
    check_names(header, str(path))  # before pandas, which is slow with many equal names
    if len(row) > len(header):
        raise DataError(f"{path}: row 1 has more values than the {len(header)} names in the first line")
    return separator, header


def column_names(columns: Sequence[Any], header: list[str]) -> list[str]:
    """The names of the columns that pandas read, without the suffix that it adds to a repeated name."""
    return header if len(header) == len(columns) else [str(column) for column in columns]


@contextmanager
def text_errors(path: Path) -> Iterator[None]:
    """Say where a text file is damaged.

    Raises:
        DataError: The block cannot read the file.
    """
    try:
        yield
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as .csv ({error})") from None
    except pandas().errors.EmptyDataError:
        raise DataError(f"{path}: has no columns; its first line must name them") from None
    except pandas().errors.ParserError as error:
        raise DataError(f"{path}: {_parser_message(error)}") from None


def _of_parquet(content: bytes, path: Path) -> "pd.DataFrame":
    rows, columns = parquet_size(io.BytesIO(content), path)
    if not can_read(0, rows * columns):
        raise DataError(f"{path}: has {rows:,} rows of {columns:,} columns, more than memory can hold here; split it")
    with parquet_errors(path):
        frame: pd.DataFrame = pandas().read_parquet(io.BytesIO(content))
    return frame


def parquet_size(file: IO[bytes], path: Path) -> tuple[int, int]:
    """The numbers of rows and columns of a `.parquet`.

    Raises:
        DataError: The file is damaged, or two of its columns have the same name.
    """
    with parquet_errors(path):
        from pyarrow import parquet

        size = parquet.ParquetFile(file).metadata
        check_names(size.schema.to_arrow_schema().names, str(path))
        return size.num_rows, size.num_columns


@contextmanager
def parquet_errors(path: Path) -> Iterator[None]:
    """Explain why a `.parquet` cannot be read.

    Raises:
        DataError: The block cannot read the file, or pyarrow is not installed.
    """
    try:
        yield
    except ImportError:
        raise DataError(f"{path}: .parquet needs pyarrow; install vaekit[table]") from None
    except DataError:
        raise
    except Exception as error:  # pyarrow raises many types
        raise DataError(f"{path}: cannot be read as .parquet ({reason(error)})") from error


def can_read(size: int, cells: int = 0) -> bool:
    """Whether memory can hold, at once, the table of a file of `size` bytes, with this number of cells."""
    return size * _COPIES <= files.MACHINE_MEMORY and cells * _CELL <= files.MACHINE_MEMORY


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, content[: error.start].count(b"\n") + 1, content[error.start]) from None


def not_utf8(path: Path, line: int, byte: int) -> DataError:
    """The error for a file that is not UTF-8."""
    return DataError(
        f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8; if it is latin-1: "
        f"iconv -f latin1 -t utf8 {path.name}"
    )


def _separator(first: str, path: Path) -> str:
    """The tab of a .tsv; else that of comma, semicolon and tab which the first line has most often outside quotes."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    return max(",;\t", key=_QUOTED.sub("", first).count)


def _parser_message(error: Exception) -> str:
    reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
    fields = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason)
    if fields:
        return f"line {fields[2]} has {fields[3]} values, the lines before it have {fields[1]}; quote texts with commas"
    quote = re.search(r"EOF inside string starting at row (\d+)", reason)
    if quote:
        return f"line {int(quote[1]) + 1} begins a quoted text that never ends; close or remove the quote"
    return f"cannot be read as .csv ({reason:.200})"


def _array_in(path: Path) -> NDArray[Any]:
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
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return raws_of_array(_array_in(path))
    return raws_of(read_frame(path))


def read_table(path: Path) -> "pd.DataFrame":
    """The table of a file as a frame; columns of an array are called x0, x1, …; cells of a text file stay texts.

    Raises:
        DataError: The file is damaged, or not a table.
    """
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return read_frame(path, as_text=True)
    array = _array_in(path)
    return pandas().DataFrame({raw.name: raw.values for raw in raws_of_array(array)})


def check_writable(path: Path, columns: Sequence[Column] = ()) -> None:
    """Check that `write_frame` can write a file of this ending.

    Arguments:
        path: The file.
        columns: Columns that the table will have.

    Raises:
        DataError: The ending is not .csv, .tsv, .parquet or .npy, or a column is not numeric and the file is a `.npy`.
    """
    if path.suffix.lower() not in (*TABLE_SUFFIXES, ".npy"):
        raise DataError(f"{path} must end in .csv, .tsv, .parquet or .npy")
    if path.suffix.lower() == ".npy":
        for column in columns:
            if column.dtype in DATES or any(isinstance(level, str) for level in column.levels):
                raise DataError(_not_numeric(path))


def _not_numeric(path: Path) -> str:
    return f"{path}: a .npy has numbers only; write .csv or .parquet"


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
            raise DataError(_not_numeric(path)) from None
        content = buffer.getvalue()
    files.write(path, content)
