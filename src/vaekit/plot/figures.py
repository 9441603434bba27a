"""Figures: the means of a training by epoch, the latents of images in the plane, the KL of each latent.

matplotlib is imported when the first figure is drawn.

Not for: pictures made of images (`picture`).
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.batch import as_tensor
from ..errors import DataError
from ..model import Context, LatentVariableModel
from ..model.dimensions import SILENT_BELOW
from ..model.elbo_terms import ELBO_TERMS, other_means, title_of, unit_of
from .space import Carried, carried, principal_plane
from .text import latent_name, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .canvas import Figure

NAMED = 40  # the most latents with names below their bars


def curves(metrics: Sequence[Mapping[str, Any]], *, row_word: str = "row") -> "Figure":
    """Means by epoch, each in a panel: −ELBO, rate and distortion, then the other values that the loss logged, by name.

    Arguments:
        metrics: A record for each epoch, as in metrics.jsonl: `epoch`, means by name, and the same means with
            `validation_` before their names; what is absent or None is left out.
        row_word: Word for one row of the data, such as "image".

    Raises:
        DataError: There is no record, or one has no epoch.
    """
    if not metrics:
        raise DataError("there are no metrics to plot; train for at least one epoch")
    if not all(isinstance(record, Mapping) and "epoch" in record for record in metrics):
        raise DataError("metrics must be a record with an `epoch` for each epoch, as run.metrics() gives them")

    from .canvas import defaults

    with defaults():
        return _curves(metrics, row_word)


def _curves(metrics: Sequence[Mapping[str, Any]], row_word: str) -> "Figure":
    from .canvas import Figure

    last = metrics[-1]
    names = [] if "neg_elbo" not in last and "loss" in last else list(ELBO_TERMS)
    names += other_means(last)
    columns = min(3, len(names))
    rows = ceil(len(names) / columns)
    figure = Figure(figsize=(11, 3.8 * rows), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        _curve(axes, metrics, name, row_word)
        axes.set_title(title_of(name), parse_math=False)  # the name may come from a user's own loss
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return figure


def _curve(axes: "Axes", metrics: Sequence[Mapping[str, Any]], key: str, row_word: str) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [record["epoch"] for record in metrics]
    for label, name in (("training", key), ("validation", f"validation_{key}")):
        points = [(record["epoch"], record[name]) for record in metrics if record.get(name) is not None]
        if points:
            marker = "o" if len(points) <= 30 else None
            axes.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=4)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{unit_of(key) or 'mean'} per {row_word}")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)


def latents(
    model: LatentVariableModel,
    rows: Tensor,
    labels: Tensor | None = None,
    *,
    c: Context = None,
    names: Sequence[str] = (),
) -> "Figure":
    """Posterior means, coloured by class, on their first two principal components if they have more than two axes.

    Arguments:
        model: The model.
        rows: Shape (N, *event).
        labels: Classes, shape (N,), −1 where unknown; without them all points have one colour.
        c: Context of a conditional model; the labels by default.
        names: Names of the classes; their numbers by default.

    Raises:
        DataError: There is not one label for each row.
    """
    rows = as_tensor(rows, "rows")
    labels = None if labels is None else as_tensor(labels, "labels")
    word = "images" if rows.ndim == 4 else "rows"
    if labels is not None and labels.shape != rows.shape[:1]:
        raise DataError(f"{len(rows)} {word} need as many labels, got shape {tuple(labels.shape)}")
    context = (labels if c is None else c) if model.context_size else None
    z = model.encode(rows, context).flatten(1).double().cpu()

    from .canvas import defaults

    with defaults():
        return _scatter(z, None if labels is None else labels.cpu(), names, word)


def _scatter(z: Tensor, labels: Tensor | None, names: Sequence[str], row_words: str) -> "Figure":
    from .canvas import Figure, colormaps

    kinds = torch.zeros(len(z), dtype=torch.long) if labels is None else labels
    points, axis_names = _plane(z, kinds)
    classes = sorted(set(kinds.tolist()))
    n = len(classes)
    colours = colormaps["tab10"](np.arange(n)) if n <= 10 else colormaps["turbo"](np.linspace(0.02, 0.98, n))
    figure = Figure(figsize=(8.4, 7), dpi=120, layout="constrained")
    axes = figure.subplots()
    for label, colour in zip(classes, colours, strict=True):
        x, y = points[kinds == label].T.numpy()
        name = "unknown" if label < 0 else str(names[label]) if label < len(names) else str(label)
        axes.scatter(x, y, s=10, alpha=0.65, linewidths=0, color=colour, label=name)
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
    axes.set_title(f"Where {len(z):,} {row_words} lie: their posterior means", loc="left")
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if z.shape[1] > 1:
        axes.set_aspect("equal", adjustable="datalim")  # distances are distances
    if labels is not None:
        columns = ceil(n / 20)
        legend = figure.legend(title="class", loc="outside right center", frameon=False, markerscale=2.5, ncols=columns)
        for handle in filter(None, legend.legend_handles):
            handle.set_alpha(1)  # faint dots are hard to tell apart
    return figure


def _plane(z: Tensor, labels: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """Points (N, 2) that show z, shape (N, Z), and the names of their axes."""
    if z.shape[1] == 1:
        return torch.stack((z[:, 0], labels.to(z)), 1), ("z", "class")
    if z.shape[1] == 2:
        return z, (latent_name(0), latent_name(1))
    centred = z - z.mean(0)
    components, share = principal_plane(centred)
    first, second = (
        f"{name} principal component ({s:.0f} % of the variance)"
        for name, s in zip(("first", "second"), share, strict=True)
    )
    return centred @ components, (first, second)


def kl_per_latent(
    model: LatentVariableModel, rows: Tensor, c: Context = None, *, per_latent: Carried | None = None
) -> "Figure":
    """A bar for each latent, the one that carries most first: its KL, averaged over the rows.

    Without a KL of single latents, a bar is I(x; zⱼ), the mutual information of a latent and these rows; without
    that, the variance of the posterior mean.

    Arguments:
        model: The model.
        rows: Shape (N, *event).
        c: Classes or context of the rows, for a conditional model.
        per_latent: The result of `carried`, if it is known already.
    """
    per_latent = per_latent or carried(model, rows, c)

    from .canvas import defaults

    with defaults():
        return _bars(per_latent)


def _bars(per_latent: Carried) -> "Figure":
    from .canvas import Figure

    order = per_latent.order
    values = per_latent.values[order].tolist()
    n = len(values)
    figure = Figure(figsize=(min(12, max(6, 2 + 0.45 * n)), 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    idle = [value < SILENT_BELOW for value in values]
    axes.bar(range(n), values, width=0.8 if n <= NAMED else 1, color=["0.7" if off else "tab:blue" for off in idle])
    if n <= NAMED:
        axes.set_xticks(range(n), [latent_name(index) for index in order])
    if n <= 20:
        for x, value in enumerate(values):
            axes.annotate(number(value), (x, value), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.set(
        xlabel="latent" if n <= NAMED else f"the {n} latents",
        ylabel=f"{per_latent.what}, {per_latent.unit}".rstrip(", "),
    )
    total = f"{sum(values):.1f} nats in all, " if per_latent.what == "KL" else ""
    axes.set_title(
        f"{per_latent.what} of each latent\n{total}{n - sum(idle)} of {n} above {SILENT_BELOW:g}",
        loc="left",
        fontsize=11,
    )
    margin = max(0.7, 3 - n / 2)
    axes.set_xlim(-margin, n - 1 + margin)
    axes.margins(y=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
