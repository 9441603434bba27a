"""Checks before a training: the values and the classes of its rows, and whether a batch, model and losses fit.

Not for: which values a likelihood takes (`LatentVariableModel.check_values`).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data import Batch, Batches, Split, Stored, as_batch
from ..errors import DataError
from ..model import LatentVariableModel
from ..model.conditions import check_labels
from ..model.modes import buffers_kept
from ..objectives import Loss, module_of
from ..objectives.base import Minimised, name_of
from ..rng import seeded
from .step import checked_terms

_ROWS = 1000  # at a time


def check_rows(model: LatentVariableModel, batches: Batches, *, lenient: bool = False) -> None:
    """Check all rows that are in memory; those on disk are checked when they are read.

    Arguments:
        model: The model.
        batches: The rows.
        lenient: Leave values that are not finite to the training step, which skips them.

    Raises:
        DataError: The model has no density for a row.
    """
    x = batches.x
    if isinstance(x, Stored) or not len(x):
        return
    if model.context_size and batches.c is None:
        check_labels(None if batches.labels is None else batches.labels.cpu(), model.context_size)
    mask = batches.observed[:] if batches.observed is not None else None
    model.to_model(Batch(x, c=batches.c, observed=mask, labels=batches.labels).rows(slice(1)))
    if x.dtype == torch.uint8:
        model.check_values(batches.to_floats(distinct_bytes(x)))
        return
    for rows, observed in zip(x.split(_ROWS), _split(mask, len(x)), strict=True):
        seen = rows if observed is None else rows.masked_fill(~observed, 0)
        _check_values(model, model.as_rows(seen), observed, lenient)


def check_classes(model: LatentVariableModel, loss: Loss, rows: Batches | Split | Batch, what: str) -> None:
    """Refuse rows of unknown class for a conditional model, if the loss needs the class.

    Arguments:
        model: The model.
        loss: The loss.
        rows: The rows.
        what: Name of the rows in the message, such as "training".

    Raises:
        DataError: The loss would get a row of unknown class.
    """
    if not (loss.needs_classes and model.context_size and rows.c is None) or rows.labels is None:
        return
    unknown = int((torch.as_tensor(rows.labels) < 0).sum())
    if unknown:
        raise DataError(
            f"the class of {unknown} of the {len(rows.labels)} {what} rows is unknown, and objective {name_of(loss)!r} "
            "of a class-conditional model needs it; choose the objective 'm2' (a loss of your own says needs_classes = "
            "False), or a model without classes"
        )


def checking_first(
    model: LatentVariableModel, loader: Iterable[Any], loss: Loss | None = None, *, lenient: bool = False
) -> Iterator[Any]:
    """The batches of an epoch; the first one is checked.

    Arguments:
        model: The model.
        loader: Batches.
        loss: The loss; None to leave classes unchecked.
        lenient: Leave values that are not finite to the training step, which skips them.

    Raises:
        DataError: The model has no density for a row of the first batch, or the loss needs an unknown class.
    """
    for number, item in enumerate(loader):
        if number == 0:
            unchecked = as_batch(item)
            batch = model.to_model(unchecked)
            if loss is not None:
                check_classes(model, loss, unchecked, "first")
            _check_values(model, batch.zero_filled, batch.observed, lenient)
        yield item


def try_once(model: LatentVariableModel, losses: Sequence[Minimised], item: Any) -> list[tuple[str, ...]]:
    """Compute losses once, before a training begins, with their graphs, and change nothing.

    Arguments:
        model: The model, which is in evaluation mode afterwards.
        losses: The losses of the model and its opponents.
        item: A batch of a loader.

    Returns:
        The names of the values that each loss logs.

    Raises:
        VAEError: The model, the loss and the batch do not fit together.
    """
    batch = model.to_model(as_batch(item))
    model.eval()
    modules = [module_of(loss) for loss in losses if isinstance(loss, Loss)]
    with seeded(torch.Generator().manual_seed(0)), buffers_kept(*filter(None, modules)):
        return [tuple(checked_terms(loss(model, batch, 0.0), len(batch)).logged) for loss in losses]


def _check_values(model: LatentVariableModel, x: Tensor, observed: Tensor | None, lenient: bool) -> None:
    if lenient:
        observed = x.isfinite() if observed is None else observed.to(x.device) & x.isfinite()
        x = x.nan_to_num(0, 0, 0)
    model.check_values(x, observed)


def distinct_bytes(x: Tensor) -> Tensor:
    """The different values of bytes, each once."""
    counts = sum(part.flatten().bincount(minlength=256) for part in x.split(_ROWS))
    return torch.as_tensor(counts).nonzero().flatten().to(torch.uint8)


def _split(observed: Tensor | None, n: int) -> Iterable[Tensor | None]:
    return [None] * -(-n // _ROWS) if observed is None else observed.split(_ROWS)
