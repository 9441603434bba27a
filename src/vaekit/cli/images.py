"""`vae encode` and `vae score`: latents and scores of single images, as files for other programs."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from ..store.escape import to_csv
from . import rows
from .common import (
    COUNT,
    FILE,
    device_option,
    draws_pictures,
    files_json_option,
    is_of_table,
    json_option,
    load_model,
    open_run,
    print_files,
    recipe_of,
    relative,
    run_argument,
    runs_option,
    seed_option,
    slug,
    trust_option,
)
from .printing import out, out_json
from .tables import print_table

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.named_rows import NamedRows
    from ..model import LatentVariableModel

REFERENCE = 1000  # test images to compare with
SHOWN, PICTURED = 10, 32  # of the least likely images

data_option = click.option(
    "--data", "data_name", help="A folder of images, .npy, .npz or data set.  [default: the run's]"
)
split_option = click.option(
    "--split", default="test", show_default=True, help="Which images of a data set: test, validation or train."
)


@click.command(short_help="Write the latents of images.")
@run_argument
@data_option
@split_option
@click.option("-o", "--output", type=FILE, help="File to write: .npz, .npy or .csv.  [default: in the run folder]")
@device_option
@trust_option
@runs_option
@files_json_option
def encode(run: str | None, data_name: str | None, split: str, output: Path | None, device: str, root: Path) -> None:
    """Try `vae encode --data photos/ -o latents.csv`: write the posterior mean of z for every image.

    RUN is the newest run by default. A .csv has one row for each image; an .npy has the array z, shape (images,
    latents); an .npz has z, the names of the images, and their classes.
    """
    from ..evaluation import named_rows
    from ..runs.terminal import shown_stages
    from ..store import files

    folder = open_run(run, root)
    recipe = recipe_of(folder)
    images = named_rows.rows_of(folder, data_name, split=split, recipe=recipe)
    path = output or folder.place(f"latents/{slug(images.name)}.npz")
    if path.suffix.lower() not in (".npz", ".npy", ".csv"):
        raise ConfigError(f"{path} must end in .npz, .npy or .csv")
    model, _ = load_model(folder, recipe, device, 0)
    with shown_stages() as listener:
        z = named_rows.encode(model, images, listener=listener)
    if path.suffix.lower() == ".csv":
        content = _csv(images, {f"z{i}": column for i, column in enumerate(z.unbind(1))})
    else:
        content = _arrays(path.suffix.lower(), images, z)
    files.write(path, content)
    print_files(relative(path), run=str(folder.path), images=len(images), shape=list(z.shape))


@click.command(short_help="Say how unusual images are.")
@run_argument
@data_option
@split_option
@click.option(
    "--samples",
    type=COUNT,
    default=100,
    show_default=True,
    help="Importance samples for each image.",
)
@click.option("-o", "--output", type=FILE, help="File to write: .csv.  [default: in the run folder]")
@click.option("--pixels", type=FILE, help="Also write the nats of each pixel: .npy, (images, channels, rows, columns).")
@click.option("--labels", help="Column of a table, or class of images, that says what is unusual: for the AUROC.")
@seed_option
@device_option
@trust_option
@runs_option
@json_option
def score(
    run: str | None,
    data_name: str | None,
    split: str,
    samples: int,
    output: Path | None,
    pixels: Path | None,
    labels: str | None,
    seed: int,
    device: str,
    root: Path,
    as_json: bool,
) -> None:
    """Try `vae score --data photos/`: say how unlikely each image is, compared with the test images.

    RUN is the newest run by default. It writes one row for each image: nll, an upper bound on −log p(x) in nats; its
    two parts, distortion (reconstruction) and rate (latents); and its percentile: the percentage of the run's test
    images with a smaller nll. Near 100, the image is unlike the training images. Near 0 it may be unlike them too,
    since plain images are likely. The scores of grey or colour images mean something only where the likelihood has a
    probability or density for them: train with --set likelihood.name=normal.

    Of a table it writes a column of nats for each of its columns, too: what explains the row's nll; of images, --pixels
    pixels.npy does so for each pixel. --labels y compares the scores with a column y of the table, whose rarer value is
    the unusual one, or with a class of images.
    """
    from ..evaluation import named_rows
    from ..evaluation.outliers import auroc
    from ..runs.terminal import shown_stages
    from ..store import files

    folder = open_run(run, root)
    recipe = recipe_of(folder)
    images = named_rows.rows_of(folder, data_name, split=split, recipe=recipe)
    unusual = None if labels is None else _unusual(images, data_name, labels)
    path = output or folder.place(f"scores/{slug(images.name)}.csv")
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"{path} must end in .csv")
    if pixels is not None and (is_of_table(folder) or pixels.suffix.lower() != ".npy"):
        raise ConfigError(f"--pixels {pixels}: must end in .npy, and is for images; a table has scores of its columns")
    model, _ = load_model(folder, recipe, device, seed)
    with shown_stages() as listener:
        options: dict[str, Any] = {"samples": samples, "seed": seed, "listener": listener}
        usual, nature = named_rows.reference(folder, model, most=REFERENCE, recipe=recipe, **options)
        columns = named_rows.score(model, images, **options)
    warnings = (named_rows.nature(model, images) if nature.inside else nature).warnings
    columns["percentile"] = named_rows.percentiles(columns["nll"], usual)
    agreement = None if unusual is None else auroc(columns["nll"], unusual)
    of_columns, why = rows.explained(folder, model, images, recipe, samples, seed)
    files.write(path, _csv(images, columns | of_columns))
    if pixels is not None:
        files.write(pixels, rows.pixel_scores(model, images, samples=samples, seed=seed))
    order = columns["nll"].argsort(descending=True)
    picture = folder.picture(f"least-likely-{slug(images.name)}.png") if draws_pictures(folder) else None
    if picture is not None:
        _draw(model, images.some(order[:PICTURED]), picture)
    least = [_row(images, columns, i) | why(i) for i in order[:SHOWN].tolist()]
    if as_json:
        shown: dict[str, Any] = {"picture": picture and str(picture), "least likely": least, "warnings": warnings}
        if agreement is not None:
            shown["auroc"] = {"value": agreement[0], "standard_error": agreement[1]}
        out_json({"run": str(folder.path), "scores": str(path), **shown})
        return
    print_table([{name: f"{v:.1f}" if isinstance(v, float) else v for name, v in row.items()} for row in least])
    rare = int((columns["percentile"] >= 99).sum())
    out()
    what = "rows  " if is_of_table(folder) else "images"
    out(f"{what}      {len(images)}; {rare} of them less likely than 99 % of the run's test {what.strip()}")
    if agreement is not None:
        area, error = agreement
        out(f"AUROC       {area:.3f} ± {error:.3f}: how often a row that {labels} calls unusual scores higher")
    for sentence in warnings:
        out(f"beware      {sentence}")
    out(f"scores      {relative(path)}" + (f", of pixels {relative(pixels)}" if pixels else ""))
    if picture is not None:
        out(f"picture     {relative(picture)}: the least likely, beside their reconstructions")


def _unusual(images: "NamedRows", data_name: str | None, labels: str) -> "Tensor":
    """Which rows are unusual: those of the rarer value of a column of the table, or of a class."""
    import torch

    from ..data.tables import is_table
    from ..evaluation.outliers import rarer

    if labels in images.classes and len(set(images.classes)) > 1:
        return torch.tensor([one == labels for one in images.classes])
    if data_name is None or not is_table(data_name):
        raise ConfigError(f"--labels {labels}: neither a class of these images nor a column of a table given as --data")
    from ..data.sources.frames import read_table

    return torch.from_numpy(rarer(read_table(Path(data_name)), labels))


def _row(images: "NamedRows", columns: "dict[str, Tensor]", i: int) -> dict[str, Any]:
    values = {name: column[i].item() for name, column in columns.items()}
    return {images.what: images.names[i], "class": images.classes[i], **values}


def _csv(images: "NamedRows", columns: "dict[str, Tensor]") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([images.what, "class", *columns])
    values = [[f"{value:.7g}" for value in column.tolist()] for column in columns.values()]
    texts = [list(map(to_csv, column)) for column in (images.names, images.classes)]
    writer.writerows(zip(*texts, *values, strict=True))
    return text.getvalue().encode(errors="surrogateescape")


def _arrays(suffix: str, images: "NamedRows", z: "Tensor") -> bytes:
    import numpy as np

    content = io.BytesIO()
    if suffix == ".npy":
        np.save(content, z.numpy(), allow_pickle=False)
    else:
        np.savez(content, z=z.numpy(), images=np.array(images.names), classes=np.array(images.classes))
    return content.getvalue()


def _draw(model: "LatentVariableModel", images: "NamedRows", path: Path) -> None:
    from .. import plot

    batch = next(images.batches(model))
    plot.save(plot.reconstructions(model, batch.x, batch.c), path)
