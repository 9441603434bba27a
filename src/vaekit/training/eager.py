"""Optimizers of torch without its compiler.

Their methods are marked as not to be compiled, and the first call of such a method imports the compiler: 1.3 s of every
training, for nothing. The functions behind the marks are the same.
"""

import inspect
from typing import TypeVar

import torch
from torch.optim import Optimizer

Kind = TypeVar("Kind", bound=type[Optimizer])
MARKED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def eager(kind: Kind) -> Kind:
    """Class decorator for optimizers: their methods do not import the compiler.

    Arguments:
        kind: The class.
    """
    for name in MARKED:
        setattr(kind, name, inspect.unwrap(getattr(kind, name)))
    kind.step = torch.no_grad()(inspect.unwrap(kind.step))  # type: ignore[method-assign]
    return kind


@eager
class Adam(torch.optim.Adam):
    """`torch.optim.Adam`."""


@eager
class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`."""


@eager
class SGD(torch.optim.SGD):
    """`torch.optim.SGD`."""


@eager
class RMSprop(torch.optim.RMSprop):
    """`torch.optim.RMSprop`."""
