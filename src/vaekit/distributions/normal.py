"""Diagonal normals from the outputs of a network."""

import torch
from torch import Tensor
from torch.distributions import Independent, Normal


def bounded(x: Tensor) -> Tensor:
    """Keep x within ±20 by a smooth function that is exactly the identity on [−10, 10].

    Beyond, it is sign(x)·(10 + 10·tanh((|x| − 10) / 10)). As a log-variance it keeps σ between 4.5e-5 and 2.2e4,
    whatever a network puts out; its value and its gradient are finite for every x, infinity included.

    >>> bounded(torch.tensor([-1e9, -3.0, 10.0, 1e9]))
    tensor([-20.,  -3.,  10.,  20.])
    """
    inner = x.clamp(-10, 10)
    return inner + 10 * torch.tanh((x - inner) / 10)


def diagonal_normal(mu: Tensor, log_var: Tensor) -> "Independent[Normal]":
    """N(μ, diag exp(bounded(log σ²))), the last dimension of μ being the event."""
    return Independent(Normal(mu, (0.5 * bounded(log_var)).exp(), validate_args=False), 1, validate_args=False)
