"""The value of a loss over a loader."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..errors import DataError
from ..model import LatentVariableModel
from ..model.modes import evaluating
from ..objectives import as_loss, elbo, module_of
from ..rng import seeded
from .data_checks import checking_first
from .meter import check_same_names, widest_dtype
from .ranks import ALONE, Ranks
from .step import checked_terms


def validate(
    model: LatentVariableModel,
    loader: Iterable[Any],
    loss: Callable[..., Any] = elbo,
    *,
    epoch: float = math.inf,
    seed: int = 0,
    ranks: Ranks = ALONE,
    lenient: bool = False,
) -> dict[str, float]:
    """The value of a loss over a loader, with the same noise at every call.

    Arguments:
        model: The model.
        loader: Batches.
        loss: A loss, with its own number of samples; or an objective, a function of a draw, with one sample per row.
            By default the −ELBO.
        epoch: Epoch for the schedules of the loss; their end by default.
        seed: Seed of the noise.
        ranks: Processes that share every batch; all of them call this with the same batches.
        lenient: Whether values that are not finite are let through; the loss is then not finite either.

    Returns:
        Means over the rows by name: `loss`, then what the loss logs, such as `neg_elbo`, `rate` and `distortion`; a
        loss may make other values of them (`Loss.from_means`).

    Raises:
        DataError: The loader gave no batch.
        ConfigError: The loss does not give one number for each row, or logs other names for another batch.
    """
    loss = as_loss(loss)
    module = module_of(loss)
    modules = [model] if module is None else [model, module]
    names: tuple[str, ...] = ()
    sums = torch.zeros(1, dtype=widest_dtype(model.device), device=model.device)
    rows = 0
    with evaluating(*modules), seeded(torch.Generator().manual_seed(seed)):
        for item in checking_first(model, loader, lenient=lenient):
            shard = ranks.shard(item, loss.samples)
            batch = model.to_model(shard.batch)
            with shard.noise:
                terms = checked_terms(loss(model, batch, epoch), len(batch))
            values = [terms.loss, *terms.logged.values()]
            batch_sums = torch.stack([value.sum() for value in values])
            check_same_names(("loss", *terms.logged), names)
            if not names:
                names = ("loss", *terms.logged)
                sums = sums.new_zeros(len(names))
            sums += shard.zero_if_empty(batch_sums.to(sums.dtype))
            rows += shard.total
    if not rows:
        raise DataError("the loader gave no batch; it must be a sequence of batches, not an iterator")
    return loss.from_means({name: s / rows for name, s in zip(names, ranks.all_reduce(sums).tolist(), strict=True)})
