"""A reference from one module to another that another owner keeps."""

from typing import Generic, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


class Unregistered(Generic[M]):
    """A reference to a module that does not make it a part: its weights are trained and stored elsewhere.

    Arguments:
        module: The module.
    """

    def __init__(self, module: M) -> None:
        self.module = module
