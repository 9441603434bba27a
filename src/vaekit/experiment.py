"""A whole run: from a config to data, model, training and pictures in one run folder.

Not for: the loop itself (`train`), the way back from a run to its model (`restore`), what the pictures show
(`pictures`), or what a run folder looks like inside (`run`).
"""

import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from . import provenance, tensorboard
from .config import Config, changed
from .config.recipe import build, build_objective, build_optimizer, build_schedule, completed
from .data import Batches, Dataset, Split
from .data import load as load_data
from .errors import ConfigError, DataError, NumericalError, RankError, RunError
from .model import LatentVariableModel
from .pictures import EpochPictures, draw_data, draw_pictures
from .restore import begun_with, config_of, load, room
from .rng import deterministic, seeded
from .store import Checkpoint, Run
from .training import (
    ALONE,
    Interrupted,
    Listener,
    Peer,
    Progress,
    Ranks,
    Record,
    Trainer,
    find_device,
    find_graphs,
    fit,
    validate,
)
from .training.budget import at_most
from .training.precision import find_precision

__all__ = [
    "Job",
    "Repetition",
    "config_of",
    "draw_pictures",
    "follow",
    "load",
    "repeat",
    "resume",
    "train",
]

EVALUATION_BATCH = 500
MOST_NUMBERS = 1 << 34  # 64 GiB of them
# What may be changed when a run goes on: nothing that says what the stored weights, averages or positions mean.
CHANGEABLE = ("checkpoint_every", "clip_norm", "device", "epochs", "learning_rate", "on_nan", "patience")


@dataclass(frozen=True)
class Job:
    """A config made real: what `train` needs before it can begin."""

    config: Config
    data: Dataset
    model: LatentVariableModel
    trust: bool
    ranks: Ranks
    peer: Peer | None

    @classmethod
    def prepare(
        cls,
        config: Config,
        *,
        trust: bool = False,
        most: int = MOST_NUMBERS,
        ranks: Ranks = ALONE,
        peer: Peer | None = None,
    ) -> "Job":
        """Check a config to the end: load the data, build the model, and try one draw, all before a file is written.

        Arguments:
            config: A whole config.
            trust: Import parts by path.
            most: Numbers that may be allocated to build and try the model; of no account with `trust`.
            ranks: All processes that train this together.
            peer: What it is among several trainings in this process, on the same data.

        Raises:
            VAEError: anything that would not work.
        """
        config = completed(config, trust=trust)
        target = find_device(config.train.device)
        data = load_data(**config.data.loading) if peer is None else peer.data
        if config.model.condition == "class" and data.num_classes < 2:
            raise DataError(
                f'model.condition = "class" needs images of several classes, but {data.name} has no labels; leave it '
                "out, or bring labels: a file images-labels.npy, a key labels, or one subfolder for each class"
            )
        random.seed(config.train.seed)
        np.random.seed(config.train.seed % 2**32)
        torch.manual_seed(config.train.seed)
        images = _some(data.train)
        with nullcontext() if trust else at_most(most):
            model = build(
                config, image_shape=data.image_shape, num_classes=data.num_classes, images=images, trust=trust
            )
            precision = find_precision(config.train.precision, model.to(target))
            train = config.train.model_copy(update={"precision": precision})
            job = cls(config.model_copy(update={"train": train}), data, model, trust, ranks, peer)
            job._try_one()
        return job

    def trainer(self) -> Trainer:
        """Its steps without its loop, from the weights that the model has."""
        train = self.config.train
        return Trainer(
            model=self.model.train(),
            objective=build_objective(self.config, dataset_size=len(self.data.train), trust=self.trust),
            optimizer=build_optimizer(self.config, self.model, trust=self.trust),
            schedule=build_schedule(self.config, trust=self.trust),
            epochs=train.epochs,
            clip_norm=train.clip_norm,
            ema=train.ema,
            skip=train.on_nan == "skip",
            precision=train.precision,
        )

    @property
    def together(self) -> int:
        """How many replicates do their steps at once, this one among them."""
        return 1 if self.peer is None else self.peer.together

    def batches(self, split: Split, *, training: bool = False) -> Batches:
        """The images of a split, on the model's device: shuffled by the run's seed, or in order with fixed noise."""
        binarize = self.config.data.binarize
        if training:
            generator = torch.Generator().manual_seed(self.config.train.seed)
            size = self.config.train.batch_size
            return Batches(
                split, batch_size=size, shuffle=True, generator=generator, device=self.model.device, binarize=binarize
            )
        fixed = "fixed" if binarize == "per-epoch" else binarize
        return Batches(split, batch_size=EVALUATION_BATCH, device=self.model.device, binarize=fixed)

    def _try_one(self) -> None:
        train = self.data.train
        images, labels = next(iter(self.batches(Split(train.images[:4], train.labels[:4]))))
        objective = build_objective(self.config, dataset_size=len(train), trust=self.trust)
        self.ranks.check(self.model, objective)
        if self.config.train.cuda_graph:
            find_graphs(self.model, objective, self.ranks)
        self.model.eval()
        with torch.no_grad(), seeded(torch.Generator().manual_seed(0)):
            draw = self.model.draw(
                self.model.checked(images), objective.samples, labels if self.model.context_size else None
            )
            objective(draw, 0.0)


def train(
    config: Config,
    *,
    name: str | None = None,
    preset: str = "custom",
    root: Path | str = "runs",
    listener: Listener | None = None,
    log: bool = False,
    trust: bool = False,
    ranks: Ranks = ALONE,
    peer: Peer | None = None,
) -> Run:
    """Train what a config says, in a new run folder.

    Arguments:
        config: A whole config.
        name: Name of the run folder; the preset's name and the time by default.
        preset: What to call the config.
        root: Where run folders are.
        listener: Told about the progress.
        log: Write event files for TensorBoard.
        trust: Import parts by path.
        ranks: All processes that train this together, of which this is the first; the others call `follow`.
        peer: What it is among several trainings in this process, as `train_replicates` has them.

    Returns:
        The run, finished: metrics, checkpoints, the test −ELBO and pictures are in its folder.

    Raises:
        VAEError: something in the config does not work; nothing has been written.
        NumericalError: the loss is not finite or the rate explodes; the run keeps its last good state.
        Interrupted: Ctrl-C or SIGTERM; the run keeps a checkpoint.
    """
    if log:
        tensorboard.required()
    with deterministic(config.train.deterministic, config.train.device):
        job = Job.prepare(config, trust=trust, ranks=ranks, peer=peer)
        facts = provenance.environment(job.config, job.data, job.model, ranks.world, job.together)
        run = Run.create(name, preset=preset, config=job.config.to_toml(), environment=facts, root=root)
        with _closing(run):
            _train(job, run, listener, log)
    return run


def resume(
    run: Run,
    *,
    settings: Sequence[str] = (),
    listener: Listener | None = None,
    log: bool = False,
    trust: bool = False,
    ranks: Ranks = ALONE,
    peer: Peer | None = None,
) -> Run:
    """Go on with an interrupted run, to the very weights that it would have had; or with other settings.

    Arguments:
        run: A run.
        settings: Strings "train.key=value" for one of `CHANGEABLE`; `environment.json` keeps what was changed when.
        listener: Told about the progress.
        log: Write event files for TensorBoard.
        trust: Import parts by path.
        ranks: As for `train`; their number need not be the one before.
        peer: As for `train`.

    Raises:
        RunError: the run is finished, another process is at it, or the data are no longer those it began with.
        ConfigError: a setting that cannot be changed.
    """
    if log:
        tensorboard.required()
    if run.status == "finished" and not settings:
        raise RunError(f"run {run.name} is finished; to train it longer, --set train.epochs to more than it has")
    with run.lock():
        config = _with_settings(config_of(run), settings)
        with deterministic(config.train.deterministic, config.train.device):
            checkpoint = run.load_checkpoint() if run.has_checkpoint() else None
            most = room(checkpoint) if checkpoint is not None else MOST_NUMBERS
            job = Job.prepare(config, trust=trust, most=most, ranks=ranks, peer=peer)
            if job.data.checksum != run.recorded("data", "checksum"):
                raise RunError(
                    f"the files of {config.data.name!r} are not those that run {run.name} began with; bring them back"
                )
            if checkpoint is None:
                run.truncate_metrics(0)
            with _closing(run):
                _begin_session(run, job, settings)
                _train(job, run, listener, log, checkpoint)
    return run


def follow(ranks: Ranks, *, trust: bool = False) -> None:
    """Train along with the first rank, which calls `train` or `resume`: this one's share of it, writing nothing.

    Arguments:
        ranks: All processes, of which this is not the first.
        trust: Import parts by path.
    """
    nothing: Any = None, None
    config, checksum = ranks.told(nothing)
    with deterministic(config.train.deterministic, config.train.device):
        with ranks.agreed():
            job = Job.prepare(config, trust=trust, ranks=ranks)
            if job.data.checksum != checksum:
                raise DataError(
                    f"the files of {config.data.name!r} are not those of the first rank; copy them from there"
                )
        try:
            _fit(job)
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
    now = provenance.setup(job.config, job.model.device, job.ranks.world, job.together)
    differs = provenance.differences(run.environment, now)
    matter = [key for key in differs if key not in ("git", "platform", "together")]
    if matter:
        changes = ", ".join(f"{key} {differs[key][0]} → {differs[key][1]}" for key in matter)
        warnings.warn(f"run {run.name} began in another set-up ({changes}); its last digits may differ", stacklevel=3)
    session = {"began": datetime.now(UTC).isoformat(), "epoch": len(run.metrics()), "settings": list(settings)}
    session |= {"epochs": job.config.train.epochs, "differs": differs}
    run.record(sessions=[*run.sessions, session])


@dataclass(frozen=True)
class Repetition:
    """A run that repeats another one, and how the two compare.

    Attributes:
        run: The new run.
        weights: SHA-256 of model.safetensors in the old run and in the new one, for the best and the last weights.
        differences: Where their set-ups differ, by key: before and now.
    """

    run: Run
    weights: dict[str, tuple[str, str]]
    differences: dict[str, tuple[Any, Any]]

    @property
    def agrees(self) -> bool:
        """Whether the weights are the same, bit for bit."""
        return all(before == now for before, now in self.weights.values())


def repeat(
    run: Run,
    *,
    name: str | None = None,
    root: Path | str = "runs",
    listener: Listener | None = None,
    trust: bool = False,
) -> Repetition:
    """Train a finished run again, from its config, in a new run folder.

    Arguments:
        run: The run to repeat.
        name: Name of the new run folder; the preset's name and the time by default.
        root: Where run folders are.
        listener: Told about the progress.
        trust: Import parts by path.

    Raises:
        RunError: the run is not finished, or its settings were changed on the way.
    """
    config = config_of(run)
    if run.status != "finished":
        raise RunError(f"run {run.name} is {run.status}; `vae resume {run.name}` finishes it, then it can be repeated")
    if config != begun_with(run):
        raise RunError(f"the settings of run {run.name} were changed on the way; `vae info {run.name}` says when")
    again = train(config, name=name, preset=run.recorded("preset", kind=str), root=root, listener=listener, trust=trust)
    weights = {kind: f"checkpoints/{kind}/model.safetensors" for kind in ("best", "last")}
    return Repetition(
        again,
        {kind: (run.sha256(file), again.sha256(file)) for kind, file in weights.items()},
        provenance.differences(run.environment, again.environment),
    )


def _train(job: Job, run: Run, listener: Listener | None, log: bool, checkpoint: Checkpoint | None = None) -> None:
    with job.ranks.agreed():
        same_kind = job.config.train.model_copy(update={"device": job.model.device.type})
        job.ranks.told((job.config.model_copy(update={"train": same_kind}), job.data.checksum))
    draw_data(job.data, run)
    with ExitStack() as stack:
        listeners: list[Listener] = [EpochPictures(job.model, run), *([listener] if listener is not None else [])]
        if log:
            done = checkpoint.state["progress"]["epoch"] if checkpoint is not None else 0
            listeners.append(stack.enter_context(tensorboard.logged(run, done)))
        _fit(job, run, _All(listeners), checkpoint)
    job.ranks.wait()
    test = validate(job.model, job.batches(job.data.test))
    run.write_json("test.json", {**test, "images": len(job.data.test), "samples": 1, "unit": "nats per image"})
    draw_pictures(job.model, job.data, run)


def _fit(
    job: Job, run: Run | None = None, listener: Listener | None = None, checkpoint: Checkpoint | None = None
) -> None:
    config = job.config
    fit(
        job.model,
        job.batches(job.data.train, training=True),
        job.batches(job.data.validation) if len(job.data.validation) else None,
        objective=build_objective(config, dataset_size=len(job.data.train), trust=job.trust),
        epochs=config.train.epochs,
        optimizer=build_optimizer(config, job.model, trust=job.trust),
        schedule=build_schedule(config, trust=job.trust),
        clip_norm=config.train.clip_norm,
        ema=config.train.ema,
        patience=config.train.patience,
        on_nan=config.train.on_nan,
        precision=config.train.precision,
        cuda_graph=config.train.cuda_graph,
        run=run,
        checkpoint_every=config.train.checkpoint_every,
        resume=checkpoint,
        listener=listener,
        ranks=job.ranks,
        peer=job.peer,
    )


class _All:
    """Tells several listeners."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = listeners

    def step(self, progress: Progress, batches: int | None, means: Mapping[str, float]) -> None:
        for listener in self.listeners:
            listener.step(progress, batches, means)

    def epoch(self, record: Record) -> None:
        for listener in self.listeners:
            listener.epoch(record)


@contextmanager
def _closing(run: Run) -> Iterator[None]:
    """Record how the run ends."""
    try:
        yield
    except (KeyboardInterrupt, RunError) as error:  # the latter: a disk that is full or gone, not a fault of the run
        _note(run, "interrupted", str(error))
        raise
    except RankError as error:
        _note(run, "interrupted", str(error))
        raise RankError(f"{error}; to go on from there, with any number of ranks: vae resume {run.name}") from None
    except NumericalError as error:
        _note(run, "failed", str(error))
        raise NumericalError(f"{error}; to go on from there: vae resume {run.name} --set …") from None
    except Exception as error:
        _note(run, "failed", f"{type(error).__name__}: {error}")
        raise
    else:
        run.set_status("finished")
    finally:
        run.release()


def _note(run: Run, state: Literal["interrupted", "failed"], message: str) -> None:
    with suppress(RunError):  # which would hide what has happened; without a note the run counts as interrupted
        run.set_status(state, message)


def _some(split: Split) -> Tensor:
    """About 10,000 images, evenly spread, as the model sees them; fewer, if they would take more than 512 MiB."""
    most = min(10_000, (512 << 20) // (4 * split.images.shape[1:].numel()))
    step = max(1, len(split) // max(1, most))
    some = Split(split.images[::step], split.labels[::step])
    images, _ = next(iter(Batches(some, batch_size=len(some))))
    return images
