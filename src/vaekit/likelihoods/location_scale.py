"""Likelihoods with a location, from the network, and a scale that is fixed, learned or from the network too."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions import Laplace as LaplaceDistribution
from torch.distributions import Normal as NormalDistribution

from ..errors import ConfigError, one_of
from .base import PerValueLikelihood, soft_bound, soft_bound_inverse

Scale = float | Literal["shared", "per-pixel"]
Unit = float | Sequence[float] | Literal["auto"]

_FINE = 0.01  # standard deviation; the bounded log of a scale cannot follow a smaller one


class LocationScale(PerValueLikelihood):
    """p(x | z, c) = Π family(x; loc, scale), the location from the network.

    Arguments:
        net: Network (..., Z), (B, C) → (..., *out_shape).
        x: Training rows; a scale that is learned or comes from the network then starts at their standard
            deviation about their mean.
        scale: A fixed number; "shared", one learned for all values; or "per-pixel": the second group of the network's
            channels is its logarithm.
        centre: Origin of the network's location, one number or one for each channel of signals (C, L); "auto" is 0
            before the rows are known.
        unit: Unit of the network's location, in the same form; "auto" is 1 before the rows are known. The
            location is centre + unit · output. A scale that is learned or comes from the network is in this unit, too.

    Attributes:
        limit: A log-scale that is learned or comes from the network is bounded softly by ± this.
        start: The log-scale before this bound at the start of training; without training rows the class's default.
        scale_words: Words that stand for a scale.

    Raises:
        ConfigError: The scale or the unit is not positive, a number is not finite, or a word is unknown.
    """

    scale_words: ClassVar[tuple[str, ...]] = ("shared", "per-pixel")
    limit: ClassVar[float] = 6.0  # Rybkin et al. clip log σ at −6, where σ is two thirds of a grey level
    start: float = 0.0
    centre: float | Tensor
    unit: float | Tensor

    def __init__(
        self, net: nn.Module, x: Tensor | None = None, *, scale: float | str, centre: Unit = 0.0, unit: Unit = 1.0
    ) -> None:
        super().__init__(net, scale=scale)
        if isinstance(scale, str):
            one_of("scale", scale, self.scale_words)
        else:
            _check_finite("scale", scale, "; to learn it, use 'shared'", low=0.0)
        self.scale = scale
        centres, units = _number(centre, 0.0), _number(unit, 1.0)
        _check_finite("centre", centres, "; 'auto' takes the mean of the data")
        _check_finite("unit", units, "; 'auto' takes the standard deviation of the data", low=0.0)
        self.is_raw = (centres, units) == (0, 1)
        self._set("centre", centres)
        self._set("unit", units)
        if x is not None:
            log_sd = ((x - x.mean(0)) / self.unit).square().mean().sqrt().log()
            reach = 0.98 * self.limit  # the bound itself is never reached
            self.start = soft_bound_inverse(log_sd.clamp(-reach, reach), self.limit).item()
        if scale == "shared":
            self.log_scale = nn.Parameter(torch.tensor(self.start))

    @property
    def has_one_unit(self) -> bool:
        """Whether all values have the same unit."""
        return not isinstance(self.unit, Tensor)

    def _set(self, name: str, value: float | Sequence[float]) -> None:
        """Hold a number, or one for each channel, shape (C, 1); these are options and not stored with the weights."""
        if isinstance(value, Sequence):
            self.register_buffer(name, torch.tensor(value)[:, None], persistent=False)
        else:
            setattr(self, name, value)

    @staticmethod
    def per_value(*, scale: float | str = "shared", **options: Any) -> int:
        """2 where the scale comes from the network, otherwise 1."""
        return 2 if scale == "per-pixel" else 1

    @abstractmethod
    def family(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Independent values with these parameters, which broadcast."""

    def distribution(self, output: Tensor) -> Distribution:
        """Independent values; the first group of the output is their location."""
        loc = output[0] if self.is_raw else self.centre + self.unit * output[0]
        return self.family(loc, self.scale_of(output))

    def scale_of(self, output: Tensor) -> Tensor:
        """The scale, shape () or the shape of one group of the network's output."""
        if isinstance(self.scale, str):
            return self.unit * soft_bound(output[1] if self.groups == 2 else self.log_scale, self.limit).exp()
        return output.new_full((), self.scale)

    def location_at(self, mean: Tensor, scale: Tensor) -> Tensor:
        """The location at which the mean is `mean`."""
        return mean

    @torch.no_grad()
    def parameters_at(self, mean: Tensor) -> Tensor:
        """The location at which the mean is `mean`, then the log-scale at the start if the scale is per pixel."""
        output = torch.stack([mean] + [torch.full_like(mean, self.start)] * (self.groups - 1))
        loc = self.location_at(mean, self.scale_of(output))
        return torch.cat([(loc - self.centre) / self.unit, *output[1:]])


class RealLocationScale(LocationScale):
    """Likelihoods of real x of any size. They standardize x inside, but the density is the density of x itself.

    With "auto" a training takes the mean and the standard deviation of all values of its rows for `centre` and `unit`,
    for signals (C, L) those of each channel, and records them in its config. Rows within [−1, 1] with a standard
    deviation of at least 0.01, such as images, stay as they are. A model that is made without rows takes 0 and 1.
    """

    value_kind = "real"
    value_range = None
    discrete = False

    @classmethod
    def options_from_data(
        cls, x: Tensor, *, centre: Unit = "auto", unit: Unit = "auto", **options: Any
    ) -> dict[str, Any]:
        """The numbers that "auto" stands for, with four digits."""
        numbers: tuple[Unit, Unit] = _mean_and_sd(x)
        if x.ndim == 3 and options.get("scale") != "optimal":  # one variance for all values has one unit
            channels = [_mean_and_sd(channel) for channel in x.unbind(1)]
            means, deviations = ([*numbers] for numbers in zip(*channels, strict=True))
            numbers = (0.0, 1.0) if set(channels) == {(0.0, 1.0)} else (means, deviations)
        return {
            name: number
            for name, option, number in (("centre", centre, numbers[0]), ("unit", unit, numbers[1]))
            if option == "auto"
        }

    @classmethod
    def out_shape(cls, event_shape: tuple[int, ...], **options: Any) -> tuple[int, ...]:
        """Shape that the network has to produce.

        Raises:
            ConfigError: `centre` or `unit` has several numbers, which are not one for each channel of signals.
        """
        for name in ("centre", "unit"):
            value: Unit = options.get(name, "auto")
            if isinstance(value, float | int | str) or (len(event_shape) == 2 and event_shape[0] == len(value)):
                continue
            raise ConfigError(
                f"{name} has {len(value)} numbers, one for each channel of signals ({len(value)}, L), but a row has "
                f"shape {event_shape}; give one number, or 'auto'"
            )
        return super().out_shape(event_shape, **options)

    @staticmethod
    def encoder_transform(
        *, centre: Unit = "auto", unit: Unit = "auto", **options: Any
    ) -> Callable[[Tensor], Tensor] | None:
        """(x − centre) / unit, or x itself."""
        middle, scale = _number(centre, 0.0), _number(unit, 1.0)
        return None if (middle, scale) == (0, 1) else Standardized(middle, scale)


@dataclass(frozen=True)
class Standardized:
    """(x − centre) / unit. With numbers for each channel, a missing value, NaN, becomes 0, the channel's mean.

    Arguments:
        centre: A number, or one for each channel of x, shape (..., C, L).
        unit: A number, or one for each channel of x, shape (..., C, L).
    """

    centre: float | Sequence[float]
    unit: float | Sequence[float]

    @property
    def takes_missing(self) -> bool:
        """Whether x has NaN for missing values; otherwise they are 0 already."""
        return isinstance(self.centre, Sequence)

    def __call__(self, x: Tensor) -> Tensor:
        """Standardize x."""
        centre, unit = (
            x.new_tensor(part)[:, None] if isinstance(part, Sequence) else part for part in (self.centre, self.unit)
        )
        standardized: Tensor = (x - centre) / unit
        return standardized.nan_to_num(0, math.inf, -math.inf) if self.takes_missing else standardized


def _number(value: Unit, unknown: float) -> float | Sequence[float]:
    """The number or numbers, or `unknown` for "auto" before the rows are known."""
    if isinstance(value, str):
        one_of("centre and unit", value, ("auto",))
        return unknown
    return value


def _check_finite(option: str, value: float | Sequence[float], hint: str, *, low: float = -math.inf) -> None:
    """Check that an option, one number or several, is finite and greater than `low`."""
    for number in value if isinstance(value, Sequence) else [value]:
        if not low < number < math.inf:
            limit = "finite" if low == -math.inf else f"> {low:g} and finite"
            raise ConfigError(f"{option} must be {limit}, got {value}{hint}")


def _mean_and_sd(x: Tensor) -> tuple[float, float]:
    """Mean and standard deviation with four digits; 0 and 1 for values that stay as they are."""
    mean, sd = x.double().mean().item(), x.double().std(correction=0).item()
    reach = x.abs().max().item()
    as_it_is = (reach <= 1 and sd >= _FINE) or not math.isfinite(reach + sd) or sd == 0
    return (0.0, 1.0) if as_it_is else (float(f"{mean:.4g}"), float(f"{sd:.4g}"))


class Normal(RealLocationScale):
    """p(x | z, c) = Π N(x; μ, σ²), μ = net(z, c).

    Besides a number, "shared" and "per-pixel" the scale can be "optimal": σ² is the mean squared error of the batch,
    the value at which the batch is most likely. In training mode each `log_prob` computes it, without a gradient
    (the bound is stationary in it), and updates a running mean, as batch norm does. Samples and evaluation mode use the
    running mean, so an evaluation is of one fixed model. Several ranks cannot train it, since each sees only some
    rows of a batch.

    Arguments:
        net: Network (..., Z), (B, C) → (..., *out_shape).
        x: Training rows, for σ to start from.
        scale: σ.
        centre: Origin of the network's μ; see `RealLocationScale`.
        unit: Unit of the network's μ.

    Reference: Rybkin, Daniilidis and Levine 2021, arXiv:2006.13202, who clip log σ hard and keep no running mean.
    """

    scale_words = ("shared", "optimal", "per-pixel")
    mean_square: Tensor

    def __init__(
        self,
        net: nn.Module,
        x: Tensor | None = None,
        *,
        scale: float | Literal["shared", "optimal", "per-pixel"] = "shared",
        centre: Unit = "auto",
        unit: Unit = "auto",
    ) -> None:
        super().__init__(net, x, scale=scale, centre=centre, unit=unit)
        self.couples_rows = scale == "optimal"
        if scale == "optimal":
            if not self.has_one_unit:
                raise ConfigError("scale = 'optimal' takes one unit for all channels; use 'shared'")
            start = torch.exp(2 * soft_bound(torch.tensor(self.start), self.limit))
            self.register_buffer("mean_square", self.unit**2 * start)

    def family(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Normal values."""
        if self.scale == "optimal" and self.training:
            return _FittedNormal(loc, self.mean_square, float(self.unit) ** 2 * math.exp(-2 * self.limit))
        return NormalDistribution(loc, scale, validate_args=False)

    def scale_of(self, output: Tensor) -> Tensor:
        """σ, shape () or the shape of μ."""
        return self.mean_square.sqrt() if self.scale == "optimal" else super().scale_of(output)


class _FittedNormal(NormalDistribution):
    """N(μ, σ²); `log_prob` takes the mean of (x − μ)² for σ².

    Where a gradient is recorded, the running mean moves a tenth of the way to that mean.
    """

    def __init__(self, loc: Tensor, mean_square: Tensor, least: float) -> None:
        super().__init__(loc, mean_square.sqrt(), validate_args=False)
        self.mean_square = mean_square
        self.least = least

    def log_prob(self, value: Tensor) -> Tensor:
        return self._fitted(value, (value - self.loc).detach().square().mean())

    def log_prob_where(self, value: Tensor, observed: Tensor) -> Tensor:
        """Log-density of each value, with the variance of the observed ones."""
        squares = (value - self.loc).detach().square()
        mask = observed.expand_as(squares)
        return self._fitted(value, squares.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1))

    def _fitted(self, value: Tensor, mean_square: Tensor) -> Tensor:
        variance = mean_square.clamp(min=self.least)
        if torch.is_grad_enabled():  # only training moves it
            self.mean_square.lerp_(variance, 0.1)
        log_prob: Tensor = NormalDistribution(self.loc, variance.sqrt(), validate_args=False).log_prob(value)
        return log_prob


class Laplace(RealLocationScale):
    """p(x | z, c) = Π exp(−|x − μ|/b)/(2b), μ = net(z, c): absolute instead of squared errors.

    Arguments:
        net: Network (..., Z), (B, C) → (..., *out_shape).
        x: Training rows, for b to start from.
        scale: b.
        centre: Origin of the network's μ; see `RealLocationScale`.
        unit: Unit of the network's μ.
    """

    def __init__(
        self,
        net: nn.Module,
        x: Tensor | None = None,
        *,
        scale: Scale = "shared",
        centre: Unit = "auto",
        unit: Unit = "auto",
    ) -> None:
        super().__init__(net, x, scale=scale, centre=centre, unit=unit)

    def family(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Laplace values."""
        return LaplaceDistribution(loc, scale, validate_args=False)
