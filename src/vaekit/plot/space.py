"""Pictures of the latents: how much each one carries, a map of two of them, and each one changed alone.

Not for: measuring latents (`vaekit.evaluation`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from ..data.batch import as_tensor
from ..distributions import UnitSphere, draw_samples, penalties_of, support_in
from ..errors import ConfigError, DataError, check_count, is_whole
from ..model import Context, LatentVariableModel, kl_by_dimension
from ..rng import seeded
from .decoding import decoded, refuse_discrete
from .picture import LONG_SIDE, Picture
from .text import latent_name, number

TALLEST = 2400  # pixels of a picture of traversals
TICKS = 6  # values named along an axis of a map
GREY = 0.5  # value of a tile where no latent can lie
REACH = 2.5  # standard deviations to either side
MOST_DENSITIES = 1 << 22  # densities to compare, in a tenth of a second


def principal_plane(z: Tensor) -> tuple[Tensor, list[float]]:
    """The two directions in which latents vary most, and their shares of the variance.

    Arguments:
        z: Latents, shape (N, Z), of mean 0, float64.

    Returns:
        Directions of length 1, shape (Z, 2), and two shares in percent.
    """
    variances, components = torch.linalg.eigh(z.T @ z)
    components = components[:, [-1, -2]]
    # An eigenvector's sign is arbitrary: make its largest entry positive, so that the same z gives the same picture.
    components = components * components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
    return components, (100 * variances[[-1, -2]] / variances.sum().clamp_min(1e-300)).tolist()


@dataclass(frozen=True)
class Carried:
    """How much each latent carries, on average over some rows.

    Arguments:
        values: One number for each latent, shape (Z,).
        what: Name of the measure.
        unit: Unit of the measure.
    """

    values: Tensor
    what: str
    unit: str = "nats"

    @property
    def order(self) -> list[int]:
        """The latents, the one that carries most first."""
        indices: list[int] = self.values.argsort(descending=True, stable=True).tolist()
        return indices

    def label(self, index: int) -> str:
        """Name and value of a latent."""
        return f"{latent_name(index)}  {number(self.values[index].item())} {self.unit}".rstrip()


@torch.no_grad()
def carried(model: LatentVariableModel, rows: Tensor, c: Context = None) -> Carried:
    """How much each latent carries: its KL; where KL does not split by latent, its information about the row.

    The information is I(x; zⱼ) = E log q(zⱼ | x) − log q(zⱼ), where q(zⱼ) is the mixture over these rows. If the
    posterior does not factorize either, the measure is the variance of the posterior mean.

    Arguments:
        model: The model.
        rows: Shape (N, *event).
        c: Classes or context of the rows, for a conditional model.
    """
    q, p = _both(model, rows, c)
    with seeded(torch.Generator().manual_seed(0)):
        z = draw_samples(q, 1)
    kl = None if penalties_of(q) else kl_by_dimension(z, q, p)
    if kl is not None:
        return Carried(kl.flatten(1).mean(0).double().cpu(), "KL")
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        information = _information(z[0].flatten(1), q.base_dist.loc.flatten(1), q.base_dist.scale.flatten(1))
        return Carried(information.double().cpu(), "information I(x; z)")
    means = q.mean.flatten(1).double().cpu()
    variances = means.var(0) if len(means) > 1 else torch.zeros(means.shape[1]).double()
    return Carried(variances, "variance of the posterior mean", "")


def _both(model: LatentVariableModel, rows: Tensor, c: Context) -> tuple[Distribution, Distribution]:
    x = model.checked(rows)
    if not len(x):
        raise DataError("what latents carry is a mean over images, and there are 0 images")
    context = model.context(c if model.context_size else None, len(x))
    return model.posterior(x, context), model.prior(context)


def _information(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """I(x; zⱼ) of each latent, shape (Z,), from one z of each row."""
    n, size = z.shape
    conditional = Normal(mean, scale).log_prob(z)
    sample = torch.linspace(0, n - 1, max(1, min(n, MOST_DENSITIES // (n * size)))).round().long()
    aggregate = Normal(mean, scale).log_prob(z[sample, None]).logsumexp(1) - math.log(n)
    information: Tensor = conditional[sample] - aggregate
    return information.mean(0).clamp_min(0)


@torch.no_grad()
def traversals(
    model: LatentVariableModel,
    images: Tensor,
    c: Context = None,
    *,
    image: int = 0,
    drawn_c: Context = None,
    per_latent: Carried | None = None,
    steps: int = 11,
    latents: int | None = None,
) -> Picture:
    """Change one latent in each row and keep the others; the latent that carries most comes first.

    A row goes from 2.5 standard deviations below the mean of its latent to 2.5 above, both over the posterior means of
    the images.

    Arguments:
        model: The model.
        images: Shape (N, C, H, W), at least 2: they give the latents' ranges and KL.
        c: Classes or context of the images, for a conditional model.
        image: Index of an image; the other latents keep its posterior mean.
        drawn_c: Class or context to draw, for a conditional model; that of the one image by default.
        per_latent: The result of `carried`, if it is known already.
        steps: Images in a row.
        latents: Number of rows; by default 4 to 16, the most that the height of the picture allows.

    Raises:
        ConfigError: `steps` is below 2, or `latents` below 1.
        DataError: There are fewer than 2 images, or there is no image with this index.
    """
    check_count("steps", steps, 2)
    if latents is not None:
        check_count("latents", latents)
    images = as_tensor(images, "images")
    base, means, context = _base(model, images, c, image)
    context = context if drawn_c is None else model.context(drawn_c, 1)
    per_latent = per_latent or carried(model, images, c)
    rows = per_latent.order[: latents or max(4, min(16, TALLEST // images.shape[-2]))]
    t = torch.linspace(-REACH, REACH, steps).to(base)
    z = base.repeat(len(rows), steps, 1)
    for row, index in enumerate(rows):
        z[row, :, index] = means[:, index].mean() + t * means[:, index].std()
    tiles = _decode(model, z.flatten(0, 1), context)
    more = f", {len(rows)} of {len(per_latent.values)}" if len(rows) < len(per_latent.values) else ""
    title = f"One latent changed in each row{more}, the others as in one image; ordered by {per_latent.what}"
    title += _grey_where(model, context)
    heads = [f"{'+' if value > 0 else ''}{number(value)}" + " σ" for value in t.tolist()]
    return Picture(tiles, columns=steps, title=title, rows=[per_latent.label(index) for index in rows], heads=heads)


@torch.no_grad()
def manifold(
    model: LatentVariableModel,
    images: Tensor,
    c: Context = None,
    *,
    latents: Sequence[int] | None = None,
    image: int = 0,
    drawn_c: Context = None,
    per_latent: Carried | None = None,
    side: int | None = None,
) -> Picture:
    """A map of two latents: an image for each pair of their values, evenly spaced over the region of the images.

    It reaches over the middle 98 % of the images in each latent, so that it shows the same region as `plot.latents`.

    Arguments:
        model: The model.
        images: Shape (N, C, H, W), at least 2: they give the region and the KL.
        c: Classes or context of the images, for a conditional model.
        latents: Indices of two latents, from 0; by default the two that carry most. The first is drawn from left to
            right, the second from bottom to top.
        image: Index of an image; the other latents keep its posterior mean.
        drawn_c: Class or context to draw, for a conditional model; that of the one image by default.
        per_latent: The result of `carried`, if it is known already.
        side: Images in a row and in a column; by default 30 for a model with two latents, else 15, or fewer if the
            images are large.

    Raises:
        ConfigError: `latents` are not two different ones of the model, or `side` is below 2.
        DataError: There are fewer than 2 images, or there is no image with this index.

    Reference: Kingma and Welling 2013, arXiv:1312.6114, figure 4; there the values are quantiles of the prior.
    """
    images = as_tensor(images, "images")
    base, means, context = _base(model, images, c, image)
    context = context if drawn_c is None else model.context(drawn_c, 1)
    size = base.shape[1]
    if side is None:
        side = max(8, min(30 if size <= 2 else 15, LONG_SIDE // max(images.shape[-2:])))
    check_count("side", side, 2)
    if latents is not None:
        shown = np.ravel(latents).tolist()
        if len(shown) != 2 or len(set(shown)) != 2 or not all(is_whole(i) and 0 <= i < size for i in shown):
            raise ConfigError(f"a map needs two different latents of 0 to {size - 1}, got {latents}")
    elif size > 2:
        per_latent = per_latent or carried(model, images, c)
        shown = sorted(per_latent.order[:2])
    else:
        shown = list(range(size))
    low, high = means[:, shown].float().quantile(means.new_tensor([0.01, 0.99], dtype=torch.float32), dim=0)
    axes = [torch.linspace(a, b, side).to(base) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    grid = torch.cartesian_prod(axes[1].flip(0), axes[0]) if len(axes) == 2 else axes[0][:, None]
    z = base.repeat(len(grid), 1)
    z[:, shown] = grid.flip(1) if len(axes) == 2 else grid
    names = [latent_name(index) for index in shown]
    held = ["the other latents"] * (size > 2) + ["the class"] * (context is not None and drawn_c is None)
    title = f"A map of {' and '.join(names)}"
    title += f", {' and '.join(held)} as in one image" if held else ""
    title += _grey_where(model, context)
    heads = _ticks(axes[0], names[0])
    rows = _ticks(axes[1].flip(0), names[1]) if len(axes) == 2 else []
    return Picture(_decode(model, z, context), columns=side, padding=0, title=title, heads=heads, rows=rows)


def _ticks(values: Tensor, name: str) -> list[str]:
    """Names of rows or columns: some values, the first with the name of the latent."""
    shown = set(torch.linspace(0, len(values) - 1, min(TICKS, len(values))).round().long().tolist())
    texts = [number(value) if i in shown else "" for i, value in enumerate(values.tolist())]
    return [f"{name} = {texts[0]}", *texts[1:]]


def _base(model: LatentVariableModel, images: Tensor, c: Context, image: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Latents of one image, shape (1, Z), and of all images, (N, Z); context of the one image, (1, C)."""
    if images.ndim != 4 or len(images) < 2:
        raise DataError(f"a picture of latents needs at least 2 images (N, C, H, W), got {tuple(images.shape)}")
    if not is_whole(image) or not 0 <= image < len(images):
        raise DataError(f"there is no image number {image}; they are numbered 0 to {len(images) - 1}")
    context = model.context(c if model.context_size else None, len(images))
    refuse_discrete(model, None if context is None else context[:1])
    if isinstance(support_in(model.prior(context)), UnitSphere):
        raise ConfigError(
            "no latent of a direction on the unit sphere can change alone; draw a walk between two of them"
        )
    means = model.encode(images, context).flatten(1)
    return means[image : image + 1], means, None if context is None else context[image : image + 1]


def _decode(model: LatentVariableModel, z: Tensor, c: Tensor | None) -> Tensor:
    """Images of latents, shape (N, Z); grey for a point outside the curved space of the latents."""
    images = decoded(model, z.unflatten(1, model.latent_shape), None if c is None else c.expand(len(z), -1))
    space = support_in(model.prior(c))
    return images if space is None else torch.where(space.check(z)[:, None, None, None], images, GREY)


def _grey_where(model: LatentVariableModel, c: Tensor | None) -> str:
    """The part of a title about grey tiles."""
    space = support_in(model.prior(c))
    return "" if space is None else f"; grey outside {space.name}"
