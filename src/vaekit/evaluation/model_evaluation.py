"""All numbers about one model on one data set.

Not for: the contract of a measure (`measure`), run folders (`run_evaluation`), or a table over several runs
(`comparison`).
"""

from collections.abc import Mapping
from typing import Any

from ..data import Dataset
from ..model import LatentVariableModel
from ..training.cpu import flushed
from .latent_space.classified import CLASSIFIED
from .latent_space.disentanglement import DISENTANGLEMENT
from .latent_space.representation import REPRESENTATION
from .likelihood.log_likelihood import LOG_LIKELIHOOD
from .measure import Measure, MeasureInput, Options, StoreOf
from .result import Evaluation, StageListener
from .samples.quality import QUALITY
from .tables.synthetic import SYNTHETIC

MEASURES: tuple[Measure, ...] = (LOG_LIKELIHOOD, REPRESENTATION, CLASSIFIED, DISENTANGLEMENT, QUALITY, SYNTHETIC)


@flushed()
def evaluate_model(
    model: LatentVariableModel,
    dataset: Dataset,
    options: Options | None = None,
    *,
    judge: bool = True,
    loss: object = None,
    store_of: StoreOf | None = None,
    listener: StageListener | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate a model on a data set: bounds, latents, samples and, if asked for, annealed importance sampling.

    Arguments:
        model: Any latent-variable model with densities, on the device to use.
        dataset: The data set that it was trained on.
        options: How to evaluate.
        judge: Whether to judge samples; this trains a classifier when a data set is used for the first time.
        loss: The loss that it was trained with; its classifier is judged, if it has one.
        store_of: Gives the store of finished batches for the facts that their numbers depend on.
        listener: Hears about the progress.
        settings: Fields of `Options`, in place of those in `options`: `samples=5000`.

    Raises:
        ConfigError: An option or the split is unknown, a number is below 1, or the model has no densities.
        DataError: The rows or the classes do not fit the model.
    """
    options = (options or Options()).with_settings(**settings)
    split = dataset.split(options.split)
    if options.rows is not None:
        split = split.thinned(options.rows)
    task = MeasureInput(model, dataset, split, options, judge=judge, loss=loss, store_of=store_of, listener=listener)
    findings = [measure.find(task) for measure in MEASURES]
    return Evaluation(
        values=[value for part in findings for value in part.values],
        protocol=_merged(task.protocol, *(part.protocol for part in findings)),
        warnings=[sentence for part in findings for sentence in part.warnings],
        details=_merged(*(part.details for part in findings)),
        pictures=_merged(*(part.pictures for part in findings)),
        per_row=_merged(*(part.per_row for part in findings)),
    )


def _merged(*tables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for table in tables for name, item in table.items()}
