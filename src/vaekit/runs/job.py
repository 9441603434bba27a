"""A job: a recipe with its data and its model, and how it trains them into a run folder.

Not for: when a run folder is made or resumed (`lifecycle`).
"""

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from ..config import Config
from ..config.recipe import Recipe
from ..data import Batches, Dataset, Split
from ..data import load as load_data
from ..data.batches import num_batches, rows_to_start_from
from ..data.pixels import repeatable
from ..model import LatentVariableModel
from ..model.modes import buffers_kept
from ..objectives import Loss, module_of
from ..rng import deterministic, seeded, streams_kept
from ..store import Checkpoint, Run
from ..training import ALONE, Listener, Ranks, Trainer, TrainingPlan, find_device, train_epochs
from ..training.cpu import find_threads, flushed, threads
from ..training.data_checks import check_classes, check_rows, try_once
from ..training.listener import Listeners
from ..training.players import check_trainable
from ..training.precision import LoweredPrecision, find_precision
from .final_test import write_test
from .picture_writer import PictureWriter
from .pictures import draw_data, draw_pictures, epoch_pictures
from .preflight import check_data_for, check_fits_in_memory
from .tensorboard import event_files

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Job:
    """Everything that a training needs before it can begin.

    Attributes:
        recipe: The resolved config, with a precision that is not "auto".
        data: The data set.
        model: The model, initialized, on its device.
        loss: The loss to minimise.
        ranks: All processes that train this together.
    """

    recipe: Recipe
    data: Dataset
    model: LatentVariableModel
    loss: Loss
    ranks: Ranks

    @classmethod
    def prepare(cls, recipe: Recipe, *, ranks: Ranks = ALONE) -> "Job":
        """Load the data, build the model, and try one draw: whatever does not work fails before a file is written.

        It seeds the global random streams with `train.seed`.

        Arguments:
            recipe: The config, resolved.
            ranks: All processes that train this together.

        Raises:
            VAEError: Something would not work.
        """
        config = recipe.config
        device = find_device(config.train.device)
        data = load_data(**recipe.data_arguments)
        check_data_for(config, data)
        check_fits_in_memory(recipe, data, device)
        _seed_global_streams(config.train.seed)
        recipe, model = _model_from_rows(recipe, data, device)
        job = cls(recipe, data, model, _loss_for(recipe, model, data), ranks)
        job._check_training()
        return job

    @classmethod
    @contextmanager
    def computing(cls, recipe: Recipe, *, ranks: Ranks = ALONE) -> Iterator["Job"]:
        """A prepared job; within the block the processor computes as its training does.

        Numbers near 0 count as 0, and determinism and threads are as configured. Afterwards the global random streams
        are as before.

        Arguments:
            recipe: The config, resolved.
            ranks: All processes that train this together.

        Raises:
            VAEError: Something would not work.
        """
        settings = recipe.config.train
        with streams_kept(), flushed(), deterministic(settings.deterministic, settings.device):
            job = cls.prepare(recipe, ranks=ranks)
            with threads(job.threads()):
                yield job

    @property
    def config(self) -> Config:
        """The config of the recipe."""
        return self.recipe.config

    def trainer(self) -> Trainer:
        """A trainer for single steps without the loop, from the current weights of the model."""
        self.model.train()
        return self.plan().trainer(self.model, self.config.train.epochs)

    def plan(self) -> TrainingPlan:
        """How the config trains the model."""
        return TrainingPlan(self.loss, self.optimizer, self.recipe.schedule(), self.config.train.for_fit())

    def optimizer(self, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of weights, of the model or of the loss."""
        return self.recipe.optimizer(parameters, self.model)

    def threads(self) -> int | None:
        """The configured number of threads, else one or all, the faster one; None on a GPU or with several ranks."""
        configured = self.config.train.threads
        if configured is not None or self.ranks.world_size > 1 or self.model.device.type != "cpu":
            return configured
        batches = self.batches(self.data.train.rows(slice(self.config.train.batch_size)))
        batch = self.model.to_model(next(iter(batches)))
        lowered = LoweredPrecision(self.model, self.config.train.precision)

        def gradient() -> None:
            with seeded(torch.Generator().manual_seed(0)), lowered:
                self.loss(self.model, batch, 0.0).loss.sum().backward()

        self.model.eval()
        module = module_of(self.loss)
        try:
            with buffers_kept(*[] if module is None else [module]):
                return find_threads(gradient)
        finally:
            self.model.zero_grad()

    def batches(self, split: Split, *, training: bool = False) -> Batches:
        """The rows of a split, on the model's device: shuffled by the run's seed, or in order with fixed noise."""
        if training:
            return _training_batches(self.config, self.model, split)
        return Batches(
            split,
            batch_size=EVALUATION_BATCH,
            device=self.model.device,
            binarize=repeatable(self.config.data.binarize),
            value_kind=self.model.value_kind,
        )

    def train_model(
        self, run: Run | None = None, listener: Listener | None = None, checkpoint: Checkpoint | None = None
    ) -> None:
        """Train the model, and wait for the other ranks.

        Arguments:
            run: Run folder for metrics and checkpoints; only the first rank has one.
            listener: A listener to the progress.
            checkpoint: Checkpoint to continue from.
        """
        train_epochs(
            self.model,
            self.plan(),
            self.batches(self.data.train, training=True),
            self.batches(self.data.validation) if len(self.data.validation) else None,
            run=run,
            resume=checkpoint,
            listener=listener,
            ranks=self.ranks,
        )
        self.ranks.wait()

    def train_into(
        self, run: Run, listener: Listener | None, *, tensorboard: bool, checkpoint: Checkpoint | None = None
    ) -> None:
        """Train the model into a run folder: pictures of every epoch, and at the end the test ELBO and more pictures.

        Arguments:
            run: The run folder.
            listener: A listener to the progress.
            tensorboard: Whether to write event files for TensorBoard.
            checkpoint: Checkpoint to continue from.
        """
        done = checkpoint.state["progress"]["epoch"] if checkpoint is not None else 0
        draw_data(self.data, run)
        if listener is not None:
            listener.begin(self._description(run, done))
        with ExitStack() as stack:
            writer = stack.enter_context(PictureWriter())
            listeners = epoch_pictures(self.model, self.data, run, writer)
            if listener is not None:
                listeners.append(listener)
            if tensorboard:
                listeners.append(stack.enter_context(event_files(run, done)))
            self.train_model(run, Listeners(listeners), checkpoint)
            draw_pictures(self.model, self.data, run, writer, binarize=self.config.data.binarize)
            write_test(run, self.model, self.loss, self.batches(self.data.test), row_word=self.data.row_word)

    def _description(self, run: Run, done: int) -> list[str]:
        """The model, the data, the device, the run folder and the first epoch after `done`, a few words each."""
        options = self.config.train
        name = os.path.basename(self.data.name.rstrip("/")) or self.data.name
        description = [
            f"{run.environment.get('preset', 'custom')}: {self.model.num_parameters:,} weights",
            f"{len(self.data.train):,} {self.data.row_word}s of {name}",
            f"{self.model.device} {options.precision}",
            str(run.path),
        ]
        total = "" if options.known_epochs is None else f" of {options.known_epochs}"
        return [*description, *([f"from epoch {done + 1}{total}"] if done else [])]

    def _check_training(self) -> None:
        """Do all that a training does before its first step, and compute the losses of a few rows.

        Raises:
            VAEError: The training would not begin, or a row has no density.
        """
        plan, train = self.plan(), self.data.train
        validation = range(len(self.data.validation)) if len(self.data.validation) else None
        batches = range(num_batches(len(train), plan.options.batch_size))
        trainer, _ = plan.for_loaders(self.model, batches, validation, self.ranks)
        batch = next(iter(self.batches(train.rows(slice(4)))))
        self.model.checked(batch.x, batch.observed)
        if self.config.data.binarize == "none":
            for split in self.data.splits.values():
                check_rows(self.model, self.batches(split))
        players = trainer.trained.players
        logged = try_once(self.model, [player.loss for player in players], batch)
        names = [[player.name, *others] for player, others in zip(players, logged, strict=True)]
        trainer.meter.begin(tuple(chain.from_iterable(names)))


def _seed_global_streams(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _model_from_rows(recipe: Recipe, data: Dataset, device: torch.device) -> tuple[Recipe, LatentVariableModel]:
    """The recipe with what follows from the training rows and the device, and its model, started from these rows."""
    x, labels = rows_to_start_from(data.train, value_kind=recipe.value_kind)
    recipe = recipe.with_options_from_data(x)
    shapes: dict[str, Any] = {"event_shape": data.event_shape, "num_classes": data.num_classes}
    model = recipe.model(**shapes, x=x, labels=labels, columns=data.columns, class_names=data.classes).to(device)
    check_trainable(model)
    return recipe.with_train(precision=find_precision(recipe.config.train.precision, model)), model


def _loss_for(recipe: Recipe, model: LatentVariableModel, data: Dataset) -> Loss:
    """The loss of the recipe, on the model's device."""
    batches = _training_batches(recipe.config, model, data.train) if recipe.needs_batches else None
    shapes: dict[str, Any] = {"event_shape": data.event_shape, "num_classes": data.num_classes}
    loss = recipe.loss(model, dataset_size=len(data.train), batches=batches, **shapes)
    check_classes(model, loss, data.train, "training")
    module = module_of(loss)
    if module is not None:
        module.to(model.device)
    return loss


def _training_batches(config: Config, model: LatentVariableModel, split: Split) -> Batches:
    """The rows of a split, shuffled by the run's seed."""
    return Batches(
        split,
        batch_size=config.train.batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(config.train.seed),
        device=model.device,
        binarize=config.data.binarize,
        value_kind=model.value_kind,
    )
