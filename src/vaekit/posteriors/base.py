"""What posteriors share: parameters that are read off the features of an encoder."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.distributions import Distribution


class Amortized(nn.Module, ABC):
    """A posterior whose parameters are read off features h = net(x, c), among them a mean μ and a log-variance log σ².

    Arguments:
        net: Network (B, *image), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.
    """

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        super().__init__()
        self.net = net
        self.latent_size = latent_size
        self.mu = nn.Linear(features, latent_size)
        self.log_var = nn.Linear(features, latent_size)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """The posterior of each row of x."""
        return self.given(self.net(x, c))

    @abstractmethod
    def given(self, h: Tensor) -> Distribution:
        """The posterior given features, shape (B, features)."""
