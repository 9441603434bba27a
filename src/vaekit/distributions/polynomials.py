"""Power series, in place of closed forms that lose digits."""

from collections.abc import Sequence

import torch
from torch import Tensor


def polynomial(coefficients: Sequence[float], t: Tensor) -> Tensor:
    """Σ cₙ·tⁿ, by Horner's rule."""
    result = torch.full_like(t, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = result * t + c
    return result
