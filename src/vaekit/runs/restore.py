"""From a run folder back to the run's config, model and data.

Not for: models that other files hold (`hub.folders`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from .. import data
from ..config.recipe import Recipe
from ..data import Batch, Dataset, Split
from ..data.batches import as_one_batch
from ..data.by_path import is_path
from ..data.evaluation_data import load_evaluation_data
from ..data.labels import renumbered
from ..data.pixels import repeatable
from ..data.table.encoded_table import LabelColumn
from ..errors import ConfigError, DataError, RunError
from ..model import LatentVariableModel
from ..objectives import Loss, module_of
from ..rng import seeded
from ..store import Run
from ..store.checkpoint import CheckpointKind
from ..training import find_device
from .data_record import DataRecord
from .model_weights import SLACK, build_with_weights, shapes_of
from .run_config import config_of, is_own_data

_BYTES = 8  # of a number, at most


@dataclass(frozen=True)
class RestoredRun:
    """A run with its resolved config, for further work with the run.

    Attributes:
        run: The run.
        recipe: The config of the run, resolved.
    """

    run: Run
    recipe: Recipe

    @classmethod
    def of(
        cls,
        run: "RestoredRun | Run | str | Path | None" = None,
        *,
        root: Path | str = "runs",
        trust: bool = False,
    ) -> "RestoredRun":
        """Restore a run; a `RestoredRun` is returned as it is.

        Arguments:
            run: A run, its folder or name; the newest run by default.
            root: Folder of all runs.
            trust: Allow parts by import path; their code is then executed.

        Raises:
            RunError: The run does not exist.
            ConfigError: `run` is not a run, or its config names parts by import path without `trust`, or a part that
                does not exist.
        """
        if isinstance(run, RestoredRun):
            return run
        if not isinstance(run, Run | str | os.PathLike | None):
            raise ConfigError(f"a run is given as a Run, its folder or its name, got {type(run).__name__}")
        run = run if isinstance(run, Run) else Run.open(run, root=root)
        return cls(run, Recipe.resolve(config_of(run), trust=trust))

    @cached_property
    def data_record(self) -> DataRecord:
        """What the run recorded about the data that it was trained on."""
        return DataRecord.of(self.run)

    @property
    def label(self) -> LabelColumn | None:
        """The column of the classes in tables, for a conditional model; None for other models."""
        return LabelColumn.of(self.recipe.config.data.columns, self.data_record.classes) if self.takes_classes else None

    @property
    def takes_classes(self) -> bool:
        """Whether the model is conditional on classes."""
        return self.recipe.config.model.condition == "class"

    @property
    def binarize(self) -> str:
        """The binarization with which the rows are read again: the same way each time."""
        return repeatable(self.recipe.config.data.binarize)

    def model(self, *, weights: CheckpointKind = "best", device: str = "cpu") -> LatentVariableModel:
        """The model of the run, in evaluation mode.

        Arguments:
            weights: "best" or "last", as for `load`.
            device: Device of the model.

        Raises:
            RunError: There are no weights yet, or they do not fit the config.
        """
        kind = self._kind(weights)
        run, wiring = self.run, self.data_record.wiring
        shapes = shapes_of(self.recipe, wiring)
        limit = None if shapes is None else SLACK + _BYTES * sum(shape.numel() for shape in shapes.values())
        tensors = run.load_checkpoint(kind, parts=("model",), limit=limit).part("model")
        misfit = f"the weights of {run.path} do not fit its config"
        model = build_with_weights(self.recipe, wiring, tensors, shapes, misfit)
        for name, tensor in model.state_dict().items():
            if not tensor.isfinite().all():
                raise RunError(
                    f"the weights of {run.path} are not finite ({name}); train it again, with a lower learning_rate"
                )
        return model.to(find_device(device)).eval()

    def loss(self, model: LatentVariableModel, *, weights: CheckpointKind = "best") -> Loss:
        """The loss of the run, with its own weights, such as a classifier's.

        Arguments:
            model: The model of the run.
            weights: "best" or "last", as for `load`. Runs of earlier versions have only the last weights of a loss.

        Raises:
            RunError: The weights do not fit.
        """
        run = self.run
        with seeded(torch.Generator().manual_seed(0)):
            loss = self.recipe.loss(
                model,
                dataset_size=self.data_record.counts["train"],
                event_shape=self.data_record.event_shape,
                num_classes=self.data_record.num_classes,
            )
        module = module_of(loss)
        if module is not None:
            stored = run.load_checkpoint(self._kind(weights), parts=("loss",)).part("loss")
            try:
                module.load_state_dict(stored or run.load_checkpoint("last", parts=("loss",)).part("loss"))
            except RuntimeError as error:
                reason = str(error).splitlines()[-1]
                raise RunError(f"the weights of the loss of {run.path} do not fit: {reason}") from None
            module.to(model.device).eval()
        return loss

    def _kind(self, weights: CheckpointKind) -> CheckpointKind:
        """The checkpoint that has the best or the last weights."""
        if weights not in ("best", "last"):
            raise ConfigError(f"weights must be 'best' or 'last', got {weights!r}")
        return "best" if weights == "best" and self.run.has_checkpoint("best") else "last"

    def dataset(self, name: str | None = None) -> Dataset:
        """The data set that the run was trained on, or another one that its model takes, with the run's classes.

        The run's own data set has the splits of the training, and comes with every label, also those that `labelled`
        hid in training. All rows of another path are test rows, unless the path has splits; see `load_evaluation_data`.

        Arguments:
            name: Another data set, by name or path.

        Raises:
            DataError: The data set does not exist, has another shape, or classes that a conditional model does not
                know. Or the run's own files have changed: the held-out rows would be drawn anew, and include rows that
                the run has learned from.
        """
        is_own = self.is_own(name)
        dataset = self._own_dataset() if is_own else self._other_dataset(str(name))
        self.check_event_shape(dataset.name, dataset.event_shape)
        if not self.takes_classes:
            return dataset
        splits: Any = {key: self.numbered(split, dataset.classes) for key, split in dataset.splits.items()}
        return replace(dataset, classes=self.data_record.classes, **splits)

    def numbered(self, split: Split, classes: Sequence[str]) -> Split:
        """Rows with their classes numbered as in the run, by name; unchanged if the model takes no class.

        Arguments:
            split: The rows; without labels all are of the first class.
            classes: Names of their classes.

        Raises:
            DataError: The run does not know the class of a row.
        """
        if not self.takes_classes:
            return split
        labels = torch.zeros(len(split), dtype=torch.int64) if split.labels is None else split.labels
        try:
            return replace(split, labels=renumbered(labels, classes, self.data_record.classes))
        except DataError as error:
            raise DataError(
                f"{error}; run {self.run.name} is conditional: put its images into subfolders that have the names of "
                "its classes, or bring labels"
            ) from None

    def _other_dataset(self, name: str) -> Dataset:
        """Another data set, read as the run's own. From a path it has all rows."""
        record = self.data_record
        if name in data.DATASET_NAMES:
            return data.load(name, value_kind=record.value_kind)
        return load_evaluation_data(
            name,
            value_kind=record.value_kind,
            event_shape=record.event_shape,
            columns=record.columns,
            label=self.label,
            size=self.recipe.config.data.size,
        )

    def as_batch(self, rows: Split) -> Batch:
        """All of some rows as one batch on the CPU, their values as in the training; binarized the same way each time.

        Raises:
            DataError: There are no rows.
        """
        return as_one_batch(rows, value_kind=self.recipe.value_kind, binarize=self.binarize)

    def is_own(self, name: str | None) -> bool:
        """Whether a name means the run's own data; see `is_own_data`."""
        return is_own_data(self.recipe.config, name)

    def check_event_shape(self, name: str, event_shape: Sequence[int]) -> None:
        """Check that the model of the run takes rows of a shape.

        Arguments:
            name: Name of the data.
            event_shape: The shape of one row.

        Raises:
            DataError: The model takes another shape.
        """
        wanted = self.data_record.event_shape
        if tuple(event_shape) != wanted:
            raise DataError(
                f"run {self.run.name} takes rows of shape {wanted}, {name!r} has {tuple(event_shape)}; bring them to "
                "that size and number of channels"
            )

    def _own_dataset(self) -> Dataset:
        """The data set that the run was trained on, whatever its shape."""
        name, arguments = self.recipe.config.data.name, self.recipe.data_arguments
        by_path = name not in data.DATASET_NAMES and is_path(name)
        record = self.data_record
        try:
            value_kind = {"value_kind": record.value_kind} if "value_kind" in arguments else {}
            dataset = data.load(**{**arguments, **value_kind, "labelled": None})
        except DataError as error:
            raise DataError(f"{error} (run {self.run.name} was trained on it)" if by_path else str(error)) from error
        if by_path and dataset.checksum != record.checksum:
            before, now = sum(record.counts.values()), sum(map(len, dataset.splits.values()))
            raise DataError(
                f"the files of {name} have changed since run {self.run.name} was trained on them ({before} rows then, "
                f"{now} now), so its test rows are unknown; bring them back, or name other data; then all of its rows "
                "are used",
                arguments=("data",),
            )
        return dataset
