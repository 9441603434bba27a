"""`vae impute`: fill the gaps of a table or of signals, or complete images."""

from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from .common import COUNT, FILE, file_stem, is_default, json_option, print_files, relative, wants_json
from .printing import out
from .run_options import ChosenRun, run_options
from .tables import INDENT, print_entry, print_rows

PRINTED_GAPS = 10  # gaps that are printed
COMPLETIONS = 12  # completions of an image


@click.command(short_help="Fill the gaps of a table or of signals, or complete images.")
@click.option(
    "--data", "data_name", type=FILE, help="For tables and signals: .csv, .parquet, .npy.  [default: the run's]"
)
@click.option("-o", "--output", type=FILE, help="File to write.  [default: in the run folder]")
@click.option("--hide", help="For images: the half to hide: bottom, top, left or right.  [default: bottom]")
@click.option("-n", "count", type=COUNT, default=8, show_default=True, help="For images: how many test images.")
@click.option(
    "--draws",
    type=click.IntRange(1, 1000),
    help="Draw this many tables or arrays, or completions of each image.  [default: the best values; for images, 12]",
)
@click.option(
    "--samples",
    type=COUNT,
    default=1000,
    show_default=True,
    help="For tables and signals: importance samples for each row.",
)
@run_options
@json_option
def impute(
    chosen: ChosenRun,
    data_name: Path | None,
    output: Path | None,
    hide: str | None,
    count: int,
    draws: int | None,
    samples: int,
) -> None:
    """Try `vae impute --data t.csv -o full.csv`: fill the gaps of a table or of signals, or complete images.

    RUN is the newest by default. In a table, each gap gets its mean given the other cells of its row, or the most
    probable level. full-cells.csv has a row for each gap, with an interval that holds the true number nine times out
    of ten if the model is right. --draws 20 writes full-1.csv … full-20.csv instead. Their gaps are drawn at random,
    for analyses that account for the uncertainty.

    For signals, -o full.npy is the array with its NaN filled in; --draws 20 writes full-1.npy … full-20.npy.

    For images, try `vae impute --hide bottom -n 8`: it hides the lower half of test images and draws twelve completions
    of each. --draws changes that number.
    """
    kind = chosen.data_record.kind
    for option, is_given in {"--hide": hide is not None, "-n": not is_default("count")}.items():
        if kind != "image" and is_given:
            what = "a table" if kind == "table" else f"{kind}s"
            raise click.UsageError(
                f"{option} is for images, but the data of run {chosen.run.name} are {what}; leave it out"
            )
    if kind == "image" and (data_name is not None or not is_default("samples")):
        raise click.UsageError(
            "--data and --samples are for tables and signals; for images, --hide hides half of each image"
        )
    if kind == "table":
        _impute_table(chosen, data_name, output, draws or 0, samples)
    elif kind != "image":
        _impute_array(chosen, data_name, output, draws or 0, samples)
    else:
        _complete_images(chosen, hide or "bottom", count, draws or COMPLETIONS, output)


def _impute_table(chosen: ChosenRun, data_name: Path | None, output: Path | None, draws: int, samples: int) -> None:
    """Write a table with its gaps filled, and a table of the gaps."""
    from ..data.table.table_files import check_writable, write_frame
    from ..evaluation.missing.filling import FEWEST_EFFECTIVE, impute_table, table_file
    from ..runs.terminal import stage_progress

    run = chosen.run
    source = table_file(chosen.restored, data_name)
    suffix = ".csv" if source.suffix == ".npz" else source.suffix
    path = output or run.path_to_write(f"imputed/{file_stem(source.name)}{suffix}")
    check_writable(path, chosen.data_record.columns or ())
    cells_path, paths = path.with_name(f"{path.stem}-cells.csv"), _paths(path, draws)
    chosen.check_output(*paths, cells_path, data_name=data_name)
    model, _ = chosen.model()
    with stage_progress() as listener:
        imputed = impute_table(
            chosen.restored, model, data_name, samples=samples, draws=draws, seed=chosen.seed, listener=listener
        )
    for table_path, frame in zip(paths, imputed.frames, strict=True):
        write_frame(frame, table_path)
    write_frame(imputed.cells, cells_path)
    record: dict[str, Any] = {"rows": len(imputed.frames[0]), "gaps": len(imputed.cells)}
    if wants_json():
        record["rows_with_few_effective_samples"] = imputed.unreliable
        print_files(*paths, cells_path, run=str(run.path), **record)
        return
    if len(imputed.cells):
        first_cells = imputed.cells.head(PRINTED_GAPS).astype(str)
        print_rows([list(first_cells.columns), *first_cells.values.tolist()])
        out()
    out(f"gaps        {record['gaps']} in {record['rows']} rows")
    if imputed.unreliable:
        rows = "1 row has" if imputed.unreliable == 1 else f"{imputed.unreliable} rows have"
        fault = f"{rows} under {FEWEST_EFFECTIVE} effective samples of {samples}"
        print_entry("beware", f"{fault}; try more --samples", INDENT)
    out(f"cells       {relative(cells_path)}: how sure each value is")
    _print_paths("table", paths)


def _impute_array(chosen: ChosenRun, data_name: Path | None, output: Path | None, draws: int, samples: int) -> None:
    """Write an array with its NaN filled in, or one for each draw."""
    from .. import plot
    from ..evaluation.missing.filling import impute_array

    source = data_name or Path(chosen.restored.recipe.config.data.name)
    path = output or chosen.run.path_to_write(f"imputed/{file_stem(source.name)}.npy")
    if path.suffix.lower() != ".npy":
        raise ConfigError(f"{path} must end in .npy")
    paths = _paths(path, draws)
    chosen.check_output(*paths, data_name=data_name)
    model, _ = chosen.model()
    arrays, gaps = impute_array(chosen.restored, model, data_name, samples=samples, draws=draws, seed=chosen.seed)
    for array_path, array in zip(paths, arrays, strict=True):
        plot.save(array, array_path)
    rows = len(arrays[0])
    if wants_json():
        print_files(*paths, run=str(chosen.run.path), rows=rows, gaps=gaps)
        return
    out(f"gaps        {gaps} in {rows} rows")
    _print_paths("array", paths)


def _complete_images(chosen: ChosenRun, hide: str, count: int, ways: int, output: Path | None) -> None:
    """Draw test images with one half hidden, each with several completions."""
    from .. import plot
    from ..evaluation import complete

    run = chosen.run
    path = output or run.picture_to_write(f"completions-{hide}-hidden.png")
    chosen.check_output(path)
    model, _ = chosen.model()
    images = chosen.restored.as_batch(chosen.spread_test_rows(count))
    plot.save(complete(model, images, hide, ways=ways, seed=chosen.seed), path)
    print_files(path, run=str(run.path), rows=len(images))


def _paths(path: Path, draws: int) -> list[Path]:
    """The path of the filled data; with --draws, a numbered path for each draw, such as full-1.csv."""
    return [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(draws)] or [path]


def _print_paths(name: str, paths: list[Path]) -> None:
    """Print the first three paths, and the last one."""
    for path in paths[:3]:
        out(f"{name:<12}{relative(path)}")
    if len(paths) > 3:
        out(f"            … {relative(paths[-1])}")
