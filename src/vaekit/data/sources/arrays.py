"""Rows in arrays, and in NumPy's `.npy`, read from disk: nothing is unpickled, and sizes are checked first.

Not for: `.npz` (`archives`).
"""

import io
import math
import os
import struct
import warnings
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DataError, reason
from ..labels import NumberedLabels, numbered_labels
from ..ondisk import Reader
from ..value_kinds import RANGES, ValueKind, check_values
from .file_access import open_file

_HEADER_LIMIT = 10_000  # bytes: NumPy's own limit, which NumPy checks only when the header is in memory
_READ_AT_RANDOM = 1 << 30  # bytes; a larger file is hardly read in order
_SAMPLED_ROWS = 256  # evenly spread rows that are searched for masks of 0 and 1
_CHANNELS = (1, 3)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, eq=False)
class OpenedPath:
    """The contents of a path.

    Arguments:
        reader: Reads its rows.
        count: Number of rows.
        labels: (N,) int64; None without labels.
        classes: Class names; label i means `classes[i]`.
        files: Name and size of every file.
        folder: Folder of the files.
        test_rows: Number of test rows, the last ones; 0 if the file does not say.
        names: The file of each row; None for an array, whose rows have numbers.
    """

    reader: Reader
    count: int
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    files: list[tuple[str, int]]
    folder: Path
    test_rows: int = 0
    names: Sequence[str] | None = None


class Indexable(Protocol):
    """An array, in memory or in a file, whose rows can be read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its numbers."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[Any]: ...


@final
class FileRows:
    """Rows of a `.npy`, read on access; several threads may read at once.

    The file is not mapped into memory: if a mapped file gets shorter, the process ends (SIGBUS).

    Arguments:
        path: The file; only for messages if `opened` is given.
        opened: The file, already open. The caller may close it: this object has a descriptor of its own.

    Raises:
        DataError: The file is missing or damaged, or has no array that can be read.
    """

    def __init__(self, path: Path, opened: IO[bytes] | None = None) -> None:
        self.path = path
        with open_file(path) if opened is None else nullcontext(opened) as file:
            file.seek(0)
            shape, fortran, dtype = read_header(file, f"{path}", "npy")
            self.offset = file.tell()
            size = os.fstat(file.fileno()).st_size
            self.descriptor = os.dup(file.fileno())
        self.shape = shape
        self.fortran = fortran
        self.dtype = dtype
        weakref.finalize(self, os.close, self.descriptor)
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        if not self.shape:
            raise DataError(f"{path}: has one number and no rows; save an array (N, …)")
        promised = self.offset + self.shape[0] * self.row_bytes
        if promised > size:
            raise DataError(
                f"{path}: has {size} bytes, but its header promises {promised}: it is cut short; bring the whole file "
                "back"
            )
        if size > _READ_AT_RANDOM and hasattr(os, "posix_fadvise"):
            # without this the system reads 128 KiB for each row: 17 times as slow
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        if self.fortran or not hasattr(os, "pread"):
            return self._mapped()[rows]
        content: NDArray[Any] = np.empty((len(rows), self.row_bytes), np.uint8)
        if not content.size:
            return np.empty((len(rows), *self.shape[1:]), self.dtype)
        memory = memoryview(content)  # type: ignore[arg-type]
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)  # where runs of consecutive rows begin
        for a, b in zip(starts, [*starts[1:], len(rows)], strict=True):
            self._read(memory[a:b].cast("B"), self.offset + int(rows[a]) * self.row_bytes)
        return content.view(self.dtype).reshape(len(rows), *self.shape[1:])

    def _read(self, into: memoryview, offset: int) -> None:
        while into:
            count = os.preadv(self.descriptor, [into], offset) if hasattr(os, "preadv") else self._copy(into, offset)
            if not count:
                raise DataError(f"{self.path}: is shorter than it was when it was opened; bring the whole file back")
            into, offset = into[count:], offset + count

    def _copy(self, into: memoryview, offset: int) -> int:
        content = os.pread(self.descriptor, len(into), offset)
        into[: len(content)] = content
        return len(content)

    def _mapped(self) -> NDArray[Any]:
        if os.fstat(self.descriptor).st_size < self.offset + self.shape[0] * self.row_bytes:
            raise DataError(f"{self.path}: is shorter than it was when it was opened; bring the whole file back")
        order: Literal["F", "C"] = "F" if self.fortran else "C"
        with os.fdopen(os.dup(self.descriptor), "rb") as file:
            mapped: NDArray[Any] = np.memmap(file, self.dtype, "r", self.offset, self.shape, order)
        return np.asarray(mapped)


def read_header(stream: IO[bytes], name: str, kind: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array, from its header; no more is read than NumPy's limit.

    Raises:
        DataError: The header is missing, damaged or too long.
    """
    try:
        magic = stream.read(8)
        version = np.lib.format.read_magic(io.BytesIO(magic))
        if version not in _HEADERS:
            raise ValueError(f"its version is {version[0]}.{version[1]}")
        size = stream.read(2 if version == (1, 0) else 4)
        (length,) = struct.unpack("<H" if version == (1, 0) else "<I", size)
        if length > _HEADER_LIMIT:
            raise ValueError(f"its header of {length} bytes is longer than {_HEADER_LIMIT}")
        shape, fortran, dtype = _HEADERS[version](io.BytesIO(size + stream.read(length)))
        if dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded: Python objects in dtype")
        if any(n < 0 for n in shape):
            raise ValueError(f"its shape is {shape}")
    except DataError:
        raise
    except Exception as error:  # the header is Python's syntax, which raises many types
        raise DataError(f"{name}: cannot be read as .{kind} ({reason(error)})") from error
    return tuple(shape), fortran, dtype


@final
class ArrayReader:
    """Rows of an array. `value_kind` says what its numbers mean; see `vaekit.data.value_kinds`.

    Bytes stay bytes, unless they are counts; other numbers become float32. For pixels, booleans and the whole numbers 0
    and 1 are black and white, and 16 bits are divided by 65535.

    Arguments:
        array: Images (N, H, W), (N, C, H, W) or (N, H, W, C), C = 1 or 3; or a table (N, D); or signals (N, L) or
            (N, C, L).
        name: Name of the array for messages.
        value_kind: Meaning of the numbers.
        are_signals: Whether the rows are signals, (C, L).

    Raises:
        DataError: The array has a type or a shape that cannot be read.
    """

    threads = 4  # they wait for the disk, not for a processor
    takes_gaps = False  # whether NaN, a missing value, is read rather than refused; see `with_gaps`

    def __init__(
        self, array: Indexable, name: str, value_kind: ValueKind = "pixels", *, are_signals: bool = False
    ) -> None:
        self.array = array
        self.name = name
        self.value_kind = value_kind
        self.as_bytes = array.dtype == np.uint8 and value_kind != "counts"
        self.dtype = torch.uint8 if self.as_bytes else torch.float32
        kinds = "fiub" if value_kind != "counts" else "fiu"
        if array.dtype.kind not in kinds or (value_kind == "pixels" and self._is_wide()):
            raise DataError(f"{name}: {_TAKEN[value_kind]}, got {array.dtype}; use astype")
        shape, self.channels = tuple(array.shape), None
        if are_signals and (0 in shape or len(shape) not in (2, 3)):
            raise DataError(f"{name}: signals must be (N, L) or (N, C, L), got {shape}")
        if 0 in shape or len(shape) not in (2, 3, 4) or (len(shape) == 4 and not {*_CHANNELS} & {shape[1], shape[3]}):
            raise DataError(
                f"{name}: images must be (N, H, W), (N, C, H, W) or (N, H, W, C) with C = 1 or 3, and tables (N, D), "
                f"got {shape}"
            )
        if len(shape) == (2 if are_signals else 3):
            shape = (shape[0], 1, *shape[1:])
        elif len(shape) == 4 and shape[1] not in _CHANNELS:
            self.channels = 3
            shape = (shape[0], shape[3], *shape[1:3])
        self.shape: tuple[int, ...] = shape[1:]
        if self.as_bytes or array.dtype == np.uint16:
            self._look_for_masks()

    def with_gaps(self) -> "ArrayReader":
        """A reader of the same rows that reads NaN, a missing value, rather than refuse it."""
        reader = copy(self)
        reader.takes_gaps = True
        return reader

    def _is_wide(self) -> bool:
        """Whether these are integers of many levels: neither bytes nor 16 bits, and not only 0 and 1 in a sample."""
        if self.array.dtype.kind not in "iu" or self.array.dtype in (np.uint8, np.uint16):
            return False
        sample = self._sample()
        return bool(((sample != 0) & (sample != 1)).any())

    def _sample(self) -> NDArray[Any]:
        count = self.array.shape[0]
        return self.array[np.arange(0, count, max(1, count // _SAMPLED_ROWS))] if count else np.zeros(0, np.uint8)

    def _look_for_masks(self) -> None:
        greatest = int(self._sample().max(initial=0))
        most = 255 if self.as_bytes else 65535
        if self.value_kind == "pixels" and (greatest == 1 or (most > 255 and 0 < greatest <= 255)):
            warnings.warn(
                f"{self.name}: the greatest value is {greatest} of {most}, almost black; save masks of 0 and 1 as "
                "bool, and values up to 255 as uint8",
                stacklevel=2,
            )

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """The rows of these indices, (n, C, H, W), (n, D) or, for signals, (n, C, L)."""
        part = self.array[rows]
        part = part if self.channels is None else np.moveaxis(part, self.channels, 1)
        images = torch.from_numpy(np.array(part, np.uint8 if self.as_bytes else np.float32, order="C"))
        images = images.reshape(len(rows), *self.shape)
        if self.value_kind == "pixels" and part.dtype == np.uint16:
            images.div_(65535)
        if not self.as_bytes:
            self._check(images, rows)
        return images

    def _check(self, images: Tensor, rows: NDArray[np.int64]) -> None:
        """Refuse numbers that do not fit `value_kind`, and name the row."""
        gaps = images.isnan()
        gappy = gaps.flatten(1).any(1)
        if bool(gappy.any()) and not bool(gaps.flatten(1).all(1).any()):  # a row without any value is refused below
            if not self.takes_gaps:
                raise DataError(
                    f"{self.name}: row {rows[int(gappy.long().argmax())]} has NaN, a missing value, which only rows in "
                    "memory can have; raise memory, or fill it in"
                )
            images = images.masked_fill(gaps, 0)
        try:
            check_values(images, RANGES[self.value_kind], whole=self.value_kind == "counts", who=self.name)
        except DataError as error:
            empty = gaps.flatten(1).all(1)
            if bool(empty.any()):
                raise DataError(
                    f"{self.name}: row {rows[int(empty.long().argmax())]} has only NaN; leave it out"
                ) from None
            low, high = images.flatten(1).aminmax(dim=1)
            if self.value_kind != "pixels":
                raise
            good = (low >= 0) & (high <= 1)  # both are false for NaN
            i = int(good.long().argmin())
            raise DataError(
                f"{self.name}: floats must be in [0, 1], but image {rows[i]} goes from {low[i]:.4g} to "
                f"{high[i]:.4g}; scale the images, or save 0 … 255 as uint8; or choose a likelihood of real numbers, "
                "'normal', or of counts, 'poisson'; for signals (N, C, L) use the preset 'signal-vae'"
            ) from error


_TAKEN = {
    "pixels": "images must be uint8, or floats in [0, 1]",
    "real": "values must be numbers",
    "counts": "counts must be whole numbers",
}


def open_npy(path: Path, value_kind: ValueKind = "pixels", are_signals: bool = False) -> OpenedPath:
    """Rows of a `.npy`, read from disk; their labels are in `NAME-labels.npy` beside it, if that exists.

    Raises:
        DataError: The file is damaged, or has no images.
    """
    reader = ArrayReader(FileRows(path), str(path), value_kind, are_signals=are_signals)
    beside = path.with_name(f"{path.stem}-labels.npy")
    count = reader.array.shape[0]
    named = None
    if beside.exists():
        stored = FileRows(beside)
        named = numbered_labels(stored[np.arange(stored.shape[0])], count, str(beside))
    files = [path] if named is None else [path, beside]
    return as_opened_path(reader, count, named, [(f.name, f.stat().st_size) for f in files], path.parent)


def as_opened_path(
    reader: ArrayReader,
    count: int,
    named: NumberedLabels | None,
    files: list[tuple[str, int]],
    folder: Path,
    test_rows: int = 0,
) -> OpenedPath:
    """An opened path; without labels all rows are of one class, "all"."""
    labels, classes = named if named is not None else (None, ("all",))
    return OpenedPath(reader, count, labels, classes, files=files, folder=folder, test_rows=test_rows)
