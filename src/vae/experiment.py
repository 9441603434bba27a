"""A whole run: from a config to data, model, training and pictures in one run folder, and from a run back to its model.

Not for: the loop itself (`train`) or what a run folder looks like inside (`run`).
"""

import platform
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import __version__, plot
from .builder import build, build_objective, build_optimizer, build_schedule, completed
from .config import Config, parse
from .data import Batches, Dataset, Split
from .data import load as load_data
from .errors import ConfigError, NumericalError, RunError, VAEError
from .model import Composed, LatentVariableModel
from .rng import seeded
from .run import Checkpoint, Run
from .train import Interrupted, Listener, Progress, Record, find_device, fit, validate

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Job:
    """A config made real: what `train` needs before it can begin."""

    config: Config
    data: Dataset
    model: Composed
    trust: bool

    @classmethod
    def prepare(cls, config: Config, *, trust: bool = False) -> "Job":
        """Check a config to the end: load the data, build the model, and try one draw, all before a file is written.

        Raises:
            VAEError: anything that would not work.
        """
        config = completed(config, trust=trust)
        target = find_device(config.train.device)
        data = load_data(config.data.name, validation=config.data.validation)
        random.seed(config.train.seed)
        np.random.seed(config.train.seed % 2**32)
        torch.manual_seed(config.train.seed)
        model = build(
            config, image_shape=data.image_shape, num_classes=data.num_classes, images=_some(data.train), trust=trust
        )
        job = cls(config, data, model.to(target), trust)
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
        self.model.eval()
        with torch.no_grad(), seeded(torch.Generator().manual_seed(0)):
            draw = self.model.draw(self.model.checked(images), objective.samples, labels if self.conditional else None)
            objective(draw, 0.0)

    @property
    def conditional(self) -> bool:
        """Whether the model is told the class."""
        return self.config.model.condition == "class"


def train(
    config: Config,
    *,
    name: str | None = None,
    preset: str = "custom",
    root: Path | str = "runs",
    listener: Listener | None = None,
    trust: bool = False,
) -> Run:
    """Train what a config says, in a new run folder.

    Arguments:
        config: A whole config.
        name: Name of the run folder; the preset's name and the time by default.
        preset: What to call the config.
        root: Where run folders are.
        listener: Told about the progress.
        trust: Import parts by path.

    Returns:
        The run, finished: metrics, checkpoints, the test −ELBO and pictures are in its folder.

    Raises:
        VAEError: something in the config does not work; nothing has been written.
        NumericalError: the loss is not finite; the run keeps its last good weights.
        Interrupted: Ctrl-C or SIGTERM; the run keeps a checkpoint.
    """
    job = Job.prepare(config, trust=trust)
    run = Run.create(name, preset=preset, config=job.config.to_toml(), environment=environment(job), root=root)
    with _closing(run):
        _train(job, run, listener)
    return run


def resume(run: Run, *, listener: Listener | None = None, trust: bool = False) -> Run:
    """Go on with an interrupted run, to the very weights that it would have had.

    Raises:
        RunError: the run is finished, or another process is at it.
    """
    if run.status == "finished":
        raise RunError(f"run {run.name} is finished; to train longer, start a new run with more --epochs")
    with run.lock():
        job = Job.prepare(parse(run.config, f"{run.path}/config.toml"), trust=trust)
        with _closing(run):
            _train(job, run, listener, run.load_checkpoint() if (run.path / "checkpoints" / "last").exists() else None)
    return run


def _train(job: Job, run: Run, listener: Listener | None, checkpoint: Checkpoint | None = None) -> None:
    config = job.config
    _save(run, "training", plot.grid(_float(_first(job.data.train, 64))))
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
        run=run,
        checkpoint_every=config.train.checkpoint_every,
        resume=checkpoint,
        listener=_Pictures(job, run, listener),
    )
    test = validate(job.model, job.batches(job.data.test))
    run.write_json("test.json", {**test, "images": len(job.data.test), "samples": 1, "unit": "nats per image"})
    draw_pictures(job.model, job.data, run)


class _Pictures:
    """Writes a picture of the same latents after every epoch, and passes everything on."""

    def __init__(self, job: Job, run: Run, listener: Listener | None) -> None:
        self.job, self.run, self.listener = job, run, listener

    def step(self, progress: Progress, batches: int | None, means: Mapping[str, float]) -> None:
        if self.listener is not None:
            self.listener.step(progress, batches, means)

    def epoch(self, record: Record) -> None:
        model = self.job.model.eval()
        c = torch.arange(64) % model.context_size if model.context_size else None
        images = model.sample(64, c, generator=torch.Generator().manual_seed(0))
        _save(self.run, f"epoch-{record['epoch']:03d}", plot.grid(images))
        if self.listener is not None:
            self.listener.epoch(record)


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
) -> Composed:
    """The model of a run, in evaluation mode.

    Arguments:
        run: A run, its folder or name; the newest run by default.
        weights: "best" by validation, or "last".
        device: Where to put it.
        root: Where run folders are.
        trust: Import parts by path.

    Raises:
        RunError: no such run, no weights yet, or weights that do not fit the config.
    """
    run = run if isinstance(run, Run) else Run.open(run, root=root)
    if weights not in ("best", "last"):
        raise ConfigError(f"weights must be 'best' or 'last', got {weights!r}")
    data = run.environment.get("data", {})
    try:
        image_shape, num_classes = tuple(int(n) for n in data["shape"]), int(data["num_classes"])
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{run.path}/environment.json does not say the shape of the data; train the run again") from None
    with seeded(torch.Generator().manual_seed(0)):
        model = build(
            parse(run.config, f"{run.path}/config.toml"),
            image_shape=image_shape,
            num_classes=num_classes,
            trust=trust,
        )
    tensors = run.load_checkpoint(weights).tensors  # type: ignore[arg-type]
    state = {name.removeprefix("model/"): tensor for name, tensor in tensors.items() if name.startswith("model/")}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(
            f"the weights of {run.path} do not fit its config: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.to(find_device(device)).eval()


def environment(job: Job) -> dict[str, Any]:
    """What the run was made with, for `environment.json`."""
    model = job.model
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "data": {
            "classes": list(job.data.classes),
            "name": job.data.name,
            "checksum": job.data.checksum,
            "shape": list(job.data.image_shape),
            "num_classes": job.data.num_classes,
            "images": {
                "train": len(job.data.train),
                "validation": len(job.data.validation),
                "test": len(job.data.test),
            },
        },
        "device": str(model.device),
        "device_name": torch.cuda.get_device_name(model.device)
        if model.device.type == "cuda"
        else platform.processor(),
        "git": _git(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "platform": platform.platform(),
        "precision": "fp32",
        "python": platform.python_version(),
        "seed": job.config.train.seed,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "vaekit": __version__,
    }


def _git() -> dict[str, Any] | None:
    """Commit of the working directory and whether it is dirty; None outside a repository."""

    def ask(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=5).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


@contextmanager
def _closing(run: Run) -> Iterator[None]:
    """Record how the run ends."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        run.set_status("interrupted", str(error))
        raise
    except NumericalError as error:
        run.set_status("failed", str(error))
        raise
    except (VAEError, Exception) as error:
        run.set_status("failed", f"{type(error).__name__}: {error}")
        raise
    else:
        run.set_status("finished")
    finally:
        run.release()


def _save(run: Run, name: str, picture: Any) -> Path:
    path = run.picture(f"{name}.png")
    plot.save(picture, path)
    return path


def _first(split: Split, n: int) -> Split:
    return Split(split.images[:n], split.labels[:n])


def _float(split: Split) -> Tensor:
    return next(iter(Batches(split, batch_size=len(split))))[0]


def _some(split: Split, most: int = 10_000) -> Tensor:
    """At most `most` images, evenly spread, as the model sees them."""
    step = max(1, len(split) // most)
    return _float(Split(split.images[::step], split.labels[::step]))
