"""All numbers about one model on one data set.

Not for: the contract of a measure (`measure_contract`), run folders (`run_evaluation`), or a table over several runs
(`comparison`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..data import Dataset, Split
from ..data.dataset import evenly_spread
from ..errors import ConfigError
from ..model import LatentVariableModel
from ..objectives import Loss
from ..training.cpu import flushed
from .batch_cache import CacheOf
from .evaluation_file import Evaluation
from .latent_space.classified import CLASSIFIED
from .latent_space.disentanglement import DISENTANGLEMENT
from .latent_space.representation import REPRESENTATION
from .likelihood.log_likelihood import LOG_LIKELIHOOD
from .measure_contract import Measure, MeasureInput, Options, row_counts
from .samples.quality import QUALITY
from .samples.synthetic import SYNTHETIC
from .values import StageListener

MEASURES: tuple[Measure, ...] = (LOG_LIKELIHOOD, REPRESENTATION, CLASSIFIED, DISENTANGLEMENT, QUALITY, SYNTHETIC)


@flushed()
def evaluate_model(
    model: LatentVariableModel,
    dataset: Dataset,
    options: Options | None = None,
    *,
    loss: Loss | None = None,
    cache_of: CacheOf | None = None,
    listener: StageListener | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate a model on a data set: bounds, latents, samples and, if asked for, annealed importance sampling.

    If rows are on disk, as many as fit in `options.memory` are evaluated, evenly spread, with a warning.

    Arguments:
        model: Any latent-variable model with densities, on the device to use.
        dataset: The data set of the rows; measures that learn from training rows take its training split.
        options: How to evaluate.
        loss: The loss that the model was trained with; if it has a classifier, its error is measured.
        cache_of: Function from the settings that finished batches depend on to their cache.
        listener: Called with the stage, the batches done and the total.
        settings: Fields of `Options`, in place of those in `options`: `samples=5000`.

    Raises:
        ConfigError: An option or the split is unknown, a number is below 1, or the model has no densities.
        DataError: The rows or the classes do not fit the model.
    """
    options = Options.of(options, settings)
    if not isinstance(dataset, Dataset):
        raise ConfigError(f"evaluate_model takes a Dataset, got {type(dataset).__name__}; evaluate takes rows too")
    rows = len(dataset.split(options.split))
    dataset, reduced = _fitting(dataset, options.memory)
    split = _evaluated_rows(dataset.split(options.split), options)
    inputs = MeasureInput(model, dataset, split, options, loss=loss, cache_of=cache_of, listener=listener)
    findings = [measure.find(inputs) for measure in MEASURES]
    return Evaluation(
        values=[value for part in findings for value in part.values],
        protocol=_merged(inputs.protocol, row_counts(len(split), rows), *(part.protocol for part in findings)),
        warnings=[*reduced, *(sentence for part in findings for sentence in part.warnings)],
        details=_merged(*(part.details for part in findings)),
        pictures=_merged(*(part.pictures for part in findings)),
        per_row=_merged(*(part.per_row for part in findings)),
    )


def _fitting(dataset: Dataset, memory: int) -> tuple[Dataset, list[str]]:
    """The data set with the checksum of the rows that fit in memory, and a sentence for each split that does not."""
    adjectives = {"train": "training"}
    reduced = [
        f"of the {len(split)} {adjectives.get(name, name)} rows on disk {split.fitting(memory)}, evenly spread, "
        "fit in `memory`"
        for name, split in dataset.splits.items()
        if split.fitting(memory) < len(split)
    ]
    if not reduced:
        return dataset, []
    checksum = hashlib.sha256("".join([dataset.checksum, *reduced]).encode()).hexdigest()
    return replace(dataset, checksum=checksum), reduced


def _evaluated_rows(split: Split, options: Options) -> Split:
    """At most `options.rows` evenly spread rows that fit in memory; by default every row that fits.

    Only these are read.
    """
    fitting = evenly_spread(len(split), split.fitting(options.memory))
    if options.rows is None:
        return split.in_memory(options.memory)
    return split.rows(fitting[evenly_spread(len(fitting), options.rows)])


def _merged(*tables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for table in tables for name, item in table.items()}
