"""Files of pictures: PNG, JPEG, SVG, GIF and arrays, each written whole or not at all.

Not for: the place of a picture in a run folder.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..data.batch import as_tensor
from ..errors import DataError
from ..store.files import write
from .film import Film
from .picture import Picture, encoded, numpy_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".svg")
ARRAY_SUFFIXES = (".npy", ".npz")


def save(picture: "Picture | Film | Figure | Tensor", path: str | Path, *, columns: int | None = None) -> None:
    """Write a picture: all of the file, or nothing.

    Arguments:
        picture: A picture, film or figure, an image (C, H, W), or a batch of images (N, C, H, W), laid out by `grid`.
        path: The file. Its suffix is the format: `.png`, `.jpg`, `.svg` or `.gif`; `.npy` or `.npz` (compressed, under
            the name "images") keep the images with shape and values as they are. A film is a `.gif`; a figure is
            neither a `.gif` nor an array.
        columns: Images in a row, for a batch.

    Raises:
        DataError: The suffix does not fit, or the images cannot be drawn.
        RunError: The file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not isinstance(picture, Film | Picture) and not hasattr(picture, "savefig"):
        picture = as_tensor(picture, "a picture")
    subject, allowed = _allowed(picture)
    if suffix not in allowed:
        raise DataError(f"cannot write {path.name!r}: {subject} written as {', '.join(allowed)}; change the suffix")
    if isinstance(picture, Tensor):
        # Three dimensions are one image, pixel by pixel; any other batch is as it is.
        if suffix in ARRAY_SUFFIXES:
            picture = Picture(picture)
        else:
            picture = Picture(picture[None], scale=1) if picture.ndim == 3 else Picture(picture, columns=columns)
    write(path, _content(picture, suffix))


def _allowed(picture: "Picture | Film | Figure | Tensor") -> tuple[str, tuple[str, ...]]:
    if isinstance(picture, Film):
        return "a film is", (".gif",)
    if isinstance(picture, Picture | Tensor):
        return "images are", (*IMAGE_SUFFIXES, ".gif", *ARRAY_SUFFIXES)
    return "a figure is", IMAGE_SUFFIXES


def _content(picture: "Picture | Film | Figure", suffix: str) -> bytes:
    if isinstance(picture, Film):
        return picture.gif()
    if isinstance(picture, Picture):
        if suffix in ARRAY_SUFFIXES:
            return _array(picture.images, suffix)
        if suffix == ".svg":
            return picture.svg()
        return encoded(picture.pixels, suffix[1:].replace("jpg", "jpeg"))
    file = io.BytesIO()
    kind = suffix[1:].replace("jpg", "jpeg")
    picture.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _array(images: Tensor, suffix: str) -> bytes:
    file = io.BytesIO()
    values = numpy_values(images)
    if suffix == ".npy":
        np.save(file, values)
    else:
        np.savez_compressed(file, images=values)
    return file.getvalue()
