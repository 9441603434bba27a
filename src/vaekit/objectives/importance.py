"""Importance-weighted bounds."""

import math
from typing import Literal

from torch import Tensor

from ..errors import ConfigError, check_count, check_range
from ..model import Draw
from .base import bound, with_value


@bound
def iwae(draw: Draw, *, gradient: Literal["plain", "stl", "dreg"] = "plain") -> Tensor:
    """Importance-weighted bound: log (1/K) Σ_k w_k.

    Arguments:
        draw: K samples for each of B rows.
        gradient: "dreg" is the doubly reparametrized gradient for the posterior, unbiased and, unlike "plain", with a
            signal-to-noise ratio that grows with K; "stl" leaves out the score of q and is biased for K > 1. "dreg"
            consumes the draw: it scales every later gradient through `draw.z`.

    Returns:
        Shape (B,), nats.

    Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, eq. 8; Tucker et al. 2018, arXiv:1810.04152,
    eq. 8.
    """
    if gradient == "dreg":
        weight = draw.log_w.detach().softmax(0)
        _scale_gradient(draw.z, weight)
        return with_value((weight * draw.log_w_path).sum(0), _log_mean(draw.log_w, 0))
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

    It has the value of `iwae`; the posterior gets the gradient of `miwae`. It consumes the draw: every later gradient
    through `draw.z` is scaled.

    Reference: Rainforth et al. 2018, arXiv:1802.04537, section 5 (PIWAE).
    """
    log_w = draw.log_w.detach()
    # The floor keeps the quotient of the two weights finite in single precision; it changes the gradient by 1e-30.
    all_weights = log_w.softmax(0).clamp_min(1e-30)
    group_weights = (_grouped(log_w, groups).softmax(1) / groups).flatten(0, 1)
    _scale_gradient(draw.z, group_weights / all_weights)
    surrogate = all_weights * draw.log_w_path - group_weights * draw.score
    return with_value(surrogate.sum(0), _log_mean(draw.log_w, 0))


@bound
def ciwae(draw: Draw, *, beta: float = 0.05) -> Tensor:
    """Convex combination β·ELBO + (1 − β)·IWAE of the same samples.

    Reference: Rainforth et al. 2018, arXiv:1802.04537, section 5 (CIWAE).
    """
    check_range("beta of ciwae", beta, 0, 1, ends="[]")
    return beta * draw.log_w.mean(0) + (1 - beta) * _log_mean(draw.log_w, 0)


def _log_mean(log_w: Tensor, dim: int) -> Tensor:
    return log_w.logsumexp(dim) - math.log(log_w.shape[dim])


def _grouped(log_w: Tensor, groups: int) -> Tensor:
    k = len(log_w)
    if k % check_count("groups", groups):
        raise ConfigError(f"samples must be a multiple of groups, got {k} samples in {groups} groups")
    return log_w.reshape(groups, k // groups, *log_w.shape[1:])


def _scale_gradient(z: Tensor, factor: Tensor) -> None:
    """Multiply every gradient that z, shape (K, B, *latent), hands to the posterior by `factor`, shape (K, B)."""
    if z.requires_grad:
        z.register_hook(lambda gradient: gradient * factor.reshape(*factor.shape, *[1] * (z.ndim - 2)))
