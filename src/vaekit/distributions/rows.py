"""Draws: one for each of n rows, or K of each row."""

import torch
from torch import Tensor
from torch.distributions import Distribution


def draw_rows(p: Distribution, n: int, *, gradient: bool = False) -> Tensor:
    """One draw for each of n rows, shape (n, *event).

    Arguments:
        p: A distribution of one row, batch shape (), or of the n rows, batch shape (n,).
        n: How many rows.
        gradient: Keep the gradient, where p has reparametrized samples.
    """
    draw = p.rsample if gradient and p.has_rsample else p.sample
    return draw() if p.batch_shape else draw(torch.Size((n,)))


def draw_samples(q: Distribution, k: int) -> Tensor:
    """K samples, shape (k, *batch, *event), reparametrized where q has such samples."""
    draw = q.rsample if q.has_rsample else q.sample
    return draw(torch.Size((k,)))
