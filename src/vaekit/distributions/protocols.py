"""What a model's distributions may have beyond torch's own methods. All of it is optional.

A posterior q(z | x, c):

| it may have | what it is | without it |
|---|---|---|
| `penalties` | terms without a density, by name, each (B,); they are subtracted from the objective | there are none |
| `logged` | other values to log with the terms of the loss, by name, each (B,) | there are none |
| `relaxed` | whether samples are relaxed and have no density | they have one |
| `hard` | the discrete variables that its samples stand for, a distribution | it is q itself |

A likelihood p(x | z, c), for rows with missing values; `observed` are booleans of the shape of x:

| it may have | what it returns | without it |
|---|---|---|
| `log_prob_where(x, observed)` | log p of each value, where that depends on the mask | p is an `Independent` |
| `log_prob_observed(x, observed)` | log p of the observed values and of the mask | the mask has no density |
| `given(x, observed)` | p with what the observed values tell about the others | p itself: all are independent |
| `average(weights)` | one row from K weighted latents | the weighted mean |
| `resample(chosen)` | rows for chosen latents, whose weights depend on the missing values | they are drawn anew |

The functions here ask for these; nothing else in the package does.

Not for: what torch's distributions have (`supports`, `rows`), or the distributions themselves.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.distributions import Distribution, Independent

from ..errors import ConfigError


def penalties_of(q: Distribution) -> Mapping[str, Tensor]:
    """Named terms without a density, each of shape (B,), such as a commitment cost."""
    penalties: Mapping[str, Tensor] = getattr(q, "penalties", {})
    return penalties


def logged_of(q: Distribution | None) -> Mapping[str, Tensor]:
    """Named values to log, each of shape (B,), such as the codes in use."""
    logged: Mapping[str, Tensor] = getattr(q, "logged", {})
    return logged


def is_relaxed(q: Distribution | None) -> bool:
    """Whether samples are relaxed discrete variables, so that q(z) is unknown, and with it the ELBO."""
    return bool(getattr(q, "relaxed", False))


def hard_of(q: Distribution) -> Distribution:
    """The discrete variables that relaxed samples stand for; any other distribution itself."""
    hard: Distribution = getattr(q, "hard", q)
    return hard


def log_prob_observed(p: Distribution, x: Tensor, observed: Tensor) -> Tensor:
    """Log-density of the observed values of x; the missing ones are integrated out.

    It is the sum of the observed values' log-densities, because the values are independent. If the log-density of a
    value depends on the mask, the distribution has a method `log_prob_where(x, observed)`. If the mask itself has a
    density, the distribution has a method `log_prob_observed(x, observed)`, and this function returns its result.

    Arguments:
        p: Independent values, event shape (*event).
        x: Values, shape (..., *event); where nothing was observed, any finite value that has a density.
        observed: Booleans of the shape of x.

    Returns:
        Nats, of the batch shape.

    Raises:
        ConfigError: The values are not independent.

    >>> import torch
    >>> from torch.distributions import Normal
    >>> p = Independent(Normal(torch.zeros(2), 1.0), 1)
    >>> log_prob_observed(p, torch.tensor([0.5, 0.0]), torch.tensor([True, False])) == Normal(0.0, 1.0).log_prob(
    ...     torch.tensor(0.5)
    ... )
    tensor(True)
    """
    with_mask: Any = getattr(p, "log_prob_observed", None)
    if with_mask is not None:
        joint: Tensor = with_mask(x, observed)
        return joint
    values = log_prob_of_values(p, x, observed)
    dims = tuple(range(-len(p.event_shape), 0))
    missing = ~observed
    return values.masked_fill(missing, 0).sum(dims) if dims else values.masked_fill(missing, 0)


def log_prob_of_values(p: Distribution, x: Tensor, observed: Tensor) -> Tensor:
    """Log-density of each value of x by itself, shape (*batch, *event); only those at observed places mean something.

    Raises:
        ConfigError: The values are not independent.
    """
    log_prob_where: Any = getattr(p, "log_prob_where", None)
    if log_prob_where is not None:
        values: Tensor = log_prob_where(x, observed)
        return values
    if isinstance(p, Independent):
        return log_prob_of_values(p.base_dist, x, observed)
    if p.event_shape:
        raise ConfigError(
            f"rows with missing values, and scores of single values, need log p of each value, which the likelihood "
            f"({type(p).__name__}) does not give; return an Independent distribution, or give it "
            "log_prob_where(x, observed)"
        )
    return p.log_prob(x)


def given_observed(p: Distribution, x: Tensor, observed: Tensor) -> Distribution:
    """p(x | z) given the observed values of x: an observed size factor scales the counts of its row, for example."""
    given: Any = getattr(p, "given", None)
    conditional: Distribution = p if given is None else given(x, observed)
    return conditional


def average_over(p: Distribution, weights: Tensor) -> Tensor:
    """One row from K weighted latents, shape (B, *event): the mean, or what the method `average` of p returns.

    Arguments:
        p: Likelihood of K latents of each row, batch shape (K, B).
        weights: Shape (K, B); they add up to 1 over K.
    """
    average: Any = getattr(p, "average", None)
    if average is not None:
        row: Tensor = average(weights)
        return row
    return weighted_mean(p, weights)


def weighted_mean(p: Distribution, weights: Tensor) -> Tensor:
    """The mean of p over K weighted latents, shape (B, *event)."""
    mean = p.mean
    return (weights.reshape(*weights.shape, *[1] * (mean.ndim - 2)) * mean).sum(0)


def resampled(p: Distribution, chosen: Tensor) -> Tensor | None:
    """Rows for chosen latents, shape (n, B, *event); None if p has no method `resample`.

    Arguments:
        p: Likelihood of K latents of each row, batch shape (K, B).
        chosen: Indices of latents, shape (n, B).
    """
    resample: Any = getattr(p, "resample", None)
    rows: Tensor | None = None if resample is None else resample(chosen)
    return rows
