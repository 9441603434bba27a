"""A table or an array with its gaps filled: best values, intervals, and draws, in the types of its cells.

Not for: the weights (`imputation`), or drawing new rows (`conditional`).
"""

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data import Batch
from ...data.sources.arrays import FileRows
from ...data.table.columns import DATES, Column
from ...data.table.encoded_table import Table, encode_table
from ...data.table.frames import pandas, series_of
from ...data.table.table_files import read_table
from ...distributions import Columnwise
from ...errors import ConfigError, DataError, check_count
from ...model import LatentVariableModel
from ...rng import generator_of, seeded
from ...runs.restore import RestoredRun
from ...store import Run
from ..single_rows.named_rows import rows_of
from ..values import StageListener
from .imputation import WeightedLatents, filled_rows, weighted_latents

if TYPE_CHECKING:
    import pandas as pd

FILLED_AT_A_TIME = 500
FOR_INTERVALS = 200
LOW, HIGH = 0.05, 0.95
FEWEST_EFFECTIVE = 10  # effective samples of a row; with fewer its values are not reliable


@dataclass(frozen=True, eq=False)
class ImputedTable:
    """A table with its gaps filled.

    Arguments:
        frames: One table, with the mean or the most probable level in each gap; or a table for each draw.
        cells: A line for each gap, as `cells` gives it.
        unreliable: The number of rows with gaps that have fewer than 10 effective samples.
    """

    frames: "Sequence[pd.DataFrame]"
    cells: "pd.DataFrame"
    unreliable: int


def impute_table(
    run: Run | RestoredRun,
    model: LatentVariableModel,
    source: str | Path | None = None,
    *,
    samples: int = 1000,
    draws: int = 0,
    seed: int = 0,
    listener: StageListener | None = None,
) -> ImputedTable:
    """Fill the gaps of a table, given the other cells of their row.

    Arguments:
        run: A run on a table; a `RestoredRun` if its config names parts by import path.
        model: The model of the run, as `vaekit.load(run)` gives it.
        source: The file of the table; that of the run by default.
        samples: K weighted latents of each row.
        draws: Number of tables to draw; 0 for one table, with the mean or the most probable level in each gap.
        seed: Seed of all random numbers.
        listener: Called with the stage, the batches done and the total.

    Raises:
        ConfigError: The table is not a file, `samples` is below 1, or `draws` below 0.
        DataError: The data of the run are not a table, or the file has other columns; or the model needs classes, and a
            row has none.
    """
    check_count("draws", draws, 0)
    restored = RestoredRun.of(run)
    if restored.data_record.columns is None:
        raise DataError(f"the data of run {restored.run.name} are not a table; impute_array fills arrays")
    path = table_file(restored, source)
    frame, table = read_table(path), encode_table(path, restored.data_record.columns, restored.label, memory=math.inf)
    filled = fill(model, table, samples=samples, draws=draws, seed=seed, listener=listener)
    values = list(filled.draws) if draws else [filled.best]
    gaps = cells(table, filled, frame.columns)
    ess = filled.ess[(gaps["row"].unique() - 1).astype(np.int64)]
    return ImputedTable(
        [fill_gaps(frame, table, part.numpy()) for part in values], gaps, int((ess < FEWEST_EFFECTIVE).sum())
    )


def table_file(run: RestoredRun, source: str | Path | None = None) -> Path:
    """The file of a table; that of the run by default.

    Raises:
        ConfigError: The path is a folder, or does not exist.
    """
    path = Path(run.recipe.config.data.name if source is None else source).expanduser()
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "no such file"
        raise ConfigError(f"{path}: {fault}; name the file of the table", arguments=("data",))
    return path


def impute_array(
    run: Run | RestoredRun,
    model: LatentVariableModel,
    source: str | Path | None = None,
    *,
    samples: int = 1000,
    draws: int = 0,
    seed: int = 0,
) -> tuple[Tensor, int]:
    """Fill the NaN of an array of signals or of vectors; the arguments are those of `impute_table`.

    Returns:
        The array, shape (1, N, …), or its draws, shape (draws, N, …); and the number of its gaps.

    Raises:
        ConfigError: The data of the run are neither signals nor vectors.
    """
    restored = RestoredRun.of(run)
    if restored.data_record.kind not in ("signal", "vector"):
        raise ConfigError(
            f"impute_array fills signals and vectors, but the data of run {restored.run.name} are of the kind "
            f"{restored.data_record.kind!r}; impute_table fills tables, and complete(model, …) is for images"
        )
    path = os.path.expanduser(str(restored.recipe.config.data.name if source is None else source))
    rows = rows_of(restored, path)
    filled = filled_rows(model, rows.batches(model), samples, draws=draws, seed=seed)
    if path.lower().endswith(".npy"):
        filled = filled.reshape(len(filled), *FileRows(Path(path)).shape)  # signals of one channel may be (N, L)
    observed = rows.split.observed_in_memory
    return filled, 0 if observed is None else int((~observed).sum())


@dataclass(frozen=True, eq=False)
class Filled:
    """Likely values of all cells of a table, missing or not.

    Arguments:
        best: Means of numbers and most probable levels, shape (N, D).
        low: The 5 % quantile of numbers, shape (N, D).
        high: The 95 % quantile.
        probability: Probability of the best level; NaN for numbers; shape (N, D).
        draws: Rows drawn given the observed values, shape (draws, N, D).
        ess: Effective sample size of the weights of each row, shape (N,).
    """

    best: Tensor
    low: Tensor
    high: Tensor
    probability: Tensor
    draws: Tensor
    ess: Tensor


def fill(
    model: LatentVariableModel,
    table: Table,
    *,
    samples: int = 1000,
    draws: int = 0,
    seed: int = 0,
    listener: StageListener | None = None,
) -> Filled:
    """Likely values of the gaps of a table.

    Arguments:
        model: A model of this table.
        table: The rows.
        samples: K weighted latents of each row.
        draws: Number of whole tables to draw.
        seed: Seed of all random numbers.
        listener: Called with the stage, the batches done and the total.

    Raises:
        DataError: The model needs classes, and a row has none.
    """
    split = table.split()
    if model.context_size and split.labels is not None and not bool((split.labels >= 0).all()):
        first = int((split.labels < 0).nonzero()[0]) + 1
        raise DataError(f"the class of row {first} is missing, and this model needs it; fill it in, or drop the row")
    parts: list[Filled] = []
    total = -(-len(split) // FILLED_AT_A_TIME)
    with torch.no_grad(), seeded(generator_of(seed)):
        for number in range(total):
            part_of_table = split.rows(slice(number * FILLED_AT_A_TIME, (number + 1) * FILLED_AT_A_TIME))
            rows = Batch(part_of_table.x[:], observed=part_of_table.observed_in_memory, labels=part_of_table.labels)
            batch = model.to_model(rows)
            parts += [_filled_rows(part, draws) for part in weighted_latents(model, batch, samples, seed=seed)]
            if listener is not None:
                listener("imputing", number + 1, total)
    return Filled(
        best=torch.cat([part.best for part in parts]),
        low=torch.cat([part.low for part in parts]),
        high=torch.cat([part.high for part in parts]),
        probability=torch.cat([part.probability for part in parts]),
        draws=torch.cat([part.draws for part in parts], 1),
        ess=torch.cat([part.ess for part in parts]),
    )


def _filled_rows(part: WeightedLatents, draws: int) -> Filled:
    best = part.best()
    drawn = part.sample(max(draws, FOR_INTERVALS))
    low, high = torch.quantile(drawn.float(), drawn.new_tensor([LOW, HIGH], dtype=torch.float32), 0)
    return Filled(
        best=best.cpu(),
        low=low.cpu(),
        high=high.cpu(),
        probability=_best_probability(part, best).cpu(),
        draws=drawn[:draws].cpu(),
        ess=(1 / part.weights.square().sum(0)).cpu(),
    )


def _best_probability(part: WeightedLatents, best: Tensor) -> Tensor:
    """The probability of the best level of each value, NaN for numbers."""
    probability = torch.full_like(best, torch.nan)
    p: Any = part.draw.likelihood
    for block in p.blocks if isinstance(p, Columnwise) else ():
        if block.levels is not None:
            probs = (part.weights[..., None, None] * p.level_probabilities(block)).sum(0)
            probability[:, block.index] = probs.max(-1).values
    return probability


def fill_gaps(frame: "pd.DataFrame", table: Table, values: NDArray[Any]) -> "pd.DataFrame":
    """The frame with `values`, shape (N, D), in the empty cells of the table's columns; every other cell stays.

    Arguments:
        frame: The table, with typed cells or with texts.
        table: The table as the model sees it.
        values: Values for the gaps, encoded.
    """
    frame = frame.copy()
    for i, column in enumerate(table.columns):
        missing = np.isnan(table.array[:, i])
        if column.name not in frame or not missing.any():
            continue
        old, new = frame[column.name], series_of(values[:, i], column)
        if pandas().api.types.is_string_dtype(old.dtype) and not old.isna().any():
            new = pandas().Series(_texts(values[:, i], column))
        elif old.dtype != new.dtype:
            old = old.astype(object)
        filled = old.where(~missing, new)
        frame[column.name] = filled.astype(new.dtype) if filled.dtype == object else filled
    return frame


def _as_text(dates: "pd.Series[Any]", column: Column) -> "pd.Series[Any]":
    """Dates as texts, as in a file."""
    if column.zone:
        return dates.astype(str)
    return dates.dt.strftime("%Y-%m-%d" if column.dtype == "date" else "%Y-%m-%d %H:%M:%S")


def cells(table: Table, filled: Filled, present: Collection[str]) -> "pd.DataFrame":
    """A line for each gap: its row, from 1, its column, the value, and its 90 % interval or its level's probability.

    Arguments:
        table: The table as the model sees it.
        filled: The result of `fill`.
        present: The columns that the user's table has; the model may know computed ones besides.
    """
    rows: list[Any] = []
    best, low, high, probability = (part.numpy() for part in (filled.best, filled.low, filled.high, filled.probability))
    for i, column in enumerate(table.columns):
        gaps = np.flatnonzero(np.isnan(table.array[:, i]))
        if not len(gaps) or column.name not in present:
            continue
        entries = {"row": gaps + 1, "column": column.name, "value": _texts(best[gaps, i], column)}
        if column.has_levels:
            entries |= {"low": "", "high": "", "probability": [f"{p:.3f}" for p in probability[gaps, i]]}
        else:
            entries |= {"low": _texts(low[gaps, i], column), "high": _texts(high[gaps, i], column), "probability": ""}
        rows.append(pandas().DataFrame(entries))
    names = ("row", "column", "value", "low", "high", "probability")
    gaps_frame = pandas().concat(rows) if rows else pandas().DataFrame(columns=list(names))
    return gaps_frame.sort_values("row", kind="stable", ignore_index=True)


def _texts(x: NDArray[Any], column: Column) -> Sequence[str]:
    series = series_of(x, column)
    if column.dtype in DATES:
        return list(_as_text(series, column))
    digits = 15 if column.origin else 6  # a column far from 0 differs in its last digits only
    return [f"{value:.{digits}g}" if isinstance(value, float) else str(value) for value in series.tolist()]
