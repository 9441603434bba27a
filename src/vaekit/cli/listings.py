"""`vae data` and `vae presets`: the data sets and the models to train."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import click

from ..errors import DataError
from .common import json_option
from .printing import out_json, out_lines
from .tables import long_option, print_table

LISTED = ("encoder", "posterior", "prior", "likelihood", "objective")  # parts of a preset in the list
SHOWN = 6  # levels of a column


@click.command(short_help="List the data sets, or the columns of a table.")
@click.argument("table", required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set data.columns.NAME or data.kind.")
@long_option
@json_option
def data(table: str | None, settings: tuple[str, ...], long: bool, as_json: bool) -> None:
    """Try `vae data`: list the data sets, and say which are on this machine; with --long also where.

    To use your own images, give their path: `vae train conv-vae --data PATH`. PATH is images.npy (its labels, if any,
    are in images-labels.npy), images.npz, or a folder with a subfolder of images for each class.

    Try `vae data table.csv`: list the columns of a table, and the inferred kind of each. To set one, use --set
    data.columns.NAME=KIND, where KIND is real, positive, count, ordinal, categorical, bernoulli, size-factor, label or
    ignore. For an ordinal column, give the levels in order: --set 'data.columns.size=["S","M","L"]'. For the channels
    of signals, (N, L) or (N, channels, L), try `vae data signals.npy --set data.kind=signal`.
    """
    if table is not None:
        columns = _columns(table, settings)
        _print(columns, [_column_cells(column) for column in columns], as_json, long)
        return
    if settings:
        raise click.UsageError("--set is for the columns of a table; name the table, as in `vae data table.csv`")
    from ..data import available

    records = [
        {
            "name": entry.name,
            "train": entry.train,
            "validation": entry.validation,
            "test": entry.test,
            "shape": entry.shape,
            "classes": entry.num_classes,
            "present": entry.present,
            "where": entry.where and str(entry.where),
        }
        for entry in available()
    ]
    cells = [_without(("where",), record) if not long else record for record in records]
    _print(records, [_dataset_cells(cell) for cell in cells], as_json, long)


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
    records: list[dict[str, Any]] = []
    for preset in config.preset_names():
        header, recipe = config.preset_header(preset), config.read(preset)
        parts = {name: getattr(recipe, name).name for name in LISTED}
        records.append({"name": preset, "paper": header.get("paper"), "what": header["about"], "parts": parts})
    cells = [
        {**record, "paper": record["paper"] or "", "parts": " × ".join(record["parts"].values())} for record in records
    ]
    _print(records, cells if long else [_without(("paper", "parts"), cell) for cell in cells], as_json, long)


def _columns(table: str, settings: tuple[str, ...]) -> list[dict[str, Any]]:
    """A record for each column of a table."""
    from .. import config
    from ..data import load
    from ..data.column_overview import overview, overview_of_signals
    from ..data.tables import columns_with_nan, is_table

    if not is_table(table):
        raise DataError(f"{table}: not a table; its name must end in .csv, .tsv, .parquet, .npy or .npz")
    section = config.read("table-vae", settings=[*settings, f"data.name={json.dumps(table)}"]).data
    if section.kind == "signal":
        return overview_of_signals(load(table, memory=section.memory, value_kind="real", kind="signal"))
    data = load(table, columns=section.columns, memory=section.memory, value_kind="table")
    assert data.columns is not None
    return overview(data.columns, columns_with_nan(data))


def _dataset_cells(record: dict[str, Any]) -> dict[str, Any]:
    """The cells of a data set in a table for people."""
    shown = {"shape": "×".join(map(str, record["shape"])), "present": "yes" if record["present"] else "no"}
    return {**record, **shown, **({"where": record["where"] or ""} if "where" in record else {})}


def _column_cells(record: dict[str, Any]) -> dict[str, Any]:
    """The cells of a column in a table for people: its levels, or its least value, median and greatest value."""
    levels = record["levels"]
    if levels is None:
        values = " … ".join(
            f"{value:.6g}" if isinstance(value, float) else str(value)
            for value in (record["minimum"], record["median"], record["maximum"])
        )
    else:
        listed = [str(level) for level in levels[:SHOWN]] + ["…"] * (len(levels) > SHOWN)
        values = f"{len(levels)} levels: {', '.join(listed)}"
    words = {"column": record["column"], "kind": record["kind"], "type": record["type"]}
    return {**words, "missing": f"{record['missing']:.0%}", "values": values}


def _without(keys: Collection[str], row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def _print(records: Sequence[dict[str, Any]], cells: Sequence[dict[str, Any]], as_json: bool, long: bool) -> None:
    """Print the records as JSON, or their cells as a table."""
    if as_json:
        out_json(records)
    else:
        print_table(cells, long=long)
