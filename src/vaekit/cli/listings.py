"""`vae data` and `vae presets`: the data sets and the models to train."""

import json
from collections.abc import Collection
from typing import Any

import click

from ..errors import DataError
from .common import json_option
from .printing import out_json, out_lines
from .tables import long_option, print_table


@click.command(short_help="List the data sets, or the columns of a table.")
@click.argument("table", required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set data.columns.NAME.")
@long_option
@json_option
def data(table: str | None, settings: tuple[str, ...], long: bool, as_json: bool) -> None:
    """Try `vae data`: list the data sets, and say which are on this machine; with --long also where.

    To use your own images, give their path: `vae train conv-vae --data PATH`. PATH is images.npy (its labels, if any,
    are in images-labels.npy), images.npz, or a folder with a subfolder of images for each class.

    Try `vae data table.csv`: list the columns of a table, and the inferred kind of each. To set one, use --set
    data.columns.NAME=KIND, where KIND is real, positive, count, ordinal, categorical, bernoulli, size-factor, label or
    ignore. For an ordinal column, give the levels in order: --set 'data.columns.size=["S","M","L"]'.
    """
    if table is not None:
        _print(_columns(table, settings), (), as_json, long)
        return
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
    """Try `vae presets vae`: list the presets, with --long also papers and parts, or print the TOML of one.

    The TOML has only the keys that differ from the defaults; --json prints every key.
    """
    from .. import config

    if name is not None:
        if as_json:
            full_config = config.read(name).model_dump(exclude_none=True)
            out_json({"name": name, **config.preset_header(name), "config": full_config})
        else:
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


def _columns(table: str, settings: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each column of a table."""
    from .. import config
    from ..data import load
    from ..data.overview import overview
    from ..data.tables import is_table, rows_with_nan

    if not is_table(table):
        raise DataError(f"{table}: not a table; its name must end in .csv, .tsv, .parquet, .npy or .npz")
    section = config.read("table-vae", settings=[*settings, f"data.name={json.dumps(table)}"]).data
    data = load(table, columns=section.columns, values="table")
    assert data.columns is not None
    return overview(data.columns, rows_with_nan(data))


def _print(rows: list[dict[str, Any]], without: Collection[str], as_json: bool, long: bool) -> None:
    if as_json:
        out_json(rows)
    else:
        print_table([{key: value for key, value in row.items() if key not in without} for row in rows], long=long)
