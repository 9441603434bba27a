"""`vae sample`, `vae interpolate` and `vae reconstruct`: pictures of a run."""

from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError
from . import table_rows
from .common import COUNT, MOST_COUNTED, print_files
from .drawing import Drawing, drawing_options, from_default

if TYPE_CHECKING:
    from ..model import LatentVariableModel
    from ..store import Run


@click.command(short_help="Draw new images.")
@click.option("-n", "count", type=COUNT, default=64, show_default="64, or whole rows of all classes", help="How many.")
@click.option("--class", "label", help="Class, by number or name; for a conditional model.  [default: each in turn]")
@click.option("--by-class", is_flag=True, help="Draw a row for each class and a column for each style; -n columns.")
@click.option("--where", "given", multiple=True, metavar="COLUMN=VALUE", help="Of a table: rows with this value.")
@click.option("--noise", is_flag=True, help="Sample the pixels instead of showing their means.")
@click.option(
    "--from",
    "source",
    type=click.Choice(["prior", "aggregate", "aggregate-normal", "aggregate-flow", "aggregate-vae"]),
    default="prior",
    show_default="prior; of codes, aggregate once it was fitted",
    help="Draw latents from the model's prior, or from a density (a mixture, a normal, a flow, a second VAE; of codes, "
    "a network) fitted to the latents of the training data, which mends a prior that does not fit.",
)
@drawing_options()
def sample(
    drawing: Drawing,
    count: int,
    label: str | None,
    by_class: bool,
    given: tuple[str, ...],
    noise: bool,
    source: str,
) -> None:
    """Try `vae sample -n 16 -o digits.png`: draw new images from RUN, the newest by default.

    With --by-class, try `vae sample --by-class -n 10`: each column is one style, written as every class. With --from
    aggregate, latents come from where the training data are; the density is fitted once and kept with the run.

    Of a table, try `vae sample -n 1000 -o new.csv --where sex=female`: new rows.
    """
    from .. import plot

    run = drawing.run
    if drawing.facts.columns is not None:
        for_images = {"--from": source != "prior", "--noise": noise, "--by-class": by_class}
        for_images |= {"--invert": drawing.invert, "--cmap": drawing.cmap is not None}
        for option in (option for option, is_given in for_images.items() if is_given):
            raise DataError(f"{option} is for images, but the data of run {run.name} are a table; leave it out")
        table_rows.draw(drawing, count, given, label)
        return
    if given:
        raise DataError(f"--where is for tables, but the data of run {run.name} are not one; use --class")
    if from_default("source") and has_fitted_codes(run):
        source = "aggregate"
    kind = f"{'classes' if by_class else 'sample'}{'' if source == 'prior' else f'-{source}'}-{drawing.seed}"
    path = drawing.path(kind, label)
    model, generator = drawing.model()
    if source != "prior":
        model = _from_aggregate(drawing, model, source)
    names = drawing.class_names
    drawing.check_room(count)
    if by_class:
        if label is not None or noise:
            raise click.UsageError("--by-class draws every class, without noise; leave out --class and --noise")
        columns = 10 if from_default("count") else count
        picture = plot.per_class(model, per_row=columns, names=names, generator=generator)
    else:
        c = None if label is None else drawing.classes(model, label, count)
        n = None if from_default("count") else count
        picture = plot.samples(model, n, c=c, names=names, noise=noise, generator=generator)
    drawing.save(picture, path)


@click.command(short_help="Draw walks between latents.")
@click.option("--rows", type=COUNT, default=12, show_default=True, help="How many walks; each is one row.")
@click.option("--steps", type=click.IntRange(2, MOST_COUNTED), help="Images in a walk.  [default: 12; of a film 24]")
@click.option(
    "--path",
    "way",
    type=click.Choice(["line", "circle", "density"]),
    default="line",
    show_default=True,
    help="Walk straight, on great circles about 0, or where the prior is dense.",
)
@click.option("--between", type=int, nargs=2, metavar="I J", help="Draw one walk, between test images number I and J.")
@click.option("--class", "label", help="Class of the images; for a conditional model.  [default: one class a row]")
@drawing_options()
def interpolate(
    drawing: Drawing, rows: int, steps: int | None, way: str, between: tuple[int, int] | None, label: str | None
) -> None:
    """Try `vae interpolate -o walk.gif`: draw walks between latents of RUN, the newest by default.

    With --path density, walks go round what the prior holds to be unlikely, and so stay on digits. A .gif is a film,
    in which all images walk at once, there and back. Any other picture has a row for each walk: try `vae interpolate
    --between 3 18`.
    """
    from .. import plot

    suffix = ("-{}-{}".format(*between) if between else f"-{drawing.seed}") + (f"-{way}" if way != "line" else "")
    path = drawing.path(f"interpolate{suffix}", label)
    moves = path.suffix.lower() == ".gif"
    model, generator = drawing.model()
    options: dict[str, Any] = {"steps": steps or (24 if moves else 12), "path": way}
    drawing.check_room((1 if between else rows) * options["steps"])
    if between:
        images, labels = drawing.test_images(between)
        c = (labels if label is None else drawing.classes(model, label, 2)) if model.context_size else None
        options |= {"between": (images[0], images[1]), "c": c}
        names = [f"image {number}" for number in between]
    else:
        c = drawing.classes(model, label, rows)
        options |= {"rows": rows, "c": c, "generator": generator}
        classes = drawing.class_names
        names = [] if c is None else [classes[i] if i < len(classes) else str(i) for i in c.tolist()]
    if moves:
        plot.save(plot.walk(model, invert=drawing.invert, cmap=drawing.cmap, **options), path)
        print_files(path, run=str(drawing.run.path))
        return
    drawing.save(plot.interpolation(model, names=names, **options), path)


@click.command(short_help="Show test images, their reconstructions and the errors.")
@click.option("-n", "count", type=COUNT, default=32, show_default=True, help="How many test images.")
@drawing_options(colours=False, seeded=False)
def reconstruct(drawing: Drawing, count: int) -> None:
    """Try `vae reconstruct -n 8`: show test images, their reconstructions by RUN, and the errors.

    RUN is the newest by default. An array, -o x.npy, has shape (images, 2, …): original and reconstruction.
    """
    from .. import plot

    path = drawing.path("reconstruct")
    model, _ = drawing.model()
    images, labels = drawing.test_images(range(count))
    drawing.save(plot.reconstructions(model, images, labels if model.context_size else None), path)


def _from_aggregate(drawing: Drawing, model: "LatentVariableModel", source: str) -> "LatentVariableModel":
    """The model with a prior fitted to its aggregate posterior."""
    from ..evaluation.latent_space.ex_post import fitted_prior

    densities: dict[str, Any] = {"aggregate": "mixture"}
    densities |= {f"aggregate-{density}": density for density in ("normal", "flow", "vae")}
    return fitted_prior(drawing.restored, model, densities[source])


def has_fitted_codes(run: "Run") -> bool:
    """Whether a network over the codes of a run's model was fitted before."""
    return (run.path / "prior-codes.safetensors").is_file()
