"""Discrete latents: their likeliest value, and a relaxation of them."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical, register_kl
from torch.nn.functional import one_hot

from ..errors import ConfigError
from .closed_form import closed_form_kl
from .supports import is_discrete


def centre(p: Distribution) -> Tensor:
    """The mean, or the likeliest value of a discrete distribution, which need not take its mean.

    Raises:
        ConfigError: The distribution is not discrete, and has no mean.
    """
    if is_discrete(p):
        mode: Tensor = p.mode
        return mode
    return mean_of(p)


def mean_of(p: Distribution) -> Tensor:
    """The mean.

    Raises:
        ConfigError: The distribution has no mean.
    """
    try:
        mean: Tensor = p.mean
    except NotImplementedError:
        inner = p.base_dist if isinstance(p, Independent) else p
        raise ConfigError(
            f"{type(inner).__name__} has no mean, which encode, decode and pictures take; give it a property `mean`, "
            "or take samples, such as model.draw(x).z or model.sample(n, noise=True)"
        ) from None
    return mean


class GumbelSoftmax(Distribution):
    """One-hot variables with relaxed samples, which have a gradient, though a biased one.

    A sample is softmax((log π + g)/τ), g Gumbel noise. With `straight_through` a sample is the one-hot vector at the
    largest entry, an exact sample, with the gradient of the softmax. Everything else is taken from `hard`.

    Arguments:
        hard: One-hot variables, event shape (Z, C).
        temperature: τ > 0.
        straight_through: Whether samples are one-hot.

    Reference: Jang, Gu and Poole 2016, arXiv:1611.01144, eq. 2 and section 2.2; Maddison, Mnih and Teh 2016,
    arXiv:1611.00712.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, hard: "Independent[OneHotCategorical]", temperature: float, straight_through: bool) -> None:
        self.hard = hard
        self.temperature = temperature
        self.relaxed = not straight_through
        super().__init__(hard.batch_shape, hard.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the variables."""
        return self.hard.support

    @property
    def mean(self) -> Tensor:
        """Probabilities."""
        return self.hard.mean

    @property
    def mode(self) -> Tensor:
        """The likeliest value."""
        return self.hard.mode

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Samples, relaxed or with the gradient of relaxed ones."""
        logits = self.hard.base_dist.logits
        noise = torch.empty(*sample_shape, *logits.shape, dtype=logits.dtype, device=logits.device).exponential_().log()
        soft = ((logits - noise) / self.temperature).softmax(-1)
        if self.relaxed:
            return soft
        return one_hot(soft.argmax(-1), logits.shape[-1]).to(soft.dtype) + (soft - soft.detach())

    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Samples that are not relaxed."""
        return self.hard.sample(Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of one-hot values.

        Raises:
            ConfigError: Samples are relaxed and have no density.
        """
        if self.relaxed:
            raise ConfigError(
                "relaxed samples have no probability under the discrete posterior; choose an objective with a "
                "closed-form KL, such as 'elbo', and the prior 'categorical'; or set straight_through"
            )
        log_prob: Tensor = self.hard.log_prob(value)
        return log_prob


@register_kl(GumbelSoftmax, Independent)  # type: ignore[untyped-decorator]
def _kl(q: GumbelSoftmax, p: "Independent[Any]") -> Tensor:
    """KL of the variables themselves, not of relaxed samples."""
    kl = closed_form_kl(q.hard, p)
    if kl is None:
        raise NotImplementedError
    return kl
