"""A whole run: from a config to data, model, training and pictures in one run folder, and from a run back to its model.

Not for: the loop itself (`train`) or what a run folder looks like inside (`run`).
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

from . import plot, provenance, tensorboard
from .budget import at_most
from .builder import build, build_objective, build_optimizer, build_schedule, completed
from .config import Config, changed, parse
from .data import Batches, Dataset, Split
from .data import load as load_data
from .errors import ConfigError, DataError, NumericalError, RankError, RunError
from .model import LatentVariableModel
from .precision import find_precision
from .rng import deterministic, seeded
from .run import Checkpoint, Run
from .train import (
    ALONE,
    Interrupted,
    Listener,
    Progress,
    Ranks,
    Record,
    find_device,
    find_graphs,
    fit,
    validate,
)

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

    @classmethod
    def prepare(cls, config: Config, *, trust: bool = False, most: int = MOST_NUMBERS, ranks: Ranks = ALONE) -> "Job":
        """Check a config to the end: load the data, build the model, and try one draw, all before a file is written.

        Arguments:
            config: A whole config.
            trust: Import parts by path.
            most: Numbers that may be allocated to build and try the model; of no account with `trust`.
            ranks: All processes that train this together.

        Raises:
            VAEError: anything that would not work.
        """
        config = completed(config, trust=trust)
        target = find_device(config.train.device)
        data = load_data(**config.data.loading)
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
            job = cls(config.model_copy(update={"train": train}), data, model, trust, ranks)
            job._try_one()
        return job

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
        images, labels = next(iter(self.batches(_first(self.data.train, 4))))
        objective = build_objective(self.config, dataset_size=len(self.data.train), trust=self.trust)
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
        job = Job.prepare(config, trust=trust, ranks=ranks)
        facts = provenance.environment(job.config, job.data, job.model, ranks.world)
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
) -> Run:
    """Go on with an interrupted run, to the very weights that it would have had; or with other settings.

    Arguments:
        run: A run.
        settings: Strings "train.key=value" for one of `CHANGEABLE`; `environment.json` keeps what was changed when.
        listener: Told about the progress.
        log: Write event files for TensorBoard.
        trust: Import parts by path.
        ranks: As for `train`; their number need not be the one before.

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
            most = _room(checkpoint) if checkpoint is not None else MOST_NUMBERS
            job = Job.prepare(config, trust=trust, most=most, ranks=ranks)
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


def config_of(run: Run) -> Config:
    """The config that a run goes by: its config.toml, with what was set when it was resumed.

    Raises:
        ConfigError, RunError: it is damaged.
    """
    config = _begun_with(run)
    settings = [setting for session in run.sessions for setting in session["settings"]]
    return changed(config, settings) if settings else config


def _begun_with(run: Run) -> Config:
    tree = run.config
    train = tree.setdefault("train", {})
    if isinstance(train, dict):  # the first runs have it in environment.json only
        train.setdefault("precision", run.environment.get("precision", "fp32"))
    return parse(tree, f"{run.path}/config.toml")


def _with_settings(config: Config, settings: Iterable[str]) -> Config:
    now = changed(config, settings)
    same = config.train.model_copy(update={key: getattr(now.train, key) for key in CHANGEABLE})
    if config.model_copy(update={"train": same}) != now:
        keys = ", ".join(f"train.{key}" for key in CHANGEABLE)
        raise ConfigError(f"a run that was begun can change {keys} only; for anything else train a new one")
    return now


def _begin_session(run: Run, job: Job, settings: Iterable[str]) -> None:
    """Note in environment.json that the run was resumed, with which settings, and in which other set-up."""
    differs = provenance.differences(run.environment, provenance.setup(job.config, job.model.device, job.ranks.world))
    matter = [key for key in differs if key not in ("git", "platform")]
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
    if config != _begun_with(run):
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
    _save(run, "training", plot.grid(_float(_spread(job.data.train, 64))))
    with ExitStack() as stack:
        listeners: list[Listener] = [_Pictures(job, run), *([listener] if listener is not None else [])]
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


class _Pictures:
    """Writes a picture of the same latents after every epoch."""

    def __init__(self, job: Job, run: Run) -> None:
        self.job, self.run = job, run

    def step(self, progress: Progress, batches: int | None, means: Mapping[str, float]) -> None:
        """Nothing: only whole epochs are drawn."""

    def epoch(self, record: Record) -> None:
        model = self.job.model.eval()
        c = torch.arange(64) % model.context_size if model.context_size else None
        images = model.sample(64, c, generator=torch.Generator().manual_seed(0))
        _save(self.run, f"epoch-{record['epoch']:03d}", plot.grid(images))


def draw_pictures(model: LatentVariableModel, data: Dataset, run: Run, *, seed: int = 0) -> list[Path]:
    """Write the pictures of a trained model into its run folder."""

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    images, labels = _float(_first(data.test, 32)), _first(data.test, 32).labels
    pictures: dict[str, Any] = {"reconstructions": plot.reconstructions(model, images, labels)}
    if model.context_size:
        pictures["classes"] = plot.grid(plot.per_class(model, generator=generator()), columns=10)
        pictures["one-of-each"] = plot.grid(plot.one_each(model, generator=generator()), columns=model.context_size)
        c: Tensor | None = torch.arange(64) % model.context_size
        walks = torch.arange(12) % model.context_size
    else:
        c = walks = None
    pictures["samples"] = plot.grid(model.sample(64, c, generator=generator()))
    pictures["interpolation"] = plot.grid(plot.interpolation(model, c=walks, generator=generator()), columns=12)
    pictures["curves"] = plot.curves(run.metrics())
    return [_save(run, name, picture) for name, picture in pictures.items()]


def load(
    run: Run | str | Path | None = None,
    *,
    weights: str = "best",
    device: str = "cpu",
    root: Path | str = "runs",
    trust: bool = False,
) -> LatentVariableModel:
    """The model of a run, in evaluation mode.

    Arguments:
        run: A run, its folder or name; the newest run by default.
        weights: "best" by validation, for which the last stand in until an epoch has ended; or "last".
        device: Where to put it.
        root: Where run folders are.
        trust: Import parts by path.

    Raises:
        RunError: no such run, no weights yet, or weights that do not fit the config.
    """
    run = run if isinstance(run, Run) else Run.open(run, root=root)
    if weights not in ("best", "last"):
        raise ConfigError(f"weights must be 'best' or 'last', got {weights!r}")
    kind: Any = weights if weights == "last" or run.has_checkpoint("best") else "last"
    shape, num_classes = run.recorded("data", "shape", kind=list), run.recorded("data", "num_classes", kind=int)
    if not all(type(n) is int and n > 0 for n in (*shape, num_classes)):
        raise RunError(f"{run.path}/environment.json is damaged: the shape of its data is {shape!r:.200}")
    checkpoint = run.load_checkpoint(kind)
    with seeded(torch.Generator().manual_seed(0)), nullcontext() if trust else at_most(_room(checkpoint)):
        model = build(config_of(run), image_shape=tuple(shape), num_classes=num_classes, trust=trust)
    try:
        model.load_state_dict(_weights(checkpoint))
    except RuntimeError as error:
        raise RunError(
            f"the weights of {run.path} do not fit its config: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.to(find_device(device)).eval()


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    tensors = checkpoint.tensors.items()
    return {name.removeprefix("model/"): tensor for name, tensor in tensors if name.startswith("model/")}


def _room(checkpoint: Checkpoint) -> int:
    """Numbers that the model of a checkpoint may need to be built and tried, whatever its config says.

    4 times its weights, for what is drawn or masked on the way, and 2^24 for small models.
    """
    return 4 * sum(tensor.numel() for tensor in _weights(checkpoint).values()) + (1 << 24)


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


def _save(run: Run, name: str, picture: Any) -> Path:
    path = run.picture(f"{name}.png")
    plot.save(picture, path)
    return path


def _first(split: Split, n: int) -> Split:
    return Split(split.images[:n], split.labels[:n])


def _spread(split: Split, n: int) -> Split:
    """Images from all over a split, which may be sorted by class."""
    step = max(1, len(split) // n)
    return Split(split.images[: n * step : step], split.labels[: n * step : step])


def _float(split: Split) -> Tensor:
    return next(iter(Batches(split, batch_size=len(split))))[0]


def _some(split: Split) -> Tensor:
    """About 10,000 images, evenly spread, as the model sees them; fewer, if they would take more than 512 MiB."""
    most = min(10_000, (512 << 20) // (4 * split.images.shape[1:].numel()))
    step = max(1, len(split) // max(1, most))
    return _float(Split(split.images[::step], split.labels[::step]))
