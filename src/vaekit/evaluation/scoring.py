"""Score how unusual each row is, compared with a run's test rows, and name the columns that explain it.

Not for: scores without a comparison (`named_rows.score_rows`), or how well scores find outliers (`outliers`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model import LatentVariableModel
from ..runs.restore import RestoredRun
from ..store import Run
from .missing.conditional import value_scores
from .named_rows import SERVED_AT_A_TIME, NamedRows, likelihood_kind, percentiles, reference, rows_of, score_rows
from .values_with_errors import StageListener

REFERENCE = 1000  # test rows to compare with
RARE = 90  # a column above this percentile is named as a reason
REASONS = 3  # columns to name at most


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of rows, which say how unusual the rows are.

    Arguments:
        rows: The rows.
        values: Tensors (N,) by name, nats: "nll", an upper bound on −log p(x), and its parts "distortion" and "rate";
            and "percentile", the percentage of the run's test rows with a smaller nll.
        columns: Nats of each column of a table by its name, shape (N,), NaN where the value is missing.
        ranks: Percentiles of these nats among the test rows' nats, shape (D, N); −1 where the value is missing, and
            for a column that is empty in all of these test rows.
        warnings: Warnings, one sentence each.
    """

    rows: NamedRows
    values: dict[str, Tensor]
    columns: dict[str, Tensor]
    ranks: Tensor
    warnings: Sequence[str]

    @property
    def order(self) -> Tensor:
        """Indices of the rows, the least likely first."""
        return self.values["nll"].argsort(descending=True)

    def reasons(self, row: int) -> list[tuple[str, float]]:
        """The columns that make a row of a table unusual, the most unusual first, with their percentiles."""
        names = list(self.columns)
        worst = sorted(range(len(names)), key=lambda column: -self.ranks[column, row].item())[:REASONS]
        return [(names[i], self.ranks[i, row].item()) for i in worst if self.ranks[i, row] > RARE]


def score_run(
    run: Run | RestoredRun,
    model: LatentVariableModel,
    rows: NamedRows,
    *,
    samples: int = 100,
    seed: int = 0,
    listener: StageListener | None = None,
) -> Scores:
    """Score how unusual rows are, compared with the test rows of a run.

    Arguments:
        run: The run; a `RestoredRun` if it names the caller's own code.
        model: The model of the run, as `vaekit.load(run)` gives it.
        rows: The rows, from `named_rows.rows_of(run, data)`.
        samples: K of the importance-weighted bound.
        seed: Seed of the samples.
        listener: Hears about the progress.

    Raises:
        ConfigError: `samples` is below 1, or the model has no densities or is that of another run.
        DataError: The run's own data are needed, but missing.
    """
    restored = RestoredRun.of(run)
    of_other_weights = restored.check_model(model)
    usual_nll, likelihood = reference(restored, model, most=REFERENCE, samples=samples, seed=seed, listener=listener)
    values = score_rows(model, rows, samples=samples, seed=seed, listener=listener)
    warnings = (likelihood_kind(model, rows) if likelihood.inside else likelihood).warnings
    warnings = [*of_other_weights, *warnings]
    values["percentile"] = percentiles(values["nll"], usual_nll)
    columns = restored.facts.columns
    if columns is None:
        return Scores(rows, values, {}, torch.empty(0, len(rows)), warnings)
    scores, test_scores = (
        _column_scores(model, named, samples, seed, listener) for named in (rows, rows_of(restored).thinned(REFERENCE))
    )
    ranks = torch.stack([_ranks(column, tests) for column, tests in zip(scores.T, test_scores.T, strict=True)])
    names = [column.name for column in columns]
    return Scores(rows, values, dict(zip(names, scores.T, strict=True)), ranks, warnings)


def _ranks(nats: Tensor, test_nats: Tensor) -> Tensor:
    """Percentiles of a column's nats among the known ones of the test rows, shape (N,); −1 where there is none."""
    known = test_nats[~test_nats.isnan()]
    if not len(known):
        return torch.full((len(nats),), -1.0, dtype=torch.float64)
    return percentiles(nats.contiguous(), known).masked_fill(nats.isnan(), -1)


def _column_scores(
    model: LatentVariableModel, rows: NamedRows, samples: int, seed: int, listener: StageListener | None
) -> Tensor:
    """Nats of each column of a table, shape (N, D), NaN where the value is missing."""
    parts: list[Tensor] = []
    total = -(-len(rows) // SERVED_AT_A_TIME)
    for batch in rows.batches(model):
        parts.append(value_scores(model, iter((batch,)), samples=samples, seed=seed))
        if listener is not None:
            listener(f"columns of {rows.name}", len(parts), total)
    return torch.cat(parts)
