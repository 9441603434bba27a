"""`vae teach`: write the assignment into a folder."""

from pathlib import Path

import click

from .common import FOLDER, json_option, print_files, relative, say


@click.command(short_help="Write the assignment, as files to hand out.")
@click.argument("folder", type=FOLDER)
@click.option("--student", is_flag=True, help="Leave out the solution and the rubric.")
@click.option("--overwrite", is_flag=True, help="Replace existing files; their content is lost.")
@json_option
def teach(folder: Path, student: bool, overwrite: bool) -> None:
    """Try `vae teach course`: write the assignment, as files to hand out and to grade.

    Students get the starter and the notebook; the folder `teacher` has the solution and a rubric. Only --overwrite
    replaces an existing file that has other content.
    """
    from ..teaching import teach as copy_out

    paths = copy_out(folder, teacher=not student, overwrite=overwrite)
    print_files(*paths)
    say(f"next: fill in {relative(folder / 'vae.py')}, then `vae check {relative(folder / 'vae.py')}`")
