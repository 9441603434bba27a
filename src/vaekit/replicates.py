"""A series: the same config trained with one seed after another, so that a number has a spread over trainings.

Not for: one training (`experiment`) or the table over the runs of a series (`evaluate.compare`).
"""

import copy
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from . import experiment
from .config import Config, changed, flat, parse
from .config.recipe import completed
from .data import Dataset
from .errors import ConfigError, RunError
from .rng import Streams, deterministic
from .store import Run, files
from .training import Listener, Peer, Steps, Trainer, agrees, can_stack, in_turns, is_faster, stop_requests

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
    together: bool | None = None,
) -> list[Run]:
    """Train a config with the seeds s, s + 1, …, s being its own, each in the run folder `<name>-seed<seed>`.

    They are trained one after another, or, where that is faster, at once: all in one step, with products of batches of
    matrices. Then the weights of each are those of its own training up to rounding, and no longer bit for bit; if one
    of them fails, the others go on, and in the end its error is raised.

    What is there of the series already is used: finished replicates are not trained again, an interrupted one goes on,
    so that the same call finishes an interrupted series, or adds seeds to one.

    Arguments:
        config: A whole config.
        seeds: Number of replicates.
        name: Name of the series.
        preset: What to call the config.
        root: Where run folders are.
        announce: Told which replicate is trained next; its context is open during the training. All those that are
            trained at once are told of before the first step.
        log: Write event files for TensorBoard.
        trust: Import parts by path.
        together: Whether to train them at once; by default what is faster here, which is found out by a trial.

    Returns:
        The runs, finished, by seed.

    Raises:
        ConfigError: fewer than one seed, or replicates that cannot be trained at once and must be.
        RunError: a run of that name is there whose config is another one, or no run can have it; nothing has been
            trained.
        VAEError, Interrupted: as `experiment.train`.
    """
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {seeds}")
    wanted = completed(config, trust=trust)
    series = [changed(wanted, [f"train.seed={wanted.train.seed + i}"]) for i in range(seeds)]
    names = [f"{name}-seed{one.train.seed}" for one in series]
    begun = [_begun(one, run, root) for one, run in zip(series, names, strict=True)]
    left = [i for i, run in enumerate(begun) if run is None or run.status != "finished"]
    options: dict[str, Any] = {"log": log, "trust": trust}

    def train_one(i: int, listener: Listener | None, peer: Peer | None = None) -> None:
        run = begun[i]
        if run is None:
            begun[i] = experiment.train(
                series[i], name=names[i], preset=preset, root=root, listener=listener, peer=peer, **options
            )
        else:
            experiment.resume(run, listener=listener, peer=peer, **options)

    def announced(i: int) -> AbstractContextManager[Listener | None]:
        return announce(i, series[i].train.seed, names[i])

    data = None if together is False or len(left) < 2 else _data_to_share(series[left[0]], len(left), together, trust)
    if data is None:
        for i in left:
            with announced(i) as listener:
                train_one(i, listener)
    else:
        with ExitStack() as stack:
            listeners = [stack.enter_context(announced(i)) for i in left]
            trainings = [partial(train_one, i, listener) for i, listener in zip(left, listeners, strict=True)]
            _train_together(trainings, data, wanted)
    return [run for run in begun if run is not None]


def _data_to_share(config: Config, replicates: int, together: bool | None, trust: bool) -> Dataset | None:
    """The data of a series whose replicates are to do their steps at once; None if they are to be trained one by one.

    The same bits as alone, which `train.deterministic` asks for, are found one by one only.

    Raises:
        ConfigError: they must do them at once and cannot.
    """
    before = Streams()
    try:
        with deterministic(config.train.deterministic, config.train.device), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which each training gives by itself
            job = experiment.Job.prepare(config, trust=trust)
            pays = _pays(job, replicates, together)
    finally:
        before.install()
    if together and not pays:
        raise ConfigError(
            "these replicates cannot do their steps at once, with this model, objective, optimizer or device, or with "
            "train.on_nan = 'skip' or train.cuda_graph; leave out together"
        )
    return job.data if pays else None


def _pays(job: experiment.Job, replicates: int, together: bool | None) -> bool:
    def scratch(dtype: torch.dtype | None = None) -> Trainer:
        return replace(job, model=copy.deepcopy(job.model).to(dtype)).trainer()

    train = job.config.train
    if train.cuda_graph or (train.deterministic and not together) or not can_stack(scratch()):
        return False
    batch = next(iter(job.batches(job.data.train, training=True)))
    exact = partial(scratch, torch.float64)
    if together:
        return agrees(exact, batch)
    return is_faster(scratch, batch, replicates) and agrees(exact, batch)


def _train_together(trainings: Sequence[Callable[[Peer], None]], data: Dataset, config: Config) -> None:
    """Train until all have ended; then raise what one of them has raised, an interruption first.

    Raises:
        VAEError, Interrupted: as `experiment.train`.
    """
    with stop_requests() as stop, deterministic(config.train.deterministic, config.train.device):
        before = Streams()
        peers = [Peer(training, data, stop, len(trainings)) for training in trainings]
        try:
            in_turns(peers, Steps())
        finally:
            before.install()
    errors = sorted((peer.error for peer in peers if peer.error), key=lambda e: not isinstance(e, KeyboardInterrupt))
    if errors:
        raise errors[0]


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
        raise RunError(f"run {name} was begun with another config ({changes}); give this series another --name")
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
