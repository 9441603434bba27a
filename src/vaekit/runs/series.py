"""A series: the same config trained with one seed after another, so that a number has a spread over trainings.

Not for: one training (`lifecycle`) or the table over the runs of a series (`evaluation.several_runs.comparison`).
"""

import os
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..config import changed, flat
from ..config.recipe import Recipe
from ..errors import RunError, check_count
from ..store import Run, files
from .replicate import Replicate
from .run_config import config_of
from .side_by_side import Announce, train_side_by_side

MOST_SEEDS = 10_000


def series_name(preset: str) -> str:
    """The default name of a series: the preset and the time.

    Arguments:
        preset: Name of the config.
    """
    return f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"


def train_replicates(
    recipe: Recipe,
    seeds: int,
    *,
    name: str,
    jobs: int = 1,
    preset: str = "custom",
    root: Path | str = "runs",
    announce: Announce = lambda *_: nullcontext(),
    tensorboard: bool = False,
) -> list[Run]:
    """Train a config with its own seed s and with s + 1, s + 2, …, each in the run folder `<name>-seed<seed>`.

    Finished replicates are not trained again, and interrupted ones are resumed. So the same call finishes an
    interrupted series, or adds seeds to one.

    Arguments:
        recipe: The config, resolved.
        seeds: Number of replicates.
        name: Name of the series.
        jobs: Number of replicates to train at the same time, each in its own process with 1/jobs of the threads of
            this one. With 1 job they are trained in this process, one after another.
        preset: Name of the config.
        root: Folder of all runs.
        announce: Called with the next replicate; its context is open during the training.
        tensorboard: Whether to write event files for TensorBoard.

    Returns:
        The runs, finished, by seed.

    Raises:
        ConfigError: `seeds` or `jobs` is below 1 or above 10,000.
        RunError: A run of that name has another config, or the name is not allowed; nothing has been trained.
        VAEError, Interrupted: A training failed or was stopped, see `lifecycle.train_run`; everything trained so far is
            kept.
    """
    for argument, value in {"seeds": seeds, "jobs": jobs}.items():
        check_count(argument, value, 1, MOST_SEEDS)
    series = [_member(recipe, i, name, preset, Path(root), tensorboard) for i in range(seeds)]
    left = [replicate for replicate in series if not _is_finished(replicate)]
    if jobs == 1:
        for replicate in left:
            with announce(replicate.number, replicate.seed, replicate.name) as listener:
                replicate.train(listener)
    else:
        jobs = min(jobs, seeds)
        train_side_by_side(left, jobs=jobs, threads=max(1, torch.get_num_threads() // jobs), announce=announce)
    return [Run.open(replicate.name, root=root) for replicate in series]


def _member(recipe: Recipe, number: int, name: str, preset: str, root: Path, tensorboard: bool) -> Replicate:
    seed = recipe.config.train.seed + number
    seeded = replace(recipe, config=changed(recipe.config, {"train": {"seed": seed}}))
    return Replicate(number, seeded, f"{name}-seed{seed}", preset, root, tensorboard)


def _is_finished(replicate: Replicate) -> bool:
    """Whether a replicate has been trained.

    Raises:
        RunError: The run has another config, or its name is not allowed.
    """
    if not os.path.lexists(replicate.root / files.component(replicate.name)):
        return False
    run = Run.open(replicate.name, root=replicate.root)
    configs = (replicate.recipe.config, config_of(run))
    now, before = (flat(config.model_dump(exclude_none=True)) for config in configs)
    resolved = run.environment.get("auto", list(now))  # older runs do not record which keys were "auto"
    same = {key for key in now if now[key] == before.get(key) or (now[key] == "auto" and key in resolved)}
    differ = sorted((now.keys() | before.keys()) - same)
    if differ:
        changes = ", ".join(f"{key} {before.get(key)!r} → {now.get(key)!r}" for key in differ[:3])
        message = f"run {run.name} has another config ({changes}); give this series another name"
        raise RunError(message, arguments=("name",))
    return run.status == "finished"


def mean_and_sd(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, standard deviation (None for one value) and number of values; without mean and sd if a value is None.

    >>> mean_and_sd([1.0, 3.0])
    {'mean': 2.0, 'sd': 1.4142135623730951, 'n': 2}
    """
    known = [value for value in values if value is not None]
    whole = len(known) == len(values)
    return {
        "mean": statistics.mean(known) if whole else None,
        "sd": statistics.stdev(known) if whole and len(known) > 1 else None,
        "n": len(values),
    }
