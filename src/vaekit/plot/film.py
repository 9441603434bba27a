"""Pictures that move: a walk between latents, and the images of the same latents after each epoch.

Not for: single pictures (`picture`).
"""

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..model import Context, LatentVariableModel
from .decoding import interpolation
from .picture import Picture, Pixels, grid
from .ways import Way

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..store import Run

MOST_FRAMES = 60  # in a film of epochs
FILM_WIDTH = 560  # pixels: a film this wide is seen well and downloads fast


@dataclass(frozen=True, eq=False)
class Film:
    """Frames shown one after another, again and again. A film plays in a notebook.

    Arguments:
        frames: Pictures, at least one, all of one size.
        milliseconds: Duration of each frame.
        rest: Duration of the last frame, in milliseconds.

    Raises:
        DataError: There is no frame.
    """

    frames: Sequence[Picture]
    milliseconds: int = 80
    rest: int = 80

    def __post_init__(self) -> None:
        if not self.frames:
            raise DataError("a film needs at least one frame, got none")

    def __repr__(self) -> str:
        height, width = self.frames[0].pixels.shape[:2]
        return f"Film of {len(self.frames)} frames, {width}×{height} pixels"

    def _repr_html_(self) -> str:
        return f'<img alt="{self!r}" src="data:image/gif;base64,{base64.b64encode(self.gif()).decode()}">'

    def _repr_png_(self) -> bytes:
        return self.frames[-1].png()

    def styled(self, *, invert: bool = False, cmap: str | None = None) -> "Film":
        """The same film in other colours; see `Picture.styled`."""
        return replace(self, frames=[frame.styled(invert=invert, cmap=cmap) for frame in self.frames])

    def gif(self) -> bytes:
        """The film as a GIF file."""
        from PIL.Image import fromarray

        images = [_with_palette(fromarray(_coarse(frame.pixels))) for frame in self.frames]
        times = [self.milliseconds] * (len(images) - 1) + [self.rest]
        file = io.BytesIO()
        options = {"save_all": True, "append_images": images[1:], "loop": 0, "optimize": False}
        images[0].save(file, format="gif", duration=times, **options)
        return file.getvalue()


def _coarse(frame: Pixels) -> Pixels:
    """A frame in 52 grey levels, with white and black: hardly visible, and the file is half as large."""
    return frame if frame.ndim == 3 else frame // 5 * 5


def _with_palette(image: "Image") -> "Image":
    """The image in 256 colours; a grey image as it is."""
    return image if image.mode == "L" else image.quantize(256)


def walk(
    model: LatentVariableModel,
    *,
    rows: int = 16,
    steps: int = 24,
    path: Way = "line",
    between: tuple[Tensor, Tensor] | None = None,
    c: Context = None,
    generator: torch.Generator | None = None,
) -> Film:
    """The lines of `interpolation`, all at once: each image walks from its first latent to its second and back.

    Arguments:
        model: The model.
        rows: Number of images that walk.
        steps: Images on a line.
        path: See `interpolation`.
        between: See `interpolation`.
        c: See `interpolation`.
        generator: Source of randomness; torch's global one by default.

    Raises:
        ConfigError, DataError: See `interpolation`.
    """
    picture = interpolation(model, rows=rows, steps=steps, path=path, between=between, c=c, generator=generator)
    lines = picture.images.unflatten(0, (-1, steps))
    if lines.ndim != 5:
        raise DataError(f"a film needs images of shape (C, H, W), got {tuple(lines.shape[2:])}")
    # About half as large as a still picture: enough to see, and a file that is quick to send.
    width, n = lines.shape[-1], len(lines)
    scale = max(1, FILM_WIDTH // (width * ceil(n**0.5))) if n > 1 else max(1, FILM_WIDTH // 2 // width)
    forward = [grid(lines[:, step], scale=scale) for step in range(steps)]
    return Film([*forward, *forward[-1:], *forward[-2:0:-1], forward[0]])


def epochs(run: "Run") -> Film:
    """The pictures that a run drew of the same latents after each epoch, at most 60 of them.

    Pictures that differ in size from the last one are left out.

    Arguments:
        run: A run on images.

    Raises:
        ConfigError: The run has no pictures of its epochs.
    """
    from PIL import Image as Images

    if isinstance(run, (str, os.PathLike)):
        raise ConfigError(f"a film of epochs takes a run: plot.epochs(vaekit.Run.open({os.fspath(run)!r}))")
    pictures = (run.path / "samples").glob("epoch-*.png")
    paths = sorted(pictures, key=lambda path: (len(path.name), path.name))  # epoch-1000 comes after epoch-999
    if not paths:
        raise ConfigError(f"run {run.name} has drawn no pictures of its epochs, samples/epoch-*.png")
    indices = np.unique(np.linspace(0, len(paths) - 1, MOST_FRAMES).round().astype(int))
    frames: list[Pixels] = []
    for index in indices:
        with Images.open(paths[index]) as image:
            size = FILM_WIDTH, round(image.height * FILM_WIDTH / image.width)
            smaller = image.resize(size, Images.Resampling.LANCZOS) if image.width > FILM_WIDTH else image
            frames.append(np.array(smaller))
    tiles = [torch.from_numpy(np.atleast_3d(frame)).permute(2, 0, 1)[None] for frame in frames]
    equal = [Picture(tile, scale=1) for tile in tiles if tile.shape == tiles[-1].shape]
    return Film(equal, milliseconds=max(100, min(400, 6000 // len(equal))), rest=2000)
