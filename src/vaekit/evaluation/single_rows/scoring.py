"""Score how unusual each row is, compared with a run's test rows, and name the columns that explain it.

Not for: how well scores find outliers (`outliers`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ... import plot
from ...data import Batch
from ...errors import DataError
from ...model import LatentVariableModel
from ...runs.model_weights import check_weights
from ...runs.restore import RestoredRun
from ...store import Run
from .. import batchwise
from ..batch_cache import BatchCache, RunCaches
from ..batchwise import GIB
from ..likelihood.bounds import batch_bounds, check_samples, density_warnings
from ..likelihood.support import LikelihoodKind, likelihood_kind_of
from ..missing.conditional import refuse_joint_values, value_scores
from ..values import StageListener, bound_name
from .named_rows import NamedRows, check_named_rows, rows_of

REFERENCE_ROWS = 1000  # test rows to compare with
RARE = 90  # a column above this percentile is named as a reason
REASONS = 3  # columns to name at most
PICTURED = 32  # least likely images that are drawn


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
        per_value: Nats of each value, such as a pixel, shape (N, *event), NaN where it is missing; None if not wanted.
    """

    rows: NamedRows
    values: dict[str, Tensor]
    columns: dict[str, Tensor]
    ranks: Tensor
    warnings: Sequence[str]
    per_value: Tensor | None = None

    @property
    def order(self) -> Tensor:
        """Indices of the rows, the least likely first."""
        return self.values["nll"].argsort(descending=True)

    def reasons(self, row: int) -> list[tuple[str, float]]:
        """The columns that make a row of a table unusual, the most unusual first, with their percentiles."""
        names = list(self.columns)
        worst = sorted(range(len(names)), key=lambda column: -self.ranks[column, row].item())[:REASONS]
        return [(names[i], self.ranks[i, row].item()) for i in worst if self.ranks[i, row] > RARE]

    @property
    def unlikely(self) -> int:
        """The number of rows that are less likely than 99 % of the run's test rows."""
        return int((self.values["percentile"] >= 99).sum())

    def least_likely(self, most: int) -> list[dict[str, Any]]:
        """A record for each of at most `most` rows, the least likely first: its name, class, scores and reasons."""
        records = []
        for i in self.order[:most].tolist():
            scores = {name: column[i].item() for name, column in self.values.items()}
            record: dict[str, Any] = {
                self.rows.row_word: self.rows.names[i],
                "class": self.rows.classes[i],
                **scores,
            }
            if self.columns:
                record["reasons"] = [{"column": name, "percentile": rank} for name, rank in self.reasons(i)]
            records.append(record)
        return records

    def to_csv(self) -> bytes:
        """A CSV with a line for each row: its name, its class, its scores and the nats of its columns."""
        return self.rows.to_csv(self.values | self.columns)

    def picture(self, model: LatentVariableModel, most: int = PICTURED) -> plot.Picture:
        """At most `most` images, the least likely first, their reconstructions by the model, and the errors."""
        pictured = next(self.rows.some(self.order[:most]).batches(model))
        return plot.reconstructions(model, pictured.x, pictured.c)


def score_run(
    run: Run | RestoredRun,
    model: LatentVariableModel,
    rows: NamedRows,
    *,
    samples: int = 100,
    seed: int = 0,
    per_value: bool = False,
    listener: StageListener | None = None,
) -> Scores:
    """Score how unusual rows are, compared with the test rows of a run.

    Arguments:
        run: The run; a `RestoredRun` if its config names parts by import path.
        model: The model of the run, as `vaekit.load(run)` gives it.
        rows: The rows, from `rows_of(run, data)`.
        samples: K of the importance-weighted bound.
        seed: Seed of the samples.
        per_value: Whether to score each value of a row too; the columns of a table are always scored.
        listener: Called with the stage, the batches done and the total.

    Raises:
        ConfigError: `samples` is below 1, the model has no densities or is that of another run, or values are to be
            scored that are not independent given the latents.
        DataError: The run's own data are needed, but missing.
    """
    check_named_rows(rows)
    restored = RestoredRun.of(run)
    weight_warnings = check_weights(restored.run, model)
    columns = restored.data_record.columns
    if per_value or columns is not None:
        refuse_joint_values(model, next(rows.thinned(1).batches(model)))  # now, not after minutes
    usual_nll, likelihood = reference(
        restored, model, most=REFERENCE_ROWS, samples=samples, seed=seed, listener=listener
    )
    values = score_rows(model, rows, samples=samples, seed=seed, listener=listener)
    warnings = (likelihood_kind(model, rows) if likelihood.inside else likelihood).warnings
    warnings = [*weight_warnings, *warnings, *density_warnings(-values["nll"])]
    values["percentile"] = percentiles(values["nll"], usual_nll)
    if columns is None:
        nats = _value_scores("values", model, rows, samples, seed, listener) if per_value else None
        return Scores(rows, values, {}, torch.empty(0, len(rows)), warnings, nats)
    nats = _value_scores("columns", model, rows, samples, seed, listener)
    test_nats = _reference_columns(restored, model, samples, seed, listener)
    ranks = torch.stack([_ranks(column, tests) for column, tests in zip(nats.T, test_nats.T, strict=True)])
    names = [column.name for column in columns]
    return Scores(rows, values, dict(zip(names, nats.T, strict=True)), ranks, warnings, nats)


def score_rows(
    model: LatentVariableModel,
    rows: NamedRows,
    *,
    samples: int = 100,
    memory: int = GIB,
    seed: int = 0,
    listener: StageListener | None = None,
) -> dict[str, Tensor]:
    """Score how unlikely rows are: the greater `nll`, the less likely the row.

    Likelihood is not familiarity: images that are simpler than the training images can be likelier than them
    (Nalisnick et al. 2018, arXiv:1810.09136).

    Arguments:
        model: The model.
        rows: The rows.
        samples: K, the number of importance samples of each row.
        memory: About how many bytes decoding may take.
        seed: Seed of the samples.
        listener: Called with the stage, the batches done and the total.

    Returns:
        Tensors (N,), float64, nats: "nll", −L_K, an upper bound on −log p(x); "distortion", −E_q log p(x | z); "rate",
        KL(q(z | x) ‖ p(z)).

    Raises:
        ConfigError: `samples` is below 1, or the model has no densities.
        DataError: There are 0 rows, or they do not fit the model.
    """
    check_named_rows(rows)
    check_samples(samples)
    parts: list[Tensor] = []
    with batchwise.estimating(model):
        for served in rows.batches(model, stage=f"scoring {rows.name}", listener=listener):
            batchwise.check_evaluable(model, served, memory)
            for i in range(-(-len(served) // batchwise.BATCH_ROWS)):
                batch = batchwise.batch_of(model, served, i)
                per_row = batch_bounds(model, batch, len(parts), (samples,), memory=memory, seed=seed)
                bound = per_row[bound_name(samples)]
                parts.append(torch.stack((-bound, per_row["distortion"], per_row["rate"])).cpu())
    return dict(zip(("nll", "distortion", "rate"), torch.cat(parts, 1), strict=True))


def likelihood_kind(model: LatentVariableModel, *several: NamedRows) -> LikelihoodKind:
    """The kind of the rows' log p(x | z). Scores say how likely rows are only if this is a likelihood.

    Arguments:
        model: The model.
        several: All rows that are compared.
    """
    return likelihood_kind_of(model, (part for rows in several for part in _parts(model, rows)))


def _parts(model: LatentVariableModel, rows: NamedRows) -> Iterator[Batch]:
    for batch in rows.batches(model):
        observed = replace(batch, x=batch.zero_filled)
        yield from (
            observed.rows(slice(start, start + batchwise.BATCH_ROWS))
            for start in range(0, len(batch), batchwise.BATCH_ROWS)
        )


def reference(
    restored: RestoredRun,
    model: LatentVariableModel,
    *,
    most: int,
    samples: int = 100,
    seed: int = 0,
    listener: StageListener | None = None,
) -> tuple[Tensor, LikelihoodKind]:
    """Scores of a run's test rows, to compare other rows with, and the kind of their likelihood.

    Both are stored in the run's folder, so later calls with the same samples and seed do not need the run's data; the
    nats of the columns of a table are stored beside them.

    Arguments:
        restored: The run.
        model: The model of the run.
        most: The greatest number of test rows; they are evenly spread.
        samples: K, the number of importance samples of each row.
        seed: Seed of the samples.
        listener: Called with the stage, the batches done and the total.
    """
    cache = _reference_cache(restored, model, most, samples, seed)
    tensors = cache.load("reference")
    if tensors is None or not tensors.keys() >= {"nll", "discrete", "inside"}:
        test_rows = rows_of(restored).thinned(most)
        likelihood = likelihood_kind(model, test_rows)
        nll = score_rows(model, test_rows, samples=samples, seed=seed, listener=listener)["nll"]
        tensors = {"nll": nll, **{name: torch.tensor([fact]) for name, fact in asdict(likelihood).items()}}
        cache.save("reference", tensors)
    discrete, inside = (bool(tensors[name]) for name in ("discrete", "inside"))
    return tensors["nll"], LikelihoodKind(discrete, inside)


def _reference_cache(
    restored: RestoredRun, model: LatentVariableModel, most: int, samples: int, seed: int
) -> BatchCache:
    """The cache of scores of a run's test rows."""
    return RunCaches(restored.run, model)({"reference": most, "samples": samples, "seed": seed})


def _reference_columns(
    restored: RestoredRun, model: LatentVariableModel, samples: int, seed: int, listener: StageListener | None
) -> Tensor:
    """Nats of each column of a run's test rows, shape (N, D); stored in its folder, as `reference` stores scores."""
    cache = _reference_cache(restored, model, REFERENCE_ROWS, samples, seed)
    tensors = cache.load("columns")
    if tensors is None or "nats" not in tensors:
        test_rows = rows_of(restored).thinned(REFERENCE_ROWS)
        tensors = {"nats": _value_scores("columns", model, test_rows, samples, seed, listener)}
        cache.save("columns", tensors)
    return tensors["nats"]


def percentiles(values: Tensor, reference: Tensor) -> Tensor:
    """The percentage of reference values that are smaller than each value, shape (N,); NaN for NaN.

    Raises:
        DataError: There are no reference values.

    >>> percentiles(torch.tensor([0.0, 1.5, 9.0]), torch.tensor([2.0, 1.0]))
    tensor([  0.,  50., 100.], dtype=torch.float64)
    """
    if not len(reference):
        raise DataError("percentiles need at least one reference value, got none")
    ranks = 100 * torch.searchsorted(reference.sort().values, values).double() / len(reference)
    return ranks.masked_fill(values.isnan(), math.nan)


def _ranks(nats: Tensor, test_nats: Tensor) -> Tensor:
    """Percentiles of a column's nats among the test rows' known ones, shape (N,); −1 where there is no percentile."""
    known = test_nats[~test_nats.isnan()]
    if not len(known):
        return torch.full((len(nats),), -1.0, dtype=torch.float64)
    return percentiles(nats.contiguous(), known).masked_fill(nats.isnan(), -1)


def _value_scores(
    stage: str, model: LatentVariableModel, rows: NamedRows, samples: int, seed: int, listener: StageListener | None
) -> Tensor:
    """Nats of each value, shape (N, *event), NaN where it is missing."""
    batches = rows.batches(model, stage=f"{stage} of {rows.name}", listener=listener)
    return value_scores(model, batches, samples=samples, seed=seed)
