"""`vae score`: how unusual single rows are, as a file for other programs."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from .common import COUNT, FILE, data_option, file_stem, json_option, print_files, relative, split_option, wants_json
from .printing import out
from .row_csv import csv_of
from .run_options import ChosenRun, run_options
from .tables import INDENT, print_entry, print_table

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.single_rows.named_rows import NamedRows
    from ..evaluation.single_rows.scoring import Scores
    from ..model import LatentVariableModel

SHOWN, PICTURED = 10, 32  # least likely rows that are printed, and drawn


@click.command(short_help="Say how unusual rows are.")
@data_option
@split_option
@click.option(
    "--samples",
    type=COUNT,
    default=100,
    show_default=True,
    help="Importance samples for each row.",
)
@click.option("-o", "--output", type=FILE, help="File to write: .csv.  [default: in the run folder]")
@click.option("--pixels", type=FILE, help="Also write the nats of each pixel: .npy, (images, channels, rows, columns).")
@click.option(
    "--labels",
    help="Compare the scores with this column of the table, or this class of images, and print the AUROC.",
)
@run_options
@json_option
def score(
    chosen: ChosenRun,
    data_name: str | None,
    split: str | None,
    samples: int,
    output: Path | None,
    pixels: Path | None,
    labels: str | None,
) -> None:
    """Try `vae score --data photos/`: say how unlikely each row is, compared with the test rows.

    RUN is the newest run by default. It writes one line for each row, named by its file, or by its number in the file:
    tables count from 1, arrays from 0, with and without --data. The line has nll, an upper bound on −log p(x) in nats;
    its two parts, distortion (reconstruction) and rate (latents); and its percentile: the percentage of the run's test
    rows with a smaller nll. Near 100, the row is unlike the training rows. A percentile near 0 does not prove the
    opposite: very plain images often get a high likelihood. Scores of grey or colour images need a likelihood that has
    a probability or a density for them: train with --set likelihood.name=normal.

    For a table it also writes the nats of each column, which explain the row's nll. For images, --pixels pixels.npy
    writes the nats of each pixel. --labels y compares the scores with column y of the table, where the rarer value is
    unusual, or with class y of the images.
    """
    from ..evaluation.single_rows.named_rows import rows_of
    from ..evaluation.single_rows.outliers import auroc
    from ..evaluation.single_rows.scoring import score_run
    from ..runs.terminal import shown_stages
    from ..store import files

    run, seed = chosen.run, chosen.seed
    rows = rows_of(chosen.restored, data_name, split=split)
    unusual = None if labels is None else _unusual(rows, data_name, labels)
    path = output or run.place(f"scores/{file_stem(rows.name)}.csv")
    _check_suffixes(path, pixels, is_table=chosen.facts.columns is not None)
    model, _ = chosen.model()
    with shown_stages() as listener:
        scores = score_run(chosen.restored, model, rows, samples=samples, seed=seed, listener=listener)
    agreement = None if unusual is None else auroc(scores.values["nll"], unusual)
    files.write(path, csv_of(rows, scores.values | scores.columns))
    if pixels is not None:
        files.write(pixels, _pixel_scores(model, rows, samples, seed))
    picture = run.picture(f"least-likely-{file_stem(rows.name)}.png") if chosen.facts.kind == "image" else None
    if picture is not None:
        _draw(model, rows.some(scores.order[:PICTURED]), picture)
    written = [file for file in (path, pixels, picture) if file is not None]
    if wants_json():
        print_files(*written, run=str(run.path), **_facts(scores, agreement))
        return
    print_table([_cells(row) for row in _least_likely(scores)])
    _print_counts(scores, f"{rows.row_word}s")
    if agreement is not None:
        area, error = agreement
        out(f"AUROC       {area:.3f} ± {error:.3f}: how often an unusual row (by {labels}) outscores a usual one")
    out(f"scores      {relative(path)}" + (f", of pixels {relative(pixels)}" if pixels else ""))
    if picture is not None:
        out(f"picture     {relative(picture)}: the least likely, beside their reconstructions")


def _check_suffixes(path: Path, pixels: Path | None, *, is_table: bool) -> None:
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"{path} must end in .csv")
    if pixels is not None and (is_table or pixels.suffix.lower() != ".npy"):
        raise ConfigError(f"--pixels {pixels} must end in .npy, and is not for tables, which have scores of columns")


def _facts(scores: "Scores", agreement: tuple[float, float] | None) -> dict[str, Any]:
    """What --json prints about the scores, and about their agreement with labels if there are any."""
    facts: dict[str, Any] = {
        "rows": len(scores.rows),
        "warnings": scores.warnings,
        "least_likely": _least_likely(scores),
    }
    if agreement is not None:
        facts["auroc"] = {"value": agreement[0], "standard_error": agreement[1]}
    return facts


def _least_likely(scores: "Scores") -> list[dict[str, Any]]:
    return [_row(scores, i) for i in scores.order[:SHOWN].tolist()]


def _print_counts(scores: "Scores", plural: str) -> None:
    """Print the number of rows, the number of rare rows, and the warnings."""
    rare = int((scores.values["percentile"] >= 99).sum())
    out()
    out(f"{plural:<12}{len(scores.rows)}; {rare} of them less likely than 99 % of the run's test {plural}")
    for sentence in scores.warnings:
        print_entry("beware", sentence, INDENT)


def _unusual(rows: "NamedRows", data_name: str | None, labels: str) -> "Tensor":
    """Mask of the unusual rows: rows with the rarer value of a column, or rows of a class."""
    import torch

    from ..data.table.table_files import is_table
    from ..evaluation.single_rows.outliers import rarer

    if labels in rows.classes and len(set(rows.classes)) > 1:
        return torch.tensor([name == labels for name in rows.classes])
    if data_name is None or not is_table(data_name):
        raise ConfigError(f"--labels {labels}: neither a class of these images nor a column of a table given as --data")
    from ..data.table.table_files import read_table

    return torch.from_numpy(rarer(read_table(Path(data_name)), labels))


def _row(scores: "Scores", i: int) -> dict[str, Any]:
    """A row with its scores, and the columns that explain them."""
    rows = scores.rows
    values = {name: column[i].item() for name, column in scores.values.items()}
    line: dict[str, Any] = {rows.row_word: rows.names[i], "class": rows.classes[i], **values}
    if scores.columns:
        line["reasons"] = [{"column": name, "percentile": rank} for name, rank in scores.reasons(i)]
    return line


def _cells(line: dict[str, Any]) -> dict[str, Any]:
    """The cells of a row in a table for people."""
    cells: dict[str, Any] = {
        name: f"{value:.1f}" if isinstance(value, float) else value for name, value in line.items()
    }
    reasons = cells.pop("reasons", None)
    if reasons is None:
        return cells
    return {
        **cells,
        "because of": ", ".join(f"{reason['column']} ({reason['percentile']:.0f} %)" for reason in reasons),
    }


def _pixel_scores(model: "LatentVariableModel", rows: "NamedRows", samples: int, seed: int) -> bytes:
    """A `.npy` with the cost of each pixel given the image's latents, nats, shape (N, C, H, W)."""
    import numpy as np

    from ..evaluation.missing.conditional import value_scores

    content = io.BytesIO()
    scores = value_scores(model, rows.batches(model), samples=samples, seed=seed)
    np.save(content, scores.numpy(), allow_pickle=False)
    return content.getvalue()


def _draw(model: "LatentVariableModel", rows: "NamedRows", path: Path) -> None:
    from .. import plot

    batch = next(rows.batches(model))
    plot.save(plot.reconstructions(model, batch.x, batch.c), path)
