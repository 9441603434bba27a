"""Loaded data sets: records of values and labels."""

import hashlib
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError, check_count, unknown
from ..store import files
from .batch import as_tensor, check_observed, described
from .labels import class_numbers, renumbered
from .ondisk import Stored, row_index
from .origin import Origin
from .table.columns import Column

SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {  # the names of files and folders that hold a split, the preferred one first
    "train": ("train", "training"),
    "validation": ("val", "validation", "valid"),
    "test": ("test", "testing"),
}
DataKind = Literal["image", "vector", "signal", "table"]
DRAWN_CHANNELS = (1, 3)  # of an image that a picture can show: grey, or red, green and blue
_CHECKED = 1 << 24  # bytes of the values of a split in a checksum


def evenly_spread(count: int, n: int) -> Tensor:
    """The indices of at most n of `count` rows, evenly spread, so that rows sorted by class give each class its share.

    >>> evenly_spread(10, 4).tolist()
    [0, 2, 5, 7]
    """
    n = min(check_count("n", n, 0), count)
    return torch.arange(n) * count // max(1, n)


def shows_images(kind: str | None, event_shape: Sequence[int]) -> bool:
    """Whether rows of this kind and shape are images that a picture can show."""
    return kind == "image" and event_shape[0] in DRAWN_CHANNELS


def row_word(kind: str | None) -> str:
    """The word for one row of data of this kind: "image" or "row"."""
    return "image" if kind == "image" else "row"


@dataclass(frozen=True, eq=False)
class Split:
    """N rows: values, and perhaps labels, a mask of the observed values and a context.

    NumPy arrays and lists become tensors. Whole numbers and booleans in x become float32, except bytes.

    Arguments:
        x: Values, shape (N, *event): images (N, C, H, W), vectors (N, D) or others. They are uint8, which models see
            as pixel / 255, or floating-point. `Stored` holds rows on disk; it is indexed by rows like a tensor:
            `x[:100]`.
        labels: Classes, shape (N,), whole numbers; −1 is an unknown class. None without labels.
        observed: Booleans of the shape of x, true where a value is known, on disk too if x is; None if all values are
            known.
        c: Context, the condition of a conditional model, shape (N, C), floating-point; None for one-hot labels.
        origin: Where the rows come from; by default they are rows 0 … N − 1 of their source.

    Raises:
        DataError: A shape or a type does not fit the rows.
    """

    x: Tensor | Stored
    labels: Tensor | None = None
    observed: Tensor | Stored | None = None
    c: Tensor | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        for name in ("x", "labels", "observed", "c"):
            value = getattr(self, name)
            if name == "x" or not (value is None or isinstance(value, Stored)):
                object.__setattr__(self, name, value if isinstance(value, Stored) else as_tensor(value, name).detach())
        if isinstance(self.x, Tensor) and not self.x.is_floating_point() and self.x.dtype != torch.uint8:
            object.__setattr__(self, "x", self.x.float())
        shape = tuple(self.x.shape)
        if len(shape) < 2:
            raise DataError(f"values must be (N, …), such as images (N, C, H, W) or vectors (N, D), got {shape}")
        if self.labels is not None:
            object.__setattr__(self, "labels", class_numbers(self.labels, len(self.x)))
        if self.observed is not None:
            check_observed(self.observed, self.x)
        c = self.c
        if c is not None and (c.ndim != 2 or len(c) != shape[0] or not c.is_floating_point()):
            raise DataError(f"the context must be ({shape[0]}, C), floating-point, got {tuple(c.shape)} {c.dtype}")
        if self.origin is not None and len(self.origin) != shape[0]:
            raise DataError(f"the origin must be of {shape[0]} rows, got {len(self.origin)}; leave origin out")

    def __repr__(self) -> str:
        labels = ", with labels" if self.labels is not None else ""
        gaps = ""
        if self.observed is not None:
            share = self.observed.float().mean().item() if isinstance(self.observed, Tensor) else None
            gaps = ", with gaps" if share is None else f", {100 * share:.0f} % observed"
        return f"Split({described(self.x)}{labels}{gaps})"

    def __len__(self) -> int:
        return len(self.x)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of the values of one row."""
        return tuple(self.x.shape[1:])

    def __getitem__(self, index: int | slice | Tensor | Sequence[int]) -> Any:
        """`split[:100]` is a `Split`; `split[3]` is the x of a row, or (x, label), as in data sets of torch."""
        if isinstance(index, slice) or np.ndim(index):
            return self.rows(index)  # type: ignore[arg-type]
        index = operator.index(index)  # type: ignore[arg-type]
        if not -len(self) <= index < len(self):
            raise IndexError(f"the rows are numbered 0 to {len(self) - 1}, got {index}")
        x = self.x[index]
        return x if self.labels is None else (x, int(self.labels[index]))

    def rows(self, index: slice | Tensor | Sequence[int]) -> "Split":
        """The rows of an index, in memory; see `row_index`."""
        index = row_index(index, len(self))

        def selected(values: Tensor | Stored | None) -> Tensor | None:
            return None if values is None else values[index]

        origin = (self.origin or Origin.of_all(len(self)))[index]
        return Split(self.x[index], selected(self.labels), selected(self.observed), selected(self.c), origin)

    def row_names(self, kind: str | None = None) -> list[str]:
        """The name of each row: its file in a folder of images, else its number in the source of the rows.

        Arguments:
            kind: Kind of data: rows of a "table" are counted from 1, all others from 0.
        """
        return (self.origin or Origin.of_all(len(self))).names(first=1 if kind == "table" else 0)

    @property
    def observed_in_memory(self) -> Tensor | None:
        """`observed` as a tensor, read into memory if it is on disk."""
        return None if self.observed is None else self.observed[:]

    def required_labels(self) -> Tensor:
        """The labels.

        Raises:
            DataError: The rows have no labels.
        """
        if self.labels is None:
            raise DataError("these rows have no labels; pass Split(x, labels)")
        return self.labels

    def labelled(self) -> "Split":
        """The rows with a known label, in memory; if all labels are known, the split itself. Without labels: none."""
        if self.labels is None:
            return self.rows(slice(0))
        return self if bool((self.labels >= 0).all()) else self.rows((self.labels >= 0).nonzero().flatten())

    def thinned(self, n: int) -> "Split":
        """At most n evenly spread rows, in memory; the split may be sorted by class."""
        rows = evenly_spread(len(self), n)
        return self.rows(rows) if len(rows) < len(self) else self.rows(slice(None))

    def in_memory(self, most: int) -> "Split":
        """The rows as a tensor: all if they are in memory now, else an evenly spread part of about `most` bytes."""
        return self if isinstance(self.x, Tensor) else self.thinned(self.fitting(most))

    def fitting(self, most: int) -> int:
        """The number of rows that `in_memory` gives."""
        if isinstance(self.x, Tensor):
            return len(self)
        return min(len(self), max(1, len(self) * most // max(1, self.x.nbytes)))


def _check_are_splits(splits: Mapping[str, Any]) -> None:
    for name, split in splits.items():
        if not isinstance(split, Split):
            raise DataError(f"{name} must be a Split, got {type(split).__name__}; pass Split(x, labels)")


def _checksum(splits: Mapping[str, Split]) -> str:
    """SHA-256 of splits; see `Dataset`."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        digest.update(f"{name} {tuple(split.x.shape)} {split.x.dtype}".encode())
        row = math.prod(split.event_shape) * split.x.dtype.itemsize
        some = split.thinned(max(1, _CHECKED // max(1, row)))
        for values in (some.x[:], split.labels, some.observed_in_memory, some.c):
            if values is not None and values.numel():  # numpy's empty arrays have no strides to view bytes by
                digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three splits.

    Arguments:
        name: Name of the data set, or the path that it was loaded from.
        train: Rows to learn from.
        validation: Rows to choose a model by; may be empty.
        test: Rows to report on.
        classes: Class names; label i means `classes[i]`.
        checksum: SHA-256 of the content (hexadecimal). `load` computes it from all rows, or, for images, vectors and
            signals by path, from names, sizes and at most 16 MiB of the content; it does not depend on the number of
            validation rows. By default it is computed from the splits: from their shapes, their labels and, for each
            split, at most 16 MiB of the values of evenly spread rows.
        kind: "image", "vector", "signal" (C, L) or "table"; pictures show images and signals only. By default "image"
            if the shape of a row is (C, H, W), else "vector".
        columns: Columns of a table, one for each value of a row.
        factors: Function for data with known factors. It returns a row for every combination of factor values, shape
            (N, *event), and these values, int64, shape (N, F).

    Raises:
        DataError: A part is not a `Split`, splits have different shapes, a label has no name, the kind is unknown, or
            rows do not fit it.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    checksum: str = ""
    kind: DataKind | None = None
    columns: tuple[Column, ...] | None = None
    factors: Callable[[], tuple[Tensor, Tensor]] | None = None

    def __post_init__(self) -> None:
        _check_are_splits(self.splits)
        classes: Any = self.classes
        if isinstance(classes, str) or not isinstance(classes, Iterable):
            remedy = f"({classes!r:.60},)" if isinstance(classes, str) else "('all',) for rows of one class"
            raise DataError(f"classes must be a tuple of names, got {classes!r:.60}; pass {remedy}")
        object.__setattr__(self, "name", str(self.name))
        object.__setattr__(self, "classes", tuple(classes))
        if len(set(self.classes)) < len(self.classes):
            raise DataError(f"{self.name}: classes must be different names, got {self.classes!r:.200}")
        shape = self.event_shape
        for name, split in self.splits.items():
            if len(split) and split.event_shape != shape:
                raise DataError(f"{self.name}: rows of {name} have shape {split.event_shape}, those of train {shape}")
        if self.kind is None:
            object.__setattr__(self, "kind", "image" if len(shape) == 3 else "vector")
        if self.kind not in get_args(DataKind):
            raise DataError(f"{self.name}: {unknown('kind of data', self.kind, get_args(DataKind))}")
        if self.kind == "image" and len(shape) != 3:
            raise DataError(f"images must be (N, C, H, W), {self.name} has rows of shape {shape}; pass another kind=")
        if self.kind == "signal" and len(shape) != 2:
            raise DataError(f"signals must be (N, C, L), {self.name} has rows of shape {shape}; pass another kind=")
        if self.columns is not None and shape != (len(self.columns),):
            raise DataError(f"{self.name}: rows have shape {shape}, but there are {len(self.columns)} columns")
        for name, split in self.splits.items():
            highest = -1 if split.labels is None or not len(split) else int(split.labels.max())
            if highest >= len(self.classes):
                raise DataError(
                    f"{self.name}: classes has {len(self.classes)} names, and label i means classes[i], but {name} has "
                    f"the label {highest}; name every class"
                )
        if not self.checksum:
            object.__setattr__(self, "checksum", _checksum(self.splits))

    @classmethod
    def of_splits(cls, name: str, splits: Mapping[str, Split], **others: Any) -> Self:
        """A data set of these splits; the others are empty. A data set of test rows alone is not split.

        Arguments:
            name: Name of the data set.
            splits: At least one, by "train", "validation" or "test".
            others: Other arguments of `Dataset`; without `classes` all rows are of one class, "all".

        Raises:
            DataError: There is no split, or a split has another name.
        """
        other = next((split for split in splits if split not in SPLITS), None)
        if not splits or other is not None:
            raise DataError(f"splits must be some of {', '.join(SPLITS)}, got {other!r}")
        _check_are_splits(splits)
        empty = next(iter(splits.values())).rows(slice(0))
        every = [splits.get(split, empty) for split in SPLITS]
        return cls(name, every[0], every[1], every[2], **{"classes": ("all",), **others})

    def numbered_by(self, class_names: Sequence[str] | None, num_classes: int) -> Self:
        """The same rows, with their classes numbered by name as a conditional model numbers them.

        Rows with a context of their own stay as they are. Data of the one class "all" have no labels.

        Arguments:
            class_names: Names of the model's classes; None if they are not known. Data with `num_classes` classes then
                keep their numbers; in other data the classes must be named "0", "1", ….
            num_classes: The number of the model's classes.

        Raises:
            DataError: The model does not know the class of a row.
        """
        known = tuple(class_names or map(str, range(num_classes)))
        keeps_numbers = self.classes == known or (class_names is None and self.num_classes == num_classes)
        if keeps_numbers or any(split.c is not None for split in self.splits.values()):
            return self
        try:
            splits: Any = {name: self._renumbered(split, known) for name, split in self.splits.items()}
        except DataError as error:
            raise DataError(
                f"{error}; the model is conditional on these {num_classes} classes: name those of {self.name!r} alike, "
                "or pass (x, labels) with the model's numbers"
            ) from None
        return replace(self, classes=known, **splits)

    def _renumbered(self, split: Split, known: Sequence[str]) -> Split:
        without = split.labels is None or self.classes == ("all",)
        return replace(split, labels=None if without else renumbered(split.required_labels(), self.classes, known))

    @property
    def is_split(self) -> bool:
        """Whether there are rows other than test rows."""
        return len(self.train) + len(self.validation) > 0

    def __repr__(self) -> str:
        shape, classes = "×".join(map(str, self.event_shape)), f", {self.num_classes} classes" * (self.num_classes > 1)
        counts = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        return f"Dataset({self.name!r}: {counts}; {self.kind} {shape}{classes})"

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {name: getattr(self, name) for name in SPLITS}

    def split(self, name: str) -> Split:
        """A split by its name; it has at least one row.

        Raises:
            ConfigError: There is no split of this name.
            DataError: The split is empty.
        """
        if name not in SPLITS:
            raise ConfigError(unknown("split", name, SPLITS))
        if not len(self.splits[name]):
            if not any(map(len, self.splits.values())):
                raise DataError(f"{self.name!r} has 0 rows; at least 1 is needed")
            if not self.is_split:
                raise DataError(
                    f"{self.name!r} is not split, so it has no {name} rows; leave split out, and all of its "
                    f"{len(self.test)} rows are used",
                    arguments=("split",),
                )
            nonempty = ", ".join(key for key, split in self.splits.items() if len(split))
            message = f"the {name} split of {self.name!r} has 0 rows; choose one of: {nonempty}"
            raise DataError(message, arguments=("split",))
        return self.splits[name]

    @property
    def shows_images(self) -> bool:
        """Whether the rows are images that a picture can show: grey, or in colours."""
        return shows_images(self.kind, self.event_shape)

    @property
    def row_word(self) -> str:
        """The word for one row: "image" or "row"."""
        return row_word(self.kind)

    @property
    def slug(self) -> str:
        """The name in a form for file names."""
        return files.slug(self.name)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of the values of one row."""
        return self.train.event_shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image.

        Raises:
            DataError: The data are not images.
        """
        if self.kind != "image":
            raise DataError(f"{self.name!r} has no images: its kind is {self.kind!r}, its rows have {self.event_shape}")
        channels, height, width = self.event_shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)
