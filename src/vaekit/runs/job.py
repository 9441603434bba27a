"""A job: a config made real, fitted, and closed with a word on how it ended."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..config.recipe import build, build_objective, build_optimizer, build_schedule, completed, shapes
from ..data import Batches, Dataset, Split
from ..data import load as load_data
from ..data.batches import whole
from ..data.pixels import repeatable
from ..errors import ConfigError, DataError, NumericalError, RankError, RunError
from ..model import LatentVariableModel
from ..objectives import Loss, OfDraw, beta_elbo
from ..store import Checkpoint, Run
from ..training import ALONE, Listener, Progress, Ranks, Record, Trainer, find_device, fit, validate
from ..training.precision import find_precision
from ..training.trainer import trained_parameters, try_once
from . import tensorboard
from .pictures import draw_data, draw_pictures, epoch_pictures

EVALUATION_BATCH = 500


MOST_NUMBERS = 1 << 34  # 64 GiB of them


@dataclass(frozen=True)
class Job:
    """A config made real: what `train` needs before it can begin."""

    config: Config
    data: Dataset
    model: LatentVariableModel
    trust: bool
    ranks: Ranks
    loss: Loss

    @classmethod
    def prepare(
        cls,
        config: Config,
        *,
        trust: bool = False,
        ranks: Ranks = ALONE,
    ) -> "Job":
        """Check a config to the end: load the data, build the model, and try one draw, all before a file is written.

        Arguments:
            config: A whole config.
            trust: Import parts by path.
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
        if not trust:
            _check_memory(config, data)
        random.seed(config.train.seed)
        np.random.seed(config.train.seed % 2**32)
        torch.manual_seed(config.train.seed)
        images = _some(data.train)
        model = build(config, image_shape=data.event_shape, num_classes=data.num_classes, images=images, trust=trust)
        precision = find_precision(config.train.precision, model.to(target))
        train = config.train.model_copy(update={"precision": precision})
        loss = build_objective(
            config,
            dataset_size=len(data.train),
            trust=trust,
            latent_size=model.latent_size,
            latent_shape=model.latent_shape,
            context_size=model.context_size,
            num_classes=data.num_classes,
            event_shape=data.event_shape,
        )
        if isinstance(loss, torch.nn.Module):
            loss.to(target)
        if train.patience is not None and not len(data.validation):
            raise ConfigError("train.patience needs validation images; set data.validation to how many to hold out")
        job = cls(config.model_copy(update={"train": train}), data, model, trust, ranks, loss)
        job._try_one()
        return job

    def trainer(self) -> Trainer:
        """Its steps without its loop, from the weights that the model has."""
        self.model.train()
        return Trainer(
            self.model,
            self.loss,
            self.optimizer(),
            build_schedule(self.config, trust=self.trust),
            self.config.train,
        )

    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the model's weights, and of those of the loss."""
        return build_optimizer(self.config, trained_parameters(self.model, self.loss), trust=self.trust)

    def batches(self, split: Split, *, training: bool = False) -> Batches:
        """The images of a split, on the model's device: shuffled by the run's seed, or in order with fixed noise."""
        binarize = self.config.data.binarize
        if training:
            generator = torch.Generator().manual_seed(self.config.train.seed)
            size = self.config.train.batch_size
            return Batches(
                split, batch_size=size, shuffle=True, generator=generator, device=self.model.device, binarize=binarize
            )
        again = repeatable(binarize)
        return Batches(split, batch_size=EVALUATION_BATCH, device=self.model.device, binarize=again)

    def _try_one(self) -> None:
        train = self.data.train
        batch = next(iter(self.batches(train.rows(slice(4)))))
        self.ranks.check(self.model, self.loss)
        self.model.checked(batch.x)
        try_once(self.model, self.loss, batch)


def _train(job: Job, run: Run, listener: Listener | None, log: bool, checkpoint: Checkpoint | None = None) -> None:
    with job.ranks.raise_together():
        same_kind = job.config.train.model_copy(update={"device": job.model.device.type})
        job.ranks.broadcast((job.config.model_copy(update={"train": same_kind}), job.data.checksum))
    draw_data(job.data, run)
    with ExitStack() as stack:
        listeners = [*epoch_pictures(job.model, job.data, run), *([listener] if listener is not None else [])]
        if log:
            done = checkpoint.state["progress"]["epoch"] if checkpoint is not None else 0
            listeners.append(stack.enter_context(tensorboard.logged(run, done)))
        _fit(job, run, _All(listeners), checkpoint)
    job.ranks.wait()
    # With β = 1 it is the ELBO, less the penalties of a model that has some and so no ELBO.
    measure = OfDraw(beta_elbo, {"beta": 1.0})
    test = validate(job.model, job.batches(job.data.test), measure)
    del test["loss"]
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
        objective=job.loss,
        optimizer=job.optimizer(),
        schedule=build_schedule(config, trust=job.trust),
        options=config.train,
        run=run,
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
    """About 10,000 images, evenly spread, as the model sees them; fewer, if they would take more than 512 MiB.

    What is not observed is the mean of what is.
    """
    most = min(10_000, (512 << 20) // (4 * math.prod(split.event_shape)))
    step = max(1, len(split) // max(1, most))
    some = whole(split.rows(slice(None, None, step)))
    if some.observed is None:
        return some.x
    known = some.x.where(some.observed, 0).sum(0) / some.observed.sum(0).clamp_min(1)
    return some.x.where(some.observed, known)


def _check_memory(config: Config, data: Dataset) -> None:
    """Refuse a config whose model no machine of this kind can train, before memory is taken for it.

    Raises:
        ConfigError: it asks for more than 2^34 numbers.
    """
    wanted = shapes(config, image_shape=data.event_shape, num_classes=data.num_classes)
    numbers = sum(shape.numel() for shape in (wanted or {}).values())
    if numbers > MOST_NUMBERS:
        raise ConfigError(f"the config asks for a model of {numbers:,} numbers, more than the {MOST_NUMBERS:,} allowed")
