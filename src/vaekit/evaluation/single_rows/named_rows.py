"""Rows with names, from a run's data or the user's, and their latents.

Not for: how unlikely a row is (`scoring`), or numbers about a model (`model_evaluation`).
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import data
from ...data import Batch, Batches, Split
from ...data.by_path import is_path, open_all
from ...data.dataset import DataKind, evenly_spread
from ...data.table.encoded_table import encode_table
from ...distributions import centre
from ...errors import ConfigError, DataError, one_of
from ...model import LatentVariableModel
from ...runs.restore import RestoredRun
from ...store import Run
from ...store.escape import to_csv
from .. import batchwise
from ..values import StageListener

SERVED_AT_A_TIME = 1000
LATENT_SUFFIXES = (".npz", ".npy", ".csv")  # of files of latents


@dataclass(frozen=True, eq=False)
class NamedRows:
    """Rows as a run takes them, each with a name.

    Arguments:
        name: Title of the rows.
        split: Values and labels; labels are numbered as in the run.
        names: Name of each row.
        classes: Name of the class of each row; "" where it is unknown.
        binarize: How grey pixels become binary, the same way on every pass.
        row_word: The word for one row: "row" or "image".
    """

    name: str
    split: Split
    names: Sequence[str]
    classes: Sequence[str]
    binarize: str
    row_word: str = "row"

    def __len__(self) -> int:
        return len(self.split)

    def some(self, rows: Tensor) -> "NamedRows":
        """The rows with these indices, in memory.

        Arguments:
            rows: Indices of the rows, int64.
        """
        indices = rows.tolist()
        return replace(
            self,
            split=self.split.rows(rows),
            names=[self.names[i] for i in indices],
            classes=[self.classes[i] for i in indices],
        )

    def thinned(self, most: int) -> "NamedRows":
        """At most `most` rows, evenly spread, in memory."""
        return self.some(evenly_spread(len(self), most))

    def batches(
        self, model: LatentVariableModel, *, stage: str = "", listener: StageListener | None = None
    ) -> Iterator[Batch]:
        """The rows as the model takes them, batch by batch.

        Arguments:
            model: The model.
            stage: Name of the work on the rows, for the listener.
            listener: Called with the stage, the batches done and the total, after the work on each batch.
        """
        served = Batches(self.split, batch_size=SERVED_AT_A_TIME, binarize=self.binarize, value_kind=model.value_kind)
        total = -(-len(self) // SERVED_AT_A_TIME)
        for done, batch in enumerate(served, 1):
            yield model.to_model(batch)
            if listener is not None:
                listener(stage, done, total)

    def to_csv(self, columns: Mapping[str, Tensor]) -> bytes:
        """A CSV with a line for each row: its name, its class, and a number from each column.

        Arguments:
            columns: Numbers by the name of their column, each of shape (N,).
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([self.row_word, "class", *columns])
        values = [[f"{value:.7g}" for value in column.tolist()] for column in columns.values()]
        texts = [list(map(to_csv, column)) for column in (self.names, self.classes)]
        writer.writerows(zip(*texts, *values, strict=True))
        return text.getvalue().encode(errors="surrogateescape")


def check_named_rows(rows: object) -> None:
    """Check that rows have names, and that there are some.

    Raises:
        ConfigError: The rows are of another type.
        DataError: There are 0 rows.
    """
    if not isinstance(rows, NamedRows):
        raise ConfigError(f"rows must have names, got {type(rows).__name__}; pass rows_of(run, data)")
    if not len(rows):
        raise DataError(f"there are 0 rows in {rows.name}; choose some")


def rows_of(
    run: Run | RestoredRun, name: str | os.PathLike[str] | None = None, *, split: str | None = None
) -> NamedRows:
    """One split of the run's data or of a named data set. Of a path, all rows, even if the run was trained on it.

    A folder of images is read as in the training: resized by `data.size`, in colour if the run's images are. A row is
    named by its file, or by its number in the user's file: in tables from 1, in arrays from 0, held-out rows too.

    Arguments:
        run: The run; a `RestoredRun` if its config names parts by import path.
        name: A data set or a path; the run's own data by default.
        split: "test", which is the default, "validation" or "train"; of a path all rows are taken.

    Raises:
        DataError: The rows do not exist, or the run does not know their columns, shape or classes.
        ConfigError: The split is unknown, or given for a path.
    """
    name = None if name is None else os.fspath(name)
    restored = RestoredRun.of(run)
    config, record = restored.recipe.config, restored.data_record
    columns = record.columns
    names: Sequence[str]
    if name is not None and columns is not None and name not in data.DATASET_NAMES:
        _refuse_split(name, split)
        table = encode_table(name, columns, restored.label)
        rows, classes, title = restored.numbered(table.split(), table.classes), table.classes, name
        names = rows.row_names("table")
    elif name is not None and name not in data.DATASET_NAMES and is_path(name):
        _refuse_split(name, split)
        colour = record.event_shape[0] == 3
        signals: DataKind | None = "signal" if record.kind == "signal" else None
        opened = open_all(name, size=config.data.size, colour=colour, value_kind=record.value_kind, kind=signals)
        restored.check_event_shape(name, opened.split.event_shape)
        rows, names, title = restored.numbered(opened.split, opened.classes), opened.split.row_names(), name
        classes = record.classes if restored.takes_classes else opened.classes
    else:
        dataset, split = restored.dataset(name), "test" if split is None else split
        rows = dataset.split(split)
        classes = dataset.classes
        title = f"{dataset.name} {split}"
        names = rows.row_names(dataset.kind)
    labels = [0] * len(rows) if rows.labels is None else rows.labels.tolist()
    if restored.takes_classes and -1 in labels:
        where = names[labels.index(-1)]
        raise DataError(
            f"row {where} of {title} has no class, and run {restored.run.name} is conditional; bring labels"
        )
    class_names = [classes[label] if label >= 0 else "" for label in labels]
    return NamedRows(title, rows, names, class_names, restored.binarize, record.row_word)


def _refuse_split(name: str, split: str | None) -> None:
    """Refuse a split of a path, whose rows are all taken."""
    if split is not None:
        raise ConfigError(
            f"split = {split!r} is for the run's own data and for data sets by name, but all rows of {name} are taken; "
            "leave split out, or leave the path out for a split of the run's data"
        )


def encode_rows(model: LatentVariableModel, rows: NamedRows, *, listener: StageListener | None = None) -> Tensor:
    """Posterior means, shape (N, *latent), on the CPU: (N, Z) where latents are a vector.

    Arguments:
        model: The model.
        rows: The rows.
        listener: Called with the stage, the batches done and the total.

    Raises:
        ConfigError: `rows` is of another type.
        DataError: There are 0 rows, or they do not fit the model.
    """
    check_named_rows(rows)
    parts = []
    with batchwise.estimating(model):
        for batch in rows.batches(model, stage="encoding", listener=listener):
            q = model.posterior_of(batchwise.batch_of(model, batch, 0, len(batch)))
            parts.append(centre(q).cpu())
    return torch.cat(parts)


def latents_file(rows: NamedRows, z: Tensor, suffix: str) -> bytes:
    """The content of a file of latents.

    Arguments:
        rows: The rows.
        z: Their latents, from `encode_rows`.
        suffix: ".csv": a line for each row, with its latents as z1, z2 …; ".npy": the array z; ".npz": z, the names of
            the rows ("rows" or "images"), and their classes.

    Raises:
        ConfigError: The suffix is unknown.
    """
    one_of("suffix", suffix, LATENT_SUFFIXES)
    if suffix == ".csv":
        return rows.to_csv({f"z{i}": column for i, column in enumerate(z.flatten(1).unbind(1), 1)})
    content = io.BytesIO()
    if suffix == ".npy":
        np.save(content, z.numpy(), allow_pickle=False)
    else:
        texts: dict[str, Any] = {f"{rows.row_word}s": np.array(rows.names), "classes": np.array(rows.classes)}
        np.savez(content, z=z.numpy(), **texts)
    return content.getvalue()


def seen_batch(run: RestoredRun, model: LatentVariableModel, rows: Split) -> Batch:
    """Rows of a run's data as one batch, as the posterior takes them, with their context and labels.

    Arguments:
        run: The run.
        model: Its model.
        rows: Rows of a split, in memory all at once.

    Raises:
        DataError: There are no rows, or the model is conditional and a row has no class.
    """
    served = run.as_batch(rows)
    batch = batchwise.batch_of(model, served, 0, len(served))
    return replace(batch, x=model.posterior_input(batch), labels=served.labels)
