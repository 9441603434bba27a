"""`vae map`, `vae traverse` and `vae latents`: what the latents of a run do."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError, DataError
from .colours import class_names, colour_options
from .common import (
    device_option,
    draws_pictures,
    files_json_option,
    load_model,
    open_run,
    output_option,
    print_files,
    recipe_of,
    run_argument,
    runs_option,
    trust_option,
)
from .pictures import _class, _save

if TYPE_CHECKING:
    from ..config.recipe import Recipe
    from ..data import Batch
    from ..model import LatentVariableModel
    from ..store import Run

MAPPED = 1000  # test images that a map and traversals take their ranges from
SCATTERED = 5000  # test images in a scatter plot

image_option = click.option(
    "--image",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Test image whose latents the others keep.",
)
class_option = click.option("--class", "label", help="Class to draw; for a conditional model.  [default: the image's]")


@click.command("map", short_help="Draw a map of two latents.")
@run_argument
@click.option(
    "--latents", type=int, nargs=2, metavar="I J", help="Which, counted from 1.  [default: those with most KL]"
)
@click.option("--side", type=click.IntRange(2), help="Images in a row and a column.  [default: 30, or fewer if large]")
@image_option
@class_option
@colour_options
@output_option
@device_option
@trust_option
@runs_option
@files_json_option
def latent_map(
    run: str | None,
    latents: tuple[int, int] | None,
    side: int | None,
    image: int,
    label: str | None,
    invert: bool,
    cmap: str | None,
    output: Path | None,
    device: str,
    root: Path,
) -> None:
    """Try `vae map -o map.png`: draw what each pair of values of two latents decodes to.

    RUN is the newest by default. With --set model.latent_size=2 the map is all that the model can draw.
    """
    from .. import plot

    folder = _with_images(run, root)
    path = output or folder.picture("map.png")
    recipe = recipe_of(folder)
    model, _ = load_model(folder, recipe, device, 0)
    batch = _batch(folder, recipe, model, MAPPED, image)
    c = None if label is None else _class(folder, model, label, 1)
    pair = None if latents is None else _numbers(model, latents)
    _save(plot.manifold(model, batch.x, batch.c, latents=pair, c=c, side=side), path, folder, invert, cmap)


@click.command(short_help="Change one latent after another.")
@run_argument
@click.option("--latents", type=click.IntRange(1), help="How many rows.  [default: at most 16]")
@click.option("--steps", type=click.IntRange(2), default=11, show_default=True, help="Images in a row.")
@image_option
@class_option
@colour_options
@output_option
@device_option
@trust_option
@runs_option
@files_json_option
def traverse(
    run: str | None,
    latents: int | None,
    steps: int,
    image: int,
    label: str | None,
    invert: bool,
    cmap: str | None,
    output: Path | None,
    device: str,
    root: Path,
) -> None:
    """Try `vae traverse --image 3`: change one latent in each row, the one with the most KL first.

    RUN is the newest by default.
    """
    from .. import plot

    folder = _with_images(run, root)
    path = output or folder.picture("traversals.png")
    recipe = recipe_of(folder)
    model, _ = load_model(folder, recipe, device, 0)
    batch = _batch(folder, recipe, model, MAPPED, image)
    c = None if label is None else _class(folder, model, label, 1)
    _save(plot.traversals(model, batch.x, batch.c, c=c, steps=steps, latents=latents), path, folder, invert, cmap)


@click.command(short_help="Show where the test images lie in latent space.")
@run_argument
@click.option("--kl", is_flag=True, help="Draw a bar for the KL of each latent instead.")
@output_option
@device_option
@trust_option
@runs_option
@files_json_option
def latents(run: str | None, kl: bool, output: Path | None, device: str, root: Path) -> None:
    """Try `vae latents -o latents.svg`: show where test images lie in latent space, coloured by class.

    RUN is the newest by default. More than two latents are shown on their first two principal components.
    """
    from .. import plot

    folder = open_run(run, root)
    path = output or folder.picture("kl.png" if kl else "latents.png")
    recipe = recipe_of(folder)
    model, _ = load_model(folder, recipe, device, 0)
    batch = _batch(folder, recipe, model, SCATTERED)
    names = class_names(folder)
    if kl:
        figure = plot.kl_per_latent(model, batch.x, batch.c)
    else:
        figure = plot.latents(model, batch.x, batch.labels if len(names) > 1 else None, c=batch.c, names=names)
    plot.save(figure, path)
    print_files(path, run=str(folder.path))


def _with_images(run: str | None, root: Path) -> "Run":
    folder = open_run(run, root)
    if not draws_pictures(folder):
        raise DataError(f"the data of run {folder.name} are not images, so that no picture can be drawn")
    return folder


def _batch(run: "Run", recipe: "Recipe", model: "LatentVariableModel", n: int, image: int | None = None) -> "Batch":
    """About n test images as the model takes them, with one of them first."""
    import torch

    from ..data.batches import whole
    from ..runs.restore import dataset_of

    split = dataset_of(run, recipe=recipe).test
    if image is not None and image >= len(split):
        raise DataError(f"test images are numbered 0 to {len(split) - 1}, got {image}")
    rows = torch.arange(0, len(split), max(1, len(split) // n))[:n]
    if image is not None:
        rows = torch.cat((torch.tensor([image]), rows))
    return model.to_model(whole(split.rows(rows), values=model.values))


def _numbers(model: "LatentVariableModel", latents: tuple[int, int]) -> tuple[int, int]:
    """Numbers from 0 of two latents that are counted from 1."""
    first, second = latents
    if first == second or not set(latents) <= set(range(1, model.latent_size + 1)):
        raise ConfigError(f"--latents takes two different numbers from 1 to {model.latent_size}, got {first} {second}")
    return first - 1, second - 1
