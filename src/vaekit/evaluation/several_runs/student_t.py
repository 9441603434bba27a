"""Student's t distribution: its distribution function and its inverse.

scipy has both, and takes a second to import.
"""

import math
from statistics import NormalDist

_NEARLY_NORMAL = 5_000  # degrees of freedom; beyond, three terms of the expansion are exact to 1e-9, and far faster


def within(t: float, freedom: int) -> float:
    """P(|T| ≤ |t|) for T with Student's t distribution.

    Arguments:
        t: Any number, or infinity.
        freedom: Degrees of freedom ν, at least 1.

    Reference: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_even = freedom % 2 == 0
    term = sine if is_even else sine * cosine if freedom > 1 else 0.0
    total = 0.0
    for power in range(2 if is_even else 3, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (power - 1) / power
    return total if is_even else 2 / math.pi * (angle + total)


def cdf(t: float, freedom: int) -> float:
    """P(T ≤ t), with the arguments of `within`.

    >>> [round(cdf(t, 2), 4) for t in (-1.0, 0.0, 1.0)]
    [0.2113, 0.5, 0.7887]
    """
    return 0.5 + math.copysign(0.5 * within(t, freedom), t)


def quantile(freedom: int, confidence: float) -> float:
    """The t with P(|T| ≤ t) = confidence.

    Arguments:
        freedom: Degrees of freedom ν, at least 1.
        confidence: Probability, in (0, 1).

    Reference: Abramowitz and Stegun 1964, 26.7.5, for many degrees of freedom.

    >>> [round(quantile(freedom, 0.95), 3) for freedom in (1, 4, 30, 10_000)]
    [12.706, 2.776, 2.042, 1.96]
    """
    if freedom > _NEARLY_NORMAL:
        return _expanded(NormalDist().inv_cdf(0.5 + 0.5 * confidence), freedom)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if within(math.tan(middle) * math.sqrt(freedom), freedom) < confidence:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(freedom)


def _expanded(z: float, freedom: int) -> float:
    """The quantile of Student's t from that of the standard normal, to the order 1/ν³."""
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
