"""A limit on what may be allocated while a model is built from a config that is not trusted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from .errors import ConfigError


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Within the block new tensors may have so many numbers in all; each is measured before it is allocated.

    Raises:
        ConfigError: they would have more.
    """
    try:
        with _Budget(numbers):
            yield
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:  # of sizes beyond 64 bits
        raise ConfigError(f"the config asks for a model that cannot be: {str(error).splitlines()[0]}") from error


class _Budget(TorchFunctionMode):
    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = self.numbers = numbers

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _device_constructors():  # all that make a tensor out of nothing; a "meta" tensor is only a shape
            self.left -= func(*args, **kwargs | {"device": "meta"}).numel()
            if self.left < 0:
                raise ConfigError(
                    f"the config asks for a model of more than the {self.numbers} numbers that its weights may need"
                )
        return func(*args, **kwargs)
