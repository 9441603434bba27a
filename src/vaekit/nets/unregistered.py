"""A reference from one module to another that stays its owner's."""

from typing import Generic, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


class Unregistered(Generic[M]):
    """A module that another module refers to, without being its part: its weights are trained and stored elsewhere.

    Arguments:
        module: The module.
    """

    def __init__(self, module: M) -> None:
        self.module = module
