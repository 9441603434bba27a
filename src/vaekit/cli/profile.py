"""`vae profile`: where the time of a training step goes."""

import os
from dataclasses import asdict

import click

from .common import json_option, trust_option, wants_json
from .config_options import ConfigOptions, config_options
from .printing import out, out_json
from .run_options import resolved
from .tables import print_table


@click.command(short_help="Show where the time of a training step goes.")
@config_options
@trust_option
@json_option
def profile(options: ConfigOptions) -> None:
    """Try `vae profile cvae`: train PRESET for some steps, and print where their time goes.

    By default PRESET is vae, or table-vae for a table. Nothing is written. Profiling slows the steps
    down, so compare speeds without it. On a GPU the phases are shares of the time to launch the work,
    and the operators have the time of the GPU.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # or Kineto reports missing devices
    config = options.config()

    from ..runs.profiling import profile_training

    result = profile_training(resolved(config))
    if wants_json():
        out_json(asdict(result))
        return
    out(f"{result.milliseconds:.2f} ms per step ({', '.join(f'{_words(k)} {v}' for k, v in result.setting.items())})")
    out()
    print_table([{"phase": _words(name), "share": f"{100 * share:5.1f} %"} for name, share in result.phases.items()])
    out()
    print_table(
        [
            {"operator": name, "ms per step": f"{milliseconds:8.3f}", "calls per step": f"{calls:g}"}
            for name, (milliseconds, calls) in result.operators.items()
        ]
    )


def _words(key: str) -> str:
    return key.replace("_", " ")
