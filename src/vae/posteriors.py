"""Posteriors q(z | x, c): modules that return a distribution with batch shape (B,) and event shape (Z,)."""

from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal


class DiagonalNormal(nn.Module):
    """q(z | x, c) = N(z; μ(h), diag σ²(h)) with h = net(x, c).

    Arguments:
        net: Network (B, *image), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.

    Reference: Kingma and Welling 2013, arXiv:1312.6114, eq. 9.
    """

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        super().__init__()
        self.net = net
        self.latent_size = latent_size
        self.mu = nn.Linear(features, latent_size)
        self.log_var = nn.Linear(features, latent_size)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """The posterior of each row of x."""
        h = self.net(x, c)
        return Independent(Normal(self.mu(h), (0.5 * self.log_var(h)).exp(), validate_args=False), 1)
