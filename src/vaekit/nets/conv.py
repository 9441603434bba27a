"""Convolutional networks for images of any size, and the pieces that residual networks share with them.

A stage halves the image, rounding up: n → ⌈n/2⌉. Kernels of 4 on even sizes and 3 on odd ones, with stride 2 and
padding 1, give exactly that, and their transposes give exactly the way back: a decoder meets any size without cropping.
On even sizes every output pixel is covered equally often, so that nothing suggests a checkerboard (Odena, Dumoulin and
Olah 2016, doi:10.23915/distill.00003).
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .base import Activation, Decoder, Network, chosen, nonlinearity, widths, with_context

Size = tuple[int, int]

NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "layer": partial(nn.GroupNorm, 1)}


class FiLM(nn.Module):
    """Scale and shift each channel as the context says: (1 + W_γ c) ⊙ h + W_β c.

    The weights start at a tenth, so that every class begins near the identity. They are no linear layer of their own:
    an initialization by name that fits those would, at every stage, double what passes.

    Arguments:
        channels: Channels of h, shape (N, channels, H, W).
        context_size: Width of c.

    Reference: Perez et al. 2018, arXiv:1709.07871, eq. 2, with 1 + γ for γ.
    """

    def __init__(self, channels: int, context_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(2 * channels, context_size))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Map (N, channels, H, W), with c of shape (N, context_size), to the same shape."""
        gamma, beta = (c @ self.weight.T)[:, :, None, None].chunk(2, dim=1)
        return (1 + gamma) * h + beta


class Activate(nn.Module):
    """Normalize, take the context in (`FiLM`), and apply the nonlinearity.

    Arguments:
        channels: Channels of h, shape (N, channels, H, W).
        norm: Normalization.
        context_size: Width of c; 0 for none.
        activation: Nonlinearity.
    """

    def __init__(self, channels: int, norm: nn.Module, context_size: int, activation: Activation) -> None:
        super().__init__()
        self.norm = norm
        self.film = FiLM(channels, context_size) if context_size else None
        self.activation = nonlinearity(activation)

    def forward(self, h: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, channels, H, W), with c of shape (N, context_size), to the same shape."""
        h = self.norm(h)
        if self.film is not None:
            h = self.film(h, c)
        activated: Tensor = self.activation(h)
        return activated


class ConvEncoder(Network):
    """Strided convolutions followed by one dense layer, which is the output.

    Arguments:
        in_shape: Shape of the images, (channels, H, W).
        context_size: Width of c; 0 for none.
        channels: Channels of the stages; each halves the image, rounding up.
        dense: Width of the dense layer, the features.
        activation: Nonlinearity of all layers.
        norm: Normalization of each stage: over the batch, or over all channels and pixels of an image.
        context: Where c enters: as a scale and shift of every stage's channels (FiLM), or as constant planes beside the
            image.

    Raises:
        ConfigError: the input is no image, or an option has a value that does not exist.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        context_size: int = 0,
        *,
        channels: Sequence[int] = (16, 32),
        dense: int = 256,
        activation: Activation = "relu",
        norm: Literal["batch", "layer"] | None = None,
        context: Literal["film", "planes"] = "film",
    ) -> None:
        super().__init__(in_shape, widths("dense", (dense,)), context_size)
        sizes = ladder(in_shape, channels)
        self.planes, film = injected(context, context_size)
        steps = zip(pairwise((in_shape[0] + self.planes, *channels)), sizes[:-1], strict=True)
        self.convs = nn.ModuleList(down(a, b, size) for (a, b), size in steps)
        self.activations = nn.ModuleList(Activate(a, normalization(norm, a), film, activation) for a in channels)
        self.dense = to_vector(channels[-1], sizes[-1], dense, activation)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, channels, H, W) to (N, features)."""
        h = torch.cat((x, c[:, :, None, None].expand(-1, -1, *x.shape[2:])), 1) if self.planes and c is not None else x
        for conv, activate in zip(self.convs, self.activations, strict=True):
            h = activate(conv(h), c)
        features: Tensor = self.dense(h)
        return features


class ConvDecoder(Decoder):
    """The mirror image of `ConvEncoder`: two dense layers, then transposed convolutions.

    Arguments:
        in_shape: Event shape of the latents, (Z,).
        out_shape: Shape of the output, (channels, H, W).
        context_size: Width of c; 0 for none.
        channels: Channels of the stages, in the encoder's order, so that the last is the first here.
        dense: Width of the dense layer.
        activation: Nonlinearity of all layers but the last.
        norm: Normalization of each stage: over the batch, or over all channels and pixels of an image.
        context: Where c enters: as a scale and shift of every stage's channels (FiLM), or beside the latents, which are
            planes of one pixel.

    Raises:
        ConfigError: the output is no image, or an option has a value that does not exist.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        context_size: int = 0,
        *,
        channels: Sequence[int] = (16, 32),
        dense: int = 256,
        activation: Activation = "relu",
        norm: Literal["batch", "layer"] | None = None,
        context: Literal["film", "planes"] = "film",
    ) -> None:
        super().__init__(in_shape, out_shape, context_size)
        sizes = ladder(out_shape, channels)
        self.planes, film = injected(context, context_size)
        self.dense = from_vector(prod(in_shape) + self.planes, dense, channels[-1], sizes[-1], activation)
        self.activations = nn.ModuleList(
            Activate(a, normalization(norm, a), film, activation) for a in reversed(channels)
        )
        steps = zip(pairwise((*reversed(channels), out_shape[0])), sizes[-2::-1], strict=True)
        self.convs = nn.ModuleList(up(a, b, size) for (a, b), size in steps)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, Z) to (N, channels, H, W)."""
        h: Tensor = self.dense(with_context(x.flatten(1), c if self.planes else None))
        for activate, conv in zip(self.activations, self.convs, strict=True):
            h = conv(activate(h, c))
        return h

    @property
    def output_layer(self) -> nn.Module:
        """The last layer."""
        return self.convs[-1]


def ladder(shape: Sequence[int], channels: Sequence[int]) -> list[Size]:
    """Sizes of an image before the first stage and after each.

    >>> ladder((1, 65, 47), (32, 64))
    [(65, 47), (33, 24), (17, 12)]

    Raises:
        ConfigError: the shape is not that of an image, or there is no stage.
    """
    if len(shape) != 3:
        raise ConfigError(
            f"a convolutional network needs images (channels, H, W), got {tuple(shape)}; use the name 'mlp'"
        )
    if not widths("channels", channels):
        raise ConfigError("channels must name at least one stage, got []; use the name 'mlp' for none")
    sizes = [(shape[1], shape[2])]
    for _ in channels:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def down(channels_in: int, channels_out: int, size: Size) -> nn.Conv2d:
    """Convolution that halves an image of this size, rounding up."""
    return nn.Conv2d(channels_in, channels_out, _kernel(size), stride=2, padding=1)


def up(channels_in: int, channels_out: int, size: Size) -> nn.ConvTranspose2d:
    """Transposed convolution that gives an image of this size, from one of half of it."""
    return nn.ConvTranspose2d(channels_in, channels_out, _kernel(size), stride=2, padding=1)


def _kernel(size: Size) -> Size:
    return 4 - size[0] % 2, 4 - size[1] % 2


def to_vector(channels: int, size: Size, width: int, activation: Activation) -> nn.Sequential:
    """Dense layer from (N, channels, *size) to (N, width)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * prod(size), width), nonlinearity(activation))


def from_vector(width_in: int, width: int, channels: int, size: Size, activation: Activation) -> nn.Sequential:
    """Two dense layers, the second without an activation, from (N, width_in) to (N, channels, *size)."""
    return nn.Sequential(
        nn.Linear(width_in, widths("dense", (width,))[0]),
        nonlinearity(activation),
        nn.Linear(width, channels * prod(size)),
        nn.Unflatten(1, (channels, *size)),
    )


def injected(context: Literal["film", "planes"], context_size: int) -> tuple[int, int]:
    """How much of the context enters as planes, and how much as a scale and shift."""
    return chosen("context", context, {"film": (0, context_size), "planes": (context_size, 0)})


def normalization(norm: Literal["batch", "layer"] | None, channels: int) -> nn.Module:
    """Make a normalization from its name; None is the identity."""
    return nn.Identity() if norm is None else chosen("norm", norm, NORMS)(channels)
