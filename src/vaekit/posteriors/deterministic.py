"""An encoder without noise."""

from torch import Tensor, nn

from ..distributions import PointMass, full_precision, widened
from .base import Posterior


class Deterministic(Posterior):
    """z = W h + b with h = net(x, c), and no noise: an autoencoder's. No bound on log p(x) exists with it.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.

    Reference: Ghosh et al. 2020, arXiv:1903.12436, section 3.
    """

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        super().__init__((latent_size,))
        self.net = net
        self.mu = nn.Linear(features, latent_size)

    def forward(self, x: Tensor, c: Tensor | None = None) -> PointMass:
        """The point of each row of x."""
        h = self.net(x, c)
        with full_precision(h):
            return PointMass(self.mu(widened(h)))
