"""`vae score`: how unusual single rows are, as a file for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from .common import COUNT, FILE, data_option, file_stem, json_option, print_files, relative, split_option, wants_json
from .printing import out
from .run_options import ChosenRun, run_options
from .tables import INDENT, print_entry, print_table

if TYPE_CHECKING:
    from ..evaluation.single_rows.scoring import Scores

SHOWN = 10  # least likely rows that are printed


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
    from .. import plot
    from ..evaluation.single_rows.named_rows import rows_of
    from ..evaluation.single_rows.outliers import auroc, unusual_rows
    from ..evaluation.single_rows.scoring import score_run
    from ..runs.terminal import stage_progress
    from ..store import files

    run = chosen.run
    _check_files(output, pixels, is_table=chosen.data_record.columns is not None)
    rows = rows_of(chosen.restored, data_name, split=split)
    unusual = None if labels is None else unusual_rows(rows, labels, data_name)
    path = output or run.path_to_write(f"scores/{file_stem(rows.name)}.csv")
    chosen.check_output(path, *([] if pixels is None else [pixels]), data_name=data_name)
    model, _ = chosen.model()
    with stage_progress() as listener:
        options: dict[str, Any] = {"samples": samples, "seed": chosen.seed, "per_value": pixels is not None}
        scores = score_run(chosen.restored, model, rows, **options, listener=listener)
    files.write(path, scores.to_csv())
    if pixels is not None and scores.per_value is not None:
        plot.save(scores.per_value, pixels)
    of_images = chosen.data_record.shows_images
    picture = run.picture_to_write(f"least-likely-{file_stem(rows.name)}.png") if of_images else None
    if picture is not None:
        plot.save(scores.picture(model), picture)
    agreement = None if unusual is None else auroc(scores.values["nll"], unusual)
    written = [file for file in (path, pixels, picture) if file is not None]
    if wants_json():
        print_files(*written, run=str(run.path), **_record(scores, agreement))
        return
    _print(scores)
    if agreement is not None:
        area, error = agreement
        out(f"AUROC       {area:.3f} ± {error:.3f}: how often an unusual row (by {labels}) outscores a usual one")
    out(f"scores      {relative(path)}" + (f", of pixels {relative(pixels)}" if pixels else ""))
    if picture is not None:
        out(f"picture     {relative(picture)}: the least likely, beside their reconstructions")


def _check_files(output: Path | None, pixels: Path | None, *, is_table: bool) -> None:
    if output is not None and output.suffix.lower() != ".csv":
        raise ConfigError(f"{output} must end in .csv")
    if pixels is not None and is_table:
        raise ConfigError("--pixels is not for tables, whose scores have a column for each column; leave it out")
    if pixels is not None and pixels.suffix.lower() != ".npy":
        raise ConfigError(f"--pixels must end in .npy, got {pixels}")


def _record(scores: "Scores", agreement: tuple[float, float] | None) -> dict[str, Any]:
    """What --json prints about the scores, and about their agreement with labels if there are any."""
    record = {"rows": len(scores.rows), "warnings": scores.warnings, "least_likely": scores.least_likely(SHOWN)}
    if agreement is None:
        return record
    return {**record, "auroc": {"value": agreement[0], "standard_error": agreement[1]}}


def _cells(record: dict[str, Any]) -> dict[str, Any]:
    """The cells of a row in a table for people."""
    cells: dict[str, Any] = {name: f"{v:.1f}" if isinstance(v, float) else v for name, v in record.items()}
    if "reasons" in cells:
        reasons = cells.pop("reasons")
        cells["because of"] = ", ".join(f"{reason['column']} ({reason['percentile']:.0f} %)" for reason in reasons)
    return cells


def _print(scores: "Scores") -> None:
    """Print the least likely rows, the number of rows, the number of rare rows, and the warnings."""
    plural = f"{scores.rows.row_word}s"
    print_table([_cells(record) for record in scores.least_likely(SHOWN)])
    out()
    out(f"{plural:<12}{len(scores.rows)}; {scores.unlikely} of them less likely than 99 % of the run's test {plural}")
    for sentence in scores.warnings:
        print_entry("beware", sentence, INDENT)
