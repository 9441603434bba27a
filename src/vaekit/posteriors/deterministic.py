"""An encoder without noise."""

from torch import Tensor, nn

from ..distributions import PointMass
from .base import FromFeatures


class Deterministic(FromFeatures):
    """z = W h + b with h = net(x, c), and no noise, as in an autoencoder. It gives no bound on log p(x).

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.

    Reference: Ghosh et al. 2020, arXiv:1903.12436, section 3.
    """

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        super().__init__(net, (latent_size,))
        self.mu = nn.Linear(features, latent_size)

    def distribution(self, h: Tensor) -> PointMass:
        """The points given features, shape (B, features)."""
        return PointMass(self.mu(h))
