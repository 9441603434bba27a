"""A model made of a posterior, a prior and a likelihood."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.value_kinds import value_kind_of
from ..distributions import full_precision
from ..errors import ConfigError
from .base import LatentVariableModel
from .draw import Draw
from .inputs import Context


class Composed(LatentVariableModel):
    """Any combination of a posterior, a prior and a likelihood.

    Arguments:
        posterior: Module (x, c) → q(z | x, c).
        prior: Module c → p(z | c).
        likelihood: Module (z, c) → p(x | z, c).
        latent_size: Z, the width of z, for vectors.
        latent_shape: Event shape of z; by default the posterior's own `latent_shape`.
        context_size: C; 0 for an unconditional model.
        event_shape: Event shape of x; None if the model takes every shape.
    """

    def __init__(
        self,
        posterior: nn.Module,
        prior: nn.Module,
        likelihood: nn.Module,
        *,
        latent_size: int | None = None,
        latent_shape: Sequence[int] | None = None,
        context_size: int = 0,
        event_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"posterior": posterior, "prior": prior, "likelihood": likelihood})
        self.latent_shape = _shape(posterior, latent_size, latent_shape)
        self.latent_size = math.prod(self.latent_shape)
        self.context_size = context_size
        self.takes_classes = getattr(likelihood, "takes_classes", True)
        self.event_shape = event_shape
        self.value_kind = value_kind_of(likelihood)
        self.value_range = getattr(likelihood, "value_range", None)
        self.columns = getattr(likelihood, "columns", None)
        self.sees_missing = any(getattr(part, "sees_missing", False) for part in posterior.modules())

    def forward(self, x: Tensor, c: Context = None, *, k: int = 1) -> Draw:
        """A draw, which a loss reads: `model(x)` is a draw, `elbo(model(x))` its ELBO."""
        return self.draw(x, c, k=k)

    def check_known(self, values: Tensor) -> None:
        """Refuse known numbers, of any shape, that the likelihood has no density for.

        Raises:
            DataError: The likelihood has no density for a value.
        """
        check = getattr(self.parts["likelihood"], "check", None)
        if check is not None and values.numel():
            check(values)
        super().check_known(values)

    @property
    def posterior_module(self) -> nn.Module:
        """The module that gives q(z | x, c)."""
        return self.parts["posterior"]

    def prior_parameters(self) -> list[nn.Parameter]:
        """The weights of the prior alone."""
        return list(self.parts["prior"].parameters())

    def decoder_parameters(self) -> list[nn.Parameter]:
        """The weights of the network that the likelihood reads, without the likelihood's own, such as a scale."""
        likelihood = self.parts["likelihood"]
        net = getattr(likelihood, "net", likelihood)
        return list(net.parameters())

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x, c)."""
        q: Distribution = self.parts["posterior"](x, c)
        return q

    def prior(self, c: Tensor | None = None) -> Distribution:
        """p(z | c)."""
        with full_precision(self.device):
            p: Distribution = self.parts["prior"](c)
            return p

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z, c)."""
        p: Distribution = self.parts["likelihood"](z, c)
        return p


def _shape(posterior: nn.Module, size: int | None, shape: Sequence[int] | None) -> tuple[int, ...]:
    latent_shape: Sequence[int] | None = getattr(posterior, "latent_shape", None)
    if size is not None and shape is not None:
        raise ConfigError("a composed model takes one of latent_size, for vectors, and latent_shape")
    chosen = shape if size is None else (size,)
    if chosen is None:
        if latent_shape is None:
            raise ConfigError(
                f"{type(posterior).__name__} does not say the shape of its latents; pass latent_size= for vectors, or "
                "latent_shape="
            )
        return tuple(latent_shape)
    if latent_shape is not None and tuple(latent_shape) != tuple(chosen):
        raise ConfigError(
            f"latents have shape {tuple(chosen)} here and {tuple(latent_shape)} in the posterior; leave the shape out"
        )
    return tuple(chosen)
