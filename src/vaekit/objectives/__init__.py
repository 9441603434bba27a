"""Objectives: functions of a `Draw` that return one number a row, in nats, to be maximised."""

from . import schedules
from .base import Loss, Objective, Player, Terms, bound, couples_rows
from .disentangled import beta_tc
from .divergence import mmd, squared_mmd
from .evidence import beta_elbo, capacity_elbo, elbo, free_bits
from .importance import ciwae, iwae, miwae, piwae

__all__ = [
    "Loss",
    "Objective",
    "Player",
    "Terms",
    "beta_elbo",
    "beta_tc",
    "bound",
    "capacity_elbo",
    "ciwae",
    "couples_rows",
    "elbo",
    "free_bits",
    "iwae",
    "miwae",
    "mmd",
    "piwae",
    "schedules",
    "squared_mmd",
]
