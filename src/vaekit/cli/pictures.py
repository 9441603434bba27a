"""`vae sample`, `vae interpolate` and `vae reconstruct`: pictures of a run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError, DataError, unknown
from . import rows
from .colours import class_names, colour_options, from_default
from .common import (
    COUNT,
    MOST,
    device_option,
    draws_pictures,
    files_json_option,
    is_of_table,
    load_model,
    open_run,
    output_option,
    print_files,
    recipe_of,
    run_argument,
    runs_option,
    seed_option,
    slug,
    trust_option,
)

if TYPE_CHECKING:
    import torch

    from ..config.recipe import Recipe
    from ..model import LatentVariableModel
    from ..plot import Picture
    from ..store import Run


MOST_VALUES = 1 << 26  # of pixels in the images that one command draws: 256 MiB


@click.command(short_help="Draw new images.")
@run_argument
@click.option("-n", "count", type=COUNT, default=64, show_default="64, or whole rows of all classes", help="How many.")
@click.option("--class", "label", help="Class, by number or name; for a conditional model.  [default: each in turn]")
@click.option("--by-class", is_flag=True, help="Draw a row for each class and a column for each style; -n columns.")
@click.option("--where", "given", multiple=True, metavar="COLUMN=VALUE", help="Of a table: rows with this value.")
@click.option("--noise", is_flag=True, help="Sample the pixels instead of showing their means.")
@click.option(
    "--from",
    "source",
    type=click.Choice(["prior", "aggregate", "aggregate-normal", "aggregate-flow"]),
    default="prior",
    show_default="prior; of codes, aggregate once it was fitted",
    help="Draw latents from the model's prior, or from a density (a mixture, a normal, a flow; of codes, a network) "
    "fitted to the latents of the training data, which mends a prior that does not fit.",
)
@colour_options
@output_option
@seed_option
@device_option
@trust_option
@runs_option
@files_json_option
def sample(
    run: str | None,
    count: int,
    label: str | None,
    by_class: bool,
    given: tuple[str, ...],
    noise: bool,
    source: str,
    invert: bool,
    cmap: str | None,
    output: Path | None,
    seed: int,
    device: str,
    root: Path,
) -> None:
    """Try `vae sample -n 16 -o digits.png`: draw new images from RUN, the newest by default.

    With --by-class, try `vae sample --by-class -n 10`: each column is one style, written as every class. With --from
    aggregate, latents come from where the training data are; the density is fitted once and kept with the run.

    Of a table, try `vae sample -n 1000 -o new.csv --where sex=female`: new rows.
    """
    from .. import plot

    folder = open_run(run, root)
    recipe = recipe_of(folder)
    if is_of_table(folder):
        if source != "prior":
            raise DataError(f"--from is for images, but the data of run {folder.name} are a table; leave it out")
        rows.draw(folder, recipe, count, given, output, seed=seed, device=device)
        return
    if given:
        raise DataError(f"--where is for tables, but the data of run {folder.name} are not one; use --class")
    if from_default("source") and has_fitted_codes(folder):
        source = "aggregate"
    kind = f"{'classes' if by_class else 'sample'}{'' if source == 'prior' else f'-{source}'}-{seed}"
    path = _check_suffix(folder, output or _picture(folder, kind, label))
    model, generator = load_model(folder, recipe, device, seed)
    if source != "prior":
        model = _from_aggregate(folder, recipe, model, source)
    names = class_names(folder)
    _check_room(folder, count)
    if by_class:
        if label is not None or noise:
            raise click.UsageError("--by-class draws every class, without noise; leave out --class and --noise")
        columns = 10 if from_default("count") else count
        picture = plot.per_class(model, per_row=columns, names=names, generator=generator)
    else:
        c = None if label is None else _class(folder, model, label, count)
        n = None if from_default("count") else count
        picture = plot.samples(model, n, c=c, names=names, noise=noise, generator=generator)
    _save(picture, path, folder, invert, cmap)


@click.command(short_help="Draw walks between latents.")
@run_argument
@click.option("--rows", type=COUNT, default=12, show_default=True, help="How many walks; each is one row.")
@click.option("--steps", type=click.IntRange(2, MOST), help="Images in a walk.  [default: 12; of a film 24]")
@click.option("--between", type=int, nargs=2, metavar="I J", help="Draw one walk, between test images number I and J.")
@click.option("--class", "label", help="Class of the images; for a conditional model.  [default: one class a row]")
@colour_options
@output_option
@seed_option
@device_option
@trust_option
@runs_option
@files_json_option
def interpolate(
    run: str | None,
    rows: int,
    steps: int | None,
    between: tuple[int, int] | None,
    label: str | None,
    invert: bool,
    cmap: str | None,
    output: Path | None,
    seed: int,
    device: str,
    root: Path,
) -> None:
    """Try `vae interpolate -o walk.gif`: draw straight walks between latents of RUN, the newest by default.

    A .gif is a film, in which all images walk at once, there and back. Any other picture has a row for each walk:
    try `vae interpolate --between 3 18`.
    """
    from .. import plot

    folder = open_run(run, root)
    recipe = recipe_of(folder)
    suffix = "-{}-{}".format(*between) if between else f"-{seed}"
    path = _check_suffix(folder, output or _picture(folder, f"interpolate{suffix}", label))
    moves = path.suffix.lower() == ".gif"
    model, generator = load_model(folder, recipe, device, seed)
    options: dict[str, Any] = {"steps": steps or (24 if moves else 12)}
    _check_room(folder, (1 if between else rows) * options["steps"])
    if between:
        images, labels = _test_images(folder, recipe, between)
        c = (labels if label is None else _class(folder, model, label, 2)) if model.context_size else None
        options |= {"between": (images[0], images[1]), "c": c}
        names = [f"image {number}" for number in between]
    else:
        c = _class(folder, model, label, rows)
        options |= {"rows": rows, "c": c, "generator": generator}
        classes = class_names(folder)
        names = [] if c is None else [classes[i] if i < len(classes) else str(i) for i in c.tolist()]
    if moves:
        plot.save(plot.walk(model, invert=invert, cmap=cmap, **options), path)
        print_files(path, run=str(folder.path))
        return
    _save(plot.interpolation(model, names=names, **options), path, folder, invert, cmap)


@click.command(short_help="Show test images, their reconstructions and the errors.")
@run_argument
@click.option("-n", "count", type=COUNT, default=32, show_default=True, help="How many test images.")
@output_option
@device_option
@trust_option
@runs_option
@files_json_option
def reconstruct(run: str | None, count: int, output: Path | None, device: str, root: Path) -> None:
    """Try `vae reconstruct -n 8`: show test images, their reconstructions by RUN, and the errors.

    RUN is the newest by default. An array, -o x.npy, has shape (images, 2, …): original and reconstruction.
    """
    from .. import plot

    folder = open_run(run, root)
    recipe = recipe_of(folder)
    path = _check_suffix(folder, output or _picture(folder, "reconstruct", None))
    model, _ = load_model(folder, recipe, device, 0)
    images, labels = _test_images(folder, recipe, range(count))
    _save(plot.reconstructions(model, images, labels if model.context_size else None), path, folder)


def _from_aggregate(run: "Run", recipe: "Recipe", model: "LatentVariableModel", source: str) -> "LatentVariableModel":
    """The model with a prior fitted to its aggregate posterior."""
    from ..evaluation.ex_post import fitted_prior

    densities: dict[str, Any] = {"aggregate": "mixture", "aggregate-normal": "normal", "aggregate-flow": "flow"}
    return fitted_prior(run, model, densities[source], recipe=recipe)


def has_fitted_codes(run: "Run") -> bool:
    """Whether a network over the codes of a run's model was fitted before."""
    return (run.path / "prior-codes.safetensors").is_file()


def _picture(run: "Run", name: str, label: str | None) -> Path:
    suffix = ".png" if draws_pictures(run) else ".npy"
    return run.picture(f"{name}{f'-class-{slug(label)}' if label else ''}{suffix}")


def _class(run: "Run", model: "LatentVariableModel", label: str | None, n: int) -> "torch.Tensor | None":
    """Classes of n images: one for all; or, for a conditional model without one, 0, 1, 2 … and again."""
    import torch

    if label is None:
        return torch.arange(n) % model.context_size if model.context_size else None
    if not model.context_size:
        raise DataError(f"run {run.name} is unconditional; leave out --class {label}")
    names = [str(name) for name in run.recorded("data", "classes", kind=list)][: model.context_size]
    if label in names:
        return torch.full((n,), names.index(label))
    if label.isdecimal() and int(label) < model.context_size:
        return torch.full((n,), int(label))
    raise DataError(unknown("class", label, names))


def _check_room(run: "Run", count: int) -> None:
    """Check that so many images fit in memory, before it is taken.

    Raises:
        ConfigError: They do not.
    """
    shape = run.recorded("data", "shape", kind=list)
    most = max(1, MOST_VALUES // max(1, math.prod(shape)))
    if count > most:
        raise ConfigError(f"{count} images of shape {tuple(shape)} are too many at once, at most {most}")


def _test_images(run: "Run", recipe: "Recipe", indices: Sequence[int]) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Some test images, and what a conditional model is told about them: a context, or else their classes."""
    import torch

    from ..data.batches import whole
    from ..runs.restore import dataset_of

    split = dataset_of(run, recipe=recipe).test
    for index in indices:
        if not 0 <= index < len(split):
            raise DataError(f"test images are numbered 0 to {len(split) - 1}, got {index}")
    batch = whole(split.rows(torch.tensor(list(indices))), values=recipe.values)
    return batch.x, batch.labels if batch.c is None else batch.c


def _check_suffix(run: "Run", path: Path) -> Path:
    """A path that the run's data can be written to.

    Raises:
        DataError: The path is that of a picture, and the data are not images.
    """
    if path.suffix.lower() not in (".npy", ".npz") and not draws_pictures(run):
        raise DataError(f"the data of run {run.name} are not images, and {path.name} is a picture; write .npy or .npz")
    return path


def _save(picture: "Picture", path: Path, run: "Run", invert: bool = False, cmap: str | None = None) -> None:
    from .. import plot

    plot.save(picture.styled(invert=invert, cmap=cmap) if invert or cmap else picture, path)
    print_files(path, run=str(run.path), images=len(picture.images))
