"""The two ways through a model as modules that can be exported: from z to x and from x to z, without looking at values.

People call `model.decode` and `model.encode`, which check their input; torch.export, ONNX and tracing take these.
"""

from torch import Tensor, nn
from torch.distributions import kl_divergence

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
        """Map z, shape (B, Z), all values in a row, to x, shape (B, *event)."""
        shape = self.model.latent_shape
        mean: Tensor = self.model.likelihood(z if len(shape) == 1 else z.unflatten(1, shape), c).mean
        return mean


class Encoding(nn.Module):
    """(x, c) → the posterior mean of z and, of this z, the rate and the distortion, in nats.

    The rate is the KL in closed form where there is one, and log q − log p at z elsewhere.

    Arguments:
        model: Any latent-variable model.
        scored: Whether to give rate and distortion too.
    """

    def __init__(self, model: LatentVariableModel, *, scored: bool = True) -> None:
        super().__init__()
        self.model = model
        self.scored = scored

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map x, shape (B, *event), to z, shape (B, Z), rate and distortion, each of shape (B,)."""
        q, p = self.model.posterior(x, c), self.model.prior(c)
        z = q.mean
        flat = z.flatten(1)
        if not self.scored:
            return (flat,)
        try:
            rate = kl_divergence(q, p)
        except NotImplementedError:
            rate = q.log_prob(z) - p.log_prob(z)
        distortion = -self.model.likelihood(z, c).log_prob(x)
        return flat, rate.expand(len(x)), distortion


class Posterior(nn.Module):
    """(x, c) → the mean and, where q has one, the standard deviation of q(z | x, c).

    Arguments:
        model: Any latent-variable model.
        scaled: Whether to give the standard deviation too.
    """

    def __init__(self, model: LatentVariableModel, *, scaled: bool = True) -> None:
        super().__init__()
        self.model = model
        self.scaled = scaled

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map x, shape (B, *event), to one or two tensors of shape (B, Z)."""
        q = self.model.posterior(x, c)
        mean = q.mean.flatten(1)
        return (mean, q.stddev.flatten(1)) if self.scaled else (mean,)
