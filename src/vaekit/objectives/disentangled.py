"""Objectives that ask for independent latents."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Independent

from ..errors import ConfigError
from ..model import Draw
from .base import couples_rows


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
    log_q_pairs = level.q.base_dist.log_prob(z.unsqueeze(1)).flatten(2)  # (i, j, Z): z_i under the posterior of row j
    log_weights = _log_minibatch_weights(len(z), dataset_size, estimator, z)
    log_q = level.log_q[0]
    log_q_z = (log_weights + log_q_pairs.sum(2)).logsumexp(1)
    log_q_product = (log_weights.unsqueeze(2) + log_q_pairs).logsumexp(1).sum(1)
    information, correlation, rest = log_q - log_q_z, log_q_z - log_q_product, log_q_product - level.log_p[0]
    total: Tensor = draw.log_likelihood[0] - information - beta * correlation - rest
    return total


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
