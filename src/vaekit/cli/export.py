"""`vae export`: a run's model as a folder for its next user."""

from pathlib import Path

import click

from .common import FOLDER, json_option, print_files
from .run_options import ChosenRun, takes_run


@click.command(short_help="Write the model into a folder to hand on.")
@click.option("-o", "--output", type=FOLDER, help="Folder to write; `export` in the run folder by default.")
@click.option("--onnx", is_flag=True, help="Also write encoder.onnx and decoder.onnx, compared with PyTorch.")
@click.option("--torch-export", is_flag=True, help="Also write encoder.pt2 and decoder.pt2, compared with PyTorch.")
@takes_run(ChosenRun, "chosen", seeded=False, computes=False)
@json_option
def export(chosen: ChosenRun, output: Path | None, onnx: bool, torch_export: bool) -> None:
    """Try `vae export -o my-vae`: write weights, config, a model card and examples of RUN, the newest by default.

    `vaekit.load("my-vae")` reads it back; nothing in it is executed. It is a valid folder for model hubs.
    """
    from ..hub import export as export_run

    folder = export_run(chosen.restored, output, onnx=onnx, torch_export=torch_export)
    print_files(folder, run=str(chosen.run.path))
