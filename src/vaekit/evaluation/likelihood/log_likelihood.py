"""The measure of likelihood: bounds on log p(x), on request by annealing too; terms for a model without a density.

Not for: the estimators themselves (`bounds`, `ais`).
"""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from ...data.dataset import evenly_spread
from ...objectives.base import draw_of
from ...rng import seeded
from .. import batchwise
from ..measure import Findings, Measure, MeasureInput, PrintedLine, counted
from ..values_with_errors import bound_name, mean_over_rows
from .ais import Annealing, ais, bidirectional
from .bounds import bounds, up_to
from .support import refuse_annealing

AIS_ROWS = 50  # rows that are annealed, and the same number of simulated ones, which take twice as long


def measure_likelihood(task: MeasureInput) -> Findings:
    """ELBO, rate, distortion, importance-weighted bounds, and on request annealing."""
    if not task.has_density:
        return _terms(task)
    annealing = task.options.annealing
    if annealing is not None:
        with batchwise.estimating(task.model):
            refuse_annealing(task.model, task.rows)
    estimating = task.for_estimators()
    estimating["precision"] = task.protocol["precision"]
    estimates = bounds(task.model, task.rows, samples=up_to(task.options.samples), **estimating)
    findings = Findings(
        values=task.likelihood_kind.named(estimates.values, task.dimensions),
        warnings=[*task.likelihood_kind.warnings, *estimates.warnings],
        per_row=estimates.per_row,
    )
    return findings if annealing is None else _annealed(task, findings, annealing)


def _annealed(task: MeasureInput, findings: Findings, annealing: Annealing) -> Findings:
    """Annealed importance sampling of evenly spread rows, and bidirectional Monte Carlo of simulated ones."""
    n = min(AIS_ROWS, len(task.rows))
    how = {**asdict(annealing), **counted(n, len(task.rows))}
    options: dict[str, Any] = task.for_estimators(samples=None, precision="fp32", annealing=how)
    numbers = evenly_spread(len(task.rows), n)
    rows = task.rows.rows(numbers)
    annealed = ais(task.model, rows, annealing=annealing, **options)
    c = batchwise.context_of(task.model, rows)
    simulated = bidirectional(task.model, n, c, annealing=annealing, **options)
    gain = annealed.per_row["ais"] - findings.per_row[bound_name(task.options.samples)][numbers]
    gain_value = mean_over_rows(
        "AIS over the importance-weighted bound", gain, "nats", depends_on=("samples", "annealing")
    )
    return Findings(
        values=[
            *findings.values,
            *task.likelihood_kind.named(annealed.values, task.dimensions),
            gain_value,
            *simulated.values,
        ],
        warnings=findings.warnings,
        protocol={"annealing": how},
        per_row={**findings.per_row, "ais": annealed.per_row["ais"]},
    )


def _terms(task: MeasureInput) -> Findings:
    """Distortion and penalties, from one sample for each row: the numbers of a model without a density."""
    model = task.model

    def compute(index: int) -> dict[str, Tensor]:
        rows = batchwise.batch(model, task.rows, index)
        with seeded(batchwise.generator(task.options.seed, "terms", index)):
            draw = draw_of(model, rows)
        return {"distortion": batchwise.wide(draw.distortion), **draw.penalties}

    with batchwise.estimating(model):
        terms = batchwise.over_batches("terms", len(task.rows), compute, listener=task.listener)
    warning = (
        "this model has no density q, so that no bound on log p(x) exists: there is no nll, and there are no numbers "
        "of its latents"
    )
    return Findings(
        values=[mean_over_rows(name, values.double(), "nats") for name, values in terms.items()],
        warnings=[*task.likelihood_kind.warnings, warning],
    )


LOG_LIKELIHOOD = Measure(
    measure_likelihood,
    "Likelihood",
    "How well it predicts new rows. Fewer nats are better.",
    (
        PrintedLine("nll", "−log p(x), at most", "from importance samples"),
        PrintedLine("AIS", "log p(x), at least", "by annealing"),
        PrintedLine("bits per dimension", "nll per value of x"),
        PrintedLine("elbo", "ELBO", "what training maximises"),
        PrintedLine("rate", "rate", "what the latents cost"),
        PrintedLine("distortion", "distortion", "what they leave unexplained"),
    ),
    compared=("nll", "elbo", "rate", "distortion", "bits per dimension", "AIS"),
)
