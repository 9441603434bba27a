"""A reference to a module that another module owns."""

from typing import Generic, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


class Unregistered(Generic[M]):
    """A reference to a module that belongs to another module, which trains it and stores its weights.

    Arguments:
        module: The module.
    """

    def __init__(self, module: M) -> None:
        self.module = module
