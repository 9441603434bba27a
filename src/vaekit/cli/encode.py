"""`vae encode`: latents of single rows, as a file for other programs."""

from pathlib import Path

import click

from ..errors import ConfigError
from .common import FILE, data_option, file_stem, json_option, print_files, split_option
from .run_options import ChosenRun, unseeded_run_options


@click.command(short_help="Write the latents of rows.")
@data_option
@split_option
@click.option("-o", "--output", type=FILE, help="File to write: .npz, .npy or .csv.  [default: in the run folder]")
@unseeded_run_options
@json_option
def encode(chosen: ChosenRun, data_name: str | None, split: str | None, output: Path | None) -> None:
    """Try `vae encode --data photos/ -o latents.csv`: write the posterior mean of z for every row.

    RUN is the newest run by default. A .csv has one line for each row, with its latents as z1, z2 and so on; an .npy
    has the array z, shape (rows, latents); an .npz has z, the names of the rows, and their classes. A row is named by
    its file, or by its number in the file: tables count from 1, arrays from 0, with and without --data.
    """
    from ..evaluation.single_rows.named_rows import LATENT_SUFFIXES, encode_rows, latents_file, rows_of
    from ..runs.terminal import stage_progress
    from ..store import files

    rows = rows_of(chosen.restored, data_name, split=split)
    path = output or chosen.run.path_to_write(f"latents/{file_stem(rows.name)}.npz")
    suffix = path.suffix.lower()
    if suffix not in LATENT_SUFFIXES:
        raise ConfigError(f"{path} must end in .npz, .npy or .csv")
    chosen.check_output(path, data_name=data_name)
    model, _ = chosen.model()
    with stage_progress() as listener:
        z = encode_rows(model, rows, listener=listener)
    files.write(path, latents_file(rows, z, suffix))
    print_files(path, run=str(chosen.run.path), rows=len(rows), shape=list(z.shape))
