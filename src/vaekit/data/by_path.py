"""Read the user's own images, vectors and signals by path: a `.npy`, a `.npz` or a folder. Many rows stay on disk.

    NAME.npy   images (N, H, W), (N, C, H, W) or (N, H, W, C), or vectors (N, D); the labels are in NAME-labels.npy
    NAME.npz   `images` or `x`, and maybe `labels` or `y`; Keras's `x_train`, `y_train`, `x_test` and `y_test`; or
               SciPy's sparse matrix of counts; or latents that `vae encode` wrote
    folder     images; its subfolders are classes

Numbers in arrays are uint8, bool, uint16 (divided by 65535) or floats in [0, 1]; with another `value_kind` they are
counts or real numbers. NaN is a missing value. Classes are the labels that occur; without labels all rows are of one
class, "all".

Not for: data sets by name (`by_name`), or tables (`table`).
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, check_count
from .chosen_rows import held_out
from .dataset import SPLITS, DataKind, Dataset, Split
from .labels import renumbered
from .ondisk import IN_MEMORY, RowIndices, Stored
from .origin import Origin
from .sources.archives import open_npz
from .sources.arrays import ArrayReader, OpenedPath, open_npy
from .sources.file_access import open_file
from .sources.image_folder import open_folder, split_folders
from .table.table_files import TABLE_SUFFIXES
from .value_kinds import ValueKind

_BLOCKS, _BLOCK = 256, 1 << 16  # number and bytes of the blocks in a checksum


def is_path(name: str) -> bool:
    """Whether a name is a path, given that no data set has this name."""
    return (
        "/" in name
        or os.sep in name
        or Path(name).suffix.lower() in (*_OPENERS, *TABLE_SUFFIXES)
        or os.path.exists(name)
    )


def load_by_path(
    name: str,
    *,
    validation: int | None = None,
    test: int | None = None,
    size: int | None = None,
    memory: float | None = None,
    value_kind: ValueKind = "pixels",
    kind: DataKind | None = None,
) -> Dataset:
    """Images, vectors or signals by path; see `vaekit.data.load`.

    Raises:
        DataError: The path does not exist, or its images are damaged, too few or of several kinds.
        ConfigError: An option is out of range, or does not apply to the path.
    """
    if size is not None:
        check_count("size, in pixels,", size)
    opened = _open(Path(os.path.expanduser(name)), size, value_kind, kind)
    chosen = dict(zip(SPLITS, _chosen(name, opened, validation, test), strict=True))
    in_memory = _fits(opened, IN_MEMORY if memory is None else memory)
    splits = {split: _split(opened, rows, in_memory) for split, rows in chosen.items()}
    checksum = _checksum(opened, f"size {size}, test {len(chosen['test'])}")
    return Dataset.of_splits(name, splits, classes=opened.classes, checksum=checksum, kind=kind)


def _chosen(name: str, opened: OpenedPath, validation: int | None, test: int | None) -> tuple[RowIndices, ...]:
    """Indices of the rows to train on, to validate with and to test on."""
    row_word = "image" if len(opened.reader.shape) == 3 else "row"
    if not opened.test_rows:
        return held_out(name, opened.count, validation, test, row_word=row_word)
    if test is not None:
        raise ConfigError(f"test = {test}, but {name} has its own test rows; leave it out")
    rest = opened.count - opened.test_rows
    trained, validated, _ = held_out(name, rest, validation, 0, row_word=row_word, has_own_test=True)
    return trained, validated, np.arange(rest, opened.count)


def load_all_by_path(
    name: str,
    *,
    size: int | None = None,
    colour: bool = False,
    value_kind: ValueKind = "pixels",
    kind: DataKind | None = None,
) -> Dataset:
    """All rows of a path as test rows, none held out. Paths that are split keep their splits.

    A path is split if it is a folder with subfolders such as train, val and test, or a `.npz` with x_test. Of x_train,
    one row in 20 is held out to validate with, as in `load`.

    Arguments: as for `open_all`.

    Raises:
        DataError: The path does not exist, or its images are damaged or of several kinds.
    """
    path = Path(os.path.expanduser(name))
    folders = split_folders(path)
    if folders:
        parts = {split: load_all_by_path(str(folder), size=size, colour=colour) for split, folder in folders.items()}
        return _joined(name, parts)
    opened = open_folder(path, size, colour=colour) if path.is_dir() else _open(path, None, value_kind, kind)
    if opened.test_rows:
        return load_by_path(name, value_kind=value_kind, kind=kind)
    in_memory = _fits(opened, IN_MEMORY)
    rows = _split(opened, np.arange(opened.count), in_memory)
    checksum = _checksum(opened, f"size {size}, all rows")
    return Dataset.of_splits(name, {"test": rows}, classes=opened.classes, checksum=checksum, kind=kind)


def _joined(name: str, parts: Mapping[str, Dataset]) -> Dataset:
    """One data set of a folder's splits, with the classes of all of them."""
    classes = tuple(sorted({name for part in parts.values() for name in part.classes}))
    splits = {
        split: replace(part.test, labels=renumbered(part.test.required_labels(), part.classes, classes))
        for split, part in parts.items()
    }
    checksum = hashlib.sha256("".join(f"{split}{part.checksum}" for split, part in parts.items()).encode()).hexdigest()
    return Dataset.of_splits(name, splits, classes=classes, checksum=checksum)


@dataclass(frozen=True, eq=False)
class Collection:
    """All rows of a path, none held out.

    Arguments:
        split: Values and labels. Floats in an array are read into memory if they fit; other values stay on disk.
        classes: Class names; label i means `classes[i]`; ("all",) without labels.
    """

    split: Split
    classes: tuple[str, ...]


def open_all(
    name: str,
    *,
    size: int | None = None,
    colour: bool = False,
    value_kind: ValueKind = "pixels",
    kind: DataKind | None = None,
) -> Collection:
    """Every row of a path, in the order of its files or rows.

    Arguments:
        name: A folder of images, a `.npy` or a `.npz`.
        size: Crop the images of a folder to their central square and resize that to size × size pixels.
        colour: Turn the grey images of a folder into images in colour.
        value_kind: Meaning of the numbers of an array.
        kind: "signal" for signals; None for anything else.

    Raises:
        DataError: The path does not exist, or its images are damaged or of several kinds.
    """
    path = Path(os.path.expanduser(name))
    opened = open_folder(path, size, colour=colour) if path.is_dir() else _open(path, None, value_kind, kind)
    rows = np.arange(opened.count)
    has_floats = isinstance(opened.reader, ArrayReader) and opened.reader.array.dtype.kind == "f"
    return Collection(_split(opened, rows, has_floats and _fits(opened, IN_MEMORY)), opened.classes)


def _open(path: Path, size: int | None, value_kind: ValueKind, kind: DataKind | None) -> OpenedPath:
    try:
        is_folder = path.is_dir()
        os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: {reason.lower()}; nor is it a data set by name", command="data") from error
    if is_folder and kind is not None:
        raise ConfigError(f"kind = {kind!r} is for arrays, {' or '.join(_OPENERS)}, but {path} is a folder")
    if is_folder:
        return open_folder(path, size)
    if path.suffix.lower() not in _OPENERS or not path.is_file():
        raise DataError(
            f"{path}: must be a folder of images, {' or '.join(_OPENERS)}, or a table, {' or '.join(TABLE_SUFFIXES)}"
        )
    if size is not None:
        raise ConfigError(f"size = {size} resizes the images of a folder; leave it out with {path.name}")
    return _OPENERS[path.suffix.lower()](path, value_kind, kind == "signal")


_OPENERS: Mapping[str, Callable[[Path, ValueKind, bool], OpenedPath]] = {".npy": open_npy, ".npz": open_npz}


def _fits(opened: OpenedPath, memory: float) -> bool:
    """Whether the rows take at most this many GiB."""
    return opened.count * math.prod(opened.reader.shape) * opened.reader.dtype.itemsize <= memory * 2**30


def _split(opened: OpenedPath, rows: RowIndices, in_memory: bool) -> Split:
    """Rows of a path; in memory, values of an array may be missing."""
    origin = Origin(rows, opened.names)
    reader = opened.reader.with_gaps() if in_memory and isinstance(opened.reader, ArrayReader) else opened.reader
    x = Stored(reader, rows)
    if opened.labels is None:
        labels = torch.zeros(1, dtype=torch.int64).expand(len(rows))  # expanded, it takes no memory
    else:
        labels = torch.from_numpy(opened.labels[rows[np.arange(len(rows))]])
    if not in_memory:
        return Split(x, labels, origin=origin)
    values = x[:]
    gaps = values.isnan() if values.is_floating_point() else None
    if gaps is None or not bool(gaps.any()):
        return Split(values, labels, origin=origin)
    return Split(values.masked_fill_(gaps, 0), labels, ~gaps, origin=origin)


def _checksum(opened: OpenedPath, options: str) -> str:
    """SHA-256 of the options, of every file's name and size, and of the content.

    It covers all content up to 16 MiB. Of more it covers 256 blocks of 64 KiB, evenly spread over the concatenated
    files; a change between the blocks goes unnoticed.
    """
    digest = hashlib.sha256(options.encode())
    for name, size in opened.files:
        digest.update(f"\0{name}\0{size}".encode(errors="surrogateescape"))
    ends = np.cumsum([size for _, size in opened.files])
    total = int(ends[-1])
    for start in range(0, total, max(_BLOCK, total // _BLOCKS)):
        for part in _block(opened, ends, start):
            digest.update(part)
    return digest.hexdigest()


def _block(opened: OpenedPath, ends: NDArray[np.int64], start: int) -> Iterator[bytes]:
    """One block of the concatenated files."""
    left, i = _BLOCK, int(np.searchsorted(ends, start, side="right"))
    while left and i < len(ends):
        name, size = opened.files[i]
        path = opened.folder / name
        try:
            with open_file(path) as file:
                file.seek(max(0, start - (int(ends[i]) - size)))
                part = file.read(left)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        yield part
        left, i = left - len(part), i + 1
