"""The measure of likelihood: bounds on log p(x), on request by annealing too; without a density, terms of the loss.

Not for: the estimators themselves (`bounds`, `ais`).
"""

from dataclasses import asdict

from torch import Tensor

from ...data.dataset import evenly_spread
from ...objectives.base import draw_of
from ...rng import seeded
from .. import batchwise
from ..measure_contract import Findings, Measure, MeasureInput, PrintedLine, row_counts
from ..values import bound_name, mean_over_rows
from .ais import Annealing, ais, bidirectional
from .bounds import bounds, up_to
from .support import refuse_annealing

AIS_ROWS = 50  # rows that are annealed, and the same number of simulated ones, which take twice as long


def measure_likelihood(inputs: MeasureInput) -> Findings:
    """ELBO, rate, distortion, importance-weighted bounds, and on request annealing."""
    if not inputs.has_density:
        return _terms(inputs)
    annealing = inputs.options.annealing
    if annealing is not None:
        with batchwise.estimating(inputs.model):
            refuse_annealing(inputs.model, inputs.rows)
    estimates = bounds(
        inputs.model,
        inputs.rows,
        samples=up_to(inputs.options.samples),
        precision=inputs.protocol["precision"],
        **inputs.estimator_options(),
    )
    findings = Findings(
        values=inputs.likelihood_kind.named(estimates.values, inputs.dimensions),
        warnings=[*inputs.likelihood_kind.warnings, *estimates.warnings],
        per_row=estimates.per_row,
    )
    return findings if annealing is None else _annealed(inputs, findings, annealing)


def _annealed(inputs: MeasureInput, findings: Findings, annealing: Annealing) -> Findings:
    """Annealed importance sampling of evenly spread rows, and bidirectional Monte Carlo of simulated ones."""
    n = min(AIS_ROWS, len(inputs.rows))
    how = {**asdict(annealing), **row_counts(n, len(inputs.rows))}
    options = inputs.estimator_options(samples=None, precision="fp32", annealing=how)
    index = evenly_spread(len(inputs.rows), n)
    rows = inputs.rows.rows(index)
    annealed = ais(inputs.model, rows, annealing=annealing, **options)
    c = batchwise.context_of(inputs.model, rows)
    simulated = bidirectional(inputs.model, n, c, annealing=annealing, **options)
    gain = annealed.per_row["ais"] - findings.per_row[bound_name(inputs.options.samples)][index]
    gain_value = mean_over_rows(
        "AIS over the importance-weighted bound", gain, "nats", depends_on=("samples", "annealing")
    )
    return Findings(
        values=[
            *findings.values,
            *inputs.likelihood_kind.named(annealed.values, inputs.dimensions),
            gain_value,
            *simulated.values,
        ],
        warnings=findings.warnings,
        protocol={"annealing": how},
        per_row={**findings.per_row, "ais": annealed.per_row["ais"]},
    )


def _terms(inputs: MeasureInput) -> Findings:
    """Distortion and penalties, from one sample for each row: the numbers of a model without a density."""
    model = inputs.model

    def compute(index: int) -> dict[str, Tensor]:
        rows = batchwise.batch_of(model, inputs.rows, index)
        with seeded(batchwise.stream_of(inputs.options.seed, "terms", index)):
            draw = draw_of(model, rows)
        return {"distortion": batchwise.to_float64(draw.distortion), **draw.penalties}

    with batchwise.estimating(model):
        terms = batchwise.over_batches("terms", len(inputs.rows), compute, listener=inputs.listener)
    warning = (
        "this model has no density q, so that no bound on log p(x) exists: there is no nll, and there are no numbers "
        "of its latents"
    )
    return Findings(
        values=[mean_over_rows(name, values.double(), "nats") for name, values in terms.items()],
        warnings=[*inputs.likelihood_kind.warnings, warning],
    )


LOG_LIKELIHOOD = Measure(
    measure_likelihood,
    "Likelihood",
    "How well the model predicts new rows. Fewer nats are better.",
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
