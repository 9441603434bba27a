"""New rows with some values given: latents are drawn from the prior and weighted by the likelihood of these values.

Not for: missing values of existing rows (`imputation`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...data import Batch
from ...data.table.columns import Column
from ...data.table.frames import frame_of
from ...distributions import draw_rows, given_observed, log_prob_observed, log_prob_of_values
from ...errors import ConfigError, DataError, check_count, unknown
from ...model import LatentVariableModel
from ...rng import generator_of, seeded
from ...runs.restore import RestoredRun
from ...store import Run
from ..batchwise import estimating
from .imputation import normalized_weights, weighted_latents

if TYPE_CHECKING:
    import pandas as pd

FEW_EFFECTIVE = 100  # effective samples; with fewer, rows are much alike
LATENTS_AT_A_TIME = 5_000
LEAST, EACH, MOST = 20_000, 20, 1_000_000  # latents of the prior: at least, for each row, at most


@dataclass(frozen=True, eq=False)
class DrawnTable:
    """New rows of a table.

    Arguments:
        frame: The rows, with the columns and types of the table.
        effective_samples: The effective sample size of the drawn latents, where values were given; else None.
    """

    frame: "pd.DataFrame"
    effective_samples: float | None = None

    @property
    def warnings(self) -> list[str]:
        """A sentence if few of the drawn latents fit the given values."""
        if self.effective_samples is None or self.effective_samples >= FEW_EFFECTIVE:
            return []
        return [f"the given values are rare: fewer than {FEW_EFFECTIVE} latents fit them, so the rows are much alike"]


def draw_table(
    run: Run | RestoredRun,
    model: LatentVariableModel,
    n: int,
    *,
    where: Mapping[str, object] | None = None,
    c: Tensor | None = None,
    seed: int = 0,
) -> DrawnTable:
    """Draw new rows of a run's table, as a frame with its columns and types.

    Arguments:
        run: The run; a `RestoredRun` if its config names parts by import path.
        model: The model of the run, as `vaekit.load(run)` gives it.
        n: Number of rows.
        where: Values that all rows have, by column; see `rows_where`. For unconditional models.
        c: The class of each row, shape (n,); needed by a conditional model.
        seed: Seed of all random numbers.

    Raises:
        ConfigError: n is below 1, or a column or a level does not exist, or the model is conditional and gets `where`.
        DataError: The run's data are not a table, or the classes do not fit the model.
    """
    check_count("n", n)
    restored = RestoredRun.of(run)
    columns = restored.data_record.columns
    if columns is None:
        raise DataError(f"the data of run {restored.run.name} are not a table; draw its rows with model.sample(n)")
    effective_samples = None
    if where:
        x, effective_samples = rows_where(model, columns, n, where, seed=seed)
    else:
        x = model.sample(n, c, generator=generator_of(seed), noise=True)
    frame = frame_of(x.cpu().numpy(), columns)
    if c is not None and restored.label is not None:
        frame[restored.label.name] = [restored.label.classes[number] for number in c.tolist()]
    return DrawnTable(frame.drop(columns=[column.name for column in columns if column.computed]), effective_samples)


def rows_where(
    model: LatentVariableModel, columns: Sequence[Column], n: int, where: Mapping[str, object], *, seed: int = 0
) -> tuple[Tensor, float]:
    """Rows of a table with given values in some columns; see `rows_given`.

    Arguments:
        model: An unconditional model of the table.
        columns: Columns of the table: `columns` of the data set.
        n: Number of rows.
        where: Values by the name of their column, such as `{"sex": "female", "age": 30}`; every value may be a text.
        seed: Seed of all random numbers.

    Returns:
        Encoded rows, shape (n, D), and the effective sample size; `data.table.frames.frame_of` makes a frame of them.

    Raises:
        ConfigError: n is below 1, a column or a level does not exist, a column cannot have the value, or the model is
            conditional.
        DataError: The columns are not those of the model, or none of the latents gives the values a density.
    """
    if model.event_shape != (len(columns),):
        raise DataError(f"the model takes rows of shape {model.event_shape}, but there are {len(columns)} columns")
    names = [column.name for column in columns]
    values, observed = torch.zeros(len(columns)), torch.zeros(len(columns), dtype=torch.bool)
    for name, value in where.items():
        if name not in names:
            raise ConfigError(unknown("column", name, names))
        index = names.index(name)
        values[index], observed[index] = _number_of(columns[index], value), True
    return rows_given(model, n, values.to(model.device), observed.to(model.device), seed=seed)


def _reads_as(text: str, level: object) -> bool:
    """Whether a text stands for a level: it is its text, or the same number."""
    if text == str(level) or not isinstance(level, int | float):
        return text == str(level)
    try:
        return float(text) == level
    except ValueError:
        return False


def _number_of(column: Column, value: object) -> float:
    """The model's number for a value of a column, or for a text that stands for it.

    Raises:
        ConfigError: The column cannot have the value.
    """
    text = str(value)
    if column.has_levels:
        same = [i for i, level in enumerate(column.levels) if level == value or _reads_as(text, level)]
        if not same:
            raise ConfigError(f"column {column.name!r}: {unknown('level', text, map(str, column.levels))}")
        return float(same[0])
    try:
        number: Any = np.datetime64(text) if column.dtype in ("date", "datetime") else float(text)
        encoded = float(column.encode(np.array([number]), np.array([False]))[0])
        if math.isnan(encoded):
            raise ValueError("it is missing, and a missing value is not given; leave it out")
        return encoded
    except (ValueError, DataError) as error:
        raise ConfigError(f"column {column.name!r} cannot be {text!r} ({error})") from None


@torch.no_grad()
def rows_given(
    model: LatentVariableModel, n: int, given: Tensor, observed: Tensor, *, seed: int = 0
) -> tuple[Tensor, float]:
    """Rows from p(x | given values), by sampling importance resampling.

    Latents z of the prior get weights p(given values | z). Then n of them are drawn by weight, and x from p(x | z); the
    given values are put in. Memory and time are proportional to the number of latents: 20 for each row, but at least
    20,000 and at most 1,000,000.

    Arguments:
        model: An unconditional model with a likelihood that factorizes over values.
        n: Number of rows.
        given: Values, shape (*event).
        observed: Whether each value is given, booleans of that shape.
        seed: Seed of all random numbers.

    Returns:
        Rows, shape (n, *event), and the effective sample size (Σw)² / Σw²: if it is small, the rows are much alike.

    Raises:
        ConfigError: n is below 1, or the model is conditional.
        DataError: None of the latents gives the values a density.
    """
    if model.context_size:
        raise ConfigError("given values are for unconditional models, and this one is conditional; give its context c")
    count = min(MOST, max(LEAST, EACH * check_count("n", n)))
    with estimating(model), seeded(generator_of(seed)):
        z, log_w = _prior_latents(model, count, given, observed)
        weights = normalized_weights(log_w[:, None], given[None], observed[None])[:, 0]
        z = z[torch.multinomial(weights, n, replacement=True)]
        densities = (given_observed(model.likelihood(part), given, observed) for part in z.split(LATENTS_AT_A_TIME))
        x = torch.cat([density.sample() for density in densities])
    return torch.where(observed, given, x), 1 / float(weights.square().sum())


def _prior_latents(model: LatentVariableModel, count: int, given: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Latents of the prior and log p(given values | z) of each."""
    prior = model.prior()
    latents, weights = [], []
    for start in range(0, count, LATENTS_AT_A_TIME):
        z = draw_rows(prior, min(LATENTS_AT_A_TIME, count - start))
        rows = given.expand(len(z), *given.shape)
        latents.append(z)
        weights.append(log_prob_observed(model.likelihood(z), rows, observed.expand_as(rows)).double())
    return torch.cat(latents), torch.cat(weights)


def refuse_joint_values(model: LatentVariableModel, row: Batch) -> None:
    """Refuse a likelihood that gives no log p of single values.

    Arguments:
        model: The model.
        row: One row, as the model takes it.

    Raises:
        ConfigError: The values are not independent given the latents.
    """
    value_scores(model, iter((row,)), samples=1)


@torch.no_grad()
def value_scores(model: LatentVariableModel, batches: Iterator[Batch], *, samples: int, seed: int = 0) -> Tensor:
    """The cost of each value given the row's latents: −Σ_k w_k log p(x_d | z_k), shape (N, *event), nats.

    If no latent gives a row a density, all of its latents count alike; some of its values then cost ∞.

    Arguments:
        model: A model with a likelihood that factorizes over values: columns of a table, pixels of an image.
        batches: Rows, as the model takes them.
        samples: K latents of each row.
        seed: Seed of the samples.

    Returns:
        float32; NaN where a value is missing.

    Raises:
        ConfigError: The values are not independent given the latents.
    """
    parts = []
    for batch in batches:
        for part in weighted_latents(model, batch, samples, seed=seed):
            draw = part.draw
            observed = draw.observed if draw.observed is not None else torch.ones_like(draw.x, dtype=torch.bool)
            log_p = log_prob_of_values(draw.likelihood, draw.x, observed)
            shares = part.log_w.softmax(0).nan_to_num(1 / samples)
            weights = shares.reshape(*shares.shape, *[1] * (draw.x.ndim - 1))
            scores = -(weights * log_p.masked_fill(~observed | (weights == 0), 0)).sum(0)
            parts.append(scores.masked_fill(~observed, torch.nan).float().cpu())
    return torch.cat(parts)
