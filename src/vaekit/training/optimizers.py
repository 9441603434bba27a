"""Optimizers by name: torch's own, with the options that a config may set."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer


def adam(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam. Reference: Kingma and Ba 2014, arXiv:1412.6980."""
    return torch.optim.Adam(parameters, learning_rate, betas, eps, weight_decay, fused=True)


def adamw(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay. Reference: Loshchilov and Hutter 2017, arXiv:1711.05101."""
    return torch.optim.AdamW(parameters, learning_rate, betas, eps, weight_decay, fused=True)


def sgd(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Stochastic gradient descent."""
    return torch.optim.SGD(
        parameters, learning_rate, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )
