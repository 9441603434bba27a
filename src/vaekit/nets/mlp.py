"""Fully connected networks."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from .base import Activation, Decoder, Encoder, dropping, look_up, nonlinearity, sloped, widths, with_context

NORMS_OF_ROWS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class GatedLinear(nn.Module):
    """h = (W x + b) ⊙ sigmoid(V x + c).

    Reference: Dauphin et al. 2016, arXiv:1612.08083, eq. 1; in VAEs Tomczak and Welling 2018, arXiv:1705.07120.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.value = nn.Linear(width_in, width_out)
        self.gate = nn.Linear(width_in, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width_in) to (..., width_out)."""
        h: Tensor = self.value(x) * self.gate(x).sigmoid()
        return h


class MLP(Encoder, Decoder):
    """A multilayer perceptron; its context is concatenated to its input.

    Arguments:
        in_shape: Event shape of the input; it is flattened.
        out_shape: Event shape of the output; without it the last hidden layer, after its activation, is the output.
        context_size: Width of c; 0 for none.
        x: Training data, whose mean `centred` subtracts; without them it is 0.
        hidden: Widths of the hidden layers; without any the network is linear.
        activation: Nonlinearity of the hidden layers.
        negative_slope: Slope of "leaky-relu" below zero.
        dropout: Probability that a value of a hidden layer is set to zero, while training.
        gated: Make the hidden layers gated linear ones; the gate takes the place of the activation.
        norm: Normalization between a hidden layer and its activation; batch statistics are taken over all leading
            dimensions.
        centred: Subtract the mean of the training data from the input, which is then easier to learn from.

    Raises:
        ConfigError: An option has an unknown value.
    """

    centre: Tensor | None

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int] | None = None,
        context_size: int = 0,
        x: Tensor | None = None,
        *,
        hidden: Sequence[int] = (400, 400, 400),
        activation: Activation = "relu",
        negative_slope: float = 0.01,
        dropout: float = 0.0,
        gated: bool = False,
        norm: Literal["batch", "layer"] | None = None,
        centred: bool = False,
    ) -> None:
        sizes = (prod(in_shape) + context_size, *widths("hidden", hidden))
        super().__init__(in_shape, sizes[-1:] if out_shape is None else out_shape, context_size)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(sizes):
            layers.append(GatedLinear(width_in, width_out) if gated else nn.Linear(width_in, width_out))
            if norm is not None:
                layers.append(look_up("norm", norm, NORMS_OF_ROWS)(width_out))
            if not gated:
                layers.append(nonlinearity(sloped(activation, negative_slope)))
            layers += dropping(dropout)
        if out_shape is not None:
            layers.append(nn.Linear(sizes[-1], prod(out_shape)))
        self.layers = nn.Sequential(*layers)
        mean = None
        if centred:
            mean = torch.zeros(*in_shape) if x is None else x.mean(0).to("cpu", torch.float32)
        self.register_buffer("centre", mean)

    def row_outputs(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, *in_shape) to (N, out)."""
        if self.centre is not None:
            x = x - self.centre
        h: Tensor = self.layers(with_context(x.flatten(1), c))
        return h

    @property
    def output_layer(self) -> nn.Module:
        """The last layer."""
        return self.layers[-1]
