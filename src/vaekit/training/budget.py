"""Memory: a limit on what a config that is not trusted may allocate, and blocks that are used again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from ..errors import ConfigError


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


def keep_freed_blocks() -> None:
    """Let the C library keep freed blocks of up to 31 MiB for the next result instead of giving them to the system.

    glibc does so once it has freed a block of that size (mallopt(3), M_MMAP_THRESHOLD), which this one, of pages that
    are never touched, is. Without it large results cost a page fault for every 4 KiB, up to half of the time.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


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
