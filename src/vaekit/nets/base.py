"""The base of all networks: leading dimensions, the context, nonlinearities by name, the output bias."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Size, Tensor, nn

from ..errors import ConfigError, DataError, is_count, is_whole, unknown

T = TypeVar("T")

Activation = Literal["relu", "leaky-relu", "elu", "silu", "gelu", "softplus", "tanh"]

Nonlinearity = Callable[[], nn.Module]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


class Network(nn.Module, ABC):
    """A map of rows, (N, *in_shape) → (N, *out_shape), extended to any leading dimensions.

    Arguments:
        in_shape: Event shape of the input.
        out_shape: Event shape of the output.
        context_size: Width of c; 0 for none.

    Attributes:
        dtype: Type of the products, such as bfloat16; None keeps the weights' type. Input and output keep their types.
    """

    dtype: torch.dtype | None = None

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int], context_size: int) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = tuple(out_shape)
        self.context_size = context_size

    @abstractmethod
    def row_outputs(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Map x of shape (N, *in_shape), with c of shape (N, context_size) or None, to N outputs."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Map (..., B, *in_shape), with c of shape (B, context_size), to (..., B, *out_shape).

        Raises:
            DataError: x or c does not have the shape that the network was made for.
        """
        leading, x, c = self._flat(x, c)
        with self._precision(x):
            h = self.row_outputs(x, c)
        return h.to(x.dtype).reshape(*leading, *self.out_shape)

    def _flat(self, x: Tensor, c: Tensor | None) -> tuple[Size, Tensor, Tensor | None]:
        """Leading dimensions of x; x and c with these flattened into rows."""
        leading, event = x.shape[: -len(self.in_shape)], x.shape[-len(self.in_shape) :]
        if event != self.in_shape:
            raise DataError(f"this network takes inputs of shape (..., {_list(self.in_shape)}), got {tuple(x.shape)}")
        if (0 if c is None else c.shape[-1]) != self.context_size:
            got = "none" if c is None else f"one of shape {tuple(c.shape)}"
            raise DataError(
                f"this network takes a context of width {self.context_size} (0 means no context), got {got}"
            )
        if c is not None:
            try:
                c = c.to(x.dtype).expand(*leading, -1)
            except RuntimeError:
                raise DataError(
                    f"the context, shape {tuple(c.shape)}, needs a row for each row of the input, {tuple(x.shape)}"
                ) from None
            c = c.reshape(-1, self.context_size)
        return leading, x.reshape(-1, *self.in_shape), c

    def _precision(self, x: Tensor) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast(x.device.type, self.dtype)


class Encoder(Network):
    """A network of data; its output is a vector of features, shape (features,).

    An encoder with feature maps overrides `row_maps` and `map_shapes` too; a posterior reads them from `maps`.

    Attributes:
        transform: Function of x that the network sees, such as the logarithm; None for x itself.
        sees_missing: Whether the network gets NaN where a value is missing; otherwise it gets 0 there.
    """

    transform: Callable[[Tensor], Tensor] | None = None
    sees_missing: bool = False

    def _flat(self, x: Tensor, c: Tensor | None) -> tuple[Size, Tensor, Tensor | None]:
        leading, x, c = super()._flat(x, c)
        if self.transform is not None:
            x = self.transform(x)
        return leading, x, c

    @property
    def map_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Event shapes of the tensors of `maps`, the last of them `out_shape`."""
        return (self.out_shape,)

    def row_maps(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, ...]:
        """The maps of rows: x of shape (N, *in_shape), c of shape (N, context_size) or None."""
        return (self.row_outputs(x, c),)

    def maps(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        """Feature maps from fine to coarse, and the features at the end, shapes (..., B, *shape).

        Raises:
            DataError: x or c does not have the shape that the network was made for.
        """
        leading, x, c = self._flat(x, c)
        with self._precision(x):
            maps = self.row_maps(x, c)
        return tuple(h.to(x.dtype).reshape(*leading, *h.shape[1:]) for h in maps)


def map_shapes_of(net: nn.Module, features: int) -> tuple[tuple[int, ...], ...]:
    """Event shapes of the feature maps of an encoder; a plain module has only its features.

    Arguments:
        net: `Encoder` or a plain module.
        features: Width of its output.
    """
    shapes: tuple[tuple[int, ...], ...] = getattr(net, "map_shapes", ((features,),))
    return shapes


def maps_of(net: nn.Module, x: Tensor, c: Tensor | None) -> Sequence[Tensor]:
    """The feature maps of rows from fine to coarse, and the features at the end; a plain module has only features.

    Arguments:
        net: `Encoder` or a plain module.
        x: Shape (B, *event).
        c: Context, shape (B, C), or None.
    """
    maps: Callable[..., Sequence[Tensor]] | None = getattr(net, "maps", None)
    return (net(x, c),) if maps is None else maps(x, c)


class Decoder(Network):
    """A network of latents; its last layer has no activation and can start at a given output.

    Arguments:
        in_shape: Event shape of the latents that it reads, of any rank.
        out_shape: Event shape of the output.
        context_size: Width of c; 0 for none.
    """

    @classmethod
    def wanted_shape(cls, latent_size: int, out_shape: tuple[int, ...], **options: Any) -> tuple[int, ...]:
        """Shape of latents that suits this decoder best, for a posterior that has a choice.

        Arguments:
            latent_size: Width of a vector of latents, or channels of a grid of them.
            out_shape: Event shape of the output.
            options: Options of the constructor.
        """
        return (latent_size,)

    @property
    @abstractmethod
    def output_layer(self) -> nn.Module:
        """The last layer."""

    @torch.no_grad()
    def start_output(self, value: Tensor | None = None, scale: float = 1.0) -> None:
        """Scale the weights of the last layer, and set its biases.

        Arguments:
            value: The biases, shape out_shape: the output where the weights are zero. A bias that several outputs share
                becomes their mean. None leaves the biases alone.
            scale: Factor on the weights.
        """
        self.output_layer.get_parameter("weight").mul_(scale)
        if value is not None:
            bias = self.output_layer.get_parameter("bias")
            bias.copy_(value.expand(self.out_shape).reshape(len(bias), -1).mean(1))


class FirstLevel(nn.Module):
    """A decoder network that reads only the level nearest to the data.

    Arguments:
        net: Network (..., size), (B, C) → (..., *out_shape).
        size: Width of z_1.
    """

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__()
        self.net = net
        self.size = size

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map all latents, (..., Z), to (..., *out_shape)."""
        out: Tensor = self.net(z[..., : self.size], c)
        return out


def with_context(x: Tensor, c: Tensor | None) -> Tensor:
    """Concatenate c, shape (B, C), to x, shape (..., B, D), along the last dimension."""
    return x if c is None else torch.cat((x, c.to(x.dtype).expand(*x.shape[:-1], -1)), dim=-1)


def look_up(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return the entry of a table by its name.

    Raises:
        ConfigError: There is no such name.
    """
    if name not in table:
        raise ConfigError(unknown(kind, name, table))
    return table[name]


def nonlinearity(name: Activation | Nonlinearity) -> nn.Module:
    """Make a nonlinearity from its name, or from the result of `sloped`."""
    return name() if callable(name) else look_up("activation", name, ACTIVATIONS)()


def sloped(name: Activation, negative_slope: float) -> Activation | Nonlinearity:
    """An activation by name; "leaky-relu" gets the slope `negative_slope` below zero."""
    return partial(nn.LeakyReLU, negative_slope) if name == "leaky-relu" else name


def dropping(probability: float) -> list[nn.Module]:
    """Dropout after an activation, or no layer where the probability is 0.

    Raises:
        ConfigError: The probability lies outside of [0, 1).
    """
    if not 0 <= probability < 1:
        raise ConfigError(f"dropout is a probability and must lie in [0, 1), got {probability}")
    return [nn.Dropout(probability)] if probability else []


def widths(option: str, values: Sequence[int]) -> tuple[int, ...]:
    """The widths of layers, checked.

    Raises:
        ConfigError: A width is not a whole number of at least 1.
    """
    if not isinstance(values, Sequence):
        raise ConfigError(f"{option} must be a list, a width for each layer, got {values!r:.60}; pass [{values}]")
    if not all(map(is_count, values)):
        whole = "" if all(map(is_whole, values)) else "whole numbers, "
        raise ConfigError(
            f"{option} must be {whole}at least 1, got {', '.join(map(str, values))}; leave out a layer that should not "
            "exist"
        )
    return tuple(values)


def _list(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
