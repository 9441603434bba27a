"""`vae map`, `vae traverse` and `vae latents`: pictures of a run's latents."""

from typing import TYPE_CHECKING

import click

from ..errors import ConfigError, DataError
from .common import WithFormerName, print_files
from .drawing_options import Drawing, drawing_options

if TYPE_CHECKING:
    from ..model import LatentVariableModel

MAP_IMAGES = 1000  # test images that set the ranges of maps and traversals
SCATTER_IMAGES = 5000  # test images in a scatter plot
MOST_ROWS = 16  # rows of traversals without --count

image_option = click.option(
    "--image",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Test image that sets the unchanged latents.",
)
class_option = click.option("--class", "label", help="Class to draw; for a conditional model.  [default: the image's]")


@click.command("map", short_help="Draw a map of two latents.")
@click.option(
    "--latents", type=int, nargs=2, metavar="I J", help="Which latents, counted from 1.  [default: those with most KL]"
)
@click.option(
    "--side",
    type=click.IntRange(2),
    help="Images in a row and a column.  [default: 30; 15 with more than two latents; fewer if large]",
)
@image_option
@class_option
@drawing_options(seeded=False)
def latent_map(
    drawing: Drawing, latents: tuple[int, int] | None, side: int | None, image: int, label: str | None
) -> None:
    """Try `vae map -o map.png`: draw the image of each pair of values of two latents.

    RUN is the newest by default. For a model trained with --set model.latent_size=2, the map shows every
    image that it can draw.
    """
    from .. import plot

    _check_images(drawing)
    path = drawing.path("map", label)
    if side is not None:
        drawing.check_room(side**2, path)
    model, _ = drawing.model()
    batch = drawing.spread_test_images(model, MAP_IMAGES, first=image)
    c = None if label is None else drawing.classes(model, label, 1)
    pair = None if latents is None else _numbers(model, latents)
    drawing.save(plot.manifold(model, batch.x, batch.c, latents=pair, drawn_c=c, side=side), path)


@click.command(short_help="Change one latent after another.")
@click.option(
    "--count",
    "--rows",
    "--latents",
    "count",
    cls=WithFormerName,
    type=click.IntRange(1),
    help=f"How many latents; each is one row.  [default: at most {MOST_ROWS}]",
)
@click.option("--steps", type=click.IntRange(2), default=11, show_default=True, help="Images in a row.")
@image_option
@class_option
@drawing_options(seeded=False)
def traverse(drawing: Drawing, count: int | None, steps: int, image: int, label: str | None) -> None:
    """Try `vae traverse --image 3`: change one latent in each row, the one with the most KL first.

    RUN is the newest by default.
    """
    from .. import plot

    _check_images(drawing)
    path = drawing.path("traversals", label)
    model, _ = drawing.model()
    drawing.check_room(min(count or MOST_ROWS, model.latent_size) * steps, path)
    batch = drawing.spread_test_images(model, MAP_IMAGES, first=image)
    c = None if label is None else drawing.classes(model, label, 1)
    drawing.save(plot.traversals(model, batch.x, batch.c, drawn_c=c, steps=steps, latents=count), path)


@click.command(short_help="Show where the test images lie in latent space.")
@click.option("--kl", is_flag=True, help="Draw a bar for the KL of each latent instead.")
@drawing_options(colours=False, seeded=False)
def latents(drawing: Drawing, kl: bool) -> None:
    """Try `vae latents -o latents.svg`: show where test images lie in latent space, coloured by class.

    RUN is the newest by default. More than two latents are shown on their first two principal components.
    """
    from .. import plot

    path = drawing.output or drawing.run.picture_to_write("kl.png" if kl else "latents.png")
    model, _ = drawing.model()
    batch = drawing.spread_test_images(model, SCATTER_IMAGES)
    names = drawing.class_names
    if kl:
        figure = plot.kl_per_latent(model, batch.x, batch.c)
    else:
        figure = plot.latents(model, batch.x, batch.labels if len(names) > 1 else None, c=batch.c, names=names)
    plot.save(figure, path)
    print_files(path, run=str(drawing.run.path))


def _check_images(drawing: Drawing) -> None:
    if drawing.data_record.kind != "image":
        raise DataError(f"the data of run {drawing.run.name} are not images, so that no picture can be drawn")


def _numbers(model: "LatentVariableModel", latents: tuple[int, int]) -> tuple[int, int]:
    """Indices from 0 of two latents that are counted from 1."""
    first, second = latents
    if first == second or not set(latents) <= set(range(1, model.latent_size + 1)):
        raise ConfigError(f"--latents takes two different numbers from 1 to {model.latent_size}, got {first} {second}")
    return first - 1, second - 1
