"""`vae data` and `vae presets`: the data sets and the models to train."""

from typing import Any

import click

from .common import json_option, print_table
from .printing import out_json, out_lines


@click.command(short_help="List the data sets.")
@json_option
def data(as_json: bool) -> None:
    """Try `vae data`: list the data sets, and say which are on this machine.

    To use your own images, give their path: `vae train conv-vae --data PATH`. PATH is images.npy (its labels, if any,
    are in images-labels.npy), images.npz, or a folder of images whose subfolders are classes.
    """
    from ..data import available

    rows = [
        {
            "name": entry.name,
            "train": entry.train,
            "validation": entry.validation,
            "test": entry.test,
            "shape": "×".join(map(str, entry.shape)),
            "classes": entry.num_classes,
            "present": "yes" if entry.present else "no",
            "where": str(entry.where or ""),
        }
        for entry in available()
    ]
    _print(rows, as_json)


@click.command(short_help="List the presets, or print one.")
@click.argument("name", required=False)
@json_option
def presets(name: str | None, as_json: bool) -> None:
    """Try `vae presets vae`: list the presets, or print the TOML of one."""
    from .. import config

    if name is not None:
        out_lines(config.preset_text(name))
        return
    rows = []
    for preset in config.preset_names():
        header, found = config.preset_header(preset), config.read(preset)
        parts = (found.encoder, found.posterior, found.prior, found.likelihood, found.objective)
        rows.append(
            {"name": preset, "paper": header.get("paper", ""), "what": header["about"]}
            | {"parts": " × ".join(part.name for part in parts)}
        )
    _print(rows, as_json)


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        out_json(rows)
    else:
        print_table(rows)
