"""Signals as curves.

Not for: images (`picture`), or means by epoch (`figures`).
"""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..data.batch import as_tensor
from ..errors import DataError

if TYPE_CHECKING:
    from .canvas import Figure

MOST_SIGNALS = 64  # signals in one figure
_BAND = 0.85  # share of its place that a channel fills


def signals(x: Tensor, over: Tensor | None = None, *, names: Sequence[str] = (), title: str = "") -> "Figure":
    """A panel for each signal. Several channels lie one above the other, each scaled to the range of all its curves.

    Arguments:
        x: Signals, shape (N, C, L); NaN leaves a gap.
        over: Signals of the same shape to draw over them, such as reconstructions.
        names: Names of x and of `over`.
        title: Title of the figure.

    Raises:
        DataError: There is no signal, there are more than 64, or x or `over` has another shape.
    """
    x, over = as_tensor(x, "x"), None if over is None else as_tensor(over, "over")
    if x.ndim != 3 or not x.numel() or len(x) > MOST_SIGNALS:
        raise DataError(
            f"a picture holds 1 to {MOST_SIGNALS} signals (N, C, L), got {tuple(x.shape)}; draw fewer, or save .npy"
        )
    if over is not None and over.shape != x.shape:
        raise DataError(f"over must have the shape of x, {tuple(x.shape)}, got {tuple(over.shape)}")

    from .canvas import Figure, defaults

    several = [part.detach().cpu().double().numpy() for part in (x, over) if part is not None]
    heights = _stacked(several) if x.shape[1] > 1 else several
    with defaults():
        columns = min(4, len(x))
        rows = ceil(len(x) / columns)
        figure = Figure(figsize=(3.2 * columns, 0.6 + (1.4 + 0.35 * x.shape[1]) * rows), dpi=150)
        figure.set_layout_engine("constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for i, axes in enumerate(panels.flatten()):
            axes.set_visible(i < len(x))
            for k, part in enumerate(heights if i < len(x) else ()):
                color = "0.6" if k == 0 and over is not None else f"C{k}"
                for channel, values in enumerate(part[i]):
                    label = names[k] if channel == 0 and k < len(names) else None
                    axes.plot(values, color=color, linewidth=1.0 if k else 1.6, label=label)
        _name_channels(panels, x.shape[1])
        if names:
            figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        if title:
            figure.suptitle(title)
    return figure


def _stacked(several: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Channels at heights of their own: the first one on top."""
    low = np.fmin.reduce([np.fmin.reduce(part, (0, 2)) for part in several])[:, None]
    high = np.fmax.reduce([np.fmax.reduce(part, (0, 2)) for part in several])[:, None]
    places = np.arange(len(low))[::-1, None]
    return [places + _BAND * (part - low) / np.where(high > low, high - low, 1) for part in several]


def _name_channels(panels: NDArray[np.object_], count: int) -> None:
    if count > 1:
        for axes in panels[:, 0]:
            axes.set_yticks(np.arange(count)[::-1] + _BAND / 2, [f"channel {i}" for i in range(count)])
