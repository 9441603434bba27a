"""Convolutional networks for images of any size, and signals of any length."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from .base import Activation, look_up, sloped, widths
from .stages import Activate, Dense, StagedDecoder, StagedEncoder, Strides, down, stage_sizes, to_vector, up

NORMS_OF_IMAGES: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "layer": partial(nn.GroupNorm, 1)}
NORMS_OF_SIGNALS = NORMS_OF_IMAGES | {"batch": nn.BatchNorm1d}


class ConvEncoder(StagedEncoder):
    """Strided convolutions followed by one dense layer, which is the output.

    Arguments:
        in_shape: Shape of the images, (channels, H, W), or of signals, (channels, L).
        context_size: Width of c; 0 for none.
        channels: Channels of the stages; each halves the image, rounding up.
        kernel_size: Kernel of the convolutions; by default 4 on even sizes and 3 on odd ones, which halves any image.
        stride: Number by which a stage with a kernel_size divides the image.
        dense: Width of the dense layer, the features; false for none: the features are then all values at the end.
        activation: Nonlinearity of all layers.
        negative_slope: Slope of "leaky-relu" below zero.
        dropout: Probability that a value of a layer is set to zero, while training.
        norm: Normalization of each stage: over the batch, or over all channels and pixels of an image.
        context: Where c enters: as a scale and shift of every stage's channels (FiLM), or as constant planes beside the
            image.

    Raises:
        ConfigError: The input is neither an image nor a signal, or an option has an unknown value.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        context_size: int = 0,
        *,
        channels: Sequence[int] = (16, 32),
        kernel_size: int | None = None,
        stride: int = 2,
        dense: Dense = 256,
        activation: Activation = "relu",
        negative_slope: float = 0.01,
        dropout: float = 0.0,
        norm: Literal["batch", "layer"] | None = None,
        context: Literal["film", "planes"] = "film",
    ) -> None:
        strides, act = Strides(kernel_size, stride), sloped(activation, negative_slope)
        sizes = stage_sizes(in_shape, channels, strides)
        features = channels[-1] * prod(sizes[-1]) if dense is False else widths("dense", (dense,))[0]
        super().__init__(in_shape, (features,), context_size)
        self.channels = tuple(channels)
        self.sizes = sizes
        self.planes, film = injected(context, context_size)
        steps = zip(pairwise((in_shape[0] + self.planes, *channels)), self.sizes[:-1], strict=True)
        self.convs = nn.ModuleList(down(a, b, size, strides) for (a, b), size in steps)
        dims = len(sizes[0])
        self.activations = nn.ModuleList(
            Activate(a, normalization(norm, a, dims), film, act, dropout) for a in channels
        )
        self.dense = to_vector(channels[-1], self.sizes[-1], dense, act, dropout)

    def stages(self, x: Tensor, c: Tensor | None) -> Iterator[Tensor]:
        """The output of each stage for (N, channels, H, W)."""
        h = x
        if self.planes and c is not None:
            planes = c.reshape(*c.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
            h = torch.cat((x, planes), 1)
        for conv, activate in zip(self.convs, self.activations, strict=True):
            h = activate(conv(h), c)
            yield h


class ConvDecoder(StagedDecoder):
    """The mirror image of `ConvEncoder`: two dense layers, then transposed convolutions.

    Arguments:
        in_shape: Event shape of the latents: (Z,), or a grid (channels, h, w) or (channels, l) of the size of
            the encoder's last map.
        out_shape: Shape of the output, (channels, H, W), or (channels, L).
        context_size: Width of c; 0 for none.
        channels: Channels of the stages, in the encoder's order: the last comes first here.
        kernel_size: Kernel of the convolutions, as the encoder's.
        stride: Number by which a stage with a kernel_size multiplies the image.
        dense: Width of the first dense layer; false for none: one layer then leads from z to the coarsest grid.
        activation: Nonlinearity of all layers but the last.
        negative_slope: Slope of "leaky-relu" below zero.
        dropout: Probability that a value of a stage is set to zero, while training.
        norm: Normalization of each stage: over the batch, or over all channels and pixels of an image.
        context: Where c enters: as a scale and shift of every stage's channels (FiLM), or beside the latents, which are
            planes of one pixel.

    Raises:
        ConfigError: The output is neither an image nor a signal, or an option has an unknown value.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        context_size: int = 0,
        *,
        channels: Sequence[int] = (16, 32),
        kernel_size: int | None = None,
        stride: int = 2,
        dense: Dense = 256,
        activation: Activation = "relu",
        negative_slope: float = 0.01,
        dropout: float = 0.0,
        norm: Literal["batch", "layer"] | None = None,
        context: Literal["film", "planes"] = "film",
    ) -> None:
        super().__init__(in_shape, out_shape, context_size)
        strides, act = Strides(kernel_size, stride), sloped(activation, negative_slope)
        self.sizes = stage_sizes(out_shape, channels, strides)
        self.planes, film = injected(context, context_size)
        self.dense = self.way_in(channels[-1], self.sizes[-1], dense, act, self.planes)
        self.activations = nn.ModuleList(
            Activate(a, normalization(norm, a, len(self.sizes[0])), film, act, dropout) for a in reversed(channels)
        )
        steps = zip(pairwise((*reversed(channels), out_shape[0])), self.sizes[-2::-1], strict=True)
        self.convs = nn.ModuleList(up(a, b, size, strides) for (a, b), size in steps)

    def row_outputs(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, *in_shape) to (N, channels, H, W)."""
        h = self.enter(self.dense, x, c if self.planes else None)
        for activate, conv in zip(self.activations, self.convs, strict=True):
            h = conv(activate(h, c))
        return h

    @property
    def output_layer(self) -> nn.Module:
        """The last layer."""
        return self.convs[-1]


def injected(context: Literal["film", "planes"], context_size: int) -> tuple[int, int]:
    """The width of the context that enters as planes, and the width that enters as a scale and shift."""
    return look_up("context", context, {"film": (0, context_size), "planes": (context_size, 0)})


def normalization(norm: Literal["batch", "layer"] | None, channels: int, dims: int = 2) -> nn.Module:
    """Make a normalization from its name, for images (`dims` = 2) or signals (1); None is the identity."""
    norms = NORMS_OF_IMAGES if dims == 2 else NORMS_OF_SIGNALS
    return nn.Identity() if norm is None else look_up("norm", norm, norms)(channels)
