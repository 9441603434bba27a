"""Likelihoods p(x | z, c): modules that return a distribution over x with batch shape (K, B)."""

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution, Independent


def bernoulli(logits: Tensor, event_dims: int = 3) -> Distribution:
    """Independent Bernoulli pixels, from logits so that saturated pixels keep a finite log-density and a gradient.

    Grey values x in [0, 1] are taken as they are: log p(x) is then the negative binary cross-entropy, the usual
    training loss on grey images, and not a log-likelihood.
    """
    return Independent(BernoulliDistribution(logits=logits, validate_args=False), event_dims, validate_args=False)


class Bernoulli(nn.Module):
    """p(x | z, c) = Π Bernoulli(x; sigmoid(net(z, c))).

    Arguments:
        net: Network (..., Z), (B, C) → logits (..., *image).

    Reference: Kingma and Welling 2013, arXiv:1312.6114, appendix C.1.
    """

    value_range = (0.0, 1.0)

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """The likelihood of each row of z."""
        logits = self.net(z, c)
        return bernoulli(logits, logits.ndim - z.ndim + 1)

    @staticmethod
    def parameters_at(mean: Tensor) -> Tensor:
        """Logits at which the mean is `mean`, clipped to [.001, .999] (Burda et al. 2015, arXiv:1509.00519)."""
        return torch.logit(mean, eps=1e-3)
