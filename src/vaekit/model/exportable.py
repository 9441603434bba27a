"""Decoder and encoder of a model as modules to export; they do not check values, so that tracing works.

torch.export, ONNX and tracing take them. People call `model.decode` and `model.encode`, which check their input.
"""

from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from ..distributions import centre, closed_form_kl, is_discrete
from .base import LatentVariableModel


class Decoding(nn.Module):
    """(z, c) → the mean of p(x | z, c).

    Arguments:
        model: Any latent-variable model.
    """

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map flattened z, shape (B, Z), to x, shape (B, *event)."""
        shape = self.model.latent_shape
        mean: Tensor = self.model.likelihood(z if len(shape) == 1 else z.unflatten(1, shape), c).mean
        return mean


class Encoding(nn.Module):
    """(x, c) → z as `model.encode` gives it, and the rate and the distortion at z, in nats.

    The rate is the KL in closed form if there is one. Otherwise it is −H(q) − E_q log p, with E_q as the mean over 2Z
    points: along each axis, or each column of the Cholesky factor of a full covariance, √Z standard deviations to
    either side. This mean is exact for a quadratic log p (Julier and Uhlmann 1997, doi:10.1117/12.280797). If q is
    discrete, is not over vectors, or has no entropy or standard deviation, the rate is log q − log p at z.

    Arguments:
        model: Any latent-variable model.
        with_terms: Whether to give rate and distortion too.
    """

    def __init__(self, model: LatentVariableModel, *, with_terms: bool = True) -> None:
        super().__init__()
        self.model = model
        self.with_terms = with_terms

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map x, shape (B, *event), to z, shape (B, Z), rate and distortion, each of shape (B,)."""
        q, p = self.model.posterior(x, c), self.model.prior(c)
        z = centre(q)
        flat = z.flatten(1)
        if not self.with_terms:
            return (flat,)
        rate = _rate(q, p)
        distortion = -self.model.likelihood(z, c).log_prob(x)
        return flat, rate.expand(len(x)), distortion


class PosteriorMoments(nn.Module):
    """(x, c) → the mean and, where q has one, the standard deviation of q(z | x, c).

    Arguments:
        model: Any latent-variable model.
        with_sd: Whether to give the standard deviation too.
    """

    def __init__(self, model: LatentVariableModel, *, with_sd: bool = True) -> None:
        super().__init__()
        self.model = model
        self.with_sd = with_sd

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map x, shape (B, *event), to one or two tensors of shape (B, Z)."""
        q = self.model.posterior(x, c)
        mean = q.mean.flatten(1)
        return (mean, q.stddev.flatten(1)) if self.with_sd else (mean,)


def _rate(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p), or the best estimate of it, shape (B,); see `Encoding`."""
    kl = closed_form_kl(q, p)
    if kl is not None:
        return kl
    z = centre(q)
    with suppress(NotImplementedError, AttributeError):
        if z.ndim == 2 and not is_discrete(q):
            size = z.shape[1]
            if isinstance(q, MultivariateNormal):
                axes = q.scale_tril.movedim(-1, 0)
            else:
                axes = q.stddev * torch.eye(size, dtype=z.dtype, device=z.device)[:, None]
            step = size**0.5 * axes
            return -q.entropy() - p.log_prob(torch.cat((z + step, z - step))).mean(0)
    difference: Tensor = q.log_prob(z) - p.log_prob(z)
    return difference
