"""Initialization by name, for all layers of a model at once."""

import math
from typing import Literal

import torch
from torch import nn

from .base import look_up

Scheme = Literal["default", "he", "glorot", "pca"]

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def initialize(module: nn.Module, scheme: Scheme) -> None:
    """Draw the weights of all linear and convolutional layers anew, and set their biases to zero.

    "he" draws W ~ N(0, 2 / fan_in), which keeps the mean square of a signal through rectified linear units.
    "glorot" draws W ~ U(±√(6 / (fan_in + fan_out))), a compromise between keeping the signal and keeping the gradient
    in units that are linear around zero, as tanh. "default" leaves every layer as torch made it. "pca" draws
    like "he"; `principal_start` is called after it.

    Fans count connections: fan_in is how many inputs an output sees, fan_out how many outputs an input reaches. Away
    from the borders a stride divides fan_out, and fan_in where the convolution is transposed. `torch.nn.init` counts
    the weights instead, and takes a transposed convolution's fan_in for its fan_out.

    Arguments:
        module: Any module; its normalization layers, and the masked layers of flows, are left alone.
        scheme: Name of the initialization.

    Raises:
        ConfigError: There is no such scheme.

    Reference: He et al. 2015, arXiv:1502.01852, eq. 10; Glorot and Bengio 2010, eq. 16.
    """
    draw = look_up("initialization", scheme, {"default": None, "he": _he, "glorot": _glorot, "pca": _he})
    if draw is None:
        return
    for layer in module.modules():
        if isinstance(layer, LAYERS) and type(layer) in LAYERS:
            draw(layer.weight, *_fans(layer))
            if layer.bias is not None:
                layer.bias.zero_()


def _he(weight: torch.Tensor, fan_in: float, fan_out: float) -> None:
    weight.normal_(0, math.sqrt(2 / fan_in))


def _glorot(weight: torch.Tensor, fan_in: float, fan_out: float) -> None:
    bound = math.sqrt(6 / (fan_in + fan_out))
    weight.uniform_(-bound, bound)


def _fans(layer: nn.Linear | Convolution | Transposed) -> tuple[float, float]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    weights = math.prod(layer.kernel_size) / layer.groups
    fan_in, fan_out = layer.in_channels * weights, layer.out_channels * weights
    stride = math.prod(layer.stride)
    return (fan_in / stride, fan_out) if layer.transposed else (fan_in, fan_out / stride)
