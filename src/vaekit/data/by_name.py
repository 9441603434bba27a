"""Data sets by name, unpacked or downloaded on first use.

Not for: the list of names (`registry`), or the user's own files (`by_path`, `table`).
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from ..errors import ConfigError, DataError, RunError
from ..store import files
from .dataset import Dataset, Split
from .registry import SOURCES, Source, resolve_root
from .sources import shapes, torchvision_sets
from .sources.idx import idx_array, md5_of, unpack_idx


def load_by_name(name: str, *, validation: int | None = None, root: str | os.PathLike[str] | None = None) -> Dataset:
    """A data set by its name; see `vaekit.data.load`.

    Raises:
        DataError: Files are damaged, or missing files cannot be fetched.
        ConfigError: `validation` is out of range.
    """
    source, place = SOURCES[name], resolve_root(root)
    held_out = source.validation if validation is None else validation
    if not 0 <= held_out < source.train:
        raise ConfigError(
            f"validation must be from 0 to {source.train - 1} of the {source.train} training images of {name!r}, "
            f"got {held_out}"
        )
    if source.present_in(place) is None:
        torchvision_sets.fetch(source, place)
    content = _READERS.get(name, _read_idx_files)(source, place)
    _check(source, content.train, source.train)
    _check(source, content.test, source.test)
    x, labels, trained = content.train.x, content.train.required_labels(), source.train - held_out
    return Dataset(
        name=name,
        train=Split(x[:trained], labels[:trained]),
        validation=Split(x[trained:], labels[trained:]),
        test=content.test,
        classes=source.classes,
        checksum=content.checksum,
        factors=content.factors,
    )


def _check(source: Source, split: Split, count: int) -> None:
    expected, x = (count, *source.shape), split.x
    if x.shape != expected or x.dtype != torch.uint8:
        raise DataError(f"{source.name}: images are {tuple(x.shape)} {x.dtype} instead of {expected} uint8")
    labels = split.required_labels()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(source.classes):
        raise DataError(f"{source.name}: labels are from {low} to {high} instead of 0 to {len(source.classes) - 1}")


def _read_idx_files(source: Source, root: Path | None) -> torchvision_sets.Content:
    size = source.shape[1:]
    array_shapes = ((source.train, *size), (source.train,), (source.test, *size), (source.test,))
    arrays, digests = [], []
    for file, shape in zip(source.files, array_shapes, strict=True):
        content, path = _intact_copy(source, file, root)
        array = idx_array(content, str(path))
        if array.shape != shape or array.dtype != "u1":
            raise DataError(f"{path}: {array.dtype} of shape {array.shape} instead of uint8 of shape {shape}")
        arrays.append(torch.from_numpy(array))
        digests.append(source.files[file] or md5_of(content))
    images, labels, test_images, test_labels = arrays
    return torchvision_sets.Content(
        train=Split(images.unsqueeze(1), labels.long()),
        test=Split(test_images.unsqueeze(1), test_labels.long()),
        checksum=hashlib.sha256("".join(digests).encode()).hexdigest(),
    )


def _read_emnist(source: Source, root: Path | None) -> torchvision_sets.Content:
    content = _read_idx_files(source, root)  # EMNIST stores images transposed
    train, test = (Split(split.x[:].mT.contiguous(), split.labels) for split in (content.train, content.test))
    return torchvision_sets.Content(train, test, content.checksum)


def _read_shapes(source: Source, root: Path | None) -> torchvision_sets.Content:
    return shapes.read_shapes(source.train)


_READERS: dict[str, Callable[[Source, Path | None], torchvision_sets.Content]] = {
    "emnist": _read_emnist,
    "cifar10": torchvision_sets.read_cifar10,
    "svhn": torchvision_sets.read_svhn,
    "celeba": torchvision_sets.read_celeba,
    "shapes": _read_shapes,
}


def _intact_copy(source: Source, file: str, root: Path | None) -> tuple[bytearray, Path]:
    """The unpacked content of the first intact copy, and its path. Unpacked content is kept below the root."""
    problem = f"{file}: no such file"
    for path in source.copies(file, root):
        try:
            content = unpack_idx(path, md5=source.files[file])
        except DataError as error:
            problem = str(error)
            continue
        if path.suffix == ".gz" and root is not None:
            _keep(content, root / source.folder / file)
        return content, path
    remedy = "delete it and load again to fetch it anew" if source.torchvision else "install vaekit again"
    raise DataError(f"{problem}; {remedy}")


def _keep(content: bytearray, path: Path) -> None:
    """Put content at a path in one step; a folder that cannot be written only costs time on the next run."""
    with suppress(OSError, RunError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, bytes(content))
