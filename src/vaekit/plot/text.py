"""Words on a picture: a font that is always there, their width, and lines that fit.

matplotlib brings the font along; it has the Greek letters and the small digits of z₁. It is found without importing
matplotlib: the import takes longer than drawing a picture.

Not for: the words of figures, which matplotlib draws.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

SMALLEST = 9  # pixels: smaller letters cannot be read
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Words:
    """Words at a place.

    Arguments:
        text: The words.
        x: Pixels from the left edge to the anchor.
        y: Pixels from the upper edge to the middle of the letters.
        size: Height of the font, in pixels.
        anchor: Point of the words at x: their start, middle or end.
    """

    text: str
    x: float
    y: float
    size: int
    anchor: Literal["start", "middle", "end"] = "start"


@lru_cache(maxsize=64)
def font(size: int) -> "FreeTypeFont | ImageFont":
    """The font in a size."""
    from PIL import ImageFont

    spec = find_spec("matplotlib")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(place) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> float:
    """Width of a line, in pixels."""
    return font(size).getlength(text)


def fitting(texts: tuple[str, ...], size: int, width: float) -> int:
    """The greatest size, at most `size`, in which no text is wider than `width`, but at least `SMALLEST`."""
    widest = max((text_width(text, size) for text in texts), default=0)
    return size if widest <= width else max(SMALLEST, int(size * width / widest))


def shortened(text: str, size: int, width: float) -> str:
    """A text that is at most `width` wide: its beginning and an ellipsis, if it is too long."""
    if text_width(text, size) <= width:
        return text
    beginning = text
    while beginning and text_width(f"{beginning}…", size) > width:
        beginning = beginning[:-1]
    return f"{beginning.rstrip()}…" if beginning.strip() else ""


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Lines of a text, none wider than `width` if its words allow it."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def latent_name(index: int) -> str:
    """Name of a latent by its number from 0, as in formulas: z₁ is the first.

    >>> latent_name(11)
    'z₁₂'
    """
    return f"z{str(index + 1).translate(_SUBSCRIPTS)}"


def number(value: float) -> str:
    """A number in two or three digits, with a real minus sign.

    >>> number(-2.04), number(12.6), number(-0.0)
    ('−2.0', '13', '0.0')
    """
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value + 0.0:.1f}"
    return ("0.0" if text == "-0.0" else text).replace("-", "−")
