"""The base of likelihoods: from the network's output to independent values, bounds on the output, and its bias.

Not for: a density itself (`vaekit.distributions` and torch).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from ..data.value_kinds import ValueKind, check_values
from ..distributions import at_least_float32, full_precision


class Likelihood(nn.Module, ABC):
    """p(x | z, c).

    Its `forward` returns a distribution. The batch shape is the shape of z without the dimensions of a latent; the
    event shape is the shape of x. Pictures show the mean. If the values of x are not independent given z, the methods
    that `vaekit.distributions.protocols` lists say how missing values are treated.

    A plain module is accepted as well. It takes one output of the network for each value of x, unless it has
    `per_value` or `out_shape`. With a method `parameters_at`, as in `PerValueLikelihood`, it can start at the mean of
    the data (model.output_bias = "data").

    Arguments:
        net: Network (..., B, *latent), (B, C) → (..., B, *out_shape(event_shape)).

    Attributes:
        value_kind: Meaning of the numbers in x: "pixels", "counts" (whole numbers), "real", or "table".
        value_range: Least and greatest value of x that is accepted; None accepts any real number.
        takes_classes: Whether a class can stand for its one-hot row of the context.
        couples_rows: Whether log p(x) of a row depends on the other rows of its batch.
    """

    value_kind: ClassVar[ValueKind]
    value_range: ClassVar[tuple[float, float] | None]
    takes_classes: bool = True
    couples_rows: bool = False

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @abstractmethod
    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """The likelihood of each row of z, shape (..., B, *latent): batch shape (..., B), event shape of x."""

    @classmethod
    @abstractmethod
    def out_shape(cls, event_shape: tuple[int, ...], **options: Any) -> tuple[int, ...]:
        """Shape that the network has to produce, given the constructor's options."""

    @classmethod
    def options_from_data(cls, x: Tensor, **options: Any) -> dict[str, Any]:
        """Values of the options that depend on the training rows, shape (N, *event); a training records them."""
        return {}

    @staticmethod
    def encoder_transform(**options: Any) -> Callable[[Tensor], Tensor] | None:
        """The transform of x before the encoder, given the constructor's options; None for x itself."""
        return None

    @classmethod
    def check(cls, x: Tensor) -> None:
        """Refuse data, of any shape, without a density here. Not for every step: it waits for the device.

        Raises:
            DataError: A value is outside `value_range`, or x are counts and a value is not a whole number.
        """
        if cls.value_range is not None:
            check_values(x, cls.value_range, whole=cls.value_kind == "counts", who=cls.__name__)


class PerValueLikelihood(Likelihood):
    """p(x | z, c), independent over the values of x; each value takes P outputs of net(z, c).

    The outputs are P groups of channels. A subclass gives `distribution`, `parameters_at` and, unless P is 1,
    `per_value`.

    Arguments:
        net: Network (..., B, *latent), (B, C) → (..., B, *out_shape(event_shape)). Its `in_shape` says how many
            dimensions a latent has; without one it is a vector.
        options: Options of `per_value`.

    Attributes:
        discrete: Whether p(x) is a probability, not a density, so that bits per dimension have a meaning. This holds
            for x in the `support` of the returned distribution; a Bernoulli accepts grey x too, outside its support.
        tolerates_bf16: Whether rounding the network's output to 8 bits costs no more than noise. If it costs more,
            torch.autocast does not reach the network.
        independent: Class that joins the values of x into one distribution.
    """

    discrete: ClassVar[bool]
    tolerates_bf16: ClassVar[bool] = False
    independent: ClassVar[type[Independent[Any]]] = Independent

    def __init__(self, net: nn.Module, **options: Any) -> None:
        super().__init__(net)
        self.groups = self.per_value(**options)
        self.latent_dims = len(getattr(net, "in_shape", (1,)))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """The likelihood of each row of z, shape (..., B, *latent): batch shape (..., B), event shape of x."""
        values = self.distribution(self.output(z, c))
        return self.independent(values, len(values.batch_shape) - z.ndim + self.latent_dims, validate_args=False)

    def output(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """The network's output, its P groups of channels first: shape (P, ..., B, *event)."""
        channels = z.ndim - self.latent_dims
        with nullcontext() if self.tolerates_bf16 else full_precision(z):
            output = at_least_float32(self.net(z, c))
        grouped: Tensor = output.unflatten(channels, (self.groups, -1))
        return grouped.movedim(channels, 0)

    @abstractmethod
    def distribution(self, output: Tensor) -> Distribution:
        """Independent values, batch shape (..., B, *event), from the network's output, shape (P, ..., B, *event)."""

    @abstractmethod
    def parameters_at(self, mean: Tensor) -> Tensor:
        """The network's output, shape `out_shape(event_shape)`, at which the mean of x is `mean`, shape (*event).

        For the output bias of a decoder. A mean that only infinite parameters reach is clipped.
        """

    @staticmethod
    def per_value(**options: Any) -> int:
        """P, how many outputs of the network each value of x takes, given the constructor's options."""
        return 1

    @classmethod
    def out_shape(cls, event_shape: tuple[int, ...], **options: Any) -> tuple[int, ...]:
        """Shape that the network has to produce: P·C channels for an image (C, H, W), P·D values for a row (D,)."""
        return (cls.per_value(**options) * event_shape[0], *event_shape[1:])


def soft_bound(x: Tensor, limit: float) -> Tensor:
    """limit·tanh(x/limit): near x in the middle and never beyond ±limit, so that its exponential cannot overflow."""
    return limit * torch.tanh(x / limit)


def soft_bound_inverse(y: Tensor, limit: float) -> Tensor:
    """The x at which `soft_bound` is y, for |y| < limit."""
    return limit * torch.atanh(y / limit)


def bisect(mean_at: Callable[[Tensor], Tensor], mean: Tensor, reach: float | Tensor) -> Tensor:
    """The η in ±reach with mean_at(η) = mean, elementwise, by bisection; mean_at increases."""
    low = torch.zeros_like(mean) - reach
    high = torch.zeros_like(mean) + reach
    for _ in range(50):
        middle = (low + high) / 2
        below = mean_at(middle) < mean
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
