"""Objectives that ask for independent latents."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from ..errors import ConfigError, check_count, check_range
from ..model import KL, Draw
from .base import couples_rows


@couples_rows
def beta_tc(
    draw: Draw, dataset_size: int, *, beta: float = 6.0, estimator: Literal["weighted", "stratified"] = "weighted"
) -> Tensor:
    """−distortion − I(x; z) − β·TC(z) − Σ_j KL(q(z_j) ‖ p(z_j)), with q(z) estimated from the minibatch.

    The first of the K samples is used.

    Arguments:
        draw: Samples with a factorized posterior and one level.
        dataset_size: N, the number of training rows.
        beta: Weight of the total correlation.
        estimator: Minibatch-weighted or minibatch-stratified sampling.

    Reference: Chen et al. 2018, arXiv:1802.04942, eq. 2, 4 and appendix C.2.
    """
    check_range("beta of beta-tc", beta, 0)
    check_count("dataset_size", dataset_size, 1)
    level = draw.levels[0] if len(draw.levels) == 1 else None
    if level is None or not isinstance(level.q, Independent):
        raise ConfigError("beta-tc needs one latent level with a factorized posterior; choose diagonal-normal")
    z = level.z[0]
    log_q_pairs = level.q.base_dist.log_prob(z.unsqueeze(1)).flatten(2)  # (i, j, Z): z_i under the posterior of row j
    log_weights = _log_minibatch_weights(len(z), dataset_size, estimator, z)
    log_q = level.log_q[0]
    log_q_z = (log_weights + log_q_pairs.sum(2)).logsumexp(1)
    log_q_product = (log_weights.unsqueeze(2) + log_q_pairs).logsumexp(1).sum(1)
    information, correlation, by_dimension = log_q - log_q_z, log_q_z - log_q_product, log_q_product - level.log_p[0]
    total: Tensor = draw.log_likelihood[0] - information - beta * correlation - by_dimension
    return total


@couples_rows
def dip(
    draw: Draw,
    *,
    kind: Literal["I", "II"] = "I",
    off_diagonal: float = 10.0,
    diagonal: float = 100.0,
    kl: KL = "auto",
) -> Tensor:
    """ELBO − λ_od Σ_{i≠j} C_ij² − λ_d Σ_i (C_ii − 1)², where C is a covariance of the aggregate posterior.

    For "I", C is the covariance of the posterior means over the minibatch. For "II", C is the covariance of the
    latents, with the posterior's own variances: Cov z = E Var(z | x) + Cov E(z | x).

    Arguments:
        draw: Samples with a normal posterior and one level.
        kind: The covariance, "I" or "II".
        off_diagonal: λ_od.
        diagonal: λ_d; the paper has 10 λ_od for "I" and λ_od for "II".
        kl: See `elbo`.

    Returns:
        Shape (B,), nats less the penalty, which is the same for all rows.

    Reference: Kumar, Sattigeri and Balakrishnan 2017, arXiv:1711.00848, eq. 5 to 7.
    """
    check_range("off_diagonal", off_diagonal, 0)
    check_range("diagonal", diagonal, 0)
    c = _covariance(draw, of_posteriors=kind == "II")
    return -draw.distortion - draw.rate(kl) - dip_penalty(c, off_diagonal, diagonal)


def dip_penalty(covariance: Tensor, off_diagonal: float, diagonal: float) -> Tensor:
    """λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii − 1)² of a covariance, shape (Z, Z).

    >>> dip_penalty(torch.tensor([[3.0, 0.5], [0.5, 1.0]]), 10.0, 100.0)
    tensor(405.)
    """
    variances = covariance.diagonal()
    off_diagonal_squares = covariance.square().sum() - variances.square().sum()
    return off_diagonal * off_diagonal_squares + diagonal * (variances - 1).square().sum()


def _covariance(draw: Draw, *, of_posteriors: bool) -> Tensor:
    """Covariance of the posterior means over the minibatch, (Z, Z), plus the posteriors' mean covariance on request."""
    q = draw.levels[0].q if len(draw.levels) == 1 else None
    factorizes = isinstance(q, Independent) and isinstance(q.base_dist, Normal)
    if q is None or not (factorizes or isinstance(q, MultivariateNormal)):
        raise ConfigError(
            "dip needs one latent level with a normal posterior; choose the posterior 'diagonal-normal' or "
            "'full-covariance-normal'"
        )
    means = q.mean.flatten(1)
    deviations = means - means.mean(0)
    covariance = deviations.T @ deviations / len(means)
    if not of_posteriors:
        return covariance
    if isinstance(q, MultivariateNormal):
        return covariance + q.covariance_matrix.mean(0)
    return covariance + q.variance.flatten(1).mean(0).diag()


def _log_minibatch_weights(b: int, n: int, estimator: str, like: Tensor) -> Tensor:
    """Log of the weight of row j in the estimate of q(z_i), shape (B, B), or (1, 1) if all are equal."""
    if estimator == "weighted":
        return like.new_full((1, 1), -math.log(b * n))
    if b < 2 or n < b:
        raise ConfigError(f"estimator = 'stratified' needs 2 ≤ batch ≤ data-set size, got {b} and {n}")
    other_rows = b - 1
    weights = like.new_full((b, b), 1 / other_rows)
    weights.fill_diagonal_(1 / n)
    rows = torch.arange(b, device=like.device)
    weights[rows, (rows + 1) % b] = (n - other_rows) / (n * other_rows)
    return weights.log()
