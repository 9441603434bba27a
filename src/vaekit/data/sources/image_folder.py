"""Images in a folder: PNG, JPEG and other formats of Pillow; subfolders are classes."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ...errors import DataError, reason
from ..dataset import SPLIT_WORDS
from .arrays import OpenedPath
from .file_access import open_file

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_FORMATS = (
    "PNG",
    "JPEG",
    "BMP",
    "GIF",
    "PPM",
    "TIFF",
    "WEBP",
)  # no other decoder is started, whatever the name of a file
_ORIENTATION, _UPRIGHT = 0x0112, 1  # a tag of EXIF, and its value for an upright image
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr")
_TRAIN_AND_TEST = {*SPLIT_WORDS["train"], *SPLIT_WORDS["test"]}
_SPLITS = {word for words in SPLIT_WORDS.values() for word in words}
_SAMPLED_FILES = 256  # evenly spread files that decide whether the images are grey


@final
class FolderReader:
    """Images of files, all of one size; a sample decides whether they are grey or in colour.

    Among images in colour a grey image becomes one in colour. Transparent pixels become white, as on paper. Photos are
    turned upright by their EXIF orientation.

    Arguments:
        folder: Folder of the files.
        names: Names of the files, relative to the folder.
        size: Crop to the central square and resize to this side; None takes images as they are.
        colour: Turn all into colour images; by default a sample of them decides.

    Raises:
        DataError: A file is damaged or holds no 8-bit image.
    """

    dtype = torch.uint8
    threads = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

    def __init__(self, folder: Path, names: list[str], size: int | None, *, colour: bool = False) -> None:
        self.folder = folder
        self.names = names
        self.size = size
        sample = names[:: -(-len(names) // _SAMPLED_FILES)]
        self.mode = "RGB" if colour or True in [self._has_colour(name) for name in sample] else "L"
        first = self._decode(0, None)
        height, width, channels = first.shape
        if int(first.max(initial=0)) == 1:
            warnings.warn(
                f"{folder}/{names[0]}: the greatest value is 1 of 255, almost black; save masks as 0 and 255",
                stacklevel=2,
            )
        self.shape: tuple[int, ...] = (channels, height, width)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """The images of these indices, (n, C, H, W)."""
        channels, height, width = self.shape
        images = np.empty((len(rows), height, width, channels), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            image[:] = self._decode(row, (width, height))
        return torch.from_numpy(images).movedim(3, 1).contiguous()

    def _has_colour(self, name: str) -> bool:
        path = f"{self.folder}/{name}"
        with _opened_image(path) as image:
            return _is_colour(image, path)

    def _decode(self, row: int, expected: tuple[int, int] | None) -> NDArray[np.uint8]:
        """(H, W, C) of one file."""
        path = f"{self.folder}/{self.names[row]}"
        with _opened_image(path) as opened:
            image = _upright(opened, self.size)
            if _is_colour(image, path) and self.mode == "L":
                raise DataError(f"{path}: in colour, but a sample of up to {_SAMPLED_FILES} images is grey; convert it")
            if self.size is None and expected is not None and image.size != expected:
                raise DataError(
                    f"{path}: {_by(image.size)} pixels, but {self.names[0]}, the first image, has {_by(expected)}; "
                    f"size = {min(expected)} would crop and resize all"
                )
            pixels = np.asarray(_converted(image, self.size, self.mode))
        return pixels if pixels.ndim == 3 else pixels[:, :, None]


def open_folder(folder: Path, size: int | None, *, colour: bool = False) -> OpenedPath:
    """Images in a folder; its subfolders are the classes, sorted.

    Arguments:
        folder: The folder; hidden files and files that are not images are left out.
        size: Crop to the central square and resize to this side; None takes images as they are.
        colour: Turn all into colour images; by default a sample of them decides.

    Raises:
        DataError: There are no images, images lie beside subfolders of images, or a file cannot be read.
    """
    try:
        files = list(_scan(str(folder), ""))
    except (OSError, RecursionError) as error:
        raise DataError(f"{folder}: cannot be searched for images ({error})") from error
    if not files:
        raise DataError(f"{folder}: no images (*{', *'.join(_SUFFIXES)}) are in this folder")
    names = [name for name, _ in files]
    tops = [name.partition("/")[0] if "/" in name else None for name in names]
    classes = sorted({top for top in tops if top is not None})
    if classes and None in tops:
        raise DataError(
            f"{folder}: {names[tops.index(None)]} lies beside the subfolder {classes[0]!r}, but subfolders "
            "are classes; move it into one of them"
        )
    if _are_splits({name.lower() for name in classes}):
        raise DataError(
            f"{folder}: the subfolders {', '.join(classes):.200} look like splits, not classes; pass one of them, and "
            "images to validate and to test on are drawn from it"
        )
    number = {top: i for i, top in enumerate(classes)}
    labels = np.array([number[top] for top in tops if top is not None], np.int64) if classes else None
    reader = FolderReader(folder, names, size, colour=colour)
    return OpenedPath(reader, len(names), labels, tuple(classes) or ("all",), files, folder, names=names)


def split_folders(folder: Path) -> dict[str, Path]:
    """The subfolders of a folder that are splits, by split; empty if its subfolders are not splits."""
    if not folder.is_dir():
        return {}
    places = {path.name.lower(): path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."}
    if not _are_splits(set(places)) or not places.keys() <= _SPLITS:
        return {}
    by_split = {split: [word for word in words if word in places] for split, words in SPLIT_WORDS.items()}
    return {split: places[words[0]] for split, words in by_split.items() if words}


def _are_splits(names: set[str]) -> bool:
    """Whether subfolders of these names, in lower case, look like splits rather than classes."""
    return bool(names & _TRAIN_AND_TEST) or (len(names) > 1 and names <= _SPLITS)


def _scan(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Name, relative to the first folder, and size of every image, in an order independent of the disk."""
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        if entry.is_dir():
            yield from _scan(entry.path, f"{prefix}{entry.name}/")
        elif entry.name.lower().endswith(_SUFFIXES):
            yield prefix + entry.name, entry.stat().st_size


@contextmanager
def _opened_image(path: str) -> Iterator[Image.Image]:
    """Open an image file; an error names the file."""
    try:
        with open_file(path) as file, Image.open(file, formats=_FORMATS) as image:
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path}: cannot be read as an image (it is not one of: {', '.join(_FORMATS)}); move it away"
        ) from error
    except Exception as error:  # Pillow raises many types
        raise DataError(f"{path}: cannot be read as an image ({reason(error)}); mend it or move it away") from error


def _upright(image: Image.Image, size: int | None) -> Image.Image:
    """The image turned by its EXIF orientation; a JPEG is decoded only as finely as `size` needs."""
    if size is not None:
        image.draft(None, (size, size))
    if image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT:
        return image
    return ImageOps.exif_transpose(image)


def _is_colour(image: Image.Image, path: str) -> bool:
    if image.mode not in _GREY + _COLOUR:
        raise DataError(f"{path}: its mode {image.mode!r} is not one of 8 bits; convert it, or save all as .npy")
    return image.mode in _COLOUR


def _converted(image: Image.Image, size: int | None, mode: str) -> Image.Image:
    """The image in another mode; with a size its central square, resized."""
    if size is None:
        return _in_mode(image, mode)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return _in_mode(image, mode).resize((size, size), Image.Resampling.BILINEAR, box=box)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in another mode; transparent pixels become white."""
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(image.convert("RGBA"))
    return opaque.convert(mode)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
