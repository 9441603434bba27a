"""Data that a caller gives for a model, and `ModelWithData`, a model with rows of data as it takes them.

Not for: numbers about them (`aggregate`, `model_evaluation`), data to train on (`data.loading`), or a run's own data
(`runs.restore`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..data import Batch, Batches, Dataset, Split
from ..data.batch import is_array
from ..data.dataset import DataKind, evenly_spread, row_word, shows_images
from ..data.given_data import RowFormat
from ..data.table.columns import check_columns
from ..data.table.frames import is_frame
from ..errors import ConfigError, DataError
from ..model import LatentVariableModel
from ..runs.restore import RestoredRun

ENCODED_AT_ONCE = 250


def data_for_model(model: LatentVariableModel, data: Any) -> Dataset:
    """A data set for a model: the given one, also by name or path, or a data set that has the given rows as test rows.

    Arguments:
        model: The model.
        data: A `Dataset`, the name or path of one, a frame, a `Split`, a tensor or array (N, *event), or (x, labels).

    Raises:
        ConfigError: The data are of another type.
        DataError: The rows, the columns or the labels do not fit the model.
    """
    if isinstance(data, (str, os.PathLike)) or is_frame(data):
        data = RowFormat.of(model).loaded(data)
    if isinstance(data, Dataset):
        check_columns(model.columns, data.columns)
        return data.numbered_by(model.class_names, model.context_size) if model.context_size else data
    given = type(data).__name__
    if is_array(data) or (isinstance(data, tuple) and len(data) in (1, 2)):
        data = RowFormat.of(model).interpreted(data[0] if isinstance(data, tuple) and len(data) == 1 else data)
    if not isinstance(data, Split):
        raise ConfigError(
            f"a model takes a Dataset, the name or path of one, a Split, a tensor (N, …), or (x, labels), got {given}"
        )
    kind = "signal" if len(data.event_shape) == 2 else None if model.columns is None else "table"
    last = -1 if data.labels is None or not len(data) else int(data.labels.max())
    classes = model.class_names or tuple(map(str, range(max(last + 1, model.context_size)))) or ("all",)
    return Dataset.of_splits("given rows", {"test": data}, classes=classes, kind=kind, columns=model.columns)


@dataclass(frozen=True, eq=False)
class ModelWithData:
    """A model and data, as the model takes them.

    Arguments:
        model: The model.
        name: Name of the run, or type of the model.
        description: Short sentences on the training, the latents and the parameters.
        x: Values, shape (N, *event); N may be 0.
        labels: Classes, shape (N,), −1 where unknown.
        indices: Index of each row in its split, shape (N,).
        classes: Names of the classes.
        kind: Kind of the data, as in `Dataset`.
        source: Name of the data.
        c: Context of a conditional model, shape (N, C), where the data have one; None where the context is the class.
        observed: Whether each value is known, in the shape of x; None where all are. Unknown values are 0 in x.
        stored_dtype: Type of the rows in the data, before they became x.
    """

    model: LatentVariableModel
    name: str
    description: Sequence[str]
    x: Tensor
    labels: Tensor
    indices: Tensor
    classes: Sequence[str]
    kind: DataKind | None
    source: str
    c: Tensor | None = None
    observed: Tensor | None = None
    stored_dtype: torch.dtype = torch.float32

    @classmethod
    def of_run(cls, restored: RestoredRun, model: LatentVariableModel, most: int) -> "ModelWithData":
        """A run's model with at most `most` of the run's test rows, evenly spread.

        Raises:
            DataError: The run's data are missing.
        """
        run, dataset = restored.run, restored.dataset()
        description = [f"preset {run.environment.get('preset', '?')}", f"trained on {dataset.name}"]
        if (epochs := len(run.metrics())) > 0:
            description.append(f"{epochs} epoch{'s' if epochs > 1 else ''}")
        subject = cls._of_dataset(
            model.eval(), dataset, most, source=f"{dataset.name} test", binarize=restored.binarize
        )
        return replace(subject, name=run.name, description=[*description, *subject.description])

    @classmethod
    def of_model(cls, model: LatentVariableModel, data: Any, most: int) -> "ModelWithData":
        """A model with at most `most` test rows of the data, evenly spread; see `data_for_model`.

        Raises:
            ConfigError: The data are of another type.
            DataError: The rows do not fit the model, or a conditional model gets rows without labels or context.
        """
        dataset = data_for_model(model, data)
        return cls._of_dataset(
            model, dataset, most, source=f"{dataset.name} test" if dataset.is_split else f"the {dataset.name}"
        )

    @classmethod
    def _of_dataset(
        cls, model: LatentVariableModel, dataset: Dataset, most: int, *, source: str, binarize: str = "none"
    ) -> "ModelWithData":
        split, classes = dataset.test, dataset.classes
        rows = evenly_spread(len(split), most)
        x, labels, observed = torch.zeros(0, *split.event_shape), _labels(split)[rows], None
        c = split.c[rows] if split.c is not None and model.context_size else None
        if model.context_size and c is None:
            _check_classes(labels, classes, model.context_size)
        if len(rows):
            served = list(
                Batches(split.rows(rows), batch_size=ENCODED_AT_ONCE, binarize=binarize, value_kind=model.value_kind)
            )
            x = torch.cat([model.checked(batch.zero_filled, batch.observed).cpu() for batch in served])
            masks = [batch.observed for batch in served if batch.observed is not None]
            observed = torch.cat(masks) if masks else None
        return cls(
            model,
            type(model).__name__,
            [f"{model.latent_size} latents", f"{model.num_parameters:,} parameters"],
            x,
            labels=labels,
            indices=rows,
            classes=classes,
            kind=dataset.kind,
            source=source,
            c=c,
            observed=observed,
            stored_dtype=split.x.dtype,
        )

    @property
    def shows_images(self) -> bool:
        """Whether the rows are images that a picture can show: grey, or in colours."""
        return shows_images(self.kind, self.x.shape[1:])

    @property
    def row_word(self) -> str:
        """The word for one row: "image" or "row"."""
        return row_word(self.kind)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: slice | Tensor) -> Batch:
        """These rows, with their classes, their context and the mask of known values."""
        c, observed = (None if values is None else values[rows] for values in (self.c, self.observed))
        return Batch(self.x[rows], c=c, observed=observed, labels=self.labels[rows])

    def posterior_input(self, rows: slice | Tensor) -> Tensor:
        """The values of these rows as the posterior takes them: gaps are NaN if the model sees gaps, else 0."""
        return self.model.posterior_input(self.batch(rows))

    def context(self, rows: slice | Tensor) -> Tensor | None:
        """The context of these rows, shape (B, C), or None for an unconditional model."""
        if not self.model.context_size:
            return None
        c = (self.labels if self.c is None else self.c)[rows]
        return self.model.context(c, len(c))


def _check_classes(labels: Tensor, classes: Sequence[str], context_size: int) -> None:
    """Refuse rows whose context cannot be made from their classes.

    Raises:
        DataError: A row has no class, or the classes are not those of the model.
    """
    if len(classes) != context_size:
        raise DataError(
            f"this model is conditional on {context_size} numbers, but the data have {len(classes)} classes; pass the "
            "context of the rows: Split(x, c=…)"
        )
    if bool((labels < 0).any()):
        raise DataError("this model is conditional, and a row has no class; pass a Dataset, or (x, labels)")


def _labels(split: Split) -> Tensor:
    """The class of each row, −1 where there are no labels."""
    return torch.full((len(split),), -1) if split.labels is None else split.labels
