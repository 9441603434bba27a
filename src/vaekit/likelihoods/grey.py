"""Likelihoods of 8-bit images, x = k/255 for a level k of 0 … 255: probabilities, and so bits per dimension."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical as CategoricalDistribution
from torch.distributions import Distribution, MixtureSameFamily

from .. import distributions
from ..distributions import GREY_LEVELS, GreyLevelCategorical
from ..errors import check_count
from .base import PerValueLikelihood, bisect, soft_bound, soft_bound_inverse
from .location_scale import LocationScale, Scale

# Half a level is 0.002; a mean of exactly 0 or 1 takes infinite parameters.
_CLIP = (1e-3, 1 - 1e-3)


class DiscretizedLogistic(LocationScale):
    """p(x | z, c) = Π of a logistic's mass within half a level of x; the levels 0 and 255 take all mass beyond.

    The location is not squashed and may lie outside [0, 1].

    Arguments:
        net: Network (..., Z), (B, C) → (..., *out_shape).
        x: Training rows, for s to start from.
        scale: s, on the [0, 1] scale.

    Reference: Kingma et al. 2016, arXiv:1606.04934, with s shared.
    """

    value_kind = "pixels"
    value_range = (0.0, 1.0)
    discrete = True
    limit = 8.0  # s = 3e-4: the middle level has all but 0.6 % of the mass
    start = -2.0

    def __init__(self, net: nn.Module, x: Tensor | None = None, *, scale: Scale = "shared") -> None:
        super().__init__(net, x, scale=scale)

    def family(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Discretized logistic pixels."""
        return distributions.DiscretizedLogistic(loc, scale)

    def location_at(self, mean: Tensor, scale: Tensor) -> Tensor:
        """The location at which the mean is `mean`, clipped to [.001, .999]."""
        return bisect(lambda loc: self.family(loc, scale).mean, mean.clamp(*_CLIP), 1 + 8 * scale)


class DiscretizedLogisticMixture(PerValueLikelihood):
    """p(x | z, c) = Π Σₘ πₘ·DiscretizedLogistic(x; μₘ, sₘ), with π, μ and s per pixel.

    Each channel has its own mixture, independent of the others given z. In PixelCNN++ the channels of a pixel share π,
    and later ones depend on earlier ones.

    Arguments:
        net: Network (..., Z), (B, C) → (..., *out_shape): logits of π, then μ, then log s.
        components: Number of components.

    Raises:
        ConfigError: `components` is below 1.

    Reference: Salimans et al. 2017, arXiv:1701.05517, eq. 1 and 2.
    """

    value_kind = "pixels"
    value_range = (0.0, 1.0)
    discrete = True

    def __init__(self, net: nn.Module, *, components: int = 10) -> None:
        check_count("components", components, 1, hint="; PixelCNN++ has 10")
        super().__init__(net, components=components)

    @staticmethod
    def per_value(*, components: int = 10, **options: Any) -> int:
        """A weight, a location and a scale for each component."""
        return 3 * components

    def distribution(self, output: Tensor) -> Distribution:
        """Mixtures of discretized logistics."""
        logits, loc, log_scale = output.unflatten(0, (3, -1)).movedim(1, -1)
        scale = soft_bound(log_scale, DiscretizedLogistic.limit).exp()
        weights = CategoricalDistribution(logits=logits, validate_args=False)
        return MixtureSameFamily(weights, distributions.DiscretizedLogistic(loc, scale), validate_args=False)

    def parameters_at(self, mean: Tensor) -> Tensor:
        """Equal weights, and locations spread evenly about a shift at which the mean is `mean`, clipped."""
        offsets = torch.linspace(-0.25, 0.25, self.groups // 3, dtype=mean.dtype, device=mean.device)
        offsets = offsets.reshape(-1, *[1] * mean.ndim).expand(-1, *mean.shape)

        def output(shift: Tensor) -> Tensor:
            log_scales = torch.full_like(offsets, DiscretizedLogistic.start)
            return torch.cat([torch.zeros_like(offsets), shift + offsets, log_scales])

        shift = bisect(lambda shift: self.distribution(output(shift)).mean, mean.clamp(*_CLIP), 3.0)
        return output(shift).flatten(0, 1)


class BetaBinomial(PerValueLikelihood):
    """p(x | z, c) = Π BetaBinomial(k; 255, α, β), log α and log β from the network.

    Arguments:
        net: Network (..., Z), (B, C) → (..., *out_shape): log α, then log β, each bounded softly by ±9.

    Reference: Townsend, Bird and Barber 2019, arXiv:1901.04866.
    """

    value_kind = "pixels"
    value_range = (0.0, 1.0)
    discrete = True
    limit = 9.0  # α, β ≤ 8100: as narrow as a binomial to 1.6 %

    @staticmethod
    def per_value(**options: Any) -> int:
        """2, α and β."""
        return 2

    def distribution(self, output: Tensor) -> Distribution:
        """Beta-binomial pixels."""
        alpha, beta = soft_bound(output, self.limit).exp()
        return distributions.BetaBinomial(alpha, beta)

    def parameters_at(self, mean: Tensor) -> Tensor:
        """Log α and log β with α + β = 2, at which the mean is `mean`, clipped to [.001, .999]."""
        mean = mean.clamp(*_CLIP)
        return soft_bound_inverse(torch.cat([2 * mean, 2 * (1 - mean)]).log(), self.limit)


class Categorical(PerValueLikelihood):
    """p(x | z, c) = Π π[k], any distribution over the 256 levels of each pixel.

    Arguments:
        net: Network (..., Z), (B, C) → (..., *out_shape): 256 groups of channels, the logits of π.

    Reference: van den Oord et al. 2016, arXiv:1601.06759, without their order of the pixels.
    """

    value_kind = "pixels"
    value_range = (0.0, 1.0)
    discrete = True

    @staticmethod
    def per_value(**options: Any) -> int:
        """256, a logit for each level."""
        return GREY_LEVELS

    def distribution(self, output: Tensor) -> Distribution:
        """Categorical pixels."""
        return GreyLevelCategorical(output.movedim(0, -1))

    def parameters_at(self, mean: Tensor) -> Tensor:
        """Logits linear in the level (greatest entropy) at which the mean is `mean`, clipped to [.05, .95]."""
        values = torch.linspace(0, 1, GREY_LEVELS, dtype=mean.dtype, device=mean.device).reshape(-1, *[1] * mean.ndim)

        def mean_at(slope: Tensor) -> Tensor:
            return self.distribution(slope * values).mean

        return (bisect(mean_at, mean.clamp(0.05, 0.95), 21.0) * values).flatten(0, 1)
