"""A model that takes rows with missing values, which are NaN, so that every estimator works for them as it is.

Not for: training, where a batch says what is observed.
"""

from typing import Any, final

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..distributions import log_prob_observed
from ..model import LatentVariableModel


def with_missing(model: LatentVariableModel, x: Tensor, observed: Tensor | None) -> tuple[LatentVariableModel, Tensor]:
    """The model and the values to evaluate it on: both as they are, or with NaN for what is not observed.

    Arguments:
        model: The model.
        x: Values, shape (N, *event), floating-point where some are missing.
        observed: Booleans of the shape of x; None where all are.
    """
    if observed is None:
        return model, x
    return _TakesMissing(model), x.masked_fill(~observed.to(x.device), torch.nan)


@final
class _TakesMissing(LatentVariableModel):
    """Missing values are 0 for the posterior and integrated out of the likelihood, as in `LatentVariableModel.draw`."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model
        self.latent_size = model.latent_size
        self.latent_shape = model.latent_shape
        self.context_size = model.context_size
        self.refuses_classes = model.refuses_classes
        self.event_shape = model.event_shape
        self.columns = model.columns
        self.value_range = model.value_range
        self.values = model.values
        self.train(model.training)

    def checked(self, x: Tensor) -> Tensor:
        """X on the model's device, after a look at the shape and at the values that are there."""
        missing = x.isnan()
        return self.model.checked(x.masked_fill(missing, 0)).masked_fill(missing.to(self.device), torch.nan)

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x, c)."""
        return self.model.posterior(x if self.model.sees_missing else x.masked_fill(x.isnan(), 0), c)

    def prior(self, c: Tensor | None = None) -> Distribution:
        """p(z | c)."""
        return self.model.prior(c)

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z, c), of which `log_prob` takes NaN."""
        return _OfObserved(self.model.likelihood(z, c))


class _OfObserved(Distribution):
    """A distribution of independent values, of which some may be missing from what its density is asked for."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, base: Distribution) -> None:
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.base = base

    @property
    def support(self) -> Any:
        """That of the values."""
        return self.base.support

    @property
    def mean(self) -> Tensor:
        """Of all values."""
        return self.base.mean

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """All values."""
        return self.base.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the values that are not NaN."""
        missing = value.isnan()
        return log_prob_observed(self.base, value.masked_fill(missing, 0), ~missing)
