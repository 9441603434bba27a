"""The record of an epoch: means that were logged, by name, and figures about the epoch itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .old_names import OLD_NAMES, with_current_names

if TYPE_CHECKING:
    from .run import Run

ROWS_KEY, SPEED_KEY = "rows", "rows_per_second"
BOOKKEEPING = frozenset({"epoch", ROWS_KEY, "skipped", "seconds", SPEED_KEY, "learning_rate", *OLD_NAMES})
CLASSIC = ("neg_elbo", "rate", "distortion")  # nats
TITLES = {"loss": "Loss", "neg_elbo": "−ELBO", "rate": "Rate (KL)", "distortion": "Distortion (reconstruction)"}


def title_of(name: str) -> str:
    """The title of the curve of a logged mean.

    >>> title_of("rate"), title_of("code_usage")
    ('Rate (KL)', 'Code usage')
    """
    return TITLES.get(name, name.replace("_", " ").capitalize())


def unit_of(name: str) -> str:
    """The unit of a logged mean: "nats", or "" if only the loss knows it."""
    return "nats" if name in CLASSIC else ""


def logged(record: Mapping[str, Any], *, classic: bool = True) -> dict[str, float]:
    """The training means in a record, by the names that the loss gave them.

    Arguments:
        record: Record of an epoch, or of a part of one.
        classic: Whether to include the classic three, and the loss if it is the negative ELBO.

    >>> logged({"epoch": 1, "loss": 2.0, "neg_elbo": 2.0, "rate": 1.5, "distortion": 0.5, "other": 7.0}, classic=False)
    {'other': 7.0}
    """
    names = [name for name in record if name not in BOOKKEEPING and not name.startswith("validation_")]
    if not classic:
        names = [name for name in names if name not in CLASSIC]
        if is_neg_elbo(record):
            names.remove("loss")
    return {name: record[name] for name in names}


def is_neg_elbo(record: Mapping[str, Any], prefix: str = "") -> bool:
    """Whether the loss in a record is the negative ELBO, up to rounding."""
    loss, neg_elbo = record.get(f"{prefix}loss"), record.get(f"{prefix}neg_elbo")
    if not isinstance(loss, int | float) or not isinstance(neg_elbo, int | float):
        return False
    return abs(loss - neg_elbo) <= 1e-5 * abs(neg_elbo)


def stored_test(run: "Run") -> dict[str, Any] | None:
    """The means on the test rows at the end of training, or None."""
    if not (run.path / "test.json").is_file():
        return None
    table = run.read_json("test.json")
    return with_current_names(table) if isinstance(table, dict) else None
