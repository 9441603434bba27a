"""`vae compare`: evaluated runs side by side."""

from pathlib import Path

import click

from .common import FILE, json_option, open_run, runs_option
from .printing import out_json, out_lines


@click.command(short_help="One table over evaluated runs and seeds.")
@click.argument("run", nargs=-1)
@click.option(
    "--group", "presets", multiple=True, metavar="PRESET", help="All evaluated runs of a preset; may be repeated."
)
@click.option("--column", "columns", multiple=True, metavar="NAME", help="Which numbers, such as nll; may be repeated.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["markdown", "latex", "csv", "json"]),
    default="markdown",
    show_default=True,
    help="Format of the table.",
)
@click.option("-o", "--output", type=FILE, help="Also write the runs side by side on one page, .html.")
@runs_option
@json_option
def compare(
    run: tuple[str, ...],
    presets: tuple[str, ...],
    columns: tuple[str, ...],
    style: str,
    output: Path | None,
    root: Path,
    as_json: bool,
) -> None:
    """Try `vae compare vae cvae`: print runs side by side, with mean ± sd over seeds.

    It also says which differences are within noise. Evaluate each RUN first. Runs that differ only in their seed are
    one row; differences are to the first row.
    """
    from ..evaluation.comparison import compare as compared
    from ..evaluation.comparison import evaluated

    chosen = [open_run(name, root) for name in run] + [one for preset in presets for one in evaluated(preset, root)]
    table = compared(chosen, columns=columns)
    if output is not None:
        from ..explorer.run_page import write

        write(chosen, output)
    if as_json or style == "json":
        out_json(table.to_json())
        return
    writers = {"markdown": table.to_markdown, "latex": table.to_latex, "csv": table.to_csv}
    out_lines(writers[style]())
