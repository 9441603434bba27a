"""Images in NumPy's files, `.npy` memory-mapped, and `.npz`: nothing is unpickled, and sizes are checked first."""

import math
import mmap
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DataError
from ..ondisk import Reader

_NPZ_LIMIT = 4 << 30  # bytes of an array of an .npz, which is unpacked into memory
_READ_AT_RANDOM = 1 << 30  # bytes from which a file is hardly read from its beginning to its end
_MOST_CLASSES = 1 << 16
_CHANNELS = (1, 3)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, eq=False)
class Found:
    """What a path holds.

    Arguments:
        reader: reads its images.
        count: how many images there are.
        labels: (N,) int64; None where there are none.
        classes: class names; label i means `classes[i]`.
        files: name and size of every file.
        folder: where they lie.
    """

    reader: Reader
    count: int
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    files: list[tuple[str, int]]
    folder: Path


@final
class ArrayReader:
    """Images of an array, maybe memory-mapped: uint8 as they are, floats as float32 after a look at their range.

    Arguments:
        array: (N, H, W), (N, C, H, W) or (N, H, W, C), C = 1 or 3.
        name: what messages call it.

    Raises:
        DataError: no such array.
    """

    threads = 4  # which wait for the disk, not for a processor

    def __init__(self, array: NDArray[Any], name: str) -> None:
        if array.dtype != np.uint8 and array.dtype.kind != "f":
            raise DataError(f"{name}: images must be uint8, or floats in [0, 1], got {array.dtype}; use astype")
        array = array[:, None] if array.ndim == 3 else array
        axes = [axis for axis in (1, 3) if array.ndim == 4 and array.shape[axis] in _CHANNELS]
        if not axes or 0 in array.shape:
            raise DataError(
                f"{name}: images must be (N, H, W), (N, C, H, W) or (N, H, W, C) with C = 1 or 3, got {array.shape}"
            )
        self.array = array
        self.name = name
        self.channels = axes[0]
        self.shape = tuple(np.moveaxis(array, self.channels, 1).shape[1:])
        self.dtype = torch.uint8 if array.dtype == np.uint8 else torch.float32

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """The images of these numbers, (n, C, H, W)."""
        part = np.moveaxis(self.array[rows], self.channels, 1)
        images = torch.from_numpy(np.ascontiguousarray(part, np.uint8 if self.dtype == torch.uint8 else np.float32))
        if images.is_floating_point() and len(images):
            low, high = images.flatten(1).aminmax(dim=1)
            good = (low >= 0) & (high <= 1)  # neither holds of NaN
            if not bool(good.all()):
                i = int(good.long().argmin())
                raise DataError(
                    f"{self.name}: floats must be in [0, 1], but image {rows[i]} goes from {low[i]:.4g} to "
                    f"{high[i]:.4g}; scale the images, or save 0 … 255 as uint8"
                )
        return images


def open_npy(path: Path) -> Found:
    """Images of a `.npy`, memory-mapped; their labels are in `NAME-labels.npy` beside it, if there is one.

    Raises:
        DataError: damaged, or no images.
    """
    reader = ArrayReader(_mapped(path), str(path))
    beside = path.with_name(f"{path.stem}-labels.npy")
    count = len(reader.array)
    labels = _labels(_mapped(beside), count, str(beside)) if beside.exists() else None
    files = [path] if labels is None else [path, beside]
    return Found(reader, count, labels, _numbers(labels), [(f.name, f.stat().st_size) for f in files], path.parent)


def open_npz(path: Path) -> Found:
    """Images of a `.npz`, under `images` or `x`; labels under `labels` or `y`, if there are any. Read into memory.

    Raises:
        DataError: damaged, too large, or no images.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            images, labels = _keys(archive, path)
            reader = ArrayReader(_member(archive, images, path), f"{path}: {images}")
            count = len(reader.array)
            values = None if labels is None else _labels(_member(archive, labels, path), count, f"{path}: {labels}")
        return Found(reader, count, values, _numbers(values), [(path.name, path.stat().st_size)], path.parent)
    except DataError:
        raise
    except Exception as error:  # zipfile and its decompressors have many
        raise DataError(f"{path}: cannot be read as .npz ({_said(error)})") from error


def _keys(archive: zipfile.ZipFile, path: Path) -> tuple[str, str | None]:
    keys = [name.removesuffix(".npy") for name in archive.namelist()]
    images, labels = (next((key for key in pair if key in keys), None) for pair in (("images", "x"), ("labels", "y")))
    if images is None:
        found = ", ".join(map(repr, keys))
        raise DataError(f"{path}: images must be under the key 'images' or 'x', it has: {found:.200}")
    return images, labels


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # which compares the sizes of header and file
    except Exception as error:  # of a header that is Python's syntax
        raise DataError(f"{path}: cannot be read as .npy ({_said(error)})") from error
    if array.nbytes > _READ_AT_RANDOM and hasattr(mmap, "MADV_RANDOM"):
        content: Any = array.base  # a mmap
        content.madvise(mmap.MADV_RANDOM)  # else 128 KiB are read wherever an image is: 17 times as slow
    return np.asarray(array)


def _member(archive: zipfile.ZipFile, key: str, path: Path) -> NDArray[Any]:
    member = archive.getinfo(f"{key}.npy")
    if member.file_size > _NPZ_LIMIT:
        raise DataError(
            f"{path}: {key} takes {member.file_size} bytes, but an .npz is unpacked into memory, at most {_NPZ_LIMIT}; "
            "save the images as .npy, which need not be"
        )
    with archive.open(member) as stream:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
        promised = stream.tell() + math.prod(shape) * dtype.itemsize
    if promised > member.file_size:  # or memory would be taken for it
        raise DataError(f"{path}: {key} is truncated, {member.file_size} bytes instead of {promised}")
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _labels(values: NDArray[Any], count: int, name: str) -> NDArray[np.int64]:
    if values.shape != (count,) or values.dtype.kind not in "iu":
        raise DataError(f"{name}: labels must be {count} integers, one per image, got {values.dtype} {values.shape}")
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high >= _MOST_CLASSES:
        raise DataError(f"{name}: labels must be from 0 to {_MOST_CLASSES - 1}, got {low} to {high}; renumber them")
    return values.astype(np.int64)


def _numbers(labels: NDArray[np.int64] | None) -> tuple[str, ...]:
    return ("all",) if labels is None else tuple(map(str, range(int(labels.max(initial=0)) + 1)))


def _said(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.200}"
