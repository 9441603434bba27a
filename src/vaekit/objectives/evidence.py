"""The evidence lower bound and its relatives: β, capacity, free bits."""

from typing import Literal

import torch
from torch import Tensor

from ..errors import ConfigError, check_range
from ..model import KL, Draw, LatentLevel
from .base import bound, couples_rows, objective


@bound
def elbo(draw: Draw, *, kl: KL = "auto", gradient: Literal["plain", "stl"] = "plain") -> Tensor:
    """Evidence lower bound: E_q log p(x | z) − KL(q(z | x) ‖ p(z)), the mean over K samples.

    Arguments:
        draw: K samples for each of B rows.
        kl: The KL term in closed form ("analytic"), from the samples ("sampled"), or closed if it can be ("auto").
        gradient: "stl", sticking the landing, leaves out the score of q, which is zero in expectation: no gradient
            noise remains once q is exact. It needs the sampled KL.

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


@objective()
def beta_elbo(draw: Draw, *, beta: float = 4.0, kl: KL = "auto") -> Tensor:
    """−distortion − β·rate. With a schedule for β from 0 to 1 it is the KL warm-up.

    Reference: Higgins et al. 2017, "beta-VAE", ICLR, eq. 4.
    """
    check_range("beta", beta, 0, hint="; for a plain autoencoder use beta = 0")
    return -draw.distortion - beta * draw.rate(kl)


@objective()
def capacity_elbo(draw: Draw, *, gamma: float = 1000.0, capacity: float = 25.0, kl: KL = "auto") -> Tensor:
    """−distortion − γ·|rate − C|: the rate is held at C nats, which usually grows from 0 by a schedule.

    The rate of each row is held at C, as in the paper's equation for one x. Implementations that take the mean rate of
    a batch hold only that mean, and let rows differ.

    Reference: Burgess et al. 2018, arXiv:1804.03599, eq. 8.
    """
    check_range("gamma of capacity", gamma, 0)
    return -draw.distortion - gamma * (draw.rate(kl) - capacity).abs()


@couples_rows
def free_bits(draw: Draw, *, minimum: float = 0.1, per: Literal["dimension", "level"] = "dimension") -> Tensor:
    """−distortion − Σ_j max(minimum, KL_j), where KL_j is the batch mean of latent dimension j.

    A dimension that carries less than `minimum` nats gets no gradient from its KL: the posterior does not collapse. A
    level counts as one dimension if its KL has no closed form by dimension, or if `per` is "level".

    Reference: Kingma et al. 2016, arXiv:1606.04934, eq. 15.
    """
    check_range("minimum of free-bits", minimum, 0)
    if not draw.levels:
        draw.rate()  # raises, and says why there is none
    rates = [_kl_by_dimension(level, per).mean(0).clamp_min(minimum).sum() for level in draw.levels]
    return -draw.distortion - torch.stack(rates).sum()


def _kl_by_dimension(level: LatentLevel, per: Literal["dimension", "level"]) -> Tensor:
    """KL of each latent dimension, shape (B, Z), or of the whole level, (B, 1), if a dimension has no closed form."""
    kl = None if per == "level" else level.kl_by_dimension("analytic")
    return level.kl().unsqueeze(-1) if kl is None else kl.flatten(1)
