"""The ELBO of discrete latents, with gradients of scores, ∇ E_q f = E_q f ∇ log q, and with little noise.

All have the value of `beta_elbo`, which is the ELBO for β = 1. The decoder and the prior get the plain gradient.

Not for: relaxed samples, which take `elbo` itself.
"""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent

from ..errors import ConfigError, check_range
from ..model import KL, Draw
from .base import objective, score_function, with_value


@score_function
def rloo(draw: Draw, *, beta: float = 1.0, kl: KL = "auto") -> Tensor:
    """ELBO with leave-one-out gradients: a score is weighted by its sample's gain over the mean of the other samples.

    The gradient is unbiased for any posterior. The KL is taken in closed form where there is one.

    Arguments:
        draw: K ≥ 2 samples for each of B rows.
        beta: Weight of the KL; with a schedule from 0 to 1 it is the KL warm-up.
        kl: See `elbo`.

    Returns:
        Shape (B,), nats.

    Reference: Kool, van Hoof and Welling 2019, "Buy 4 REINFORCE samples, get a baseline for free!", ICLR workshop;
    Salimans and Knowles 2014, arXiv:1401.1022, appendix A.
    """
    k = len(draw.z)
    if k < 2:
        raise ConfigError(f"rloo compares the samples of a row; samples must be ≥ 2, got {k}")
    f, rate = _signal(draw, beta, kl)
    gain = (f - f.mean(0)).detach() * k / (k - 1)
    value = f.mean(0) - rate
    return with_value(value + (gain * draw.score).mean(0), value)


@objective(uses_score_gradient=True, antithetic=True)
def disarm(draw: Draw, *, beta: float = 1.0, kl: KL = "auto") -> Tensor:
    """ELBO of Bernoulli latents: the gradient compares two samples, of u and of 1 − u.

    Arguments:
        draw: K samples for each of B rows, K even, drawn in pairs: `model.draw(x, k=K, antithetic=True)`.
        beta: Weight of the KL; with a schedule from 0 to 1 it is the KL warm-up.
        kl: See `elbo`.

    Returns:
        Shape (B,), nats.

    Reference: Dong, Mnih and Tucker 2020, arXiv:2006.10680, eq. 7; Yin et al. 2020, "Probabilistic best subset
    selection via gradient-based optimization", arXiv:2006.06448, found the same estimator.
    """
    q = draw.levels[0].q if len(draw.levels) == 1 else None
    if not (isinstance(q, Independent) and isinstance(q.base_dist, Bernoulli)):
        raise ConfigError("disarm is for Bernoulli latents; choose the posterior 'bernoulli', or the objective 'rloo'")
    if not draw.antithetic:
        raise ConfigError("disarm compares samples that were drawn in pairs; pass antithetic=True to draw")
    logits = q.base_dist.logits
    f, rate = _signal(draw, beta, kl)
    (first, second), (z, counterpart) = f.chunk(2), draw.z.detach().chunk(2)
    slope = (z - counterpart) * logits.detach().abs().sigmoid()
    score = (slope * logits).flatten(2).sum(2)
    value = f.mean(0) - rate
    return with_value(value + 0.5 * ((first - second).detach() * score).mean(0), value)


def _signal(draw: Draw, beta: float, kl: KL) -> tuple[Tensor, Tensor]:
    """Terms to average over the samples, shape (K, B), and terms that need no samples, shape (B,); nats."""
    check_range("beta", beta, 0)
    if any(level.q.has_rsample for level in draw.levels):
        raise ConfigError(
            "scores are for discrete samples, and a gradient goes through these samples; choose the objective "
            "'elbo' or 'beta', or the posterior 'bernoulli' or 'categorical'"
        )
    if kl == "analytic" or (kl == "auto" and all(level.analytic_kl is not None for level in draw.levels)):
        return draw.log_likelihood, beta * draw.rate(kl)
    log_ratios = torch.stack([level.log_p - level.log_q.detach() for level in draw.levels])
    return draw.log_likelihood + beta * log_ratios.sum(0), draw.x.new_zeros(draw.z.shape[1])
