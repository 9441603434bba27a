"""The terms of the ELBO among the logged means of an epoch: their names, titles and unit.

Not for: the terms of one draw (`draw`), or the other fields of a record (`store.metrics`).
"""

from collections.abc import Mapping
from typing import Any

from ..store.metrics import BOOKKEEPING

ELBO_TERMS = ("neg_elbo", "rate", "distortion")  # nats
TITLES = {"loss": "Loss", "neg_elbo": "−ELBO", "rate": "Rate (KL)", "distortion": "Distortion (reconstruction)"}


def title_of(name: str) -> str:
    """The title of the curve of a logged mean.

    >>> title_of("rate"), title_of("code_usage")
    ('Rate (KL)', 'Code usage')
    """
    return TITLES.get(name, name.replace("_", " ").capitalize())


def unit_of(name: str) -> str:
    """The unit of a logged mean: "nats", or "" if only the loss knows it."""
    return "nats" if name in ELBO_TERMS else ""


def other_means(record: Mapping[str, Any]) -> dict[str, Any]:
    """The training means in a record of an epoch, without the terms of the ELBO and a loss that is the negative ELBO.

    >>> other_means({"epoch": 1, "loss": 2.0, "neg_elbo": 2.0, "rate": 1.5, "distortion": 0.5, "other": 7.0})
    {'other': 7.0}
    """
    left_out = {*BOOKKEEPING, *ELBO_TERMS, *(["loss"] if is_neg_elbo(record) else [])}
    return {name: record[name] for name in record if name not in left_out and not name.startswith("validation_")}


def is_neg_elbo(record: Mapping[str, Any], prefix: str = "") -> bool:
    """Whether the loss in a record is the negative ELBO, up to rounding."""
    loss, neg_elbo = record.get(f"{prefix}loss"), record.get(f"{prefix}neg_elbo")
    if not isinstance(loss, int | float) or not isinstance(neg_elbo, int | float):
        return False
    return abs(loss - neg_elbo) <= 1e-5 * abs(neg_elbo)
