"""Residual networks for images of any size."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from ..errors import ConfigError
from .base import Activation, widths
from .stages import Activate, StagedDecoder, StagedEncoder, down, stage_sizes, to_vector, up


class ResidualBlock(nn.Module):
    """(skip(h) + conv₂(a₂(conv₁(a₁(h))))) / √2, where a₁ and a₂ normalize, take the context in, and activate.

    Without the √2 a signal that nothing normalizes would grow with every block; under He initialization it keeps its
    mean square.

    Reference: He et al. 2016, arXiv:1603.05027, figure 4(e); the √2 from Song et al. 2021, arXiv:2011.13456, app. H.
    """

    def __init__(self, a1: Activate, conv1: nn.Module, a2: Activate, conv2: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.activate1 = a1
        self.conv1 = conv1
        self.activate2 = a2
        self.conv2 = conv2
        self.skip = skip

    def forward(self, h: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, channels, H, W), with c of shape (N, context_size), to the shape that the convolutions give."""
        residual = self.conv1(self.activate1(h, c))
        residual = self.conv2(self.activate2(residual, c))
        total: Tensor = (self.skip(h) + residual) * math.sqrt(0.5)
        return total


class ResNetEncoder(StagedEncoder):
    """A convolution, stages of residual blocks, and one dense layer, which is the output.

    Arguments:
        in_shape: Shape of the images, (channels, H, W).
        context_size: Width of c, which scales and shifts the channels before each convolution; 0 for none.
        channels: Channels of the stages; the first block of each halves the image, rounding up.
        blocks: Residual blocks in a stage.
        dense: Width of the dense layer, the features.
        activation: Nonlinearity of all layers.
        group_norm: Normalize before each activation, in up to 8 groups of at least 4 channels.

    Raises:
        ConfigError: The input is not an image, or an option has an unknown value.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        context_size: int = 0,
        *,
        channels: Sequence[int] = (16, 32),
        blocks: int = 1,
        dense: int = 256,
        activation: Activation = "relu",
        group_norm: bool = True,
    ) -> None:
        super().__init__(in_shape, widths("dense", (dense,)), context_size)
        self.channels = tuple(channels)
        self.sizes = stage_sizes(_of_image(in_shape), channels)
        self.blocks_per_stage = widths("blocks", (blocks,))[0]
        activate = partial(_activate, context_size=context_size, activation=activation, group_norm=group_norm)
        self.stem = _conv3(in_shape[0], channels[0])
        self.blocks = nn.ModuleList()
        for (a, b), size in zip(pairwise((channels[0], *channels)), self.sizes[:-1], strict=True):
            pool = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(a, b, 1))
            self.blocks.append(ResidualBlock(activate(a), down(a, b, size), activate(b), _conv3(b, b), pool))
            self.blocks.extend(_keep(b, activate) for _ in range(self.blocks_per_stage - 1))
        self.activate = activate(channels[-1])
        self.dense = to_vector(channels[-1], self.sizes[-1], dense, activation)

    def stages(self, x: Tensor, c: Tensor | None) -> Iterator[Tensor]:
        """The output of each stage for (N, channels, H, W)."""
        h = self.stem(x)
        for i, block in enumerate(self.blocks, 1):
            h = block(h, c)
            if i % self.blocks_per_stage == 0:
                yield h

    def features(self, h: Tensor, c: Tensor | None) -> Tensor:
        """The features, from the output of the last stage."""
        return super().features(self.activate(h, c), c)


class ResNetDecoder(StagedDecoder):
    """The mirror image of `ResNetEncoder`: two dense layers, stages of residual blocks, a convolution.

    Arguments:
        in_shape: Event shape of the latents: (Z,), or a grid (channels, h, w) of the encoder's last size.
        out_shape: Shape of the output, (channels, H, W).
        context_size: Width of c, which scales and shifts the channels before each convolution; 0 for none.
        channels: Channels of the stages, in the encoder's order; the last block of each doubles the image.
        blocks: Residual blocks in a stage.
        dense: Width of the dense layer.
        activation: Nonlinearity of all layers but the last.
        group_norm: Normalize before each activation, in up to 8 groups of at least 4 channels.

    Raises:
        ConfigError: The output is not an image, or an option has an unknown value.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        context_size: int = 0,
        *,
        channels: Sequence[int] = (16, 32),
        blocks: int = 1,
        dense: int = 256,
        activation: Activation = "relu",
        group_norm: bool = True,
    ) -> None:
        super().__init__(in_shape, out_shape, context_size)
        self.sizes = stage_sizes(_of_image(out_shape), channels)
        activate = partial(_activate, context_size=context_size, activation=activation, group_norm=group_norm)
        self.dense = self.way_in(channels[-1], self.sizes[-1], dense, activation, 0)
        self.blocks = nn.ModuleList()
        for (a, b), size in zip(pairwise((*reversed(channels), channels[0])), self.sizes[-2::-1], strict=True):
            self.blocks.extend(_keep(a, activate) for _ in range(widths("blocks", (blocks,))[0] - 1))
            grow = nn.Sequential(nn.Conv2d(a, b, 1), nn.Upsample(size))
            self.blocks.append(ResidualBlock(activate(a), _conv3(a, a), activate(a), up(a, b, size), grow))
        self.activate = activate(channels[0])
        self.output = _conv3(channels[0], out_shape[0])

    def row_outputs(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Map (N, *in_shape) to (N, channels, H, W)."""
        h = self.enter(self.dense, x, None)
        for block in self.blocks:
            h = block(h, c)
        y: Tensor = self.output(self.activate(h, c))
        return y

    @property
    def output_layer(self) -> nn.Module:
        """The last layer."""
        return self.output


def _of_image(shape: Sequence[int]) -> Sequence[int]:
    """The shape, if it is that of an image."""
    if len(shape) != 3:
        raise ConfigError(f"a residual network needs images (channels, H, W), got {tuple(shape)}; use the name 'mlp'")
    return shape


def _conv3(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def _keep(channels: int, activate: Callable[[int], Activate]) -> ResidualBlock:
    """A block that keeps channels and size."""
    conv1, conv2 = _conv3(channels, channels), _conv3(channels, channels)
    return ResidualBlock(activate(channels), conv1, activate(channels), conv2, nn.Identity())


def _activate(channels: int, *, context_size: int, activation: Activation, group_norm: bool) -> Activate:
    norm = nn.GroupNorm(max(1, math.gcd(32, channels) // 4), channels) if group_norm else nn.Identity()
    return Activate(channels, norm, context_size, activation)
