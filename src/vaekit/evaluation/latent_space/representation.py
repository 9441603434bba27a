"""The measure of latents: how many are used, how much they carry, and how well they predict classes.

Not for: the estimators (`latent_statistics`, `code_usage`), or latents that stand for factors (`disentanglement`).
"""

from torch import Tensor

from ... import plot
from ...data import Split
from ...data.dataset import evenly_spread
from .. import batchwise
from ..measure_contract import Findings, Measure, MeasureInput, PrintedLine
from .code_usage import code_usage
from .latent_statistics import LatentStatistics, latent_statistics, linear_probe, nearest_neighbours

PICTURED_ROWS = 2000  # rows in the picture


def measure_latents(inputs: MeasureInput) -> Findings:
    """Active units, information and collapse; if there are classes, also how well the latents predict them."""
    if not inputs.has_density:
        return Findings()
    model, rows, options = inputs.model, inputs.rows, inputs.options
    statistics = latent_statistics(model, rows, memory=options.memory, seed=options.seed, listener=inputs.listener)
    classes = _classes(inputs, statistics)
    return Findings(
        values=[*statistics.values, *code_usage(model, rows, listener=inputs.listener), *classes.values],
        warnings=[*statistics.warnings, *classes.warnings],
        details={
            "kl by dimension": None if statistics.kl is None else statistics.kl.tolist(),
            "variance of posterior means": statistics.variances.tolist(),
        },
        pictures=classes.pictures,
    )


def _classes(inputs: MeasureInput, statistics: LatentStatistics) -> Findings:
    """The accuracy of a linear classifier and of the nearest neighbours on posterior means, and a picture of them."""
    labels = inputs.stored_rows.labels
    if labels is None or len(labels[labels >= 0].unique()) < 2:
        return Findings()
    split = inputs.with_splits("train").train.labelled()
    if len(split) < 2:
        return Findings()
    train_z, train_labels = _with_known_class(_means(inputs, split), split.required_labels())
    test_z, test_labels = _with_known_class(statistics.means, labels)
    values = [
        classifier(train_z, train_labels, test_z, test_labels) for classifier in (linear_probe, nearest_neighbours)
    ]
    warning = "the linear probe and the neighbours read classes from latents, but the encoder was given these classes"
    pictures = {}
    if inputs.stored_rows.c is None:
        rows = evenly_spread(len(inputs.rows), PICTURED_ROWS)
        pictured = batchwise.batch_of(inputs.model, inputs.rows.rows(rows), 0, PICTURED_ROWS)
        pictures = {"latents": plot.latents(inputs.model, inputs.model.posterior_input(pictured), labels[rows])}
    return Findings(values, [warning] if inputs.model.context_size else [], pictures=pictures)


def _means(inputs: MeasureInput, split: Split) -> Tensor:
    """Posterior means of a split, shape (N, Z)."""
    rows = inputs.evaluated_batch(split)

    def compute(index: int) -> dict[str, Tensor]:
        batch = batchwise.batch_of(inputs.model, rows, index)
        return {"means": inputs.model.posterior_of(batch).mean.flatten(1)}

    with batchwise.estimating(inputs.model):
        return batchwise.over_batches("training rows", len(rows), compute, listener=inputs.listener)["means"]


def _with_known_class(means: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The latents with a known class, and these classes."""
    known = labels >= 0
    return means[known].float(), labels[known]


REPRESENTATION = Measure(
    measure_latents,
    "Latents",
    "What the latents of a row say about it.",
    (
        PrintedLine("active units", "latents in use"),
        PrintedLine("10-nearest*", "class of the neighbours", "by the nearest latents"),
        PrintedLine("linear probe*", "class, by a linear classifier"),
    ),
    compared=("active units", "linear probe accuracy"),
)
