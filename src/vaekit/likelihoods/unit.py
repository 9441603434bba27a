"""Likelihoods of pixels in [0, 1]."""

import torch
from torch import Tensor
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution

from .. import distributions
from .base import PerValueLikelihood, bisect


def bernoulli(logits: Tensor, event_dims: int = 3) -> Distribution:
    """Independent Bernoulli pixels, from logits so that saturated pixels keep a finite log-density and a gradient.

    Grey values x in [0, 1] are taken as they are: log p(x) is then the negative binary cross-entropy, the usual
    training loss on grey images, and not a log-likelihood.
    """
    values = BernoulliDistribution(logits=distributions.at_least_float32(logits), validate_args=False)
    return distributions.IndependentBernoulli(values, event_dims, validate_args=False)


class Bernoulli(PerValueLikelihood):
    """p(x | z, c) = Π Bernoulli(x; sigmoid(net(z, c))).

    Arguments:
        net: Network (..., Z), (B, C) → logits (..., *event).

    Reference: Kingma and Welling 2013, arXiv:1312.6114, appendix C.1.
    """

    value_kind = "pixels"
    value_range = (0.0, 1.0)
    discrete = True
    tolerates_bf16 = True
    independent = distributions.IndependentBernoulli

    def distribution(self, output: Tensor) -> Distribution:
        """Bernoulli pixels."""
        return BernoulliDistribution(logits=output[0], validate_args=False)

    @staticmethod
    def parameters_at(mean: Tensor) -> Tensor:
        """Logits at which the mean is `mean`, clipped to [.001, .999] (Burda et al. 2015, arXiv:1509.00519)."""
        return torch.logit(mean, eps=1e-3)


class ContinuousBernoulli(PerValueLikelihood):
    """p(x | z, c) = Π p(x; η) ∝ exp(η·x) on [0, 1], η = net(z, c): a proper density for grey images.

    Where x is exactly 0 or 1 this density grows with |η| without bound, so its log p cannot be compared with that of
    other likelihoods.

    Arguments:
        net: Network (..., Z), (B, C) → η (..., *event).

    Reference: Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845.
    """

    value_kind = "pixels"
    value_range = (0.0, 1.0)
    discrete = False

    def distribution(self, output: Tensor) -> Distribution:
        """Continuous Bernoulli pixels."""
        return distributions.ContinuousBernoulli(output[0])

    def parameters_at(self, mean: Tensor) -> Tensor:
        """η at which the mean is `mean`, clipped to [.05, .95]: η grows like 1/mean, and is ±20 there."""
        return bisect(lambda eta: distributions.ContinuousBernoulli(eta).mean, mean.clamp(0.05, 0.95), 21.0)
