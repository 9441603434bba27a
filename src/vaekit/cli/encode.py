"""`vae encode`: latents of single rows, as a file for other programs."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from .common import FILE, data_option, file_stem, json_option, print_files, split_option
from .row_csv import csv_of
from .run_options import ChosenRun, unseeded_run_options

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.single_rows.named_rows import NamedRows


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
    from ..evaluation.single_rows import named_rows
    from ..runs.terminal import shown_stages
    from ..store import files

    rows = named_rows.rows_of(chosen.restored, data_name, split=split)
    path = output or chosen.run.place(f"latents/{file_stem(rows.name)}.npz")
    if path.suffix.lower() not in (".npz", ".npy", ".csv"):
        raise ConfigError(f"{path} must end in .npz, .npy or .csv")
    model, _ = chosen.model()
    with shown_stages() as listener:
        z = named_rows.encode_rows(model, rows, listener=listener)
    if path.suffix.lower() == ".csv":
        content = csv_of(rows, {f"z{i}": column for i, column in enumerate(z.flatten(1).unbind(1), 1)})
    else:
        content = _arrays(path.suffix.lower(), rows, z)
    files.write(path, content)
    print_files(path, run=str(chosen.run.path), rows=len(rows), shape=list(z.shape))


def _arrays(suffix: str, rows: "NamedRows", z: "Tensor") -> bytes:
    import numpy as np

    content = io.BytesIO()
    if suffix == ".npy":
        np.save(content, z.numpy(), allow_pickle=False)
    else:
        arrays: dict[str, Any] = {f"{rows.row_word}s": np.array(rows.names), "classes": np.array(rows.classes)}
        np.savez(content, z=z.numpy(), **arrays)
    return content.getvalue()
