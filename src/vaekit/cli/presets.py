"""`vae presets`: the models to train, or the config of one."""

from typing import Any

import click

from .common import json_option, print_records, wants_json
from .printing import out_json, out_lines
from .tables import long_option

LISTED_PARTS = ("encoder", "posterior", "prior", "likelihood", "objective")


@click.command(short_help="List the presets, or print one.")
@click.argument("name", required=False)
@long_option
@json_option
def presets(name: str | None, long: bool) -> None:
    """Try `vae presets vae`: list the presets, with --long also papers and parts, or print the TOML of one.

    The TOML has only the keys that differ from the defaults; --json prints every key.
    """
    from .. import config

    if name is not None:
        if wants_json():
            full_config = config.read(name).model_dump(exclude_none=True)
            out_json({"name": name, **config.preset_header(name), "config": full_config})
        else:
            out_lines(config.preset_text(name))
        return
    records: list[dict[str, Any]] = []
    for preset in config.preset_names():
        header, recipe = config.preset_header(preset), config.read(preset)
        parts = {part: getattr(recipe, part).name for part in LISTED_PARTS}
        records.append({"name": preset, "paper": header.get("paper"), "about": header["about"], "parts": parts})
    cells = [
        {**record, "paper": record["paper"] or "", "parts": " × ".join(record["parts"].values())} for record in records
    ]
    short_cells = [{"name": record["name"], "about": record["about"]} for record in records]
    print_records(records, cells if long else short_cells, long)
