"""Supports of distributions.

Not for: checking rows against a support (`evaluation.likelihood.support`).
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

FAR, TRIED = 1e3, 64  # size and number of the values that are tried


def support_of(p: Distribution) -> Constraint | None:
    """The support of a distribution; None where it does not say."""
    try:
        support: Any = p.support
        return None if support is None or support.is_discrete is NotImplemented else support
    except (NotImplementedError, AttributeError):
        return None


def is_discrete(p: Distribution) -> bool:
    """Whether a distribution says that its values are discrete."""
    support = support_of(p)
    return support is not None and support.is_discrete is True


def takes_any_real(support: Constraint, z: Tensor) -> bool:
    """Whether a support contains all real numbers; it tries values far from 0, of z's shape."""
    return not support.is_discrete and bool(support.check(FAR * torch.randn(TRIED, *z.shape).to(z)).all())
