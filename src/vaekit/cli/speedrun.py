"""`vae speedrun`: seconds to a likelihood."""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import RunError, unknown
from .common import FILE, json_option, print_files, print_records, runs_option, say, wants_json
from .printing import out

if TYPE_CHECKING:
    from ..store import Run


@click.command(short_help="Measure the seconds to a likelihood on MNIST.")
@click.argument("track", required=False)
@click.option("--preset", help="Preset to train.  [default: our own entry]")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key of its config; may be repeated."
)
@click.option("--seeds", type=click.IntRange(3, 1000), default=3, show_default=True, help="Train with seeds 0, 1, 2, …")
@click.option("-o", "--output", type=FILE, help="Write the record of the entry, as JSON.")
@runs_option
@json_option
def speedrun(
    track: str | None,
    preset: str | None,
    settings: tuple[str, ...],
    seeds: int,
    output: Path | None,
    root: Path,
) -> None:
    """Try `vae speedrun grey-100`: train several seeds, measure how long each takes, and whether they are good enough.

    Without TRACK it lists the tracks. The rules: the clock runs from the start of the process until weights and
    pictures are on the disk; a recipe learns from the 55,000 training images of MNIST only; the mean over the seeds
    must meet the goal with p < 0.05.
    """
    from .. import config
    from ..evaluation.several_runs.speedrun import TRACKS, check_config
    from ..evaluation.several_runs.speedrun import speedrun as measure
    from ..store import files

    if track is None:
        records = [{"track": name, "goal": entry.about} for name, entry in TRACKS.items()]
        print_records(records, records, long=False)
        return
    if track not in TRACKS:
        raise click.UsageError(unknown("track", track, TRACKS))
    from ..runs.terminal import stage_progress

    goal = TRACKS[track]
    settings = (*(goal.settings if preset is None else ()), *settings)
    check_config(goal, config.read(preset or goal.preset, settings=settings))
    if output is not None:
        files.check_can_write(output)
    words = [word for setting in settings for word in ("--set", setting)]
    command = ["train", preset or goal.preset, *words]
    name = f"{track}-{time.strftime('%Y%m%d-%H%M%S')}"
    with stage_progress() as listener:
        record = measure(goal, lambda seed: _timed(command, seed, name, root), seeds=seeds, say=say, listener=listener)
    record["command"] = shlex.join(["vae", *command])
    if output is not None:
        files.write(output, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    if wants_json():
        print_files(*([] if output is None else [output]), **record)
        return
    seconds, score = record["seconds"], record["score"]
    out(f"{track}: {seconds['mean']:.1f} ± {seconds['sd']:.1f} s, {score['mean']:.2f} ± {score['sd']:.2f} nats")
    out(f"{'passed' if record['passed'] else 'not passed'}: p = {record['p_value']:.2g} ({record['what']})")


def _timed(command: list[str], seed: int, name: str, root: Path) -> "tuple[Run, float]":
    """Train in a process of its own; return the run and the seconds from start to end."""
    from ..store import Run

    options = ["--seed", str(seed), "--name", f"{name}-seed{seed}", "--runs", str(root)]
    start = time.perf_counter()
    process = subprocess.run([sys.executable, "-P", "-m", "vaekit", *command, *options], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if process.returncode:
        last_line = process.stderr.strip().rpartition("\n")[2]
        raise RunError(f"the training of seed {seed} failed: {last_line.removeprefix('vae: error: ')}")
    return Run.open(f"{name}-seed{seed}", root=root), seconds
