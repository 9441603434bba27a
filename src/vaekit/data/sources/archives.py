"""Rows in a `.npz`, unpacked into memory: arrays by name, SciPy's sparse matrix, or the latents of `vae encode`."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, reason
from ..labels import numbered_labels
from ..value_kinds import ValueKind
from .arrays import ArrayReader, OpenedPath, as_opened_path, read_header
from .file_access import open_file

_NPZ_LIMIT = 4 << 30  # bytes of an array in an .npz, unpacked into memory
_SPARSE = {"indices", "indptr", "data", "shape", "format"}  # the keys of `scipy.sparse.save_npz`
_NAMES = (("images", "x", "x_train"), ("labels", "y", "y_train"))
_LATENTS = [{"z", rows, "classes"} for rows in ("images", "rows")]  # the keys of `vae encode`: latents and names


@dataclass(frozen=True, eq=False)
class _Content:
    """Rows and labels with their names in the file; the last `test_rows` rows come from `x_test`."""

    name: str
    x: NDArray[Any]
    label_key: str | None = None
    labels: NDArray[Any] | None = None
    test_rows: int = 0


def open_npz(path: Path, value_kind: ValueKind = "pixels", are_signals: bool = False) -> OpenedPath:
    """Rows of a `.npz`, read into memory.

    They are under `images` or `x`, with labels under `labels` or `y` if there are any; under `x_train` and `x_test`,
    with `y_train` and `y_test`; a sparse matrix (N, D); or latents that `vae encode` wrote.

    Raises:
        DataError: The file is damaged or too large, or has no images.
    """
    with _unpacked(path) as archive:
        content = _content(archive, path)
        reader = ArrayReader(content.x, content.name, value_kind, are_signals=are_signals)
        count = len(content.x)
        named = (
            None if content.labels is None else numbered_labels(content.labels, count, f"{path}: {content.label_key}")
        )
        files = [(path.name, path.stat().st_size)]
        return as_opened_path(reader, count, named, files, path.parent, test_rows=content.test_rows)


def array_of(path: Path) -> NDArray[Any]:
    """The table in a `.npz`: its array under `images` or `x`, or its sparse matrix.

    Raises:
        DataError: The file is damaged, too large, or split into training and test rows.
    """
    with _unpacked(path) as archive:
        content = _content(archive, path)
    if content.test_rows:
        raise DataError(f"{path}: a table is one array; save x_train and x_test as two files, the second for test")
    return content.x


@contextmanager
def _unpacked(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # zipfile and its decompressors raise many types
        raise DataError(f"{path}: cannot be read as .npz ({reason(error)})") from error


def _content(archive: zipfile.ZipFile, path: Path) -> _Content:
    keys = [name.removesuffix(".npy") for name in archive.namelist()]
    if set(keys) >= _SPARSE:
        return _Content(str(path), _dense(archive, path))
    if set(keys) in _LATENTS:
        return _Content(f"{path}: z", _member(archive, "z", path), "classes", _member(archive, "classes", path))
    images, labels = (next((key for key in names if key in keys), None) for names in _NAMES)
    if images is None:
        present = ", ".join(map(repr, keys))
        raise DataError(f"{path}: images must be under the key 'images' or 'x', it has: {present:.200}")
    x = _member(archive, images, path)
    y = None if labels is None else _member(archive, labels, path)
    test_rows = 0
    if images == "x_train" and "x_test" in keys:
        more = _member(archive, "x_test", path)
        if more.shape[1:] != x.shape[1:] or more.dtype != x.dtype:
            raise DataError(
                f"{path}: x_train and x_test must be alike, got {x.dtype} {x.shape} and {more.dtype} {more.shape}"
            )
        x, test_rows = np.concatenate((x, more)), len(more)
        y = None if y is None else np.concatenate((y, _member(archive, "y_test", path)))
    y = y.reshape(-1) if y is not None and y.shape == (len(x), 1) else y  # Keras has labels (N, 1)
    return _Content(f"{path}: {images}", x, labels, y, test_rows)


def _dense(archive: zipfile.ZipFile, path: Path) -> NDArray[Any]:
    """The matrix (N, D) that `scipy.sparse.save_npz` wrote, in full."""
    indices, starts, data, shape, form = (
        _member(archive, key, path) for key in ("indices", "indptr", "data", "shape", "format")
    )
    kind = form.item().decode() if form.dtype.kind == "S" else str(form.item())
    if kind not in ("csr", "csc") or shape.shape != (2,):
        raise DataError(f"{path}: a sparse matrix must be CSR or CSC, got {kind!r:.20}; use .tocsr()")
    rows, columns = (int(size) for size in shape)
    if rows * columns * data.itemsize > _NPZ_LIMIT:
        raise DataError(
            f"{path}: in full, {rows} × {columns} values take more than {_NPZ_LIMIT} bytes; leave out rows or columns"
        )
    lines, across = (rows, columns) if kind == "csr" else (columns, rows)
    counts = np.diff(starts)
    fits = len(starts) == lines + 1 and starts[0] == 0 and starts[-1] == len(indices) == len(data)
    if not fits or (counts < 0).any() or (len(indices) and not 0 <= indices.min() <= indices.max() < across):
        raise DataError(f"{path}: is not a sparse matrix of shape {rows} × {columns}; save it again")
    places = np.repeat(np.arange(lines), counts)
    dense: NDArray[Any] = np.zeros((rows, columns), data.dtype)
    np.add.at(dense, (places, indices) if kind == "csr" else (indices, places), data)
    return dense


def _member(archive: zipfile.ZipFile, key: str, path: Path) -> NDArray[Any]:
    if f"{key}.npy" not in archive.namelist():
        raise DataError(f"{path}: has no {key!r}")
    member = archive.getinfo(f"{key}.npy")
    if member.file_size > _NPZ_LIMIT:
        raise DataError(
            f"{path}: {key} takes {member.file_size} bytes, but an .npz is unpacked into memory, at most {_NPZ_LIMIT}; "
            "save the images as .npy, which is read from disk"
        )
    with archive.open(member) as stream:
        shape, _, dtype = read_header(stream, f"{path}: {key}", "npz")
        promised = stream.tell() + math.prod(shape) * dtype.itemsize
    if promised > member.file_size:  # checked before memory is allocated
        raise DataError(f"{path}: {key} is truncated, {member.file_size} bytes instead of {promised}")
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array
