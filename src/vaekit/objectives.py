"""Objectives: functions of a `Draw` that return one number a row, in nats, to be maximised.

A function marked `@bound` is a lower bound on log p(x), in expectation, that the exact posterior attains. Only those
may be called an ELBO or an NLL. One marked `@couples_rows` compares the rows of a batch with one another. K is
`len(draw.z)`, B the number of rows. The keyword-only parameters are options of a config; a float among them may follow
a schedule.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from .errors import ConfigError
from .model import KL, Draw, Level

F = TypeVar("F", bound=Callable[..., Tensor])


def bound(function: F) -> F:
    """Mark an objective as a lower bound on log p(x) that the exact posterior attains."""
    function.is_bound = True  # type: ignore[attr-defined]
    return function


def couples_rows(function: F) -> F:
    """Mark an objective whose value for a row depends on the other rows of the batch."""
    function.couples_rows = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True)
class Objective:
    """An objective with its options filled in, some of which may be schedules over epochs.

    Arguments:
        function: Objective function, called with a `Draw` and the options.
        options: Keyword arguments; a callable one is a schedule and is given the epoch, a float.
        samples: K, how many samples the function wants for each row.
    """

    function: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 1

    def __call__(self, draw: Draw, epoch: float = math.inf) -> Tensor:
        """The objective of each row, shape (B,), nats; after the last step of every schedule by default."""
        options = {name: value(epoch) if callable(value) else value for name, value in self.options.items()}
        return self.function(draw, **options)

    @property
    def is_scheduled(self) -> bool:
        """Whether an option follows a schedule."""
        return any(callable(value) for value in self.options.values())

    @property
    def is_bound(self) -> bool:
        """Whether it is a lower bound on log p(x)."""
        return getattr(self.function, "is_bound", False)

    @property
    def couples_rows(self) -> bool:
        """Whether the value of a row depends on the other rows of the batch."""
        return getattr(self.function, "couples_rows", False)


@bound
def elbo(draw: Draw, *, kl: KL = "auto", gradient: Literal["plain", "stl"] = "plain") -> Tensor:
    """Evidence lower bound: E_q log p(x | z) − KL(q(z | x) ‖ p(z)), the mean over K samples.

    Arguments:
        draw: K samples for each of B rows.
        kl: The KL term in closed form ("analytic"), from the samples ("sampled"), or in closed form where there is one.
        gradient: "stl", sticking the landing, leaves out the score of q, whose expectation is zero: no gradient noise
            remains once q is exact. It goes with the sampled KL.

    Returns:
        Shape (B,), nats.

    Reference: Kingma and Welling 2013, arXiv:1312.6114, eq. 3 ("analytic") and eq. 2 ("sampled"); Roeder, Wu and
    Duvenaud 2017, arXiv:1703.09194, eq. 8.
    """
    if gradient == "stl":
        if kl == "analytic":
            raise ConfigError("gradient = 'stl' needs the sampled KL, got kl = 'analytic'; leave kl out")
        return torch.mean(draw.log_w_path, 0)
    return -draw.distortion - draw.rate(kl)


@bound
def iwae(draw: Draw, *, gradient: Literal["plain", "stl", "dreg"] = "plain") -> Tensor:
    """Importance-weighted bound: log (1/K) Σ_k w_k.

    Arguments:
        draw: K samples for each of B rows.
        gradient: "dreg" is the doubly reparametrized gradient for the posterior, unbiased and, unlike "plain", with a
            signal-to-noise ratio that grows with K; "stl" leaves out the score of q and is biased for K > 1.

    Returns:
        Shape (B,), nats.

    Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, eq. 8; Tucker et al. 2018, arXiv:1810.04152,
    eq. 8.
    """
    if gradient == "dreg":
        weight = draw.log_w.detach().softmax(0)
        _scale_gradient(draw.z, weight)
        return _with_value((weight * draw.log_w_path).sum(0), _log_mean(draw.log_w, 0))
    return _log_mean(draw.log_w_path if gradient == "stl" else draw.log_w, 0)


@bound
def miwae(draw: Draw, *, groups: int = 8) -> Tensor:
    """Mean of `groups` importance-weighted bounds, each over K / groups samples.

    Reference: Rainforth et al. 2018, arXiv:1802.04537, section 5 (MIWAE).
    """
    return _log_mean(_grouped(draw.log_w, groups), 1).mean(0)


@bound
def piwae(draw: Draw, *, groups: int = 8) -> Tensor:
    """The importance-weighted bound for the generative model, `miwae` for the posterior.

    The value is that of `iwae`; the gradient that reaches the posterior is that of `miwae`.

    Reference: Rainforth et al. 2018, arXiv:1802.04537, section 5 (PIWAE).
    """
    log_w = draw.log_w.detach()
    # The floor keeps the quotient of the two weights finite in single precision; it changes the gradient by 1e-30.
    all_weights = log_w.softmax(0).clamp_min(1e-30)
    group_weights = (_grouped(log_w, groups).softmax(1) / groups).flatten(0, 1)
    _scale_gradient(draw.z, group_weights / all_weights)
    surrogate = all_weights * draw.log_w_path - group_weights * draw.score
    return _with_value(surrogate.sum(0), _log_mean(draw.log_w, 0))


@bound
def ciwae(draw: Draw, *, beta: float = 0.05) -> Tensor:
    """Convex combination β·ELBO + (1 − β)·IWAE of the same samples.

    Reference: Rainforth et al. 2018, arXiv:1802.04537, section 5 (CIWAE).
    """
    if not 0 <= beta <= 1:
        raise ConfigError(f"objective.beta of ciwae must lie in [0, 1], got {beta}")
    return beta * draw.log_w.mean(0) + (1 - beta) * _log_mean(draw.log_w, 0)


def beta_elbo(draw: Draw, *, beta: float = 4.0, kl: KL = "auto") -> Tensor:
    """−distortion − β·rate. With a schedule for β from 0 to 1 it is the KL warm-up.

    Reference: Higgins et al. 2017, "beta-VAE", ICLR, eq. 4.
    """
    if beta < 0:
        raise ConfigError(f"objective.beta must be ≥ 0, got {beta}; for a plain autoencoder use beta = 0")
    return -draw.distortion - beta * draw.rate(kl)


def capacity_elbo(draw: Draw, *, gamma: float = 1000.0, capacity: float = 25.0, kl: KL = "auto") -> Tensor:
    """−distortion − γ·|rate − C|: the rate is held at C nats, which usually grows from 0 by a schedule.

    Reference: Burgess et al. 2018, arXiv:1804.03599, eq. 8.
    """
    return -draw.distortion - gamma * (draw.rate(kl) - capacity).abs()


@couples_rows
def free_bits(draw: Draw, *, minimum: float = 0.1) -> Tensor:
    """−distortion − Σ_j max(minimum, KL_j), where KL_j is the batch mean of latent dimension j.

    A dimension that carries less than `minimum` nats costs nothing more, so that the posterior does not collapse. A
    posterior or prior that does not factorize counts as one dimension for each level.

    Reference: Kingma et al. 2016, arXiv:1606.04934, eq. 15.
    """
    if minimum < 0:
        raise ConfigError(f"objective.minimum of free-bits must be ≥ 0 nats, got {minimum}")
    rates = [_kl_by_dimension(level).mean(0).clamp_min(minimum).sum() for level in draw.levels]
    return -draw.distortion - torch.stack(rates).sum()


@couples_rows
def beta_tc(
    draw: Draw, dataset_size: int, *, beta: float = 6.0, estimator: Literal["weighted", "stratified"] = "weighted"
) -> Tensor:
    """−distortion − I(x; z) − β·TC(z) − Σ_j KL(q(z_j) ‖ p(z_j)), with q(z) estimated from the minibatch.

    The first of the K samples is used.

    Arguments:
        draw: Samples with a factorized posterior and one level.
        dataset_size: Number of training images N.
        beta: Weight of the total correlation.
        estimator: Minibatch-weighted or minibatch-stratified sampling.

    Reference: Chen et al. 2018, arXiv:1802.04942, eq. 2, 4 and appendix C.2.
    """
    level = draw.levels[0]
    if len(draw.levels) > 1 or not isinstance(level.q, Independent):
        raise ConfigError("beta-tc needs one latent level with a factorized posterior; choose diagonal-normal")
    z = level.z[0]
    log_q_pairs = level.q.base_dist.log_prob(z.unsqueeze(1))  # (i, j, Z): z_i under the posterior of row j
    log_weights = _log_minibatch_weights(len(z), dataset_size, estimator, z)
    log_q = level.log_q[0]
    log_q_z = (log_weights + log_q_pairs.sum(2)).logsumexp(1)
    log_q_product = (log_weights.unsqueeze(2) + log_q_pairs).logsumexp(1).sum(1)
    information, correlation, rest = log_q - log_q_z, log_q_z - log_q_product, log_q_product - level.log_p[0]
    total: Tensor = draw.log_likelihood[0] - information - beta * correlation - rest
    return total


@couples_rows
def mmd(
    draw: Draw,
    *,
    kl_weight: float = 0.0,
    mmd_weight: float = 10.0,
    kernel: Literal["imq", "rbf"] = "imq",
    kl: KL = "auto",
) -> Tensor:
    """−distortion − kl_weight·rate − mmd_weight·MMD²(q(z), p(z)) between the minibatch and as many draws of the prior.

    kl_weight 0 is the WAE-MMD; the InfoVAE's α and λ are kl_weight = 1 − α and mmd_weight = α + λ − 1.

    Reference: Tolstikhin et al. 2017, arXiv:1711.01558, algorithm 2; Zhao, Song and Ermon 2017, arXiv:1706.02262,
    eq. 6.
    """
    if len(draw.z[0]) < 2:
        raise ConfigError("mmd compares rows with one another and needs at least 2 in a batch, got 1")
    z, p = draw.z[0], draw.prior
    if not kl_weight and not p.has_rsample:
        raise ConfigError("mmd cannot train this prior, whose samples have no gradient; give it a kl_weight > 0")
    total = -draw.distortion - mmd_weight * squared_mmd(z, _rows(p, len(z)), kernel)
    return total - kl_weight * draw.rate(kl) if kl_weight else total


def squared_mmd(x: Tensor, y: Tensor, kernel: Literal["imq", "rbf"] = "imq") -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy of two samples, shape (n, Z) each.

    The kernel is a sum over seven scales around 2·Z, the mean squared distance of two draws of a standard normal.

    Reference: Gretton et al. 2012, "A kernel two-sample test", JMLR 13, eq. 3.
    """

    def k(a: Tensor, b: Tensor) -> Tensor:
        squared = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        scales = [2.0 * a.shape[1] * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
        if kernel == "imq":
            return sum(scale / (scale + squared) for scale in scales)  # type: ignore[return-value]
        return sum((-squared / scale).exp() for scale in scales)  # type: ignore[return-value]

    n = len(x)
    within = ((m := k(x, x)).sum() - m.diagonal().sum() + (m := k(y, y)).sum() - m.diagonal().sum()) / (n * (n - 1))
    return within - 2 * k(x, y).mean()


def _log_mean(log_w: Tensor, dim: int) -> Tensor:
    return log_w.logsumexp(dim) - math.log(log_w.shape[dim])


def _grouped(log_w: Tensor, groups: int) -> Tensor:
    k = len(log_w)
    if groups < 1 or k % groups:
        raise ConfigError(
            f"objective.samples must be a multiple of objective.groups, got {k} samples in {groups} groups"
        )
    return log_w.reshape(groups, k // groups, *log_w.shape[1:])


def _scale_gradient(z: Tensor, factor: Tensor) -> None:
    """Multiply the gradient that flows through z, shape (K, B, Z), into the posterior by `factor`, shape (K, B)."""
    if z.requires_grad:
        z.register_hook(lambda gradient: gradient * factor.unsqueeze(-1))


def _with_value(surrogate: Tensor, value: Tensor) -> Tensor:
    """The value of one, the gradient of the other."""
    return value.detach() + surrogate - surrogate.detach()


def _kl_by_dimension(level: Level) -> Tensor:
    """KL of each latent dimension, shape (B, Z), or of the whole level, shape (B, 1), where it does not factorize."""
    if level.closed_form and isinstance(level.q, Independent) and isinstance(level.p, Independent):
        try:
            kl = kl_divergence(level.q.base_dist, level.p.base_dist)
            return kl.mean(0) if kl.ndim > 2 else kl
        except NotImplementedError:
            pass
    return level.kl().unsqueeze(-1)


def _log_minibatch_weights(b: int, n: int, estimator: str, like: Tensor) -> Tensor:
    """Log of the weight of row j in the estimate of q(z_i), shape (B, B) or a scalar shape (1, 1)."""
    if estimator == "weighted":
        return like.new_full((1, 1), -math.log(b * n))
    if b < 2 or n < b:
        raise ConfigError(f"estimator = 'stratified' needs 2 ≤ batch ≤ data-set size, got {b} and {n}")
    others = b - 1
    weights = like.new_full((b, b), 1 / others)
    weights.fill_diagonal_(1 / n)
    rows = torch.arange(b, device=like.device)
    weights[rows, (rows + 1) % b] = (n - others) / (n * others)
    return weights.log()


def _rows(p: Distribution, n: int) -> Tensor:
    """One draw for each of n rows, shape (n, Z), with a gradient where there is one."""
    shape = torch.Size() if p.batch_shape else torch.Size((n,))
    return p.rsample(shape) if p.has_rsample else p.sample(shape)
