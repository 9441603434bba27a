"""Images that a model draws: samples, walks, reconstructions, a row for each class.

Not for: single latents (`space`).
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..data.batch import as_tensor
from ..data.dataset import DRAWN_CHANNELS
from ..distributions import is_discrete, support_in
from ..errors import ConfigError, DataError, check_count
from ..model import Context, LatentVariableModel
from ..rng import seeded
from .picture import Picture
from .ways import Way
from .ways import between as between_latents

DECODED = 250  # images decoded at a time, so that a map of 900 takes little memory
SHOWN_SAMPLES = 64  # samples
MOST_CLASS_COLUMNS = 12  # the most classes that are columns of samples


@torch.no_grad()
def samples(
    model: LatentVariableModel,
    n: int | None = None,
    *,
    c: Context = None,
    names: Sequence[str] = (),
    noise: bool = False,
    generator: torch.Generator | None = None,
) -> Picture:
    """New images from the prior; for a conditional model one class after another, each in its column.

    Arguments:
        model: The model.
        n: Number of images; by default 64, or for a conditional model the greatest multiple of its classes up to 64.
        c: One class for all, or a context for each; by default all classes in turn.
        names: Names of the classes; their numbers by default.
        noise: Sample the values instead of showing their means.
        generator: Source of randomness; torch's global one by default.
    """
    size = model.context_size
    cycles = size > 0 and c is None
    if n is None:
        n = SHOWN_SAMPLES // size * size if cycles and size <= SHOWN_SAMPLES else SHOWN_SAMPLES
    if cycles:
        c = torch.arange(n) % size
    images = model.sample(n, c, generator=generator, noise=noise)
    if not (cycles and 1 < size <= MOST_CLASS_COLUMNS and n >= size):
        return Picture(images)
    return Picture(images, columns=size, heads=_named(names, size))


@torch.no_grad()
def interpolation(
    model: LatentVariableModel,
    *,
    rows: int = 12,
    steps: int = 12,
    path: Way = "line",
    between: tuple[Tensor, Tensor] | None = None,
    c: Context = None,
    names: Sequence[str] = (),
    generator: torch.Generator | None = None,
) -> Picture:
    """Walk in even steps between latents, by default along straight lines, z = (1 − t)·z₀ + t·z₁, and decode.

    In a curved space the line is the shortest way within the space: on a sphere, a great circle.

    Arguments:
        model: The model.
        rows: Lines, each between two latents drawn from the prior; not used with `between`.
        steps: Images on a line, both ends included.
        path: "line"; "circle", great circles about 0, which keep the length of z; or "density", short paths for
            lengths measured by the prior, which go round unlikely latents.
        between: Two images, each of shape (C, H, W): the one line then joins their posterior means.
        c: One class for all; or one for each row, shape (rows,) or one-hot (rows, C). With `between`, one for each of
            the two images, and the context walks from the first to the second as z does.
        names: Names of the rows; with `between`, of the two images.
        generator: Source of randomness; torch's global one by default.

    Returns:
        The images, shape (rows·steps, *image), row after row; (steps, *image) with `between`.

    Raises:
        ConfigError: `rows` is below 1 or `steps` below 2, the latents are discrete, or they lie in a curved space that
            the path leaves.
        DataError: The context or the images do not fit the model.
    """
    check_count("rows", rows)
    check_count("steps", steps, 2)
    if between is not None:
        context = model.context(c, 2)
        refuse_discrete(model, context)
        prior = model.prior(context)
        z = _encode_two(model, between, context)[:, None]
        contexts = None if context is None else context[:, None]
    else:
        context = model.context(c, rows)
        refuse_discrete(model, context)
        with seeded(generator):
            prior = model.prior(context)
            z = prior.sample(torch.Size((2,) if prior.batch_shape else (2, rows)))
        contexts = None if context is None else context.expand(2, -1, -1)

    def contexts_along(n: int) -> Tensor | None:
        return None if contexts is None else _walk(contexts, n)

    @cache
    def prior_of(n: int) -> Distribution:
        with torch.no_grad():
            return model.prior(contexts_along(n))

    def log_prob(z: Tensor) -> Tensor:
        density: Tensor = prior_of(z.shape[1]).log_prob(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return density

    ways = between_latents(z, steps, path, space=support_in(prior), log_prob=log_prob)
    images = decoded(model, ways.flatten(0, 1), contexts_along(steps))
    headings: dict[str, Any] = {"rows": names}
    if between is not None:
        first, second = names if len(names) == 2 else ("", "")
        headings = {"heads": (first, *[""] * (steps - 2), second)}
    return Picture(images, columns=steps, **headings)


def refuse_discrete(model: LatentVariableModel, c: Tensor | None = None) -> None:
    """Refuse to interpolate between discrete latents.

    Raises:
        ConfigError: The latents are discrete.
    """
    if is_discrete(model.prior(c)):
        raise ConfigError(
            "the latents of this model are discrete: nothing lies between two of them; draw samples or reconstructions"
        )


def _encode_two(model: LatentVariableModel, images: tuple[Tensor, Tensor], c: Tensor | None) -> Tensor:
    if len(images) != 2:
        raise DataError(f"between takes two images, got {len(images)}")
    first, second = (as_tensor(image, "between") for image in images)
    if first.shape != second.shape:
        raise DataError(f"both images must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    return model.encode(torch.stack((first, second)), c)


def _walk(ends: Tensor, steps: int) -> Tensor:
    """Even steps along lines from contexts ends[0] to ends[1], each (R, C): shape (R·steps, C)."""
    t = torch.linspace(0, 1, steps, dtype=ends.dtype, device=ends.device)[:, None]
    return torch.lerp(ends[0, :, None], ends[1, :, None], t).flatten(0, 1)


def decoded(model: LatentVariableModel, z: Tensor, c: Tensor | None = None) -> Tensor:
    """The images of many latents, a part at a time."""
    contexts = [None] * len(z) if c is None else c.split(DECODED)
    return torch.cat([model.decode(part, c) for part, c in zip(z.split(DECODED), contexts, strict=False)])


@torch.no_grad()
def reconstructions(
    model: LatentVariableModel,
    rows: Tensor,
    c: Context = None,
    *,
    columns: int = 16,
) -> Picture:
    """Originals, their reconstructions from the posterior mean, and where the two differ.

    The error is red where the reconstruction is too bright and blue where it is too dark; for colour images it is
    the mean over the channels. Its strength is the square root of the difference, so that small errors are visible.

    Arguments:
        model: The model.
        rows: Shape (N, C, H, W), or vectors (N, D) and other rows; N at least 1.
        c: Classes, shape (N,), or context, shape (N, C); needed by a conditional model, not used by any other.
        columns: The most images in a row.

    Returns:
        The images and reconstructions, shape (N, 2, *image); the picture also shows the errors.

    Raises:
        ConfigError: `columns` is below 1.
        DataError: There is no image, or the images or the context do not fit the model.
    """
    check_count("columns", columns)
    x = model.checked(rows)
    if not len(x):
        raise DataError("there are 0 images to reconstruct")
    x_hat = model.reconstruct(x, c if model.context_size else None)
    x = x.to(x_hat)
    pairs = torch.stack((x, x_hat), 1)
    if x.ndim != 4 or x.shape[1] not in DRAWN_CHANNELS:
        return Picture(pairs)
    columns = _even(len(x), columns)
    blank = -len(x) % columns
    kinds = [kind.expand(-1, 3, -1, -1) for kind in (x.clamp(0, 1), x_hat.clamp(0, 1), _signed(x_hat - x))]
    # Band after band: a row of originals, one of reconstructions, one of errors. Empty cells are grey.
    full = torch.stack([torch.cat((kind, kind.new_full((blank, *kind.shape[1:]), 0.5))) for kind in kinds])
    tiles = full.unflatten(1, (-1, columns)).transpose(0, 1).flatten(0, 2)
    bands = len(tiles) // (3 * columns)
    row_names = ("original", "reconstruction", "error") * bands
    title = "Errors: red where the reconstruction is too bright, blue where it is too dark"
    return Picture(pairs, tiles=tiles, columns=columns, rows=row_names, band=3, title=title)


def _even(n: int, most: int) -> int:
    """Columns that leave few empty cells: 32 images in rows of 16, 20 in rows of 10."""
    return -(-n // -(-n // most))


def _signed(difference: Tensor) -> Tensor:
    """Colours of differences from −1 to 1, (N, C, H, W): blue, white, red, shape (N, 3, H, W)."""
    mean = difference.mean(1, keepdim=True).clamp(-1, 1)
    ends = torch.tensor([[0.02, 0.19, 0.38], [0.55, 0.0, 0.05]]).to(mean)  # dark blue and dark red
    strength = mean.abs().sqrt()
    colour = torch.where(mean < 0, ends[0].view(1, 3, 1, 1), ends[1].view(1, 3, 1, 1))
    return 1 - strength * (1 - colour)


def per_class(
    model: LatentVariableModel,
    *,
    per_row: int = 10,
    names: Sequence[str] = (),
    generator: torch.Generator | None = None,
) -> Picture:
    """Samples, a row for each class; a column is the same draw of the prior in every class, so that it shows a style.

    Arguments:
        model: A conditional model.
        per_row: Samples of each class.
        names: Names of the classes; their numbers by default.
        generator: Source of randomness; torch's global one by default.

    Returns:
        The images, shape (classes·per_row, *image), row after row.

    Raises:
        DataError: The model is unconditional.
        ConfigError: `per_row` is not a whole number of at least 1.
    """
    classes = _classes(model)
    device = None if generator is None else generator.device
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=device))
    # The same seed rather than the same z: a prior p(z | c) then gives corresponding latents, not the same one.
    images = torch.cat(
        [model.sample(per_row, label, generator=torch.Generator().manual_seed(seed)) for label in range(classes)]
    )
    return Picture(images, columns=per_row, rows=_named(names, classes))


def one_each(
    model: LatentVariableModel,
    *,
    names: Sequence[str] = (),
    generator: torch.Generator | None = None,
) -> Picture:
    """One sample of each class, each from its own draw of the prior: images of shape (classes, *image).

    Raises:
        DataError: The model is unconditional.
    """
    classes = _classes(model)
    images = model.sample(classes, torch.arange(classes), generator=generator)
    if classes > 2 * MOST_CLASS_COLUMNS:
        return Picture(images)
    return Picture(images, columns=classes, heads=_named(names, classes))


def _classes(model: LatentVariableModel) -> int:
    if not model.context_size:
        raise DataError("this model is unconditional and has no classes; draw with plot.samples, or train a CVAE")
    return model.context_size


def _named(names: Sequence[str], classes: int) -> tuple[str, ...]:
    """The names of the classes, or their numbers if the number of names differs."""
    given = tuple(map(str, names))
    return given if len(given) == classes else tuple(map(str, range(classes)))
