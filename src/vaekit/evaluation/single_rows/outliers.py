"""Scores and labels: how well the scores separate the unusual rows from the others.

Not for: the scores themselves (`scoring`).
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.batch import as_tensor
from ...data.table.table_files import is_table, read_table
from ...errors import ConfigError, DataError, unknown
from .named_rows import NamedRows

if TYPE_CHECKING:
    import pandas as pd


def auroc(scores: Tensor, unusual: Tensor) -> tuple[float, float]:
    """P(an unusual row has a higher score than a usual one), ties counting half, and its standard error.

    Arguments:
        scores: Shape (N,); higher is more unusual.
        unusual: Booleans, shape (N,).

    Raises:
        DataError: All rows are unusual, or none is; or a score is NaN or has no label.

    Reference: Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating characteristic (ROC)
    curve", Radiology 143.

    >>> auroc(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([False, True, True]))
    (1.0, 0.0)
    """
    scores, unusual = as_tensor(scores, "scores").double(), as_tensor(unusual, "unusual").bool()
    if scores.shape != unusual.shape or scores.isnan().any():
        raise DataError(
            f"scores must be N numbers with a label each, none of them NaN, got {tuple(scores.shape)} and "
            f"{tuple(unusual.shape)}"
        )
    high, low = scores[unusual], scores[~unusual]
    m, n = len(high), len(low)
    if not m or not n:
        raise DataError(f"the labels call {m} rows unusual and {n} usual; at least one of each is needed")
    ordered = low.sort().values
    below, upto = torch.searchsorted(ordered, high), torch.searchsorted(ordered, high, right=True)
    area = float((below + upto).double().mean() / (2 * n))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (m * n)
    return area, math.sqrt(max(0.0, variance))


def unusual_rows(rows: NamedRows, labels: str, table: str | Path | None = None) -> Tensor:
    """A mask of the unusual rows: those of a class, or those with the rarer value in a column of their table.

    Arguments:
        rows: The rows.
        labels: A class of the rows, or a column of the table.
        table: The file of the rows, if it is a table.

    Raises:
        ConfigError: `labels` is neither a class nor a column of a table.
        DataError: See `rarer`.
    """
    if labels in rows.classes and len(set(rows.classes)) > 1:
        return torch.tensor([name == labels for name in rows.classes])
    if table is None or len(rows.split.event_shape) != 1 or not is_table(str(table)):
        raise ConfigError(
            f"labels = {labels!r} is neither a class of these {rows.row_word}s nor a column of a table that is given "
            "as the data",
            arguments=("labels",),
        )
    return torch.from_numpy(rarer(read_table(Path(table).expanduser()), labels))


def rarer(frame: "pd.DataFrame", name: str) -> NDArray[np.bool_]:
    """A mask of the rows that have the rarer of the two values of a column; a missing value counts as a value.

    Raises:
        DataError: The column does not exist, does not have two values, or has both equally often.
    """
    if name not in frame:
        raise DataError(unknown("column", name, map(str, frame.columns)))
    codes, values = frame[name].factorize(use_na_sentinel=False)
    if len(values) != 2:
        raise DataError(f"the labels of column {name!r} must have two values, usual and unusual, got {len(values)}")
    first, second = np.bincount(codes).tolist()
    if first == second:
        raise DataError(f"both values of column {name!r} are in {first} rows, so neither is the rarer, unusual one")
    mask: NDArray[np.bool_] = codes == int(second < first)
    return mask
