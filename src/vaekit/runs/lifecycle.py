"""The life of a run: train it in a new folder, resume it, and train along on the other ranks."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ..config import Config, Train, changed, flat
from ..config.recipe import Recipe
from ..errors import ConfigError, DataError, NumericalError, RankError, RunError
from ..store import Run
from ..training import ALONE, Interrupted, Listener, Ranks
from . import environment
from .job import Job
from .model_weights import most_bytes
from .restore import RestoredRun
from .tensorboard import require_tensorboard

# Options that may change when a run continues. Stored weights, averages and positions keep their meaning.
CHANGEABLE = ("checkpoint_every", "clip_norm", "device", "epochs", "learning_rate", "on_nan", "patience", "precision")


def train_run(
    config: Config | Recipe,
    *,
    name: str | None = None,
    preset: str = "custom",
    root: Path | str = "runs",
    listener: Listener | None = None,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> Run:
    """Train a config in a new run folder.

    Arguments:
        config: A whole config; or, if it names parts by import path, the recipe that
            `Recipe.resolve(config, trust=True)` gives.
        name: Name of the run folder; the preset's name and the time by default.
        preset: Name of the config.
        root: Folder of all runs.
        listener: A listener to the progress.
        tensorboard: Whether to write event files for TensorBoard.
        ranks: All processes that train this together. This is the first; the others call `train_as_worker`.

    Returns:
        The run, finished: metrics, checkpoints, the test −ELBO and pictures are in its folder.

    Raises:
        VAEError: Something in the config does not work; nothing has been written.
        NumericalError: The loss is not finite or the rate explodes; the run keeps its last good state.
        Interrupted: Ctrl-C, SIGTERM or a closed terminal stopped it; the run keeps a checkpoint.
    """
    if tensorboard:
        require_tensorboard()
    recipe = config if isinstance(config, Recipe) else Recipe.resolve(config)
    with Job.computing(recipe, ranks=ranks) as job:
        recorded = environment.made_with(job.config, job.data, job.model, ranks.world_size)
        recorded["auto"] = [key for key, value in flat(recipe.config.model_dump()).items() if value == "auto"]
        run = Run.create(name, preset=preset, config=job.recipe.to_toml(), environment=recorded, root=root)
        with _recording_end(run):
            _broadcast_job(job)
            job.train_into(run, listener, tensorboard=tensorboard)
    return run


def resume_run(
    run: Run | RestoredRun,
    *,
    sections: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> Run:
    """Continue an interrupted run: to exactly the weights of an uninterrupted one, or with other settings.

    It uses as many threads as the run began with, if the machine has them: the last bits of the weights depend on that.

    Arguments:
        run: A run; a `RestoredRun` if its config names parts by import path.
        sections: Changes, as for `config.read`, such as `{"train": {"epochs": 20}}`: only fields of [train] that
            `CHANGEABLE` names. `environment.json` records each change.
        listener: A listener to the progress.
        tensorboard: Whether to write event files for TensorBoard.
        ranks: All processes, as for `train_run`; their number may differ from before.

    Raises:
        RunError: The run is finished, another process trains it, or its data have changed.
        ConfigError: A setting cannot be changed.
        VAEError, NumericalError, Interrupted: See `train_run`.
    """
    if tensorboard:
        require_tensorboard()
    restored = RestoredRun.of(run)
    run, recipe = restored.run, restored.recipe
    is_finished = run.status == "finished"
    if is_finished and not sections:
        steps = recipe.config.train.steps
        longer = "to train it longer, resume it with more train.epochs than it has"
        raise RunError(f"run {run.name} is finished; {longer if steps is None else _fixed_length(steps)}")
    with run.lock(), environment.computing_as(run, ranks.world_size):
        recipe = replace(recipe, config=_with_changes(recipe.config, sections or {}))
        if is_finished:
            _check_has_epochs_left(run, recipe.config.train)
        with Job.computing(recipe, ranks=ranks) as job:
            limit = most_bytes(job.recipe, job.model)
            checkpoint = run.load_checkpoint(limit=limit) if run.has_checkpoint() else None
            if restored.data_record.checksum not in ("", job.data.checksum):  # earlier versions took data without one
                name = recipe.config.data.name
                raise RunError(f"the files of {name!r} are not those that run {run.name} began with; bring them back")
            if is_finished:
                _check_patience(run, recipe.config.train)
            if checkpoint is None:
                run.truncate_metrics(0)
            with _recording_end(run):
                _begin_session(run, job, sections or {})
                _broadcast_job(job)
                job.train_into(run, listener, tensorboard=tensorboard, checkpoint=checkpoint)
    return run


def _check_has_epochs_left(run: Run, options: Train) -> None:
    """Check that a finished run has epochs left to train.

    Raises:
        RunError: The run has no epochs left.
    """
    if options.steps is not None:
        raise RunError(f"run {run.name} is finished; {_fixed_length(options.steps)}")
    done = len(run.metrics())
    if options.epochs <= done:
        raise RunError(
            f"run {run.name} is finished: it has {done} epochs, and train.epochs = {options.epochs}; to train it "
            f"longer, set train.epochs to {done + 1} or more"
        )


def _check_patience(run: Run, options: Train) -> None:
    """Check that a finished run has not run out of patience.

    Raises:
        RunError: The run has run out of patience.
    """
    losses = [record.get("validation_loss") for record in run.metrics()]  # None where it was not finite
    finite = [loss for loss in losses if loss is not None]
    best = losses.index(min(finite)) + 1 if finite else len(losses)  # as the trainer counts
    since = len(losses) - best
    if options.patience is not None and since >= options.patience:
        raise RunError(
            f"run {run.name} is finished: it was best after epoch {best}, train.patience = {options.patience} or more "
            f"epochs ago; to train it longer, set train.patience to {since + 1} or more"
        )


def _broadcast_job(job: Job) -> None:
    """Send the config to the other ranks, which wait in `train_as_worker`.

    Raises:
        VAEError: A rank cannot train.
    """
    with job.ranks.raise_together():
        same_kind = job.config.train.model_copy(update={"device": job.model.device.type})
        config = job.config.model_copy(update={"train": same_kind})
        job.ranks.broadcast(({"config": config, "trust": job.recipe.has_own_code}, job.data.checksum))


def train_as_worker(ranks: Ranks) -> None:
    """Train this rank's rows along with the first rank, which calls `train_run` or `resume_run`; write nothing.

    Arguments:
        ranks: All processes. This is not the first of them.
    """
    placeholder: Any = None, None
    arguments, checksum = ranks.broadcast(placeholder)
    with ExitStack() as stack:
        with ranks.raise_together():
            recipe = Recipe.resolve(**arguments)
            job = stack.enter_context(Job.computing(recipe, ranks=ranks))
            if job.data.checksum != checksum:
                raise DataError(
                    f"the files of {recipe.config.data.name!r} are not those of the first rank; copy them from there"
                )
        try:
            job.train_model()
        except (Interrupted, NumericalError):
            ranks.wait()  # torchrun ends all ranks as soon as one fails, and the first has yet to write what happened
            raise


@contextmanager
def _recording_end(run: Run) -> Iterator[None]:
    """Record how the run ends, name how to continue, and unlock its folder."""
    try:
        with ending_recorded(run):
            yield
    except RankError as error:
        message = f"{error}; resume {run.name} to continue from there, with any number of ranks"
        raise RankError(message, command=f"resume {run.name}") from None
    except NumericalError as error:
        message = f"{error}; to continue from there, resume {run.name} with other settings"
        raise error.with_message(message) from None
    finally:
        run.release()


@contextmanager
def ending_recorded(run: Run) -> Iterator[None]:
    """Record how the training within the block ends: finished, interrupted or failed. Needs the lock."""
    try:
        yield
    except (KeyboardInterrupt, RankError, RunError) as error:  # a RunError: the disk is full or gone
        _note(run, "interrupted", str(error))
        raise
    except Exception as error:
        _note(run, "failed", str(error) if isinstance(error, NumericalError) else f"{type(error).__name__}: {error}")
        raise
    else:
        run.set_status("finished")


def _note(run: Run, state: Literal["interrupted", "failed"], message: str) -> None:
    with suppress(RunError):  # it would hide the first error; without a note the run counts as interrupted
        run.set_status(state, message)


def _with_changes(config: Config, sections: Mapping[str, Any]) -> Config:
    now = changed(config, sections)
    same = config.train.model_copy(update={key: getattr(now.train, key) for key in CHANGEABLE})
    if config.model_copy(update={"train": same}) != now:
        keys = ", ".join(f"train.{key}" for key in CHANGEABLE)
        raise ConfigError(f"resuming can change {keys} only; for any other change, train a new run")
    if config.train.steps is not None and now.train.epochs != config.train.epochs:
        raise ConfigError(f"train.epochs cannot be set here: {_fixed_length(config.train.steps)}")
    return now


def _fixed_length(steps: int) -> str:
    return f"its length, train.steps = {steps}, cannot change; train a new run for longer"


def _begin_session(run: Run, job: Job, sections: Mapping[str, Any]) -> None:
    """Record in environment.json that the run was resumed, with its new settings and the changes of its set-up."""
    now = environment.setup(job.config, job.model.device, job.ranks.world_size)
    differs = environment.differences(run.environment, now)
    relevant = [key for key in differs if key not in ("git", "platform")]
    if relevant:
        changes = ", ".join(f"{key} {differs[key][0]} → {differs[key][1]}" for key in relevant)
        warnings.warn(f"run {run.name} began in another set-up ({changes}); its last digits may differ", stacklevel=3)
    session: dict[str, Any] = {"began": datetime.now(UTC).isoformat(), "epoch": len(run.metrics())}
    settings = {key: getattr(job.config.train, key) for key in sections.get("train", {})}
    session |= {"settings": settings, "epochs": job.config.train.epochs, "differs": differs}
    run.record(sessions=[*run.sessions, session])
