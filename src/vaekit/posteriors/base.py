"""The contract of posteriors, and a base for parameters computed from an encoder's features."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import prod
from typing import ClassVar

from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import at_least_float32, full_precision


class Posterior(nn.Module, ABC):
    """q(z | x, c).

    Its `forward` returns a distribution with batch shape (B,) and event shape `latent_shape`. The gradient of its
    `rsample` reaches the parameters; discrete latents have `sample` only, and need an objective of scores. The
    distribution may have the attributes that `vaekit.distributions.protocols` lists, such as `penalties`, terms without
    a density that are subtracted from the objective.

    A plain module is accepted as well; its latents are vectors of the configured width.

    Arguments:
        latent_shape: Event shape of z.

    Attributes:
        latent_kind: Kind of the values of z: "real" numbers, "bits", one-hot "categories", "codes", "directions" on
            the unit sphere, points of the Poincaré "ball". The prior has the same kind.
        latent_shape: Event shape of z.
        latent_size: Number of values in z.
        decoded_shape: Event shape of the decoder's input: all of z, or less for a posterior of several levels.
        wrap_decoder: Function from a decoder of `decoded_shape` to a decoder of all latents. By default the decoder
            reads the first block of latents, of shape `decoded_shape`.
        couples_rows: Whether it needs the whole batch; then it cannot be trained on several ranks.
        sees_missing: Whether it takes NaN for a value that is not observed; other posteriors take 0.
    """

    latent_kind: ClassVar[str] = "real"
    wrap_decoder: Callable[[nn.Module], nn.Module] | None = None
    couples_rows: bool = False
    sees_missing: bool = False

    def __init__(self, latent_shape: Sequence[int]) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.latent_size = prod(latent_shape)

    def start(self, x: Tensor, c: Tensor | None = None) -> None:
        """Initialize from the training data: called after all weights are initialized, and not when weights are loaded.

        Arguments:
            x: Training data, shape (N, *event).
            c: Context of these rows, shape (N, C), for a conditional model.
        """

    @property
    def decoded_shape(self) -> tuple[int, ...]:
        """Event shape of the decoder's input."""
        return self.latent_shape

    @abstractmethod
    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """The posterior of each row of x, shape (B, *event), with c of shape (B, C) or None."""


class FromFeatures(Posterior):
    """A posterior with parameters computed from features h = net(x, c).

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        latent_shape: Event shape of z.
    """

    def __init__(self, net: nn.Module, latent_shape: Sequence[int]) -> None:
        super().__init__(latent_shape)
        self.net = net

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """The posterior of each row of x."""
        h = self.net(x, c)
        with full_precision(h):
            return self.distribution(at_least_float32(h))

    @abstractmethod
    def distribution(self, h: Tensor) -> Distribution:
        """The posterior given features, shape (B, features)."""


class MeanAndVariance(FromFeatures):
    """A posterior with a mean μ and a log-variance log σ², linear in the features, among its parameters.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of h.
        latent_size: Z.
    """

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        super().__init__(net, (latent_size,))
        self.mu = nn.Linear(features, latent_size)
        self.log_var = nn.Linear(features, latent_size)
