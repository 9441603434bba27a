"""`vae impute`: fill the gaps of a table, or complete images."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError, DataError
from .common import COUNT, FILE, file_stem, is_default, json_option, print_files, relative, wants_json
from .printing import out
from .run_options import ChosenRun, run_options
from .tables import INDENT, print_entry, print_table

if TYPE_CHECKING:
    import pandas as pd

    from ..data.table.encoded_table import Table
    from ..evaluation.missing.filling import Filled

FEWEST_EFFECTIVE = 10  # effective samples of a row; with fewer its values are not reliable
PRINTED_GAPS = 10  # gaps that are printed
COMPLETIONS = 12  # completions of an image


@click.command(short_help="Fill the gaps of a table or of signals.")
@click.option("--data", "data_name", type=FILE, help="Table or signals: .csv, .parquet, .npy.  [default: the run's]")
@click.option("-o", "--output", type=FILE, help="File to write.  [default: in the run folder]")
@click.option("--hide", help="Half of each image to hide: bottom, top, left or right.  [default: bottom]")
@click.option("-n", "count", type=COUNT, default=8, show_default=True, help="Number of test images; for images only.")
@click.option("--draws", type=click.IntRange(1, 1000), help="Write this many tables, each drawn at random.")
@click.option("--samples", type=COUNT, default=1000, show_default=True, help="Importance samples for each row.")
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
    """Try `vae impute --data t.csv -o full.csv`: fill the empty cells of a table, given the others of their row.

    RUN is the newest by default. Each gap gets its mean, or the most probable level. full-cells.csv has a row for
    each gap, with an interval that holds the true number nine times out of ten if the model is right. --draws 20 writes
    full-1.csv … full-20.csv instead. Their gaps are drawn at random, for analyses that account for the uncertainty.

    For signals, -o full.npy is the array with its NaN filled in; --draws 20 writes full-1.npy … full-20.npy.

    For images, try `vae impute --hide bottom -n 8`: it hides the lower half of test images and draws twelve completions
    of each. --draws changes that number.
    """
    kind = chosen.facts.kind
    for option, is_given in {"--hide": hide is not None, "-n": not is_default("count")}.items():
        if kind != "image" and is_given:
            what = "a table" if kind == "table" else f"{kind}s"
            raise DataError(f"{option} is for images, but the data of run {chosen.run.name} are {what}; leave it out")
    if kind == "image" and (data_name is not None or not is_default("samples")):
        raise DataError("--data and --samples are for tables and signals; for images, --hide hides half of each image")
    if kind == "table":
        _impute_table(chosen, data_name, output, draws or 0, samples)
    elif kind != "image":
        _impute_array(chosen, data_name, output, draws or 0, samples)
    else:
        _complete_images(chosen, hide or "bottom", count, draws or COMPLETIONS, output)


def _impute_table(chosen: ChosenRun, data_name: Path | None, output: Path | None, draws: int, samples: int) -> None:
    """Write a table with its gaps filled, and a table of the gaps."""
    from ..data.table.table_files import check_writable, write_frame
    from ..evaluation.missing import filling
    from ..runs.terminal import shown_stages

    run = chosen.run
    source = data_name or Path(chosen.restored.recipe.config.data.name)
    suffix = ".csv" if source.suffix == ".npz" else source.suffix
    path = output or run.place(f"imputed/{file_stem(source.name)}{suffix}")
    frame, table = _read(source, chosen)
    check_writable(path)
    model, _ = chosen.model()
    with shown_stages() as listener:
        filled = filling.fill(model, table, samples=samples, draws=draws, seed=chosen.seed, listener=listener)
    cells_path = path.with_name(f"{path.stem}-cells.csv")
    cells = filling.cells(table, filled, frame.columns)
    table_paths = _write(path, frame, table, filled)
    write_frame(cells, cells_path)
    thin = int((filled.ess < FEWEST_EFFECTIVE).sum())
    if wants_json():
        facts: dict[str, Any] = {"rows": len(frame), "gaps": len(cells), "rows_with_few_effective_samples": thin}
        print_files(*table_paths, cells_path, run=str(run.path), **facts)
        return
    _print_cells(cells)
    out()
    out(f"gaps        {len(cells)} in {len(frame)} rows")
    if thin:
        fault = f"{thin} rows have under {FEWEST_EFFECTIVE} effective samples of {samples}; try more --samples"
        print_entry("beware", fault, INDENT)
    out(f"cells       {relative(cells_path)}: how sure each value is")
    _print_paths("table", table_paths)


def _print_cells(cells: "pd.DataFrame") -> None:
    """Print the first filled gaps."""
    print_table(
        [{str(name): str(cell) for name, cell in row.items()} for row in cells.head(PRINTED_GAPS).to_dict("records")]
    )


def _print_paths(name: str, paths: list[Path]) -> None:
    """Print the paths of up to three drawn files, and the last one."""
    for path in paths[:3]:
        out(f"{name:<12}{relative(path)}")
    if len(paths) > 3:
        out(f"            … {relative(paths[-1])}")


def _impute_array(chosen: ChosenRun, data_name: Path | None, output: Path | None, draws: int, samples: int) -> None:
    """Write an array with its NaN filled in, or one for each draw."""
    from .. import plot
    from ..data.sources.arrays import FileRows
    from ..evaluation.missing.imputation import filled_rows
    from ..evaluation.single_rows.named_rows import rows_of

    source = data_name or Path(chosen.restored.recipe.config.data.name)
    path = output or chosen.run.place(f"imputed/{file_stem(source.name)}.npy")
    if path.suffix.lower() != ".npy":
        raise DataError(f"{path} must end in .npy")
    rows = rows_of(chosen.restored, str(source))
    model, _ = chosen.model()
    filled = filled_rows(model, rows.batches(model), samples, draws=draws, seed=chosen.seed)
    if source.suffix.lower() == ".npy":
        filled = filled.reshape(len(filled), *FileRows(source).shape)  # signals of one channel may be (N, L)
    paths = [path.with_name(f"{path.stem}-{i + 1}.npy") for i in range(draws)] or [path]
    for array_path, array in zip(paths, filled, strict=True):
        plot.save(array, array_path)
    gaps = 0 if rows.split.observed_in_memory is None else int((~rows.split.observed_in_memory).sum())
    if wants_json():
        print_files(*paths, run=str(chosen.run.path), rows=len(rows), gaps=gaps)
        return
    out(f"gaps        {gaps} in {len(rows)} rows")
    _print_paths("array", paths)


def _complete_images(chosen: ChosenRun, hide: str, count: int, ways: int, output: Path | None) -> None:
    """Draw test images with one half hidden, each with several completions."""
    from .. import plot
    from ..data.batches import as_one_batch
    from ..evaluation import complete

    run = chosen.run
    model, _ = chosen.model()
    test = chosen.restored.dataset().test
    if count > len(test):
        raise DataError(f"there are {len(test)} test images, got -n {count}")
    images = as_one_batch(test.thinned(count), value_kind=model.value_kind, binarize=chosen.restored.binarize)
    path = output or run.picture(f"completions-{hide}-hidden.png")
    plot.save(complete(model, images, hide, ways=ways, seed=chosen.seed), path)
    print_files(path, run=str(run.path), rows=count)


def _read(source: Path, chosen: ChosenRun) -> "tuple[pd.DataFrame, Table]":
    """The table as a frame, and as the model sees it."""
    from ..data.table.encoded_table import open_table
    from ..data.table.table_files import read_table

    if not source.is_file():
        fault = "is a folder" if source.is_dir() else "no such file"
        raise ConfigError(f"{source}: {fault}; name the table with --data")
    columns = chosen.facts.columns or ()
    return read_table(source), open_table(source, columns, chosen.restored.label, memory=math.inf)


def _write(path: Path, frame: "pd.DataFrame", table: "Table", filled: "Filled") -> list[Path]:
    """Write the filled table, or one table for each draw; return the paths."""
    from ..data.table.table_files import write_frame
    from ..evaluation.missing.filling import fill_gaps

    if not len(filled.draws):
        write_frame(fill_gaps(frame, table, filled.best.numpy()), path)
        return [path]
    paths = [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(len(filled.draws))]
    for table_path, values in zip(paths, filled.draws, strict=True):
        write_frame(fill_gaps(frame, table, values.numpy()), table_path)
    return paths
