"""Log-likelihoods of the values that were observed, where others are missing."""

from typing import Any

from torch import Tensor
from torch.distributions import Distribution, Independent

from ..errors import ConfigError


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
            f"values are missing, but the likelihood ({type(p).__name__}) does not give log p of each value; "
            "return an Independent distribution, or give it log_prob_where(x, observed)"
        )
    return p.log_prob(x)
