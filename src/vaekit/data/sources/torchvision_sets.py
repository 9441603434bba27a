"""Data sets that torchvision downloads, and formats other than IDX. Torchvision is imported on first use."""

import hashlib
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError, reason
from ..dataset import Split
from ..registry import Source


class Content(NamedTuple):
    """The contents of the files of a data set: all training images, all test images, and a SHA-256 of both.

    For `factors` see `Dataset`.
    """

    train: Split
    test: Split
    checksum: str
    factors: Callable[[], tuple[Tensor, Tensor]] | None = None


_TIMEOUT = 20.0  # seconds without an answer; torchvision sets none
_CELEBA_BOX, _CELEBA_SIDE = (15, 35, 163, 183), 64  # the central 148 × 148 of 178 × 218
_FACES_PER_TASK = 1000


def fetch(source: Source, root: Path | None) -> None:
    """Have torchvision download a data set below the root.

    Raises:
        DataError: The data set cannot be fetched; the message says which files to place where.
    """
    if source.torchvision is None:
        raise DataError(f"the files of {source.name!r} are missing from {source.elsewhere[0]}; install vaekit again")
    if root is None:
        raise DataError(f"there is no cache folder to keep {source.name!r} in; pass root= or set XDG_CACHE_HOME")
    try:
        with redirect_stdout(sys.stderr), _timeout(_TIMEOUT):
            _open(source, root, download=True)
    except Exception as error:  # a network, a disk or a package can raise any type
        raise DataError(
            f"{source.name!r} is not on this machine and could not be fetched ({reason(error)}); "
            f"place {', '.join(source.files)} in the folder {root / source.folder}"
        ) from error


def read_cifar10(source: Source, root: Path | None) -> Content:
    """CIFAR-10: torchvision compares the checksums of its files before it unpickles them."""
    parts = _read(source, root)
    return _content(
        *(Split(torch.from_numpy(part.data).movedim(3, 1).contiguous(), torch.tensor(part.targets)) for part in parts)
    )


def read_svhn(source: Source, root: Path | None) -> Content:
    """SVHN, cropped digits, without the "extra" set; the label of a zero is 0."""
    parts = _read(source, root)
    return _content(*(Split(torch.from_numpy(part.data).contiguous(), torch.from_numpy(part.labels)) for part in parts))


def read_celeba(source: Source, root: Path | None) -> Content:
    """CelebA: aligned faces, cropped and reduced; the last training images are its authors' validation set."""
    folder = _folder(source, root)
    partition, attributes = (_lines(folder / file, md5) for file, md5 in source.files.items() if md5 is not None)
    rows = [line.split() for line in partition]
    is_test = torch.tensor([row[1] == "2" for row in rows])
    _, header, *attributes = attributes
    column = header.split().index("Smiling") + 1
    labels = torch.tensor([int(line.split()[column] == "1") for line in attributes])
    images = _decode_faces([folder / "img_align_celeba" / row[0] for row in rows])
    return _content(Split(images[~is_test], labels[~is_test]), Split(images[is_test], labels[is_test]))


def _lines(path: Path, md5: str) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if actual != md5:
        raise DataError(f"{path}: its MD5 is {actual}, but {md5} is expected; delete it and load again")
    return content.decode().splitlines()


def _decode_faces(paths: list[Path]) -> Tensor:
    """(N, 3, 64, 64) uint8 from JPEG files, on all processors: Pillow does not hold Python's lock."""
    from PIL import Image  # torchvision requires Pillow, and its own decoders are deprecated

    faces = np.empty((len(paths), _CELEBA_SIDE, _CELEBA_SIDE, 3), dtype=np.uint8)

    def decode(start: int) -> None:
        for i in range(start, min(start + _FACES_PER_TASK, len(paths))):
            try:
                with Image.open(paths[i]) as image:
                    face = image.convert("RGB").resize(faces.shape[1:3], Image.Resampling.BILINEAR, box=_CELEBA_BOX)
            except Exception as error:  # Pillow raises many types
                raise DataError(f"{paths[i]}: missing or damaged; unpack img_align_celeba.zip again") from error
            faces[i] = np.asarray(face)

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode, range(0, len(paths), _FACES_PER_TASK)))
    return torch.from_numpy(faces).movedim(3, 1).contiguous()


def _read(source: Source, root: Path | None) -> list[Any]:
    """Torchvision's training and test set, from files that are present."""
    folder = _folder(source, root)
    try:
        return _open(source, folder.parent, download=False)
    except ModuleNotFoundError as error:
        raise DataError(f"reading {source.name!r} needs the package {error.name}: pip install {error.name}") from error
    except Exception as error:  # torchvision's, pickle's and scipy's complaints about damaged files
        raise DataError(f"{source.name!r} in {folder} is damaged ({error}); delete it and load again") from error


def _open(source: Source, root: Path, *, download: bool) -> list[Any]:
    import torchvision.datasets

    assert source.torchvision is not None
    kind = getattr(torchvision.datasets, source.torchvision)
    place = root / source.folder if source.name == "svhn" else root  # the one class without a folder of its own
    return [kind(place, download=download, **arguments) for arguments in source.arguments]


def _folder(source: Source, root: Path | None) -> Path:
    assert root is not None  # these data sets are found below the root only
    return root / source.folder


def _content(train: Split, test: Split) -> Content:
    checksum = hashlib.sha256()
    for tensor in (train.x[:], train.required_labels(), test.x[:], test.required_labels()):
        checksum.update(tensor.numpy().data)
    return Content(train, test, checksum.hexdigest())


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
