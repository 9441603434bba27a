"""`vae data`: the data sets by name, or the columns of a table."""

import json
from typing import Any

import click

from ..errors import DataError
from .common import json_option, print_records
from .tables import long_option

SHOWN_LEVELS = 6  # levels of a column that are printed


@click.command(short_help="List the data sets, or the columns of a table.")
@click.argument("table", required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set data.columns.NAME or data.kind.")
@long_option
@json_option
def data(table: str | None, settings: tuple[str, ...], long: bool) -> None:
    """Try `vae data`: list the data sets, and say which are on this machine; with --long also where.

    To use your own images, give their path: `vae train conv-vae --data PATH`. PATH is images.npy (labels go into
    images-labels.npy), images.npz, or a folder with a subfolder of images for each class.

    Try `vae data table.csv`: list the columns of a table, and the inferred kind of each. To set one, use --set
    data.columns.NAME=KIND, where KIND is real, positive, count, ordinal, categorical, bernoulli, size-factor, label or
    ignore. For an ordinal column, give the levels in order: --set 'data.columns.size=["S","M","L"]'. For the channels
    of signals, (N, L) or (N, channels, L), try `vae data signals.npy --set data.kind=signal`.
    """
    if table is not None:
        columns = _columns(table, settings)
        print_records(columns, [_column_cells(column) for column in columns], long)
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
    print_records(records, [_dataset_cells(record, long) for record in records], long)


def _columns(table: str, settings: tuple[str, ...]) -> list[dict[str, Any]]:
    """A record for each column of a table."""
    from .. import config
    from ..data import load
    from ..data.table.column_overview import columns_with_nan, overview, overview_of_signals
    from ..data.table.table_files import is_table

    if not is_table(table):
        raise DataError(f"{table}: not a table; its name must end in .csv, .tsv, .parquet, .npy or .npz")
    section = config.read("table-vae", settings=[*settings, f"data.name={json.dumps(table)}"]).data
    if section.kind == "signal":
        return overview_of_signals(load(table, memory=section.memory, value_kind="real", kind="signal"))
    data = load(table, columns=section.columns, memory=section.memory, value_kind="table")
    assert data.columns is not None
    return overview(data.columns, columns_with_nan(data))


def _dataset_cells(record: dict[str, Any], long: bool) -> dict[str, Any]:
    """The cells of a data set in a table for people; with `long` also its folder."""
    shape, present = "×".join(map(str, record["shape"])), "yes" if record["present"] else "no"
    cells = record | {"shape": shape, "present": present, "where": record["where"] or ""}
    return cells if long else {key: cell for key, cell in cells.items() if key != "where"}


def _column_cells(record: dict[str, Any]) -> dict[str, Any]:
    """The cells of a column in a table for people: its levels, or its least value, median and greatest value."""
    levels = record["levels"]
    if record["missing"] == 1:
        values = "none"
    elif levels is None:
        values = " … ".join(
            f"{value:.6g}" if isinstance(value, float) else str(value)
            for value in (record["minimum"], record["median"], record["maximum"])
        )
    else:
        listed = [str(level) for level in levels[:SHOWN_LEVELS]] + ["…"] * (len(levels) > SHOWN_LEVELS)
        values = f"{len(levels)} levels: {', '.join(listed)}"
    words = {"column": record["column"], "kind": record["kind"], "type": record["type"]}
    return {**words, "missing": f"{record['missing']:.0%}", "values": values}
