"""Densities in float32 where torch.autocast is switched on for everything.

Not for: the precision of a training, which applies to networks only (`training.precision`).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def full_precision(where: Tensor | torch.device) -> AbstractContextManager[Any]:
    """Within the block nothing on this device is computed in less than float32, even under a caller's autocast.

    A log-mass of 8-bit images, summed over pixels, is wrong by hundreds of nats in bfloat16, which has 8 bits itself.
    """
    device = (where.device if isinstance(where, Tensor) else where).type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """Return x in float32 if it has less precision, else x itself.

    >>> [at_least_float32(torch.zeros(1, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.float64)]
    [torch.float32, torch.float64]
    """
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
