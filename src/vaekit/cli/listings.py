"""`vae data` and `vae presets`: the data sets and the models to train."""

from collections.abc import Collection
from typing import Any

import click

from .common import json_option
from .printing import out_json, out_lines
from .tables import long_option, print_table


@click.command(short_help="List the data sets.")
@long_option
@json_option
def data(long: bool, as_json: bool) -> None:
    """Try `vae data`: list the data sets, and say which are on this machine; with --long also where.

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
    _print(rows, () if long else ("where",), as_json, long)


@click.command(short_help="List the presets, or print one.")
@click.argument("name", required=False)
@long_option
@json_option
def presets(name: str | None, long: bool, as_json: bool) -> None:
    """Try `vae presets vae`: list the presets, with --long also papers and parts, or print the TOML of one."""
    from .. import config

    if name is not None:
        out_lines(config.preset_text(name))
        return
    rows = []
    for preset in config.preset_names():
        header, recipe = config.preset_header(preset), config.read(preset)
        parts = (recipe.encoder, recipe.posterior, recipe.prior, recipe.likelihood, recipe.objective)
        rows.append(
            {"name": preset, "paper": header.get("paper", ""), "what": header["about"]}
            | {"parts": " × ".join(part.name for part in parts)}
        )
    _print(rows, () if long else ("paper", "parts"), as_json, long)


def _print(rows: list[dict[str, Any]], without: Collection[str], as_json: bool, long: bool) -> None:
    if as_json:
        out_json(rows)
    else:
        print_table([{key: value for key, value in row.items() if key not in without} for row in rows], long=long)
