"""Pictures: image batches from a model, laid out as a grid, and figures from a run's metrics.

Every function returns its picture and writes nothing; `save` writes one. Images are tensors (N, C, H, W) in [0, 1].

    images = plot.interpolation(model)
    plot.save(images, "interpolation.png", columns=12)   # one picture
    plot.save(images, "interpolation.npy")               # the 144 images

Not for: numbers that judge a model, nor where in a run folder a picture goes.
"""

import io
from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .data.pixels import to_unit
from .errors import ConfigError, DataError
from .model import Context, LatentVariableModel
from .rng import seeded
from .store.files import write
from .store.metrics import CLASSIC, logged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT_SIDE, LONG_SIDE = 900, 1600  # pixels: a picture that fills most of a screen and does not leave it
SEPARATOR = 0.5  # grey shows round black digits, white paper and photographs alike


def grid(images: Tensor, *, columns: int | None = None, padding: int = 2, scale: int | None = None) -> Tensor:
    """Lay images out row by row, separated by grey lines.

    Arguments:
        images: Shape (N, C, H, W), in [0, 1] (values outside are clipped) or uint8.
        columns: Images in a row; by default as many as make the picture nearly square with few empty cells.
        padding: Width of the lines, in pixels of the picture.
        scale: Enlarge each image this many times, without smoothing; by default so that the picture's short side
            comes near 900 pixels and its long side does not pass 1600 by much.

    Returns:
        The picture, shape (C, H', W'), in [0, 1].

    Raises:
        DataError: the images have another shape or there are none.
        ConfigError: columns or scale is below 1, or padding below 0.

    >>> grid(torch.zeros(6, 1, 28, 28), columns=3, scale=2).shape
    torch.Size([1, 118, 176])
    """
    if images.ndim != 4 or not images.numel():
        raise DataError(f"images must have shape (N, C, H, W) with N at least 1, got {tuple(images.shape)}")
    for name, value, least in (("columns", columns, 1), ("padding", padding, 0), ("scale", scale, 1)):
        if value is not None and value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
    n, channels, height, width = images.shape
    columns = _columns(n, height, width) if columns is None else min(n, columns)
    if scale is None:
        short, long = sorted((height * ceil(n / columns), width * columns))
        scale = max(1, round(min(SHORT_SIDE / short, LONG_SIDE / long)))
    tiles = _unit(images).repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    if n == 1:
        return tiles[0]
    down, right = (side * scale + padding for side in (height, width))
    picture = tiles.new_full((channels, ceil(n / columns) * down + padding, columns * right + padding), SEPARATOR)
    for i, tile in enumerate(tiles):  # as torchvision's make_grid does, whose import takes as long as torch's
        top, left = padding + i // columns * down, padding + i % columns * right
        picture[:, top : top + tile.shape[1], left : left + tile.shape[2]] = tile
    return picture


def _columns(n: int, height: int, width: int) -> int:
    def cost(columns: int) -> float:
        rows = ceil(n / columns)
        aspect = (columns * width) / (rows * height)
        # An empty cell looks worse than a picture that is not square: 10 images are 5 × 2, not 4 × 3.
        return sqrt(max(aspect, 1 / aspect)) * (rows * columns / n) ** 2

    return min(range(n, 0, -1), key=cost)


@torch.no_grad()
def interpolation(
    model: LatentVariableModel,
    *,
    rows: int = 12,
    steps: int = 12,
    between: tuple[Tensor, Tensor] | None = None,
    c: Context = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Walk in even steps along straight lines between latents, and decode: z = (1 − t)·z₀ + t·z₁.

    Arguments:
        model: The model.
        rows: Lines, each between two latents drawn from the prior; of no account with `between`.
        steps: Images on a line, both ends included.
        between: Two images, each of shape (C, H, W): the one line then joins their posterior means.
        c: One class for all; or one for each row, shape (rows,) or one-hot (rows, C). With `between`, one for each of
            the two images, and the context walks from the first to the second as z does.
        generator: Source of randomness; torch's global one by default.

    Returns:
        Shape (rows·steps, *image), row after row; (steps, *image) with `between`.

    Raises:
        ConfigError: rows is below 1 or steps below 2.
        DataError: the context or the images do not fit the model.
    """
    if rows < 1 or steps < 2:
        raise ConfigError(f"an interpolation needs at least 1 row and 2 steps, got {rows} and {steps}")
    if between is not None:
        context = model.context(c, 2)
        z = _encode_two(model, between, context)[:, None]
        contexts = None if context is None else context[:, None]
    else:
        context = model.context(c, rows)
        with seeded(generator):
            prior = model.prior(context)
            z = prior.sample(torch.Size((2,) if prior.batch_shape else (2, rows)))
        contexts = None if context is None else context.expand(2, -1, -1)
    return model.decode(_walk(z, steps), None if contexts is None else _walk(contexts, steps))


def _encode_two(model: LatentVariableModel, images: tuple[Tensor, Tensor], c: Tensor | None) -> Tensor:
    first, second = images
    if first.shape != second.shape:
        raise DataError(f"both images must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    return model.encode(torch.stack((first, second)), c)


def _walk(ends: Tensor, steps: int) -> Tensor:
    """Even steps from ends[0] to ends[1], each (R, *event): shape (R·steps, *event)."""
    t = torch.linspace(0, 1, steps, dtype=ends.dtype, device=ends.device).reshape(-1, *[1] * (ends.ndim - 2))
    return torch.lerp(ends[0, :, None], ends[1, :, None], t).flatten(0, 1)


def reconstructions(model: LatentVariableModel, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Pairs, each one tile: the original above, its reconstruction from the posterior mean below.

    Arguments:
        model: The model.
        images: Shape (N, C, H, W), or vectors (N, D) and other rows.
        labels: Classes, shape (N,), or context, shape (N, C); needed by a conditional model, not used by any other.

    Returns:
        Shape (N, C, 2·H, W); of rows that are no images (N, 2, *shape).
    """
    x_hat = model.reconstruct(images, labels if model.context_size else None)
    pair = images.to(x_hat), x_hat
    return torch.cat(pair, dim=-2) if images.ndim == 4 else torch.stack(pair, 1)


def per_class(model: LatentVariableModel, *, per_row: int = 10, generator: torch.Generator | None = None) -> Tensor:
    """Samples, a row for each class; a column is the same draw of the prior in every class, so that it shows a style.

    Arguments:
        model: A conditional model.
        per_row: Samples of each class.
        generator: Source of randomness; torch's global one by default.

    Returns:
        Shape (classes·per_row, *image), row after row.

    Raises:
        DataError: the model is unconditional, or per_row is below 1.
    """
    device = None if generator is None else generator.device
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=device))
    # The same seed rather than the same z: a prior p(z | c) then gives corresponding latents, not the same one.
    return torch.cat(
        [
            model.sample(per_row, label, generator=torch.Generator().manual_seed(seed))
            for label in range(_classes(model))
        ]
    )


def one_each(model: LatentVariableModel, *, generator: torch.Generator | None = None) -> Tensor:
    """One sample of each class, each from its own draw of the prior: shape (classes, *image).

    Raises:
        DataError: the model is unconditional.
    """
    classes = _classes(model)
    return model.sample(classes, torch.arange(classes), generator=generator)


def _classes(model: LatentVariableModel) -> int:
    if not model.context_size:
        raise DataError("this model is unconditional and has no classes; draw with model.sample, or train a CVAE")
    return model.context_size


def curves(metrics: Sequence[Mapping[str, Any]]) -> "Figure":
    """Means by epoch, each in a panel: −ELBO, rate and distortion, then whatever else the loss logged, by its name.

    Arguments:
        metrics: A record for each epoch, as in metrics.jsonl: `epoch`, means by name, and the same means with
            `validation_` before their names; what is absent or None is left out.

    Raises:
        DataError: there is no record.
    """
    from matplotlib.figure import Figure

    if not metrics:
        raise DataError("there are no metrics to plot; train for at least one epoch")
    last = metrics[-1]
    titles = {"neg_elbo": "−ELBO", "rate": "Rate (KL)", "distortion": "Distortion (reconstruction)"}
    if "neg_elbo" not in last and "loss" in last:
        titles = {}
    titles |= {name: name.replace("_", " ").capitalize() for name in logged(last, beyond=True)}
    columns = min(3, len(titles))
    rows = ceil(len(titles) / columns)
    figure = Figure(figsize=(11, 3.8 * rows), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (key, title) in zip(panels, titles.items(), strict=False):
        _curve(axes, metrics, key)
        axes.set_title(title)
    for axes in panels[len(titles) :]:
        axes.set_visible(False)
    return figure


def _curve(axes: "Axes", metrics: Sequence[Mapping[str, Any]], key: str) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [record["epoch"] for record in metrics]
    for label, name in (("training", key), ("validation", f"validation_{key}")):
        known = [(record["epoch"], record[name]) for record in metrics if record.get(name) is not None]
        if known:
            marker = "o" if len(known) <= 30 else None
            axes.plot(*zip(*known, strict=True), label=label, marker=marker, markersize=4)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean per image" if key not in CLASSIC else "nats per image")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)


def latents(model: LatentVariableModel, images: Tensor, labels: Tensor) -> "Figure":
    """Posterior means, coloured by class, on their first two principal components if they have more than two axes.

    Arguments:
        model: The model.
        images: Shape (N, C, H, W).
        labels: Classes, shape (N,).

    Raises:
        DataError: there is not one label for each image.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    if labels.shape != images.shape[:1]:
        raise DataError(f"{len(images)} images need as many labels, got shape {tuple(labels.shape)}")
    z = model.encode(images, labels if model.context_size else None).flatten(1).double().cpu()
    points, names = _plane(z, labels)
    classes = sorted(set(labels.tolist()))
    n = len(classes)
    colours = colormaps["tab10"](np.arange(n)) if n <= 10 else colormaps["turbo"](np.linspace(0, 1, n))
    figure = Figure(figsize=(8, 7), dpi=120, layout="constrained")
    axes = figure.subplots()
    for label, colour in zip(classes, colours, strict=True):
        x, y = points[(labels == label).cpu()].T.numpy()
        axes.scatter(x, y, s=8, alpha=0.6, linewidths=0, color=colour, label=str(label))
    axes.set(xlabel=names[0], ylabel=names[1], title="Posterior means")
    columns = ceil(n / 20)
    legend = figure.legend(title="class", loc="outside right center", frameon=False, markerscale=3, ncols=columns)
    for handle in filter(None, legend.legend_handles):
        handle.set_alpha(1)  # a legend of faint dots is hard to tell apart
    return figure


def _plane(z: Tensor, labels: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """Points (N, 2) that show z, shape (N, Z), and what their axes are."""
    if z.shape[1] == 1:
        return torch.stack((z[:, 0], labels.to(z)), 1), ("z", "class")
    if z.shape[1] == 2:
        return z, ("z₁", "z₂")
    centred = z - z.mean(0)
    variances, components = torch.linalg.eigh(centred.T @ centred)
    components = components[:, [-1, -2]]
    # An eigenvector's sign is arbitrary: make its largest entry positive, so that the same z gives the same picture.
    components = components * components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
    share = 100 * variances[[-1, -2]] / variances.sum().clamp_min(1e-300)
    first, second = (
        f"{name} principal component ({s:.0f} % of the variance)"
        for name, s in zip(("first", "second"), share.tolist(), strict=True)
    )
    return centred @ components, (first, second)


def save(picture: "Tensor | Figure", path: str | Path, *, columns: int | None = None) -> None:
    """Write a picture as PNG, or a tensor as an array: all of the file, or nothing.

    Arguments:
        picture: A figure, a picture (C, H, W) or a batch of images (N, C, H, W), which as a PNG is laid out by `grid`.
        path: File whose suffix says what is written: `.png`; for tensors also `.npy`, or `.npz` (compressed, under
            the name "images"), with shape and values as they are.
        columns: Images in a row, for a batch.

    Raises:
        DataError: the suffix is another one, or the tensor cannot be a PNG.
        RunError: the file cannot be written.
    """
    path = Path(path)
    suffix, is_tensor = path.suffix.lower(), isinstance(picture, Tensor)
    allowed = (".png", ".npy", ".npz") if is_tensor else (".png",)
    if suffix not in allowed:
        what = "images are" if is_tensor else "a figure is"
        raise DataError(f"cannot write {path.name!r}: {what} written as {', '.join(allowed)}; change the suffix")
    file = io.BytesIO()
    if not isinstance(picture, Tensor):
        picture.savefig(file, format="png")
    elif suffix == ".png":
        _png(grid(picture, columns=columns) if picture.ndim == 4 else picture, file)
    elif suffix == ".npy":
        np.save(file, picture.detach().cpu().numpy())
    else:
        np.savez_compressed(file, images=picture.detach().cpu().numpy())
    write(path, file.getvalue())


def _unit(images: Tensor) -> Tensor:
    """Images as floats in [0, 1]."""
    images = images.detach()
    return to_unit(images).float().clamp(0, 1)


def _png(picture: Tensor, file: io.BytesIO) -> None:
    from PIL import Image

    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise DataError(f"a PNG needs shape (C, H, W) with C = 1 or 3, got {tuple(picture.shape)}; save it as .npy")
    pixels = (255 * _unit(picture)).round().to(torch.uint8).cpu().numpy()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file, format="png")
