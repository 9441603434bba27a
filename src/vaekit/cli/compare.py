"""`vae compare`: evaluated runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import COUNT, DATA, FILE, json_option, open_run, runs_option, say, wants_json
from .printing import out, out_json, out_lines
from .tables import INDENT, long_option, print_entry, print_protocol, print_rows

if TYPE_CHECKING:
    from ..evaluation.several_runs.comparison_table import Comparison

SIDE_BY_SIDE = 3  # groups that fit into 80 columns


@click.command(short_help="Print one table over evaluated runs and seeds.")
@click.argument("run", nargs=-1)
@click.option(
    "--group", "presets", multiple=True, metavar="PRESET", help="All evaluated runs of a preset; may be repeated."
)
@click.option("--column", "columns", multiple=True, metavar="NAME", help="Which numbers, such as nll; may be repeated.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "markdown", "latex", "csv", "json"]),
    default="text",
    show_default=True,
    help="Format of the table.",
)
@long_option
@click.option("--split", default="test", show_default=True, help="Compare evaluations on this split.")
@click.option("--rows", "row_count", type=COUNT, help="Compare evaluations on this many rows.  [default: on all]")
@click.option(
    "--data", "data_name", type=DATA, help="Compare evaluations on this data: what `vae evaluate --data` got."
)
@click.option("-o", "--output", type=FILE, help="Also write the runs side by side on one page, .html.")
@runs_option
@json_option
def compare(
    run: tuple[str, ...],
    presets: tuple[str, ...],
    columns: tuple[str, ...],
    style: str,
    long: bool,
    split: str,
    row_count: int | None,
    data_name: str | None,
    output: Path | None,
    root: Path,
) -> None:
    """Try `vae compare vae cvae`: print runs side by side, with mean ± sd over seeds.

    It also says which differences are within noise. Evaluate each RUN first. Runs that differ only in their seed are
    one group; differences are to the first group. It compares evaluations of all test rows. With --split, --rows or
    --data it compares evaluations made with the same options.
    """
    if output is not None and (split != "test" or row_count is not None or data_name is not None):
        raise click.UsageError("--output shows evaluations of all test rows; leave out --split, --rows and --data")
    from ..evaluation.several_runs.comparison import compare as compare_runs
    from ..evaluation.several_runs.comparison import evaluated_runs

    compared_runs = [open_run(name, root) for name in run]
    for preset in presets:
        compared_runs += evaluated_runs(preset, root, split=split, rows=row_count, data=data_name)
    table = compare_runs(compared_runs, columns=columns, split=split, rows=row_count, data=data_name)
    pages = []
    if output is not None:
        from ..explorer.run_page import write_report

        write_report(compared_runs, output)
        pages.append(str(output))
    if wants_json() or style == "json":
        out_json({"files": pages, **table.to_json()})
        return
    if style == "text":
        _print(table, long)
        for page in pages:
            out(page)
        return
    writers = {"markdown": table.to_markdown, "latex": table.to_latex, "csv": table.to_csv}
    out_lines(writers[style]())
    for page in pages:
        say(page)


def _print(table: "Comparison", long: bool) -> None:
    """Print a column for each group and a row for each number; below, the differences to the first group."""
    for groups in _chunks(list(table.groups), len(table.groups) if long else SIDE_BY_SIDE):
        counts = ["runs", "", *(len(table.groups[group]) for group in groups)]
        print_rows([["", "unit", *groups], counts, *(_row(table, name, groups) for name in table.columns)], long=long)
        out()
    first = next(iter(table.groups))
    for group in list(table.groups)[1:]:
        rows = [[d.column, f"{d.mean:+.4g}", d.interval, d.verdict] for d in table.differences if d.group == group]
        print_rows([[f"{group} minus {first}", "mean", "95 % interval", ""], *rows], long=long)
        out()
    if table.caution:
        print_entry("beware", table.caution, INDENT)
    for name, original in table.repeats.items():
        print_entry("left out", f"{name}, which has the config and the seed of {original}", INDENT)
    print_protocol(table.protocol)


def _chunks(groups: list[str], size: int) -> list[list[str]]:
    return [groups[at : at + size] for at in range(0, len(groups), size)]


def _row(table: "Comparison", name: str, groups: list[str]) -> list[str]:
    unit, estimate_kind = table.columns[name]
    details = ", ".join(part for part in (unit, "" if estimate_kind == "estimate" else estimate_kind) if part)
    return [name, details, *(str(table.cells[group][name]) for group in groups)]
