"""`vae export`: a run's model as a folder for its next user."""

from pathlib import Path

import click

from .common import (
    FOLDER,
    files_json_option,
    open_run,
    print_files,
    recipe_of,
    relative,
    run_argument,
    runs_option,
    trust_option,
)


@click.command(short_help="Write the model into a folder to hand on.")
@run_argument
@click.option("-o", "--output", type=FOLDER, help="Where to; `export` in the run folder by default.")
@click.option("--onnx", is_flag=True, help="Also encoder.onnx and decoder.onnx, compared with PyTorch.")
@click.option("--torch-export", is_flag=True, help="Also encoder.pt2 and decoder.pt2, compared with PyTorch.")
@trust_option
@runs_option
@files_json_option
def export(run: str | None, output: Path | None, onnx: bool, torch_export: bool, root: Path) -> None:
    """Try `vae export -o my-vae`: weights, config, a filled model card and examples of RUN, the newest by default.

    `vaekit.load("my-vae")` reads it back; nothing in it is executed. It is a valid folder for model hubs.
    """
    opened = open_run(run, root)
    recipe = recipe_of(opened)

    from ..hub import export as exported

    folder = exported(opened, output, recipe=recipe, onnx=onnx, torch_export=torch_export)
    print_files(relative(folder), run=str(opened.path))
