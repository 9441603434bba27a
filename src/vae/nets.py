"""Networks: tensor → tensor, no probability.

Every network maps `(x, c)`, with x of shape (..., *in_shape) and an optional context c of shape (B, context_size) that
broadcasts over the leading dimensions of x, to a tensor of shape (..., *out_shape).
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn


def with_context(x: Tensor, c: Tensor | None) -> Tensor:
    """Concatenate c, shape (B, C), to x, shape (..., B, D), along the last dimension."""
    return x if c is None else torch.cat((x, c.to(x.dtype).expand(*x.shape[:-1], -1)), dim=-1)


class MLP(nn.Module):
    """A multilayer perceptron whose context is concatenated to its input.

    Arguments:
        in_shape: Event shape of the input; it is flattened.
        out_shape: Event shape of the output; without it the last hidden layer, after its activation, is the output.
        context_size: Width of c; 0 for none.
        hidden: Widths of the hidden layers.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int] | None = None,
        context_size: int = 0,
        *,
        hidden: Sequence[int] = (400, 400, 400),
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = (hidden[-1],) if out_shape is None else tuple(out_shape)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise((prod(self.in_shape) + context_size, *hidden)):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        if out_shape is not None:
            layers.append(nn.Linear(hidden[-1], prod(self.out_shape)))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Map (..., *in_shape) to (..., *out_shape)."""
        h: Tensor = self.layers(with_context(x.flatten(-len(self.in_shape)), c))
        return h.reshape(*h.shape[:-1], *self.out_shape)
