"""Parts of convolutional networks: stages that halve or double an image, layers from latents, layers to features.

A signal (channels, L) is halved and doubled as an image is, along its one dimension.

A stage halves the image, rounding up: n → ⌈n/2⌉. Kernels of 4 on even sizes and 3 on odd ones, with stride 2 and
padding 1, give exactly that, and their transposes give the old size back: a decoder reaches any size without
cropping. On even sizes every output pixel is covered equally often, which avoids a checkerboard (Odena, Dumoulin and
Olah 2016, doi:10.23915/distill.00003). With the user's kernel k and stride s the padding is ⌊(k − 1)/2⌋, and the
transposes pad their output to fit.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError, check_count
from .base import Activation, Decoder, Encoder, Nonlinearity, dropping, nonlinearity, widths

Size = tuple[int, ...]  # of an image or a signal, without its channels
CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


@dataclass(frozen=True)
class Strides:
    """How each stage makes an image smaller.

    Arguments:
        kernel_size: Kernel of the convolutions; None for 4 on even sizes and 3 on odd ones.
        stride: Pixels from one place of the kernel to the next.

    Raises:
        ConfigError: `kernel_size` or `stride` is below 1.
    """

    kernel_size: int | None = None
    stride: int = 2

    def __post_init__(self) -> None:
        check_count("stride", self.stride, 1)
        check_count("kernel_size", 1 if self.kernel_size is None else self.kernel_size, 1)
        if self.kernel_size is None and self.stride != 2:
            raise ConfigError(f"stride = {self.stride} needs a kernel_size; without one a stage halves the image")

    def kernel(self, size: Size) -> Size:
        """Kernel of a stage that begins with an image of this size."""
        k = self.kernel_size
        return tuple(4 - n % 2 if k is None else k for n in size)

    @property
    def padding(self) -> int:
        """Pixels of padding at every edge."""
        return 1 if self.kernel_size is None else (self.kernel_size - 1) // 2

    def after(self, size: Size) -> Size:
        """Size of an image after a stage.

        Raises:
            ConfigError: The kernel is larger than the padded image.
        """
        kernel, pad = self.kernel(size), 2 * self.padding
        smaller = tuple((n + pad - k) // self.stride + 1 for n, k in zip(size, kernel, strict=True))
        if min(smaller) < 1:
            raise ConfigError(f"kernel_size = {self.kernel_size} is too large for a stage's image of {size} pixels")
        return smaller

    def excess(self, size: Size) -> Size:
        """Pixels that the transposed convolution would lack to an image of this size."""
        small, kernel = self.after(size), self.kernel(size)
        return tuple(
            n - ((m - 1) * self.stride - 2 * self.padding + k) for n, m, k in zip(size, small, kernel, strict=True)
        )


HALVING = Strides()
Dense = int | Literal[False]


class StagedEncoder(Encoder):
    """Stages that halve an image, and one dense layer, which is the output. Each stage's result is a feature map.

    A subclass makes its layers, gives `stages`, and keeps `channels`, `sizes` and `dense`.

    Attributes:
        channels: Channels of the stages.
        sizes: Sizes of the image before the first stage and after each.
        dense: Layer from the output of the last stage to the features.
    """

    channels: tuple[int, ...]
    sizes: list[Size]
    dense: nn.Module

    @abstractmethod
    def stages(self, x: Tensor, c: Tensor | None) -> Iterator[Tensor]:
        """The output of each stage for (N, channels, H, W), one after another."""

    def features(self, h: Tensor, c: Tensor | None) -> Tensor:
        """The features, from the output of the last stage."""
        features: Tensor = self.dense(h)
        return features

    @property
    def map_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Event shapes of the tensors of `maps`: one for each stage, and one for the features."""
        grids = [(a, *size) for a, size in zip(self.channels, self.sizes[1:], strict=True)]
        return (*grids, self.out_shape)

    def row_outputs(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, channels, H, W) to (N, features)."""
        h = x
        for result in self.stages(x, c):
            h = result
        return self.features(h, c)

    def row_maps(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, ...]:
        """The output of each stage for (N, channels, H, W), and the features."""
        maps = tuple(self.stages(x, c))
        return (*maps, self.features(maps[-1], c))


class StagedDecoder(Decoder):
    """Layers from latents to the coarsest grid, and stages that double an image.

    Vectors go through two dense layers to the coarsest grid. Latents that are a grid of that size already, shape
    (channels, h, w), keep their places: one convolution of a single pixel gives them the channels of the first stage.

    Attributes:
        sizes: Sizes of the image, from full size down to the coarsest grid.
    """

    sizes: list[Size]

    @classmethod
    def wanted_shape(
        cls,
        latent_size: int,
        out_shape: tuple[int, ...],
        *,
        channels: Sequence[int] = (16, 32),
        kernel_size: int | None = None,
        stride: int = 2,
        **options: Any,
    ) -> tuple[int, ...]:
        """The coarsest grid, with `latent_size` channels."""
        return (latent_size, *stage_sizes(out_shape, channels, Strides(kernel_size, stride))[-1])

    def way_in(
        self, channels: int, size: Size, dense: Dense, activation: Activation | Nonlinearity, context_size: int
    ) -> nn.Module:
        """Layers from (N, *in_shape), with `context_size` values beside it, to (N, channels, *size)."""
        if self.in_shape[1:] == size:
            return CONV[len(size)](self.in_shape[0] + context_size, channels, 1)
        return from_vector(prod(self.in_shape) + context_size, dense, channels, size, activation)

    def enter(self, way_in: nn.Module, x: Tensor, c: Tensor | None) -> Tensor:
        """Latents (N, *in_shape), and a context (N, C) beside them or None, through the way in."""
        h = x if isinstance(way_in, nn.Conv1d | nn.Conv2d) else x.flatten(1)
        if c is not None:
            h = torch.cat((h, c.to(h.dtype).reshape(*c.shape, *[1] * (h.ndim - 2)).expand(-1, -1, *h.shape[2:])), 1)
        grid: Tensor = way_in(h)
        return grid


class FiLM(nn.Module):
    """Scale and shift each channel as the context says: (1 + W_γ c) ⊙ h + W_β c.

    The weights start as draws of N(0, 0.1²), so that every class begins near the identity. They are not an `nn.Linear`:
    an initialization by name would then double the signal at every stage.

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
        gamma, beta = (c @ self.weight.T).unflatten(1, (-1, *[1] * (h.ndim - 2))).chunk(2, dim=1)
        return (1 + gamma) * h + beta


class Activate(nn.Module):
    """Normalize, take the context in (`FiLM`), and apply the nonlinearity.

    Arguments:
        channels: Channels of h, shape (N, channels, H, W).
        norm: Normalization.
        context_size: Width of c; 0 for none.
        activation: Nonlinearity.
        dropout: Probability that a value is set to zero afterwards, while training.
    """

    def __init__(
        self,
        channels: int,
        norm: nn.Module,
        context_size: int,
        activation: Activation | Nonlinearity,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.film = FiLM(channels, context_size) if context_size else None
        self.activation = (
            nn.Sequential(nonlinearity(activation), *dropping(dropout)) if dropout else nonlinearity(activation)
        )

    def forward(self, h: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, channels, H, W), with c of shape (N, context_size), to the same shape."""
        h = self.norm(h)
        if self.film is not None:
            h = self.film(h, c)
        activated: Tensor = self.activation(h)
        return activated


def stage_sizes(shape: Sequence[int], channels: Sequence[int], strides: Strides = HALVING) -> list[Size]:
    """Sizes of an image before the first stage and after each.

    >>> stage_sizes((1, 65, 47), (32, 64))
    [(65, 47), (33, 24), (17, 12)]

    Raises:
        ConfigError: The shape is neither (C, H, W) nor (C, L), a stage leaves no pixel, or there is no stage.
    """
    if len(shape) not in (2, 3):
        raise ConfigError(
            f"a convolutional network needs images (channels, H, W) or signals (channels, L), got {tuple(shape)}; "
            "use the name 'mlp'"
        )
    if not widths("channels", channels):
        raise ConfigError("channels must name at least one stage, got []; use the name 'mlp' for none")
    sizes = [tuple(shape[1:])]
    for _ in channels:
        sizes.append(strides.after(sizes[-1]))
    return sizes


def down(channels_in: int, channels_out: int, size: Size, strides: Strides = HALVING) -> nn.Module:
    """Convolution that makes an image of this size smaller; by default it halves it, rounding up."""
    return CONV[len(size)](channels_in, channels_out, strides.kernel(size), strides.stride, strides.padding)


def up(channels_in: int, channels_out: int, size: Size, strides: Strides = HALVING) -> nn.Module:
    """Transposed convolution from the output of `down` back to an image of this size."""
    kernel, excess = strides.kernel(size), strides.excess(size)
    return TRANSPOSED[len(size)](channels_in, channels_out, kernel, strides.stride, strides.padding, excess)


def to_vector(
    channels: int, size: Size, width: Dense, activation: Activation | Nonlinearity, dropout: float = 0.0
) -> nn.Sequential:
    """Dense layer from (N, channels, *size) to (N, width); without a width it only flattens."""
    if width is False:
        return nn.Sequential(nn.Flatten())
    layers = nn.Linear(channels * prod(size), width), nonlinearity(activation), *dropping(dropout)
    return nn.Sequential(nn.Flatten(), *layers)


def from_vector(
    width_in: int, width: Dense, channels: int, size: Size, activation: Activation | Nonlinearity
) -> nn.Sequential:
    """Dense layers to (N, channels, *size): two, or one without a width, the last without an activation."""
    grid = nn.Unflatten(1, (channels, *size))
    if width is False:
        return nn.Sequential(nn.Linear(width_in, channels * prod(size)), grid)
    first = nn.Linear(width_in, widths("dense", (width,))[0])
    return nn.Sequential(first, nonlinearity(activation), nn.Linear(width, channels * prod(size)), grid)
