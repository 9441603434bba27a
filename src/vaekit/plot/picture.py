"""A picture made of images: tiles in rows and columns, with a title and names of rows and columns.

Not for: the choice of images (`decoding`, `space`), or files (`saving`).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from math import ceil, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.batch import as_tensor
from ..data.dataset import DRAWN_CHANNELS
from ..errors import ConfigError, DataError, check_count
from .text import Words, fitting, font, shortened, text_width, wrapped

Pixels = NDArray[np.uint8]

SHORT_SIDE, LONG_SIDE = 900, 1600  # pixels: the picture fills most of a screen and fits on it
SEPARATOR = 128  # grey stands out around black digits, white paper and photographs alike
PAGE, INK = 255, 40  # white margins, nearly black words
PAGE_GAP = 10  # pixels between words and images
NARROWEST_TITLED = 360  # pixels: room for a title


@dataclass(frozen=True, eq=False)
class Picture:
    """Images in rows and columns. It shows itself in a notebook.

    Arguments:
        images: The images, as an array file holds them: shape (N, C, H, W), or another shape that `tiles` show.
        tiles: The images drawn, shape (N, C, H, W), in [0, 1] or uint8; `images` by default.
        columns: Images in a row; by default as many as make the picture nearly square with few empty cells.
        padding: Width of the lines between images, in pixels of the picture.
        scale: Enlarge each image this many times, without smoothing; by default so that the picture's short side
            comes near 900 pixels and its long side does not pass 1600 by much.
        title: A sentence above.
        rows: Names of the rows, at their left.
        heads: Names of the columns, above them.
        band: Rows that belong together; a gap follows each band. 0 for none.
        invert: Show black as white and white as black.
        cmap: One of matplotlib's colour maps, for grey images.

    Raises:
        DataError: The images are not numbers.
        ConfigError: `columns` or `scale` is below 1, or `padding` below 0.
    """

    images: Tensor
    tiles: Tensor | None = None
    columns: int | None = None
    padding: int = 2
    scale: int | None = None
    title: str = ""
    rows: Sequence[str] = ()
    heads: Sequence[str] = ()
    band: int = 0
    invert: bool = False
    cmap: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", as_tensor(self.images, "images"))
        for name, least in (("columns", 1), ("padding", 0), ("scale", 1)):
            value = getattr(self, name)
            if value is not None:
                check_count(name, value, least)

    def __repr__(self) -> str:
        return f"Picture of {len(self.images)} images {tuple(self.images.shape[1:])}: {self.title or 'no title'}"

    def _repr_png_(self) -> bytes | None:
        return self.png() if self._can_be_drawn else None

    def styled(self, *, invert: bool = False, cmap: str | None = None) -> "Picture":
        """The same picture in other colours.

        Arguments:
            invert: Show black as white and white as black.
            cmap: One of matplotlib's colour maps, such as "magma"; for grey images.

        Raises:
            ConfigError: There is no such colour map, or the images have colours of their own.
        """
        if cmap is not None:
            if self._shown.ndim == 4 and self._shown.shape[1] == 3:
                raise ConfigError(f"cmap={cmap!r} is for grey images, and this picture has colours; leave it out")
            colours(cmap)
        return replace(self, invert=invert, cmap=cmap)

    def titled(self, title: str) -> "Picture":
        """The same picture with this sentence above."""
        return replace(self, title=title)

    @cached_property
    def pixels(self) -> Pixels:
        """The picture, shape (H, W) if it is grey, else (H, W, 3)."""
        from PIL import Image, ImageDraw

        if not self._layout.words:
            return self._layout.draw(self._bytes)
        image = Image.fromarray(self._layout.draw(self._bytes))
        draw = ImageDraw.Draw(image)
        colour = INK if image.mode == "L" else (INK, INK, INK)
        for words in self._layout.words:
            anchor = {"start": "lm", "middle": "mm", "end": "rm"}[words.anchor]
            draw.text((words.x, words.y), words.text, fill=colour, font=font(words.size), anchor=anchor)
        return np.asarray(image)

    def png(self) -> bytes:
        """The picture as a PNG file."""
        return encoded(self.pixels, "png")

    def svg(self) -> bytes:
        """The picture as an SVG file: the images as they are, the words as words."""
        import base64
        from html import escape

        pixels = self._layout.draw(self._bytes)
        height, width = pixels.shape[:2]
        data = base64.b64encode(encoded(pixels, "png")).decode()
        words = "".join(
            f'<text x="{w.x:g}" y="{w.y:g}" font-size="{w.size}" text-anchor="{w.anchor}">{escape(w.text)}</text>\n'
            for w in self._layout.words
        )
        size = f'width="{width}" height="{height}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" '
            f'font-family="DejaVu Sans, Verdana, sans-serif" fill="rgb({INK},{INK},{INK})" '
            f'dominant-baseline="central">\n<image {size} href="data:image/png;base64,{data}"/>\n{words}</svg>\n'
        ).encode()

    @property
    def _shown(self) -> Tensor:
        return self.images if self.tiles is None else self.tiles

    @property
    def _can_be_drawn(self) -> bool:
        shape = self._shown.shape
        return len(shape) == 4 and shape[1] in DRAWN_CHANNELS and self._shown.numel() > 0

    @cached_property
    def _bytes(self) -> Pixels:
        """The tiles in their colours, shape (N, H, W, C)."""
        if not self._can_be_drawn:
            raise DataError(
                "a picture needs images of shape (N, C, H, W) with C = 1 or 3 and N at least 1, got "
                f"{tuple(self._shown.shape)}; save it as .npy"
            )
        values: Pixels = np.moveaxis(_to_bytes(numpy_values(self._shown)), 1, -1)
        if self.invert:
            values = 255 - values
        return values if self.cmap is None else colours(self.cmap)[values[..., 0]]

    @cached_property
    def _layout(self) -> "_Layout":
        n, height, width, _ = self._bytes.shape
        return _Layout(self, n, height, width)


class _Layout:
    """The places of the tiles and the words of a picture, in pixels."""

    def __init__(self, picture: Picture, n: int, height: int, width: int) -> None:
        columns = _columns(n, height, width) if picture.columns is None else min(n, picture.columns)
        lines = ceil(n / columns)
        scale = picture.scale
        if scale is None:
            short, long = sorted((height * lines, width * columns))
            scale = max(1, round(min(SHORT_SIDE / short, LONG_SIDE / long)))
        named = bool(picture.title or any(picture.rows) or any(picture.heads))
        self.padding = 0 if n == 1 and not named else picture.padding
        self.scale = scale
        self.columns = columns
        self.lines = lines
        self.down = height * scale + self.padding
        self.right = width * scale + self.padding
        self.band = picture.band or lines
        self.size = min(22, max(13, round(columns * self.right / 48)))
        self.words: list[Words] = []
        self._place(picture, named)

    def _place(self, picture: Picture, named: bool) -> None:
        body = self.columns * self.right + self.padding
        edge = PAGE_GAP if named else 0
        rows = [str(name) for name in picture.rows]
        margin = max((text_width(name, self.size) for name in rows), default=0)
        self.left = ceil(margin) + (2 * PAGE_GAP if margin else edge)
        self.width = max(self.left + body + edge, NARROWEST_TITLED if picture.title else 0)
        self.top = edge
        if picture.title:
            self._title(picture.title)
        if any(picture.heads):
            self._heads([str(name) for name in picture.heads])
        self.height = self._y(self.lines - 1) + self.down + self.padding + edge
        for line, name in enumerate(rows[: self.lines]):
            middle = self._y(line) + self.padding + (self.down - self.padding) / 2
            if name:
                self.words.append(Words(name, self.left - PAGE_GAP, middle, self.size, "end"))

    def _title(self, title: str) -> None:
        size = round(1.1 * self.size)
        for line in wrapped(title, size, self.width - 2 * PAGE_GAP):
            self.words.append(Words(line, PAGE_GAP, self.top + 0.7 * size, size))
            self.top += round(1.4 * size)
        self.top += PAGE_GAP // 2

    def _heads(self, names: list[str]) -> None:
        room = self.right * len(names) / max(1, sum(map(bool, names))) - 4  # more if only some columns have names
        size = fitting(tuple(names), self.size, room)
        for column, name in enumerate(names[: self.columns]):
            middle = self.left + column * self.right + self.padding + (self.right - self.padding) / 2
            text = shortened(name, size, room)
            if text:
                self.words.append(Words(text, middle, self.top + 0.6 * size, size, "middle"))
        self.top += round(1.3 * size) + 2

    def _y(self, line: int) -> int:
        return self.top + line * self.down + line // self.band * (PAGE_GAP if self.band < self.lines else 0)

    def draw(self, tiles: Pixels) -> Pixels:
        """The picture without words, shape (H, W) or (H, W, 3)."""
        scale, padding = self.scale, self.padding
        page = np.full((self.height, self.width, tiles.shape[-1]), PAGE, np.uint8)
        for first in range(0, self.lines, self.band):
            last = min(first + self.band, self.lines) - 1
            block = slice(self._y(first), self._y(last) + self.down + padding)
            page[block, self.left : self.left + self.columns * self.right + padding] = SEPARATOR
        empty = -len(tiles) % self.columns
        if empty and self.words:  # empty cells are grey in a picture without words, else white
            y, x = self._y(self.lines - 1) + padding, self.left + (self.columns - empty) * self.right + padding
            page[y:, x:] = PAGE
        for i, tile in enumerate(tiles):
            y = self._y(i // self.columns) + padding
            x = self.left + i % self.columns * self.right + padding
            large = tile.repeat(scale, 0).repeat(scale, 1)
            page[y : y + large.shape[0], x : x + large.shape[1]] = large
        return page[..., 0] if page.shape[-1] == 1 else page


def grid(
    images: Tensor,
    *,
    columns: int | None = None,
    padding: int = 2,
    scale: int | None = None,
    title: str = "",
    rows: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> Picture:
    """Lay images out row by row, separated by grey lines.

    Arguments:
        images: Shape (N, C, H, W), in [0, 1] (values outside are clipped) or uint8.
        columns: Images in a row; by default as many as make the picture nearly square with few empty cells.
        padding: Width of the lines, in pixels of the picture.
        scale: Enlarge each image this many times, without smoothing; by default so that the picture's short side
            comes near 900 pixels and its long side does not pass 1600 by much.
        title: A sentence above.
        rows: Names of the rows, at their left.
        heads: Names of the columns, above them.

    Raises:
        DataError: The images have another shape or there are none.
        ConfigError: `columns` or `scale` is below 1, or `padding` below 0.

    >>> import torch
    >>> grid(torch.zeros(6, 1, 28, 28), columns=3, scale=2).pixels.shape
    (118, 176)
    """
    picture = Picture(images, columns=columns, padding=padding, scale=scale, title=title, rows=rows, heads=heads)
    if picture.images.ndim != 4 or not picture.images.numel():
        raise DataError(f"images must have shape (N, C, H, W) with N at least 1, got {tuple(picture.images.shape)}")
    return picture


def numpy_values(images: Tensor) -> NDArray[Any]:
    """The values of a tensor in NumPy, which has no bfloat16: such values become float32."""
    images = images.detach().cpu()
    return (images.float() if images.dtype == torch.bfloat16 else images).numpy()


def _to_bytes(images: NDArray[Any]) -> Pixels:
    """Images as bytes, from numbers in [0, 1] or from bytes. NumPy makes them: torch's threads would slow a training.

    GNU OpenMP gives each thread that computes in parallel a team of its own. Once there are more threads in teams than
    processors, all of them sleep while they wait for one another, and the steps of a training take twice as long.
    """
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind in "iu" and images.max() > 1:
        raise DataError(f"images of {images.dtype} must be 0 or 1, got {images.max()}; pass bytes as uint8")
    return np.rint(255 * np.nan_to_num(images.astype(np.float32)).clip(0, 1)).astype(np.uint8)


def _columns(n: int, height: int, width: int) -> int:
    def cost(columns: int) -> float:
        rows = ceil(n / columns)
        aspect = (columns * width) / (rows * height)
        # An empty cell looks worse than a picture that is not square: 10 images are 5 × 2, not 4 × 3.
        return sqrt(max(aspect, 1 / aspect)) * (rows * columns / n) ** 2

    return min(range(n, 0, -1), key=cost)


def colours(cmap: str) -> Pixels:
    """The colours of 256 grey levels, shape (256, 3).

    Raises:
        ConfigError: There is no such colour map.
    """
    from .canvas import colormaps

    if cmap not in colormaps:
        near = get_close_matches(str(cmap), list(colormaps), 1)
        raise ConfigError(f"matplotlib has no colour map {cmap!r}; try {near[0] if near else 'magma'!r}")
    table: Pixels = (255 * colormaps[cmap](np.arange(256) / 255)[:, :3]).round().astype(np.uint8)
    return table


def encoded(pixels: Pixels, kind: str) -> bytes:
    """Pixels as a file: "png", "jpeg" or "gif"."""
    from PIL import Image

    file = io.BytesIO()
    options = {"quality": 92, "subsampling": 0} if kind == "jpeg" else {}
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()
