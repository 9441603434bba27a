"""A series: the same config trained with one seed after another, so that a number has a spread over trainings.

Not for: one training (`lifecycle`) or the table over the runs of a series (`evaluate.compare`).
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ..config import Config, changed, flat, parse
from ..config.recipe import completed
from ..errors import ConfigError, RunError
from ..store import Run, files
from ..training import Listener
from .lifecycle import resume, train

Announce = Callable[[int, int, str], AbstractContextManager[Listener | None]]
"""From the number of a replicate, its seed and the name of its run to the listener to its training."""


def series_name(preset: str) -> str:
    """The name of a series that was given none: the preset and the time.

    Arguments:
        preset: What the config is called.
    """
    return f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"


def train_replicates(
    config: Config,
    seeds: int,
    *,
    name: str,
    preset: str = "custom",
    root: Path | str = "runs",
    announce: Announce = lambda *_: nullcontext(),
    log: bool = False,
    trust: bool = False,
) -> list[Run]:
    """Train a config with the seeds s, s + 1, …, s being its own, each in the run folder `<name>-seed<seed>`.

    They are trained one after another.

    What is there of the series already is used: finished replicates are not trained again, an interrupted one goes on,
    so that the same call finishes an interrupted series, or adds seeds to one.

    Arguments:
        config: A whole config.
        seeds: Number of replicates.
        name: Name of the series.
        preset: What to call the config.
        root: Where run folders are.
        announce: Told which replicate is trained next; its context is open during the training.
        log: Write event files for TensorBoard.
        trust: Import parts by path.

    Returns:
        The runs, finished, by seed.

    Raises:
        ConfigError: fewer than one seed.
        RunError: a run of that name is there whose config is another one, or no run can have it; nothing has been
            trained.
        VAEError, Interrupted: as `train`.
    """
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {seeds}")
    wanted = completed(config, trust=trust)
    series = [changed(wanted, [f"train.seed={wanted.train.seed + i}"]) for i in range(seeds)]
    names = [f"{name}-seed{one.train.seed}" for one in series]
    begun = [_begun(one, run, root) for one, run in zip(series, names, strict=True)]
    left = [i for i, run in enumerate(begun) if run is None or run.status != "finished"]
    options: dict[str, Any] = {"log": log, "trust": trust}

    for i in left:
        with announce(i, series[i].train.seed, names[i]) as listener:
            run = begun[i]
            if run is None:
                begun[i] = train(series[i], name=names[i], preset=preset, root=root, listener=listener, **options)
            else:
                resume(run, listener=listener, **options)
    return [run for run in begun if run is not None]


def _begun(config: Config, name: str, root: Path | str) -> Run | None:
    """The run of a replicate, if it was begun.

    Raises:
        RunError: it was begun with another config, or no run can have this name.
    """
    if not os.path.lexists(Path(root) / files.component(name)):
        return None
    run = Run.open(name, root=root)
    mine, theirs = (flat(one.model_dump(exclude_none=True)) for one in (config, parse(run.config)))
    # What "auto" means was settled when the run began.
    differ = [key for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) not in (theirs.get(key), "auto")]
    if differ:
        changes = ", ".join(f"{key} {theirs.get(key)!r} → {mine.get(key)!r}" for key in differ[:3])
        raise RunError(
            f"run {name} was begun with another config ({changes}); give this series another name", mend=("name",)
        )
    return run


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (None for one value) and number of values.

    >>> spread([1.0, 3.0])
    {'mean': 2.0, 'sd': 1.4142135623730951, 'n': 2}
    """
    return {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }
