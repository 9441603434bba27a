"""Comparison of computed values with expected ones."""

from torch import Tensor


def rel_error(x: Tensor, y: Tensor, eps: float = 1e-10) -> float:
    """Relative error: max |x − y| / max(|x| + |y|, eps).

    Arguments:
        x: Values, any shape.
        y: Values, a shape that broadcasts with x.
        eps: Least denominator, so that two zeros differ by 0.

    >>> import torch
    >>> rel_error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 6.0]))
    0.5
    """
    return (x - y).abs().max().item() / (x.abs() + y.abs()).clamp(min=eps).max().item()
