"""matplotlib by its own defaults, on a canvas that needs no display: the file that imports it first.

A figure is made and drawn under the defaults that matplotlib comes with. So a user's matplotlibrc, `MPLBACKEND`, style
or `text.usetex` changes nothing here, and nothing here changes theirs.

Not for: the content of a figure (`figures`).
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

try:
    import matplotlib
except ValueError:  # MPLBACKEND names a missing backend, and none is needed
    backend = os.environ.pop("MPLBACKEND", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        del sys.modules[name]  # left by the first attempt
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MatplotlibFigure

__all__ = ["Figure", "colormaps", "defaults"]

_one_thread = RLock()
_OURS: Any = {"svg.hashsalt": "vaekit", "svg.fonttype": "path"}  # the same letters everywhere


@contextmanager
def defaults() -> Iterator[None]:
    """Within the block matplotlib has its own defaults; other threads wait, because all share one set."""
    with _one_thread, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_OURS)
        yield


class Canvas(FigureCanvasAgg):
    """A canvas that always draws by the defaults."""

    def draw(self) -> None:
        """Draw the figure."""
        with defaults():
            super().draw()  # type: ignore[no-untyped-call]

    def print_figure(self, *arguments: Any, **options: Any) -> Any:
        """Write the figure."""
        with defaults():
            return super().print_figure(*arguments, **options)


class Figure(MatplotlibFigure):
    """A figure of matplotlib that shows itself in a notebook, and looks the same for everybody."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        Canvas(self)

    def savefig(self, *arguments: Any, **options: Any) -> None:
        """Write the figure, as matplotlib does."""
        with defaults():
            super().savefig(*arguments, **options)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
