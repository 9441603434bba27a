"""Tables that are too large for memory: `.csv`, `.tsv`, `.parquet` and `.npy`, read one column at a time.

A `.parquet` is stored by columns. The other files are read in pieces and copied into a temporary `.parquet`, which has
no name and goes away with this process, however it ends. Each column then has the values and the type that it has when
its whole file is read at once.

Not for: tables in memory (`frames`), or rows as models take them (`encoded_rows`).
"""

import codecs
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from ...errors import DataError
from ...store import files
from ..sources.arrays import FileRows
from ..sources.file_access import check_room, disk_errors, open_file, temporary_file
from . import frames, table_files
from .column_kinds import Raw

if TYPE_CHECKING:
    import pandas as pd

_CELLS_AT_ONCE = 1 << 21  # cells that are read at a time
_COLUMN_CELL = 100  # bytes, for each cell of the column that is read
_BLOCK = 1 << 20  # bytes


@final
class LazyColumns(Mapping[str, Raw]):
    """The columns of a table, each read when it is asked for.

    Arguments:
        names: Names of the columns.
        read: Reads a column.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], Raw]) -> None:
        self.names = dict.fromkeys(names)
        self.read = read

    def __getitem__(self, name: str) -> Raw:
        if name not in self.names:
            raise KeyError(name)
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def is_large(path: Path, memory: float) -> bool:
    """Whether to read a table in pieces, because its text or its numbers in single precision take more than `memory`.

    A text file or a `.parquet` that this machine's memory cannot hold is read in pieces too.

    Arguments:
        path: The file.
        memory: GiB.

    Raises:
        DataError: The file is missing or damaged.
    """
    limit, suffix = memory * 2**30, path.suffix.lower()
    if suffix == ".npy":
        return 4 * math.prod(FileRows(path).shape) > limit
    if suffix == ".npz":
        return False  # it is unpacked into memory in any case
    with open_file(path) as file:
        size = file.seek(0, io.SEEK_END)
        if suffix != ".parquet":
            return size > limit or not table_files.can_read(size)
        rows, columns = table_files.parquet_size(file, path)
        return 4 * rows * columns > limit or not table_files.can_read(size, rows * columns)


def read_columns(path: Path) -> tuple[LazyColumns, int]:
    """The columns of a large table, and the number of its rows.

    Raises:
        DataError: The file is damaged, or not a table.
    """
    suffix = path.suffix.lower()
    read = _of_array if suffix == ".npy" else _of_parquet if suffix == ".parquet" else _of_text
    columns, rows = read(path)
    if rows * _COLUMN_CELL > files.MACHINE_MEMORY:
        raise DataError(
            f"{path}: has {rows:,} rows of {len(columns):,} columns, more than memory can hold of one column; split it"
        )
    check_room(path, 8 * rows * len(columns))
    return columns, rows


def _of_parquet(path: Path) -> tuple[LazyColumns, int]:
    from pyarrow import parquet

    with open_file(path) as file:
        rows, _ = table_files.parquet_size(file, path)
        columns = list(parquet.read_schema(file).empty_table().to_pandas().columns)  # without the index
    names = [str(column) for column in columns]
    frames.check_table(names, rows, str(path))

    def read(name: str) -> Raw:
        column = columns[names.index(name)]
        with open_file(path) as file, table_files.parquet_errors(path):
            frame = parquet.ParquetFile(file).read([name], use_pandas_metadata=True).to_pandas()
        return frames.raw_of(name, frame[column].reset_index(drop=True))

    return LazyColumns(names, read), rows


def _of_array(path: Path) -> tuple[LazyColumns, int]:
    array = FileRows(path)
    frames.raws_of_array(array[np.arange(min(1, array.shape[0]))])  # refuses what is not a table
    count, width = array.shape
    stored = np.dtype(np.float32) if array.dtype == np.float16 else array.dtype.newbyteorder("=")
    step = max(1, _CELLS_AT_ONCE // width)
    pieces = (array[np.arange(a, min(a + step, count))].astype(stored) for a in range(0, count, step))
    copy = _Copy([stored] * width, (list(np.ascontiguousarray(piece.T)) for piece in pieces))

    def read(name: str) -> Raw:
        values = copy.column(int(name[1:])).to_numpy().astype(array.dtype)
        return frames.raws_of_array(values[:, None], [name])[0]

    return LazyColumns([f"x{i}" for i in range(width)], read), count


def _of_text(path: Path) -> tuple[LazyColumns, int]:
    with open_file(path) as file:
        check_room(path, file.seek(0, io.SEEK_END))
    _check_text(path)
    with table_files.text_errors(path), io.TextIOWrapper(open_file(path), "utf-8-sig", newline="\n") as text:
        separator, header = table_files.first_lines(text, path)
    pieces = _Pieces(path, separator, max(1, _CELLS_AT_ONCE // max(1, len(header))))
    types = _types(pieces)
    names = table_files.column_names(list(types), header)
    frames.check_table(names, pieces.rows, str(path))
    parsed = {column: "str" if kind == "string" else kind for column, kind in types.items() if kind != "bool"}
    copy = _Copy(list(types.values()), ([piece[column] for column in types] for piece in pieces(parsed)))
    places = {name: i for i, name in enumerate(names)}

    def read(name: str) -> Raw:
        return frames.raw_of(name, frames.with_whole_numbers(copy.column(places[name])))

    return LazyColumns(names, read), pieces.rows


def _check_text(path: Path) -> None:
    """Refuse a file that is not UTF-8, and name the line."""
    decoder, lines = codecs.getincrementaldecoder("utf-8")(), 1
    with open_file(path) as file:
        while True:
            block = file.read(_BLOCK)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line = lines + error.object[: error.start].count(b"\n")
                raise table_files.not_utf8(path, line, error.object[error.start]) from None
            if not block:
                return
            lines += block.count(b"\n")


@final
class _Pieces:
    """Frames of a text file, one after the other.

    Arguments:
        path: The file.
        separator: Text between two cells.
        size: Rows of a frame.
    """

    def __init__(self, path: Path, separator: str, size: int) -> None:
        self.path = path
        self.options = {"sep": separator, "skipinitialspace": True, "low_memory": False, "encoding": "utf-8-sig"}
        self.size = size
        self.rows = 0  # read by the last pass

    def __call__(self, types: Mapping[Any, str] | None = None) -> Iterator["pd.DataFrame"]:
        self.rows = 0
        with open_file(self.path) as file, table_files.text_errors(self.path):
            read = frames.pandas().read_csv(file, dtype=types, chunksize=self.size, **self.options)
            with read as pieces:
                for piece in pieces:
                    self.rows += len(piece)
                    yield piece


def _types(pieces: _Pieces) -> dict[Any, str]:
    """The type of each column of a file: what pandas would choose if it read all rows at once."""
    kinds: dict[Any, set[str]] = {}
    for piece in pieces():
        for column in piece.columns:
            kinds.setdefault(column, set()).update(_kinds(piece[column]))
    return {column: _common(found) for column, found in kinds.items()}


def _kinds(values: "pd.Series[Any]") -> set[str]:
    known = values.dropna()
    gaps = {"gaps"} if len(known) < len(values) else set()
    if not len(known):
        return gaps
    if values.dtype.kind in "iuf":
        return gaps | {"negative" if values.dtype.kind == "i" and known.min() < 0 else values.dtype.kind}
    if all(isinstance(value, bool) for value in known.tolist()):
        return gaps | {"b"}
    beyond_64_bits = all(isinstance(value, int) for value in known.tolist())
    return gaps | {"f" if beyond_64_bits else "text"}


def _common(kinds: set[str]) -> str:
    """The type of a column with pieces of these kinds."""
    seen = kinds - {"gaps"}
    if seen == {"b"}:
        return "bool"
    if "u" in seen and not seen & {"b", "text", "negative", "f"} and "gaps" not in kinds:
        return "uint64"
    if "text" in seen or "b" in seen or "u" in seen:
        return "string"
    return "int64" if seen and "f" not in seen and "gaps" not in kinds else "float64"


@final
class _Copy:
    """Columns of a large file in a temporary `.parquet`, by their places.

    Arguments:
        types: Type of each column.
        pieces: Blocks of rows, in order; each is a list of columns.
    """

    def __init__(self, types: Sequence[Any], pieces: Iterable[Sequence[Any]]) -> None:
        import pyarrow
        from pyarrow import parquet

        kinds = [pyarrow.string() if t == "string" else pyarrow.from_numpy_dtype(np.dtype(t)) for t in types]
        schema = pyarrow.schema([(str(i), kind) for i, kind in enumerate(kinds)])
        texts = [field.name for field in schema if field.type == pyarrow.string()]
        file = temporary_file(self)
        with disk_errors(), parquet.ParquetWriter(file, schema, use_dictionary=texts) as writer:
            for piece in pieces:
                columns = [pyarrow.array(v, kind, from_pandas=True) for v, kind in zip(piece, kinds, strict=True)]
                writer.write_table(pyarrow.table(columns, schema=schema))
        self.reader = parquet.ParquetFile(file)

    def column(self, place: int) -> "pd.Series[Any]":
        """The values of a column."""
        values: pd.Series[Any] = self.reader.read([str(place)]).to_pandas()[str(place)]
        return values
