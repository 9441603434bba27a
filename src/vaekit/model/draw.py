"""One pass of data through a model, as a record for objectives, diagnostics and the trainer.

Not for: computing a bound (`objectives`) or running a model (`model`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Generic, Literal, TypeVar, get_args, overload

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, MultivariateNormal, Normal

from ..distributions import Chain, PointMass, closed_form_kl, full_precision, hard_of, log_prob_observed
from ..errors import ConfigError, one_of

KL = Literal["auto", "analytic", "sampled"]
T = TypeVar("T")


class remembered(Generic[T]):  # noqa: N801 - a decorator, like functools.cached_property
    """A property that is computed once, and again if only the later read records gradients.

    Arguments:
        function: Computes the value from the object.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function = function
        self.name = f"{function.__name__} remembered"
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> "remembered[T]": ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        """The value, computed again where it lacks the gradients that are asked for."""
        if instance is None:
            return self
        value, with_gradients = instance.__dict__.get(self.name, (None, None))
        if with_gradients is None or torch.is_grad_enabled() > with_gradients:
            value = self.function(instance)
            instance.__dict__[self.name] = value, torch.is_grad_enabled()
        return value


@dataclass(frozen=True)
class LatentLevel:
    """One latent level: z ~ q, and the prior p of this z.

    Arguments:
        z: Latents, shape (K, B, *event).
        q: Posterior; its batch shape broadcasts with (K, B).
        p: Prior; its batch shape broadcasts with (K, B).
        closed_form: Whether KL(q ‖ p) may be taken in closed form; False if p depends on latents drawn after this z.
    """

    z: Tensor
    q: Distribution
    p: Distribution
    closed_form: bool = True

    @remembered
    def log_q(self) -> Tensor:
        """Log q(z), shape (K, B), nats."""
        with full_precision(self.z):
            return self.q.log_prob(self.z)

    @remembered
    def log_p(self) -> Tensor:
        """Log p(z), shape (K, B), nats."""
        with full_precision(self.z):
            return self.p.log_prob(self.z).expand(self.z.shape[:2])

    @remembered
    def analytic_kl(self) -> Tensor | None:
        """KL(q ‖ p) in closed form, shape (B,), nats; None if there is no closed form.

        Where q depends on the levels before it, this is the mean over their K samples.
        """
        if not self.closed_form:
            return None
        with full_precision(self.z):
            kl = closed_form_kl(self.q, self.p)
        if kl is None:
            return None
        return kl.mean(0) if kl.ndim > 1 else kl.expand(self.z.shape[1:2])

    def kl(self, how: KL = "auto") -> Tensor:
        """KL(q ‖ p), shape (B,), nats: in closed form, or the mean of log q − log p over the K samples.

        Raises:
            ConfigError: `how` is "analytic" and there is no closed form, or `how` is unknown.
        """
        one_of("kl", how, get_args(KL))
        if how != "sampled" and self.analytic_kl is not None:
            return self.analytic_kl
        if how == "analytic":
            names = f"{_name(self.q)} and {_name(self.p)}"
            why = "" if self.closed_form else " where the prior of a level depends on latents drawn after it"
            raise ConfigError(f"kl = 'analytic', but {names} have no closed-form KL{why}; use 'auto' or 'sampled'")
        return (self.log_q - self.log_p).mean(0)

    def kl_by_dimension(self, how: KL = "auto") -> Tensor | None:
        """KL of each latent dimension, shape (B, *event), nats; None where q or p does not factorize.

        Arguments:
            how: See `kl`. If "analytic" has no closed form, the result is None too.
        """
        q, p = hard_of(self.q), self.p
        if not (isinstance(q, Independent) and isinstance(p, Independent)):
            return None
        q, p = q.base_dist, p.base_dist
        with full_precision(self.z):
            closed = closed_form_kl(q, p) if self.closed_form and how != "sampled" else None
            if closed is not None:
                return closed.mean(0) if closed.ndim > self.z.ndim - 1 else closed
            return None if how == "analytic" else (q.log_prob(self.z) - p.log_prob(self.z)).mean(0)


@dataclass(frozen=True)
class Draw:
    """K importance samples for each of B rows, and their densities.

    Arguments:
        x: Data, shape (B, *event).
        z: All latents, shape (K, B, *latent), as the likelihood got them.
        levels: Latent levels; none where z is a point without a density.
        likelihood: p(x | z), batch shape (K, B).
        penalties: Named terms without a density, each of shape (B,), that are subtracted from the objective.
        q: Posterior of all latents at once; by default the only level's.
        p: Prior of all latents at once; by default the only level's.
        observed: Booleans of x's shape, true for known values; None where all are known.
        antithetic: Whether the second half of the latents are the counterparts of the first.
    """

    x: Tensor
    z: Tensor
    levels: tuple[LatentLevel, ...]
    likelihood: Distribution
    penalties: Mapping[str, Tensor] = field(default_factory=dict)
    q: Distribution | None = None
    p: Distribution | None = None
    observed: Tensor | None = None
    antithetic: bool = False

    def __repr__(self) -> str:
        x, z = tuple(self.x.shape), tuple(self.z.shape)
        return f"Draw(x {x}, z {z}, {len(self.levels)} latent level{'s' * (len(self.levels) != 1)})"

    @remembered
    def log_likelihood(self) -> Tensor:
        """Log p(x | z) of the observed values of x, shape (K, B), nats.

        Raises:
            ConfigError: Values are missing, and the likelihood does not factorize over them.
        """
        with full_precision(self.x):
            if self.observed is None:
                return self.likelihood.log_prob(self.x)
            return log_prob_observed(self.likelihood, self.x, self.observed)

    @remembered
    def log_w(self) -> Tensor:
        """Log p(x, z) − log q(z | x), shape (K, B), nats.

        Raises:
            ConfigError: A latent has no density.
        """
        return self._log_joint() - _sum(level.log_q for level in self.levels)

    @remembered
    def log_w_path(self) -> Tensor:
        """The value of `log_w`, with a gradient that reaches the posterior's parameters only through `z`.

        Reference: Roeder, Wu and Duvenaud 2017, arXiv:1703.09194, eq. 8.
        """
        # A view: some distributions keep the density of the very tensor z, and would not compute it from z again.
        with full_precision(self.z):
            log_q = self.posterior.log_prob(self.z.view_as(self.z))
        return self._log_joint() - (log_q - self.score)

    @remembered
    def score(self) -> Tensor:
        """Zeros, shape (K, B), with the gradient of log q at fixed z: the score, zero in expectation."""
        with full_precision(self.z):
            log_q = self.posterior.log_prob(self.z.detach())
        return log_q - log_q.detach()

    @property
    def has_density(self) -> bool:
        """Whether q has a density, so that bounds on log p(x) exist."""
        return bool(self.levels) and not self.penalties

    @property
    def posterior(self) -> Distribution:
        """The posterior of all latents at once.

        Raises:
            ConfigError: z is a point without a density, or there are several levels and no `q`.
        """
        return self._only_level("q").q if self.q is None else self.q

    @property
    def prior(self) -> Distribution:
        """The prior of all latents at once.

        Raises:
            ConfigError: z is a point without a density, or there are several levels and no `p`.
        """
        return self._only_level("p").p if self.p is None else self.p

    def _only_level(self, missing: Literal["q", "p"]) -> LatentLevel:
        if not self.levels:
            raise ConfigError(no_bound(self))
        if len(self.levels) > 1:
            raise ConfigError(
                f"this draw has {len(self.levels)} levels and no joint {missing}; pass Draw(…, {missing}=…)"
            )
        return self.levels[0]

    def _log_joint(self) -> Tensor:
        if not self.has_density:
            raise ConfigError(no_bound(self))
        return self.log_likelihood + _sum(level.log_p for level in self.levels)

    @property
    def distortion(self) -> Tensor:
        """−E_q log p(x | z) over the K samples, shape (B,), nats."""
        return -self.log_likelihood.mean(0)

    def rate(self, kl: KL = "auto") -> Tensor:
        """KL(q ‖ p) summed over the levels, shape (B,), nats.

        Raises:
            ConfigError: z is a point without a density.
        """
        if not self.levels:
            raise ConfigError(no_bound(self))
        return _sum(level.kl(kl) for level in self.levels)


def antithetic_pairs(q: Distribution, k: int) -> Tensor:
    """Draw k / 2 samples of q; return them, then their counterparts, shape (k, B, Z).

    The counterpart of a normal sample is its mirror image at the mean. A bit is 1 where u is above the probability of
    0, and its counterpart is 1 where 1 − u is.

    Raises:
        ConfigError: k is odd, or q is neither normal nor Bernoulli.
    """
    inner = q.base_dist if isinstance(q, Independent) else None
    if not isinstance(q, MultivariateNormal) and not isinstance(inner, (Normal, Bernoulli)):
        raise ConfigError(
            "pairs of samples (antithetic, or the objective 'disarm') need a normal posterior, which is the same on "
            "both sides of its mean, or a Bernoulli one; turn antithetic off, or choose the posterior 'diagonal-normal'"
        )
    if k % 2:
        raise ConfigError(
            f"pairs of samples (antithetic, or the objective 'disarm') need an even number of samples, got {k}"
        )
    if isinstance(inner, Bernoulli):
        u = torch.rand(k // 2, *inner.logits.shape, dtype=inner.logits.dtype, device=inner.logits.device)
        return torch.cat((u, 1 - u)).gt((-inner.logits).sigmoid()).to(u.dtype).detach()
    half = q.rsample(torch.Size((k // 2,)))
    return torch.cat((half, 2 * q.mean - half))


def levels_of(z: Tensor, q: Distribution, p: Distribution) -> tuple[LatentLevel, ...]:
    """One level for each block of z if q and p draw the same blocks in turn, else one for all of z.

    There is no level if q is a point, which has no density.

    Arguments:
        z: Latents, shape (K, B, *latent).
        q: Posterior.
        p: Prior.

    Raises:
        ConfigError: Posterior and prior have latents of different shapes, whose densities would broadcast.
    """
    if q.event_shape != p.event_shape:
        shapes = [tuple(distribution.event_shape) for distribution in (q, p)]
        raise ConfigError(
            f"the posterior has latents of shape {shapes[0]}, and the prior of {shapes[1]}; make them equal"
        )
    if isinstance(q, PointMass):
        return ()
    if not (isinstance(q, Chain) and isinstance(p, Chain) and q.sizes == p.sizes):
        return (LatentLevel(z, q, p),)
    blocks = zip(z.split(q.sizes, -1), q.factors(z), p.factors(z), strict=True)
    return tuple(
        LatentLevel(part, q_part, p_part, closed_form=p.before(i) <= q.before(i))
        for i, (part, q_part, p_part) in enumerate(blocks)
    )


def no_bound(draw: Draw, choose: str = "an objective that is not a bound, such as 'beta'") -> str:
    """The message that no bound on log p(x) exists for a draw with penalties or without levels, and what to choose."""
    if not draw.levels:
        return (
            "a deterministic posterior has no density, so that neither a rate nor a bound on log p(x) exists; choose "
            "the objective 'rae', or the posterior 'diagonal-normal'"
        )
    return (
        f"this model has no density q (it carries the penalty {next(iter(draw.penalties))!r}), so no bound on log p(x) "
        f"exists; choose {choose}"
    )


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return reduce(add, terms)


def _name(distribution: Distribution) -> str:
    return type(getattr(distribution, "base_dist", distribution)).__name__
