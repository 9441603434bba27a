"""The contract of priors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import ClassVar, TypeVar

from torch import Size, Tensor, nn
from torch.distributions import Distribution, ReshapeTransform, TransformedDistribution
from torch.nn.functional import linear

P = TypeVar("P", bound=nn.Module)
MOST_COMPONENTS = 1 << 16  # of a mixture; papers have 500


class Prior(nn.Module, ABC):
    """p(z | c).

    Its `forward` returns a distribution with batch shape (), or (B,) where it depends on c, and the event shape of the
    posterior's latents. Where q and p have a KL in closed form it is used; elsewhere samples estimate it.

    A plain module is accepted as well.

    Attributes:
        latent_kind: Kind of the values of z, as in the posterior.
        learning_rate_factor: Factor on the learning rate of its own parameters.
        decays: Whether weight decay is applied to them.
        for_vectors: Whether it is for vectors only, and is reshaped to latents of another shape. None means true if its
            constructor takes `latent_size`, and neither `latent_shape` nor `posterior`.
    """

    latent_kind: ClassVar[str] = "real"
    learning_rate_factor: float = 1.0
    decays: bool = True
    for_vectors: ClassVar[bool | None] = None

    @abstractmethod
    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, batch shape () or (B,), for c of shape (B, C) or None."""

    def start(self, posterior: nn.Module, x: Tensor, c: Tensor | None = None) -> None:
        """Initialize from the training data: called after all weights are initialized, and not when weights are loaded.

        Arguments:
            posterior: The model's posterior, (x, c) → q(z | x, c).
            x: Training rows, shape (N, *event).
            c: Context of these rows, shape (N, C), for a conditional model.
        """


def linear_in_context(c: Tensor | None, weight: Tensor | None, bias: Tensor) -> Tensor:
    """W c + b, shape (B, n), for c of shape (B, C); b, shape (n,), without a context or a weight."""
    return bias if c is None or weight is None else linear(c, weight, bias)


class OverGrid(Prior):
    """A prior over vectors, reshaped to latents of another shape with the same number of values.

    Arguments:
        prior: Module c → p(v | c), event shape (Z,).
        latent_shape: Event shape of z, with Z values.
    """

    for_vectors = False

    def __init__(self, prior: nn.Module, latent_shape: Sequence[int]) -> None:
        super().__init__()
        self.prior = prior
        self.latent_shape = tuple(latent_shape)

    def start(self, posterior: nn.Module, x: Tensor, c: Tensor | None = None) -> None:
        """Initialize the prior over vectors; the posterior that it gets has latents of `latent_shape`."""
        start = getattr(self.prior, "start", None)
        if start is not None:
            start(posterior, x, c)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """The prior, event shape latent_shape."""
        reshape = ReshapeTransform(Size((prod(self.latent_shape),)), Size(self.latent_shape))
        return TransformedDistribution(self.prior(c), reshape, validate_args=False)


def over_grid(prior: P, latent_shape: Sequence[int]) -> "P | OverGrid":
    """The prior over vectors itself, or reshaped if latents are not vectors."""
    return prior if len(latent_shape) == 1 else OverGrid(prior, latent_shape)
