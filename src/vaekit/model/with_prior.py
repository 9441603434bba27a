"""A trained model with another prior."""

from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import full_precision
from .base import LatentVariableModel


class WithPrior(LatentVariableModel):
    """The posterior and the likelihood of a model with another prior p(z | c): a model like any other.

    Its bounds are bounds on the likelihood under that prior. They are honest if the prior has seen training data only.

    Arguments:
        model: The model; its weights are shared.
        prior: Module c → p(z | c) over latents of the same shape.
    """

    def __init__(self, model: LatentVariableModel, prior: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.own_prior = prior
        self.latent_shape = model.latent_shape
        self.latent_size = model.latent_size
        self.context_size = model.context_size
        self.takes_classes = model.takes_classes
        self.class_names = model.class_names
        self.event_shape = model.event_shape
        self.value_kind = model.value_kind
        self.value_range = model.value_range
        self.columns = model.columns
        self.column_kinds = model.column_kinds
        self.sees_missing = model.sees_missing

    def check_known(self, values: Tensor) -> None:
        """Refuse the known numbers that the model refuses."""
        self.model.check_known(values)

    @property
    def posterior_module(self) -> nn.Module | None:
        """The module that gives q(z | x, c) of the model."""
        return self.model.posterior_module

    def prior_parameters(self) -> list[nn.Parameter]:
        """The weights of the other prior."""
        return list(self.own_prior.parameters())

    def decoder_parameters(self) -> list[nn.Parameter]:
        """The weights of the model's decoder."""
        return self.model.decoder_parameters()

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x, c) of the model."""
        return self.model.posterior(x, c)

    def prior(self, c: Tensor | None = None) -> Distribution:
        """p(z | c) of the other prior."""
        with full_precision(self.device):
            p: Distribution = self.own_prior(c)
            return p

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z, c) of the model."""
        return self.model.likelihood(z, c)
