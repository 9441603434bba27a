"""`vae train --profile`: where the time of a training step goes."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .common import print_table

if TYPE_CHECKING:
    from ..config import Config


def print_profile(config: "Config", as_json: bool) -> None:
    """Train for some steps, and print where their time goes."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # or it reports devices that are not there

    from ..runs.profiling import profile_training

    found = profile_training(config)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    click.echo(f"{found.milliseconds:.2f} ms a step ({', '.join(f'{k} {v}' for k, v in found.setting.items())})\n")
    print_table([{"phase": name, "share": f"{100 * share:5.1f} %"} for name, share in found.phases.items()])
    click.echo()
    print_table(
        [
            {"operator": name, "ms a step": f"{milliseconds:8.3f}", "calls a step": f"{calls:g}"}
            for name, (milliseconds, calls) in found.operators.items()
        ]
    )
