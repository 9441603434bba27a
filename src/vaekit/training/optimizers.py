"""Optimizers by name: torch's own, with the options that a config may set."""

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from . import eager


def adam(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam. Reference: Kingma and Ba 2014, arXiv:1412.6980."""
    return eager.Adam(parameters, learning_rate, betas, eps, weight_decay, fused=True)


def adamw(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay. Reference: Loshchilov and Hutter 2017, arXiv:1711.05101."""
    return eager.AdamW(parameters, learning_rate, betas, eps, weight_decay, fused=True)


def sgd(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Stochastic gradient descent."""
    return eager.SGD(parameters, learning_rate, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)


def rmsprop(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
) -> Optimizer:
    """RMSprop. Reference: Tieleman and Hinton 2012, lecture 6.5 of "Neural networks for machine learning"."""
    return eager.RMSprop(
        parameters, learning_rate, alpha, eps, weight_decay=weight_decay, momentum=momentum, centered=centered
    )
