"""The life of a run: trained in a new folder, resumed, and what the other ranks do meanwhile."""

import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..config import Config, changed, of_run
from ..config.recipe import Recipe
from ..errors import ConfigError, DataError, NumericalError, RunError
from ..rng import deterministic
from ..store import Run
from ..training import ALONE, Interrupted, Listener, Ranks
from . import environment, tensorboard
from .job import Job, closing

# What may be changed when a run continues: nothing that says what the stored weights, averages or positions mean.
CHANGEABLE = ("checkpoint_every", "clip_norm", "device", "epochs", "learning_rate", "on_nan", "patience")


def train(
    config: Config | Recipe,
    *,
    name: str | None = None,
    preset: str = "custom",
    root: Path | str = "runs",
    listener: Listener | None = None,
    log: bool = False,
    ranks: Ranks = ALONE,
) -> Run:
    """Train what a config says, in a new run folder.

    Arguments:
        config: A whole config, or one that is resolved already.
        name: Name of the run folder; the preset's name and the time by default.
        preset: What to call the config.
        root: Where run folders are.
        listener: Told about the progress.
        log: Write event files for TensorBoard.
        ranks: All processes that train this together, of which this is the first; the others call `work`.

    Returns:
        The run, finished: metrics, checkpoints, the test −ELBO and pictures are in its folder.

    Raises:
        VAEError: something in the config does not work; nothing has been written.
        NumericalError: the loss is not finite or the rate explodes; the run keeps its last good state.
        Interrupted: Ctrl-C or SIGTERM; the run keeps a checkpoint.
    """
    if log:
        tensorboard.required()
    recipe = config if isinstance(config, Recipe) else Recipe.resolve(config)
    settings = recipe.config.train
    with deterministic(settings.deterministic, settings.device):
        job = Job.prepare(recipe, ranks=ranks)
        facts = environment.environment(job.config, job.data, job.model, ranks.world)
        run = Run.create(name, preset=preset, config=job.recipe.to_toml(), environment=facts, root=root)
        with closing(run):
            job.train(run, listener, log)
    return run


def resume(
    run: Run,
    *,
    settings: Sequence[str] = (),
    listener: Listener | None = None,
    log: bool = False,
    ranks: Ranks = ALONE,
) -> Run:
    """Continue an interrupted run, to the very weights that it would have had; or with other settings.

    It computes with the number of threads that it began with, where the machine has as many processors, since the last
    bits depend on it.

    Arguments:
        run: A run.
        settings: Strings "train.key=value" for one of `CHANGEABLE`; `environment.json` keeps what was changed when.
        listener: Told about the progress.
        log: Write event files for TensorBoard.
        ranks: As for `train`; their number need not be the one before.

    Raises:
        RunError: the run is finished, another process trains it, or the data are no longer those it began with.
        ConfigError: a setting that cannot be changed.
    """
    if log:
        tensorboard.required()
    if run.status == "finished" and not settings:
        raise RunError(f"run {run.name} is finished; to train it longer, resume it with more train.epochs than it has")
    with run.lock(), environment.threads_of(run, ranks.world):
        recipe = Recipe.resolve(_with_settings(of_run(run), settings))
        with deterministic(recipe.config.train.deterministic, recipe.config.train.device):
            checkpoint = run.load_checkpoint() if run.has_checkpoint() else None
            job = Job.prepare(recipe, ranks=ranks)
            if job.data.checksum != run.recorded("data", "checksum"):
                name = recipe.config.data.name
                raise RunError(f"the files of {name!r} are not those that run {run.name} began with; bring them back")
            if checkpoint is None:
                run.truncate_metrics(0)
            with closing(run):
                _begin_session(run, job, settings)
                job.train(run, listener, log, checkpoint)
    return run


def work(ranks: Ranks) -> None:
    """Train along with the first rank, which calls `train` or `resume`: this rank's rows, writing nothing.

    Arguments:
        ranks: All processes, of which this is not the first.
    """
    nothing: Any = None, None
    config, checksum = ranks.broadcast(nothing)
    with deterministic(config.train.deterministic, config.train.device):
        with ranks.raise_together():
            job = Job.prepare(config, ranks=ranks)
            if job.data.checksum != checksum:
                raise DataError(
                    f"the files of {config.data.name!r} are not those of the first rank; copy them from there"
                )
        try:
            job.fit()
        except (Interrupted, NumericalError):
            ranks.wait()  # torchrun ends all ranks as soon as one fails, and the first has yet to write what happened
            raise
        ranks.wait()


def _with_settings(config: Config, settings: Iterable[str]) -> Config:
    now = changed(config, settings)
    same = config.train.model_copy(update={key: getattr(now.train, key) for key in CHANGEABLE})
    if config.model_copy(update={"train": same}) != now:
        keys = ", ".join(f"train.{key}" for key in CHANGEABLE)
        raise ConfigError(f"a run that was begun can change {keys} only; for anything else train a new one")
    return now


def _begin_session(run: Run, job: Job, settings: Iterable[str]) -> None:
    """Note in environment.json that the run was resumed, with which settings, and in which other set-up."""
    now = environment.setup(job.config, job.model.device, job.ranks.world)
    differs = environment.differences(run.environment, now)
    matter = [key for key in differs if key not in ("git", "platform")]
    if matter:
        changes = ", ".join(f"{key} {differs[key][0]} → {differs[key][1]}" for key in matter)
        warnings.warn(f"run {run.name} began in another set-up ({changes}); its last digits may differ", stacklevel=3)
    session = {"began": datetime.now(UTC).isoformat(), "epoch": len(run.metrics()), "settings": list(settings)}
    session |= {"epochs": job.config.train.epochs, "differs": differs}
    run.record(sessions=[*run.sessions, session])
