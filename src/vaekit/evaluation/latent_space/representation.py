"""The measure of latents: how many are used, how much they carry, and how well they predict classes.

Not for: the estimators themselves (`latents`, `code_usage`), or latents that stand for factors (`disentanglement`).
"""

from torch import Tensor

from ... import plot
from ...data import Split
from .. import chunks
from ..measure import Findings, Line, Measure, MeasureInput
from .code_usage import code_usage
from .latents import Latents, latents, linear_probe, nearest_neighbours

SHOWN = 2000  # rows in the picture


def find(context: MeasureInput) -> Findings:
    """Active units, information and collapse; if there are classes, also how well the latents predict them."""
    if not context.has_density:
        return Findings()
    model, rows, options = context.model, context.rows, context.options
    posteriors = latents(model, rows, memory=options.memory, seed=options.seed, listener=context.listener)
    classes = _classes(context, posteriors)
    return Findings(
        values=[*posteriors.values, *code_usage(model, rows, listener=context.listener), *classes.values],
        warnings=[*posteriors.warnings, *classes.warnings],
        details={
            "kl by dimension": None if posteriors.kl is None else posteriors.kl.tolist(),
            "variance of posterior means": posteriors.variances.tolist(),
        },
        pictures=classes.pictures,
    )


def _classes(context: MeasureInput, posteriors: Latents) -> Findings:
    """The accuracy of a linear classifier and of the nearest neighbours on posterior means, and a picture of these."""
    labels = context.split.labels
    if labels is None or len(labels[labels >= 0].unique()) < 2:
        return Findings()
    split = context.dataset.train.labelled()
    if not len(split):
        return Findings()
    train_z, train_labels = _with_known_class(_means(context, split), split.known_labels())
    test_z, test_labels = _with_known_class(posteriors.means, labels)
    values = [
        classifier(train_z, train_labels, test_z, test_labels) for classifier in (linear_probe, nearest_neighbours)
    ]
    warning = "the linear probe and the neighbours read classes from latents, but the encoder was given these classes"
    pictures = {}
    if context.split.context is None:
        shown = chunks.batch(context.model, context.rows, 0, SHOWN)
        x = context.model.seen(shown.x, shown.observed)
        pictures = {"latents": plot.latents(context.model, x, labels[:SHOWN])}
    return Findings(values, [warning] if context.model.context_size else [], pictures=pictures)


def _means(context: MeasureInput, split: Split) -> Tensor:
    """Posterior means of a split, shape (N, Z)."""
    rows = context.rows_of(split)

    def compute(index: int) -> dict[str, Tensor]:
        batch = chunks.batch(context.model, rows, index)
        return {"means": chunks.posterior(context.model, batch).mean.flatten(1)}

    with chunks.estimating(context.model):
        return chunks.over_batches("training rows", len(rows), compute, listener=context.listener)["means"]


def _with_known_class(means: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The latents with a known class, and these classes."""
    known = labels >= 0
    return means[known].float(), labels[known]


REPRESENTATION = Measure(
    find,
    "Latents",
    "What the latents of a row say about it.",
    (
        Line("active units", "latents in use"),
        Line("10-nearest*", "class of the neighbours", "by the nearest latents"),
        Line("linear probe*", "class by a linear cut", "by a linear classifier"),
    ),
    compared=("active units", "linear probe accuracy"),
)
