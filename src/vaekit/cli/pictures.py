"""`vae sample`, `vae interpolate` and `vae reconstruct`: pictures of a run."""

from typing import TYPE_CHECKING

import click

from ..errors import DataError
from .common import COUNT, WholeNumber, WithFormerName, is_default, print_files
from .drawing_options import Drawing, drawing_options
from .sample_table import sample_table

if TYPE_CHECKING:
    from ..evaluation.latent_space.ex_post import Density
    from ..plot.ways import Way

# The density that each choice of --from fits to the latents of the training data; for a model with discrete codes,
# `aggregate` fits a network.
DENSITIES: "dict[str, Density]" = {
    "aggregate": "mixture",
    "aggregate-normal": "normal",
    "aggregate-flow": "flow",
    "aggregate-vae": "vae",
}


@click.command(short_help="Draw new images.")
@click.option(
    "-n",
    "count",
    type=COUNT,
    default=64,
    show_default="64, or whole rows of all classes",
    help="How many images, or rows.",
)
@click.option("--class", "label", help="Class, by number or name; for a conditional model.  [default: each in turn]")
@click.option(
    "--by-class", is_flag=True, help="Draw a row for each class, a column for each style; -n is the number of columns."
)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="For a table: draw rows with this value.")
@click.option("--noise", is_flag=True, help="Sample the pixels instead of showing their means.")
@click.option(
    "--from",
    "source",
    type=click.Choice(["prior", *DENSITIES]),
    default="prior",
    show_default="prior; for discrete codes, aggregate once fitted",
    help="Draw latents from the model's prior, or from a density fitted to the latents of the training data: a "
    "mixture, a normal, a flow or a second VAE; for a model with discrete codes, `aggregate` fits a network. Use it if "
    "the prior fits badly.",
)
@drawing_options(tables=True)
def sample(
    drawing: Drawing,
    count: int,
    label: str | None,
    by_class: bool,
    where: tuple[str, ...],
    noise: bool,
    source: str,
) -> None:
    """Try `vae sample -n 16 -o digits.png`: draw new images from RUN, the newest by default.

    With --by-class, try `vae sample --by-class -n 10`: each column is one style, drawn for every class. With --from
    aggregate, latents come from a density that is fitted to the training latents once and kept with the run.

    For a table, try `vae sample -n 1000 -o new.csv --where sex=female`: draw new rows.
    """
    from .. import plot

    run = drawing.run
    if drawing.data_record.columns is not None:
        image_options = {"--from": source != "prior", "--noise": noise, "--by-class": by_class}
        image_options |= {"--invert": drawing.invert, "--cmap": drawing.cmap is not None}
        wrong_option = next((option for option, is_given in image_options.items() if is_given), None)
        if wrong_option is not None:
            raise click.UsageError(
                f"{wrong_option} is for images, but the data of run {run.name} are a table; leave it out"
            )
        sample_table(drawing, count, where, label)
        return
    if where:
        raise click.UsageError(f"--where is for tables, but the data of run {run.name} are not a table; use --class")
    from ..evaluation.latent_space.ex_post import fitted_prior, has_fitted_codes

    if is_default("source") and has_fitted_codes(run):
        source = "aggregate"
    if by_class and (label is not None or noise):
        raise click.UsageError("--by-class draws every class, without noise; leave out --class and --noise")
    name = f"{'classes' if by_class else 'sample'}{'' if source == 'prior' else f'-{source}'}-{drawing.seed}"
    path = drawing.path(name, label)
    drawing.check_room(count * len(drawing.class_names) if by_class and not is_default("count") else count, path)
    model, generator = drawing.model()
    if by_class and not model.context_size:
        raise DataError(f"run {run.name} is unconditional; leave out --by-class")
    if source != "prior":
        model = fitted_prior(drawing.restored, model, DENSITIES[source])
    names = drawing.class_names
    if by_class:
        columns = 10 if is_default("count") else count
        picture = plot.per_class(model, per_row=columns, names=names, generator=generator)
    else:
        c = None if label is None else drawing.classes(model, label, count)
        n = None if is_default("count") else count
        picture = plot.samples(model, n, c=c, names=names, noise=noise, generator=generator)
    drawing.save(picture, path)


@click.command(short_help="Draw walks between latents.")
@click.option(
    "--walks",
    "--rows",
    "walks",
    cls=WithFormerName,
    type=COUNT,
    default=12,
    show_default=True,
    help="How many walks; each is one row.",
)
@click.option("--steps", type=WholeNumber(2), help="Images in a walk.  [default: 12; 24 for a film]")
@click.option(
    "--path",
    "way",
    type=click.Choice(["line", "circle", "density"]),
    default="line",
    show_default=True,
    help="Walk straight, on great circles about 0, or where the prior is dense.",
)
@click.option("--between", type=int, nargs=2, metavar="I J", help="Draw one walk, between test images number I and J.")
@click.option("--class", "label", help="Class of the images; for a conditional model.  [default: one class per row]")
@drawing_options()
def interpolate(
    drawing: Drawing,
    walks: int,
    steps: int | None,
    way: "Way",
    between: tuple[int, int] | None,
    label: str | None,
) -> None:
    """Try `vae interpolate -o walk.gif`: draw walks between latents of RUN, the newest by default.

    With --path density, walks avoid latents of low prior density, and so stay on digits. A .gif is a film: all images
    walk at once, there and back. Any other picture has a row for each walk:
    try `vae interpolate --between 3 18`.
    """
    from .. import plot

    if between and not is_default("walks"):
        raise click.UsageError("--between draws one walk; leave out --walks")
    suffix = ("-{}-{}".format(*between) if between else f"-{drawing.seed}") + (f"-{way}" if way != "line" else "")
    path = drawing.path(f"interpolate{suffix}", label)
    moves = path.suffix.lower() == ".gif"
    steps = steps or (24 if moves else 12)
    drawing.check_room((1 if between else walks) * steps, path)
    model, generator = drawing.model()
    ends = None
    if between:
        images = drawing.test_images(model, between)
        ends = images.x[0], images.x[1]
        c = images.c if label is None else drawing.classes(model, label, 2)
        names = [f"image {number}" for number in between]
    else:
        c = drawing.classes(model, label, walks)
        classes = drawing.class_names
        names = [] if c is None else [classes[i] if i < len(classes) else str(i) for i in c.tolist()]
    if not moves:
        picture = plot.interpolation(
            model, rows=walks, steps=steps, path=way, between=ends, c=c, names=names, generator=generator
        )
        drawing.save(picture, path)
        return
    film = plot.walk(model, rows=walks, steps=steps, path=way, between=ends, c=c, generator=generator)
    plot.save(film.styled(invert=drawing.invert, cmap=drawing.cmap), path)
    print_files(path, run=str(drawing.run.path))


@click.command(short_help="Show test images, their reconstructions and the errors.")
@click.option("-n", "count", type=COUNT, default=32, show_default=True, help="How many test images.")
@drawing_options(colours=False, seeded=False)
def reconstruct(drawing: Drawing, count: int) -> None:
    """Try `vae reconstruct -n 8`: show test images, their reconstructions by RUN, and the errors.

    RUN is the newest by default. An array, -o x.npy, has shape (images, 2, …): original and reconstruction.
    """
    from .. import plot
    from ..evaluation.single_rows.named_rows import seen_batch

    path = drawing.path("reconstruct")
    drawing.check_room(count, path)
    model, _ = drawing.model()
    images = seen_batch(drawing.restored, model, drawing.spread_test_rows(count))
    drawing.save(plot.reconstructions(model, images.x, images.c), path)
