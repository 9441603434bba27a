"""`vae check`: points and diagnoses for a student's file; `vaekit.check` tries a part before training."""

from pathlib import Path

import click

from .common import COUNT, json_option, wants_json
from .printing import out_json, out_lines


@click.command(short_help="Grade a student's solution of the assignment.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--seconds", type=COUNT, default=20, show_default=True, help="Time limit for the import and for each part."
)
@json_option
def check(file: Path, seconds: int) -> None:
    """Try `vae check vae.py`: grade a student's solution of the assignment, and say what is wrong with it.

    It does not try a part of a model before training, as `vaekit.check` does in Python. The file runs in a process of
    its own, with limits on time and memory. `vae teach` hands the assignment out.
    """
    from ..teaching import check as grade

    report = grade(file, seconds=seconds)
    if wants_json():
        out_json(report.to_dict())
    else:
        out_lines(f"{report}\n")
