"""Losses, and the objectives in most of them: functions of a `Draw`, in nats, to be maximised.

| file | what |
|---|---|
| `base` | `Loss`, `Terms`, and objectives as losses |
| `evidence`, `importance` | the ELBO, β and free bits; importance-weighted bounds |
| `disentangled`, `divergence` | independent latents; all latents of a batch against the prior |
| `scores` | discrete latents |
| `regularized`, `adversarial`, `semi_supervised` | regularized autoencoders; opponents; model M2 |
| `schedules` | options that change while a model trains |
"""

from . import schedules
from .adversarial import AAE, FactorVAE
from .base import (
    Loss,
    OfBatch,
    OfDraw,
    Player,
    Terms,
    Traits,
    as_loss,
    bound,
    couples_rows,
    draw_of,
    module_of,
    objective,
    score_function,
)
from .disentangled import beta_tc, dip, dip_penalty
from .divergence import mmd, squared_mmd
from .evidence import beta_elbo, capacity_elbo, elbo, free_bits
from .importance import ciwae, iwae, miwae, piwae
from .regularized import RegularizedAutoencoder
from .scores import disarm, rloo
from .semi_supervised import M2

__all__ = [
    "AAE",
    "M2",
    "FactorVAE",
    "Loss",
    "OfBatch",
    "OfDraw",
    "Player",
    "RegularizedAutoencoder",
    "Terms",
    "Traits",
    "as_loss",
    "beta_elbo",
    "beta_tc",
    "bound",
    "capacity_elbo",
    "ciwae",
    "couples_rows",
    "dip",
    "dip_penalty",
    "disarm",
    "draw_of",
    "elbo",
    "free_bits",
    "iwae",
    "miwae",
    "mmd",
    "module_of",
    "objective",
    "piwae",
    "rloo",
    "schedules",
    "score_function",
    "squared_mmd",
]
