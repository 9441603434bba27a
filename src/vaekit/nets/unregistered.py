"""A reference to a module that another module owns."""

from typing import Generic, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


class Unregistered(Generic[M]):
    """A module that is no submodule of the one that refers to it: its owner trains and stores its weights.

    Arguments:
        module: The module.
    """

    def __init__(self, module: M) -> None:
        self.module = module
