"""One pass of data through a model, as a record: what objectives, diagnostics and the trainer read.

Not for: computing a bound (`objectives`) or running a model (`model`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import add
from typing import Literal

from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from .errors import ConfigError

KL = Literal["auto", "analytic", "sampled"]


@dataclass(frozen=True)
class Level:
    """One latent level: z ~ q, beside the prior p of the same z.

    Arguments:
        z: Latents, shape (K, B, *event).
        q: Posterior, whose batch shape broadcasts with (K, B).
        p: Prior, whose batch shape broadcasts with (K, B).
    """

    z: Tensor
    q: Distribution
    p: Distribution

    @cached_property
    def log_q(self) -> Tensor:
        """Log q(z), shape (K, B), nats."""
        return self.q.log_prob(self.z)

    @cached_property
    def log_q_path(self) -> Tensor:
        """log q(z) without its score: the gradient reaches parameters only through z. Shape (K, B), nats.

        Reference: Roeder, Wu and Duvenaud 2017, arXiv:1703.09194, eq. 8.
        """
        score = self.q.log_prob(self.z.detach())
        return self.log_q - (score - score.detach())

    @cached_property
    def log_p(self) -> Tensor:
        """Log p(z), shape (K, B), nats."""
        return self.p.log_prob(self.z).expand(self.z.shape[:2])

    @cached_property
    def analytic_kl(self) -> Tensor | None:
        """KL(q ‖ p) in closed form, shape (B,), nats; None where there is none."""
        try:
            kl: Tensor = kl_divergence(self.q, self.p)
        except NotImplementedError:
            return None
        return kl.expand(self.z.shape[1:2])

    def kl(self, how: KL = "auto") -> Tensor:
        """KL(q ‖ p), shape (B,), nats: in closed form, or the mean of log q − log p over the K samples.

        Raises:
            ConfigError: "analytic" was asked for and there is no closed form.
        """
        if how != "sampled" and self.analytic_kl is not None:
            return self.analytic_kl
        if how == "analytic":
            names = f"{_name(self.q)} and {_name(self.p)}"
            raise ConfigError(f"kl = 'analytic', but {names} have no closed-form KL; use 'auto' or 'sampled'")
        return (self.log_q - self.log_p).mean(0)


@dataclass(frozen=True)
class Draw:
    """K importance samples for each of B rows, and the densities that they come with.

    Arguments:
        x: Data, shape (B, *event).
        z: All latents, shape (K, B, Z), as the likelihood got them.
        levels: Latent levels, at least one.
        likelihood: p(x | z), batch shape (K, B).
        penalties: Named terms, each (B,), that an objective may subtract and that have no density.
    """

    x: Tensor
    z: Tensor
    levels: tuple[Level, ...]
    likelihood: Distribution
    penalties: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def log_likelihood(self) -> Tensor:
        """Log p(x | z), shape (K, B), nats."""
        return self.likelihood.log_prob(self.x)

    @cached_property
    def log_w(self) -> Tensor:
        """Log p(x, z) − log q(z | x), shape (K, B), nats.

        Raises:
            ConfigError: the draw carries a penalty, that is a latent without a density.
        """
        return self._log_joint() - _sum(level.log_q for level in self.levels)

    @cached_property
    def log_w_path(self) -> Tensor:
        """The same value, without the score of q in its gradient (`Level.log_q_path`)."""
        return self._log_joint() - _sum(level.log_q_path for level in self.levels)

    def _log_joint(self) -> Tensor:
        if self.penalties:
            raise ConfigError(
                f"this model has no density q (it carries the penalty {next(iter(self.penalties))!r}), so no bound on "
                "log p(x) exists; choose an objective that is not a bound"
            )
        return self.log_likelihood + _sum(level.log_p for level in self.levels)

    @property
    def distortion(self) -> Tensor:
        """−E_q log p(x | z) over the K samples, shape (B,), nats."""
        return -self.log_likelihood.mean(0)

    def rate(self, kl: KL = "auto") -> Tensor:
        """KL(q ‖ p) summed over the levels, shape (B,), nats."""
        return _sum(level.kl(kl) for level in self.levels)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return reduce(add, terms)


def _name(distribution: Distribution) -> str:
    return type(getattr(distribution, "base_dist", distribution)).__name__
