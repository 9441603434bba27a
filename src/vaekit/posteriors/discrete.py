"""Posteriors of discrete latents. They need the gradient of scores or of a relaxation, not a reparametrized one.

Not for: codes in a grid (`quantized`).
"""

from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, OneHotCategorical

from ..distributions import GumbelSoftmax
from ..errors import check_count, check_range
from .base import FromFeatures

MOST_CATEGORIES = 1 << 16


class BernoulliPosterior(FromFeatures):
    """q(z | x, c) = Π_j Bernoulli(z_j; sigmoid(η_j)), η linear in net(x, c): Z bits, for objective `disarm` or `rloo`.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of the network's output.
        latent_size: Z.
    """

    latent_kind = "bits"

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        super().__init__(net, (latent_size,))
        self.logits = nn.Linear(features, latent_size)

    def distribution(self, h: Tensor) -> Distribution:
        """The posterior given features, shape (B, features): event shape (Z,)."""
        return Independent(Bernoulli(logits=self.logits(h), validate_args=False), 1)


class CategoricalPosterior(FromFeatures):
    """q(z | x, c) = Π_j Categorical(z_j; softmax(η_j)): Z one-hot variables, for objective `rloo`.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of the network's output.
        latent_size: Z.
        categories: Values that each variable can take.
    """

    latent_kind = "categories"

    def __init__(self, net: nn.Module, features: int, latent_size: int, *, categories: int = 10) -> None:
        check_count("categories", categories, 2, MOST_CATEGORIES)
        super().__init__(net, (latent_size, categories))
        self.logits = nn.Linear(features, latent_size * categories)

    def distribution(self, h: Tensor) -> Distribution:
        """The posterior given features, shape (B, features): event shape (Z, categories)."""
        return self.one_hot(h)

    def one_hot(self, h: Tensor) -> "Independent[OneHotCategorical]":
        """The variables given features."""
        logits = self.logits(h).unflatten(-1, self.latent_shape)
        return Independent(OneHotCategorical(logits=logits, validate_args=False), 1)


class GumbelSoftmaxPosterior(CategoricalPosterior):
    """The categorical posterior, relaxed while it trains: for any objective with a closed-form KL.

    Outside of training its samples are always one-hot, so a trained model is evaluated with the discrete posterior.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features).
        features: Width of the network's output.
        latent_size: Z.
        categories: Values that each variable can take.
        temperature: τ > 0: a small τ gives gradients with less bias and more noise.
        straight_through: Train on one-hot samples too, with the gradient of relaxed ones.

    Reference: Jang, Gu and Poole 2016, arXiv:1611.01144.
    """

    def __init__(
        self,
        net: nn.Module,
        features: int,
        latent_size: int,
        *,
        categories: int = 10,
        temperature: float = 0.67,
        straight_through: bool = False,
    ) -> None:
        super().__init__(net, features, latent_size, categories=categories)
        check_range("temperature", temperature, 0, ends="()")
        self.temperature = temperature
        self.straight_through = straight_through

    def distribution(self, h: Tensor) -> Distribution:
        """The posterior given features, shape (B, features): event shape (Z, categories); relaxed in training mode."""
        return GumbelSoftmax(self.one_hot(h), self.temperature, self.straight_through or not self.training)
