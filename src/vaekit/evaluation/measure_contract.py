"""The contract of a measure: from a model and rows to findings, and where its numbers are shown.

A measure is a function in a file of its own; `model_evaluation.MEASURES` lists them. To add one, write the function and
a line there.

Not for: a measure itself (`log_likelihood`, `representation`, `classified`, `disentanglement`, `quality`, `synthetic`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..data import Batch, Batches, Dataset, Split
from ..data.dataset import SPLITS
from ..data.pixels import BINARIZATIONS, repeatable
from ..errors import ConfigError, check_count, one_of, unknown
from ..model import LatentVariableModel
from ..objectives import Loss, draw_of
from ..rng import generator_of, seeded
from ..store.metrics import ROWS_KEY
from ..training.precision import PRECISIONS, find_precision
from . import batchwise
from .batch_cache import CacheOf
from .batchwise import GIB, check_memory_limit
from .likelihood.ais import Annealing
from .likelihood.bounds import up_to
from .likelihood.support import LikelihoodKind, likelihood_kind_of
from .values import StageListener, Value

CHOICE_KEY = "choice of rows"  # a key of protocols; earlier versions took the first rows, and wrote no such key

_BINARIZED = {
    "none": "none",
    "threshold": "threshold at 0.5",
    "fixed": "one fixed draw",
    "per-epoch": "one fixed draw (trained on a new draw for every epoch)",
}


@dataclass(frozen=True)
class Options:
    """The options of an evaluation.

    Arguments:
        split: "test", "validation" or "train".
        binarize: How grey pixels become binary; by default as in the training of a run, and not at all for a model.
            "per-epoch" is evaluated on one fixed draw.
        samples: K of the importance-weighted bound; the smaller powers of ten are shown too. Papers take 5,000.
        rows: Evaluate this many rows only, evenly spread; all by default.
        annealing: How to anneal; by default there is no annealed importance sampling.
        memory: About how many bytes decoding may take.
        seed: Seed of everything random.
        precision: Precision of the bounds' matrix products, as in `bounds`; everything else is in float32.
        judge: Whether to judge samples; for images this trains a classifier when a data set is used for the first time.

    Raises:
        ConfigError: A number is below 1, a word is unknown, or an option is of another type.
    """

    split: str = "test"
    binarize: str | None = None
    samples: int = 100
    rows: int | None = None
    annealing: Annealing | None = None
    memory: int = GIB
    seed: int = 0
    precision: str = "fp32"
    judge: bool = True

    def __post_init__(self) -> None:
        one_of("split", self.split, SPLITS)
        one_of("binarization", self.binarize, (None, *BINARIZATIONS))
        one_of("precision", self.precision, PRECISIONS)
        if not isinstance(self.judge, bool):
            raise ConfigError(f"judge must be True or False, got {self.judge!r:.60}")
        up_to(self.samples)
        check_memory_limit(self.memory)
        if self.rows is not None:
            check_count("rows", self.rows)
        generator_of(self.seed)
        Annealing.of(self.annealing)

    @classmethod
    def of(cls, options: "Options | None", settings: Mapping[str, Any], *, beside: Iterable[str] = ()) -> "Options":
        """These options, or the defaults for None, with some settings changed.

        Arguments:
            options: The options.
            settings: Values of some options, by name.
            beside: Names of other arguments that the caller takes, for the message on an unknown name.

        Raises:
            ConfigError: There is no such option, or one is wrong.
        """
        if not isinstance(options, Options | None):
            raise ConfigError(
                f"options must be vaekit.evaluation.Options, got {type(options).__name__}; pass labels with the rows, "
                "as in evaluate(model, (x, labels)), and options by name, as in samples=5000"
            )
        names = [field.name for field in fields(cls)]
        for name in settings:
            if name not in names:
                raise ConfigError(unknown("option of an evaluation", name, {*names, *beside}))
        return replace(options or cls(), **settings)


@dataclass(frozen=True, eq=False)
class MeasureInput:
    """The input of a measure.

    Arguments:
        model: The model.
        dataset: The data set of the rows, which may be on disk; `with_splits` reads the rows of other splits.
        stored_rows: The rows to evaluate the model on, as the data set has them; `rows` has them as they are evaluated.
        options: How to evaluate.
        loss: The loss that the model was trained with, or None.
        cache_of: Function from the settings that finished batches depend on to their cache.
        listener: Called with the stage, the batches done and the total.
    """

    model: LatentVariableModel
    dataset: Dataset
    stored_rows: Split
    options: Options
    loss: Loss | None = None
    cache_of: CacheOf | None = None
    listener: StageListener | None = None

    @property
    def binarize(self) -> str:
        """How grey pixels become binary."""
        return self.options.binarize or "none"

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """The protocol, in words: numbers of different protocols cannot be compared."""
        return {
            "data": self.dataset.name,
            "checksum": self.dataset.checksum,
            "split": self.options.split if self.dataset.is_split else "all rows",
            **row_counts(len(self.stored_rows), self.dataset.split(self.options.split).fitting(self.options.memory)),
            "binarize": _BINARIZED[self.binarize],
            "likelihood": self.likelihood_kind.description,
            "samples": self.options.samples,
            "precision": find_precision(self.options.precision, self.model),
            "seed": self.options.seed,
            "vaekit": __version__,
        }

    def with_splits(self, *names: str) -> Dataset:
        """The data set with these splits in memory: as many of their rows, evenly spread, as fit in `options.memory`.

        Arguments:
            names: Names of the splits; each is read only once.
        """
        for name in names:
            if name not in self._splits:
                self._splits[name] = self.dataset.splits[name].in_memory(self.options.memory)
        read: Any = {name: self._splits[name] for name in names}
        return replace(self.dataset, **read)

    @cached_property
    def _splits(self) -> dict[str, Split]:
        """The splits in memory, by name: at first the evaluated split, if all of its rows that fit are evaluated."""
        name = self.options.split
        whole = len(self.stored_rows) == self.dataset.split(name).fitting(self.options.memory)
        return {name: self.stored_rows} if whole else {}

    @cached_property
    def rows(self) -> Batch:
        """The rows, always binarized in the same way."""
        return self.evaluated_batch(self.stored_rows)

    def evaluated_batch(self, split: Split) -> Batch:
        """All rows of a split as they are evaluated, with the context or labels of a conditional model."""
        x = evaluated_values(self.model, split, self.binarize)
        labels = split.required_labels() if self.model.context_size and split.c is None else split.labels
        return Batch(x, c=split.c, observed=split.observed_in_memory, labels=labels)

    @property
    def dimensions(self) -> float:
        """The mean number of observed values in a row."""
        mask = self.stored_rows.observed_in_memory
        return self.rows.x[0].numel() if mask is None else mask.sum().item() / len(mask)

    def estimator_options(self, **changed: Any) -> dict[str, Any]:
        """Arguments of all estimators: memory, seed, cache and listener.

        Arguments:
            changed: Entries that replace those of the protocol; batches are cached under the protocol thus changed.
        """
        cache = None if self.cache_of is None else self.cache_of({**self.protocol, **changed})
        return {"memory": self.options.memory, "seed": self.options.seed, "cache": cache, "listener": self.listener}

    @cached_property
    def likelihood_kind(self) -> LikelihoodKind:
        """The kind of the likelihood of these rows."""
        count = -(-len(self.rows) // batchwise.BATCH_ROWS)
        return likelihood_kind_of(self.model, (batchwise.batch_of(self.model, self.rows, i) for i in range(count)))

    @cached_property
    def has_density(self) -> bool:
        """Whether the posterior has a density; without one there is no bound on log p(x)."""
        row = batchwise.batch_of(self.model, self.rows, 0, 1)
        with batchwise.estimating(self.model), seeded(torch.Generator().manual_seed(0)):
            return draw_of(self.model, row).has_density


@dataclass(frozen=True, eq=False)
class Findings:
    """The results of a measure, with the fields of `Evaluation`."""

    values: Sequence[Value] = ()
    warnings: Sequence[str] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Any] = field(default_factory=dict)
    per_row: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class PrintedLine:
    """A line in the output of `vae evaluate`.

    Arguments:
        name: Name of the value; a final * stands for any ending.
        label: Label of the line.
        meaning: Meaning of the value, in a few words.
    """

    name: str
    label: str
    meaning: str = ""

    def value_in(self, values: Sequence[Value]) -> Value | None:
        """The value that the line shows, the first if there are several; or None."""
        if self.name.endswith("*"):
            return next((value for value in values if value.name.startswith(self.name[:-1])), None)
        return next((value for value in values if value.name == self.name), None)


@dataclass(frozen=True)
class Measure:
    """A part of an evaluation.

    Arguments:
        find: Computes the findings; they are empty where the measure does not apply to the model or the rows.
        title: Title of its block in the output of `vae evaluate`.
        caption: A sentence on the block for people who are not specialists.
        lines: Lines of the block; without lines there is no block.
        compared: Names of the values that a comparison of runs shows by default.
    """

    find: Callable[[MeasureInput], Findings]
    title: str = ""
    caption: str = ""
    lines: tuple[PrintedLine, ...] = ()
    compared: tuple[str, ...] = ()


def row_counts(rows: int, of: int) -> dict[str, Any]:
    """The number of evaluated rows, for a protocol; and how they were chosen, if they are not all `of` rows."""
    return {ROWS_KEY: rows} if rows == of else {ROWS_KEY: rows, CHOICE_KEY: "evenly spread"}


def evaluated_values(model: LatentVariableModel, split: Split, binarize: str) -> Tensor:
    """All values of a split, shape (N, *event), always binarized in the same way; bytes of pixels stay bytes."""
    batches = Batches(
        split, batch_size=batchwise.BATCH_ROWS, binarize=repeatable(binarize), value_kind=model.value_kind
    )
    x = batches.x[:]
    return x if batches.are_counts or model.value_kind != "counts" else batches.to_floats(x)
