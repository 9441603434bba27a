"""`vae report`: one page about a run, or about several side by side."""

from pathlib import Path

import click

from .common import FILE, json_option, open_run, print_files, run_argument, runs_option


@click.command(short_help="Write one page to read, print and send.")
@run_argument
@click.option("-o", "--output", type=FILE, help="File to write; `report.html` in the run folder by default.")
@click.option("--compare", "compared", multiple=True, metavar="RUN", help="Another run beside it; may be repeated.")
@runs_option
@json_option
def report(run: str | None, output: Path | None, compared: tuple[str, ...], root: Path) -> None:
    """Try `vae report -o report.html`: show everything known about RUN, the newest by default, on one page.

    It has curves, pictures, the evaluation with its errors and warnings, configuration, environment, and how to repeat
    the run.
    """
    runs = [open_run(name, root) for name in (run, *compared)]

    from ..explorer.run_page import write_report

    path = write_report(runs, output or runs[0].path_to_write("report.html"))
    print_files(path, runs=[str(shown_run.path) for shown_run in runs])
