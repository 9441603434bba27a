"""Compare the rows that a table's model draws with the table: columns, pairs, a classifier, nearest rows, a task.

Drawn rows get the gaps of real ones, so that missing values tell nothing.

Not for: images (`quality`), or log-densities (`bounds`).
"""

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...data import Dataset, Split
from ...data.table.columns import Column
from ...errors import DataError
from ...model import LatentVariableModel
from ...nets import ColumnView
from ...rng import generator_of, seeded
from ..batchwise import estimating
from ..measure_contract import Findings, Measure, MeasureInput, PrintedLine
from ..values import Value, share_of

COMPARED_ROWS = 2000  # rows of each kind that are compared
COLUMN_BINS = 10  # bins into which a number is sorted when it is paired with a level
STEPS, WIDTH, DECAY = 200, 32, 1e-3  # of the classifiers


def synthetic(
    model: LatentVariableModel, dataset: Dataset, *, split: Split | None = None, held_out: bool = True, seed: int = 0
) -> list[Value]:
    """Compare drawn rows with a table's test rows, or with those of another split.

    "column shapes" is a mean over columns: one minus the Kolmogorov-Smirnov or the total-variation distance. "pair
    trends" is a mean over pairs: one minus half of the difference of correlations, or one minus the total-variation
    distance of two-way tables. Both are 100 % for rows of the same distribution, up to the noise of few rows. "told
    from real rows" is a classifier's accuracy, 50 % at best. "nearest training row" is a ratio of median distances from
    the nearest training row, drawn rows over test rows: much less than 1 means that rows are copied. "learned from
    drawn rows" and "learned from real rows" are accuracies on real rows, of classifiers of the last column with levels.

    Arguments:
        model: An unconditional model of the table.
        dataset: The table, with training rows.
        split: The real rows to compare with, at least one; those of the test split by default.
        held_out: Whether the real rows are new to the model. If they are training rows, only columns and pairs are
            compared: the rest needs rows that the model has not seen.
        seed: Seed of the rows and the classifiers.

    Raises:
        DataError: There are no training rows, or no rows to compare with.

    Reference: the distances are those of SDMetrics (Patki, Wedge and Veeramachaneni 2016, "The Synthetic Data Vault",
    IEEE DSAA); Lopez-Paz and Oquab 2016, arXiv:1610.06545, for the classifier; Esteban, Hyland and Rätsch 2017,
    arXiv:1706.02633, for learning from drawn rows.
    """
    columns = dataset.columns or ()
    if not len(dataset.train) or not len(dataset.test if split is None else split):
        raise DataError("drawn rows are compared with training rows and others, and there must be some of both")
    with seeded(generator_of(seed)):
        train, test = (_spread_rows(rows) for rows in (dataset.train, dataset.test if split is None else split))
        drawn = _with_gaps(_drawn(model, len(train) + len(test)), torch.cat((train, test)))
        like_train, like_test = drawn[: len(train)], drawn[len(train) :]
        view = ColumnView(columns)
        values = [_mean("column shapes", [_shape(c, test[:, i], drawn[:, i]) for i, c in enumerate(columns)])]
        if len(columns) > 1:
            values.append(_mean("pair trends", _pairs(columns, torch.cat((train, test)), drawn)))
        if not held_out:
            return values
        values.append(_told_apart(view, (train, like_train), (test, like_test)))
        values.append(_nearest(view, train, test, like_test))
        return values + _task(columns, (train, like_train), test)


def _spread_rows(split: Split) -> Tensor:
    """At most `COMPARED_ROWS` rows, evenly spread; missing values are NaN."""
    rows = split.thinned(COMPARED_ROWS)
    x = rows.x[:]
    return x if rows.observed_in_memory is None else x.masked_fill(~rows.observed_in_memory, math.nan)


def _drawn(model: LatentVariableModel, n: int) -> Tensor:
    with estimating(model):
        return model.sample(n, noise=True).cpu()


def _with_gaps(drawn: Tensor, real: Tensor) -> Tensor:
    return drawn.masked_fill(real.isnan(), math.nan)


def _mean(name: str, shares: Sequence[float]) -> Value:
    finite = [share for share in shares if not math.isnan(share)]
    return Value(name, 100 * sum(finite) / len(finite) if finite else math.nan, None, "%")


def _shape(column: Column, real: Tensor, drawn: Tensor) -> float:
    """One minus the distance between the distributions of a column."""
    real, drawn = real[~real.isnan()], drawn[~drawn.isnan()]
    if not len(real) or not len(drawn):
        return math.nan
    if column.has_levels:
        shares = [part.long().bincount(minlength=len(column.levels)) / len(part) for part in (real, drawn)]
        return 1 - 0.5 * float((shares[0] - shares[1]).abs().sum())
    points = torch.cat((real, drawn))
    below = [torch.searchsorted(part.sort().values, points, right=True) / len(part) for part in (real, drawn)]
    return 1 - float((below[0] - below[1]).abs().max())


def _pairs(columns: Sequence[Column], real: Tensor, drawn: Tensor) -> list[float]:
    """One minus the distance between real and drawn dependence, for each pair of columns."""
    likeness = []
    for i, j in combinations(range(len(columns)), 2):
        both = [part[~(part[:, i].isnan() | part[:, j].isnan())][:, [i, j]].double() for part in (real, drawn)]
        if min(map(len, both)) < 2:
            continue
        if columns[i].has_levels or columns[j].has_levels:
            edges = [_edges(columns[k], both[0][:, place]) for place, k in enumerate((i, j))]
            tables = [_two_way(part, edges) for part in both]
            likeness.append(1 - 0.5 * float((tables[0] - tables[1]).abs().sum()))
        else:
            r = [float(part.T.corrcoef()[0, 1]) for part in both]
            likeness.append(1 - abs(r[0] - r[1]) / 2)
    return likeness


def _edges(column: Column, values: Tensor) -> Tensor:
    """The ends of the bins of a column: between levels, or at quantiles of numbers."""
    if column.has_levels:
        return torch.arange(len(column.levels) - 1).double() + 0.5
    return values.quantile(torch.arange(1, COLUMN_BINS).double() / COLUMN_BINS)


def _two_way(rows: Tensor, edges: Sequence[Tensor]) -> Tensor:
    """Shares of the pairs of bins."""
    bins = [torch.searchsorted(edge, rows[:, i].contiguous()) for i, edge in enumerate(edges)]
    size = len(edges[1]) + 1
    return (bins[0] * size + bins[1]).bincount(minlength=(len(edges[0]) + 1) * size) / len(rows)


def _told_apart(view: ColumnView, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Value:
    """Accuracy of a classifier of real and drawn rows, on held-out rows."""
    x, y = _labelled(view, train)
    net = fit_classifier(x, y, 2)
    features, labels = _labelled(view, test)
    return share_of("told from real rows", net(features).argmax(-1) == labels)


def _labelled(view: ColumnView, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return view(torch.cat(list(parts))), torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])


@torch.enable_grad()
def fit_classifier(x: Tensor, y: Tensor, classes: int) -> nn.Module:
    """A small network that tells classes apart.

    Arguments:
        x: Features, shape (N, F).
        y: Classes, shape (N,), int64.
        classes: Number of classes.
    """
    net = nn.Sequential(nn.Linear(x.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2, weight_decay=DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


def _nearest(view: ColumnView, train: Tensor, test: Tensor, drawn: Tensor) -> Value:
    training = view(train)
    drawn_distance, test_distance = (torch.cdist(view(part), training).min(1).values.median() for part in (drawn, test))
    return Value("nearest training row", float(drawn_distance / test_distance.clamp_min(1e-12)), None, "")


def _task(columns: Sequence[Column], train: tuple[Tensor, Tensor], test: Tensor) -> list[Value]:
    """The accuracy of classifiers of the last column with levels, learned from drawn rows and from real rows."""
    targets = [i for i, column in enumerate(columns) if column.has_levels]
    if not targets or len(columns) < 2:
        return []
    target = targets[-1]
    inputs = [i for i in range(len(columns)) if i != target]
    view = ColumnView([columns[i] for i in inputs])
    complete = test[~test[:, target].isnan()]
    values = []
    for name, rows in (("drawn", train[1]), ("real", train[0])):
        rows = rows[~rows[:, target].isnan()]
        if not len(rows) or not len(complete):
            return []
        net = fit_classifier(view(rows[:, inputs]), rows[:, target].long(), len(columns[target].levels))
        right = net(view(complete[:, inputs])).argmax(-1) == complete[:, target].long()
        values.append(share_of(f"learned from {name} rows: {columns[target].name}", right))
    return values


def measure_drawn_rows(inputs: MeasureInput) -> Findings:
    """Compare drawn rows of a table with real ones."""
    is_table = inputs.dataset.columns is not None and len(inputs.dataset.train) and len(inputs.stored_rows)
    if not inputs.options.judge or not is_table or inputs.model.context_size:
        return Findings()
    options = inputs.options
    held_out = options.split != "train"
    return Findings(
        synthetic(
            inputs.model, inputs.with_splits("train"), split=inputs.stored_rows, held_out=held_out, seed=options.seed
        )
    )


SYNTHETIC = Measure(
    measure_drawn_rows,
    "Rows",
    "How rows that the model makes up compare with real ones.",
    (
        PrintedLine("column shapes", "columns alike", "100 % at best"),
        PrintedLine("pair trends", "pairs alike", "100 % at best"),
        PrintedLine("told from*", "told from real rows", "by a classifier; 50 % at best"),
        PrintedLine("nearest training*", "nearest training row", "1: as for real rows; less: copies"),
        PrintedLine("learned from drawn*", "learned from them", "predicting a column with levels"),
        PrintedLine("learned from real*", "… from real rows"),
    ),
)
