"""The measure of likelihood: bounds on log p(x), on request by annealing too; terms for a model without a density.

Not for: the estimators themselves (`bounds`, `ais`).
"""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from ...objectives.base import draw_of
from ...rng import seeded
from ...store.metrics import ROWS_KEY
from .. import chunks
from ..measure import Findings, Line, Measure, MeasureInput
from ..result import mean_of
from .ais import Annealing, ais, bidirectional
from .bounds import bounds, up_to
from .support import refuse_annealing

AIS_ROWS = 50  # rows that are annealed, and the same number of simulated ones, which take twice as long


def find(context: MeasureInput) -> Findings:
    """ELBO, rate, distortion, importance-weighted bounds, and on request annealing."""
    if not context.has_density:
        return _terms(context)
    annealing = context.options.annealing
    if annealing is not None:
        with chunks.estimating(context.model):
            refuse_annealing(context.model, context.rows)
    estimating = context.for_estimators()
    estimating["precision"] = context.protocol["precision"]
    estimates = bounds(context.model, context.rows, samples=up_to(context.options.samples), **estimating)
    findings = Findings(
        values=context.likelihood_kind.named(estimates.values, context.dimensions),
        warnings=[*context.likelihood_kind.warnings, *estimates.warnings],
        per_row=estimates.per_row,
    )
    return findings if annealing is None else _annealed(context, findings, annealing)


def _annealed(context: MeasureInput, findings: Findings, annealing: Annealing) -> Findings:
    """Annealed importance sampling of the first rows, and bidirectional Monte Carlo of simulated ones."""
    n = min(AIS_ROWS, len(context.rows))
    how = {**asdict(annealing), ROWS_KEY: n}
    options: dict[str, Any] = context.for_estimators(samples=None, precision="fp32", annealing=how)
    first = context.rows.rows(slice(n))
    annealed = ais(context.model, first, annealing=annealing, **options)
    c = chunks.context_of(context.model, first)
    simulated = bidirectional(context.model, n, c, annealing=annealing, **options)
    gain = annealed.per_row["ais"] - findings.per_row[f"L_{context.options.samples}"][:n]
    gain_value = mean_of("AIS over the importance-weighted bound", gain, "nats", depends_on=("samples", "annealing"))
    return Findings(
        values=[
            *findings.values,
            *context.likelihood_kind.named(annealed.values, context.dimensions),
            gain_value,
            *simulated.values,
        ],
        warnings=findings.warnings,
        protocol={"annealing": how},
        per_row={**findings.per_row, "ais": annealed.per_row["ais"]},
    )


def _terms(context: MeasureInput) -> Findings:
    """Distortion and penalties, from one sample for each row: the numbers of a model without a density."""
    model = context.model

    def compute(index: int) -> dict[str, Tensor]:
        rows = chunks.batch(model, context.rows, index)
        with seeded(chunks.generator(context.options.seed, "terms", index)):
            draw = draw_of(model, rows)
        return {"distortion": chunks.wide(draw.distortion), **draw.penalties}

    with chunks.estimating(model):
        terms = chunks.over_batches("terms", len(context.rows), compute, listener=context.listener)
    warning = (
        "this model has no density q, so that no bound on log p(x) exists: there is no nll, and there are no numbers "
        "of its latents"
    )
    return Findings(
        values=[mean_of(name, values.double(), "nats") for name, values in terms.items()],
        warnings=[*context.likelihood_kind.warnings, warning],
    )


LOG_LIKELIHOOD = Measure(
    find,
    "Likelihood",
    "How well it predicts new rows. Fewer nats are better.",
    (
        Line("nll", "−log p(x), at most", "from importance samples"),
        Line("AIS", "log p(x), at least", "by annealing"),
        Line("bits per dimension", "nll per value of x"),
        Line("elbo", "ELBO", "what training maximises"),
        Line("rate", "rate", "what the latents cost"),
        Line("distortion", "distortion", "what they leave unexplained"),
    ),
    compared=("nll", "elbo", "rate", "distortion", "bits per dimension", "AIS"),
)
