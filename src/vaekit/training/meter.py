"""Sums that stay on the device, so that no step waits for it.

Not for: when the counts are read (`loop`).
"""

import math

import torch
from torch import Tensor

from ..errors import ConfigError
from ..store.metrics import BOOKKEEPING, ROWS_KEY

EXPLODED = 2.0**24  # nats per row; beyond this, float32 cannot resolve one nat
MOST_SKIPPED = 100  # steps in a row; a training that fails so often does not recover


class Meter:
    """The sums of an epoch by name, and the first step at which too many steps in a row were bad.

    Arguments:
        device: Device of the training.
        skip: Whether bad steps are skipped.

    Attributes:
        allowed: How many bad steps in a row the training tolerates.
        names: Names of the sums; known from the first step on.
        sums: Sums of the epoch: one for each name, then the rows and the skipped steps.
        bad_step: The step at which the training fails: more than `allowed` bad steps in a row. −1 if there is none.
        bad_in_a_row: Bad steps in a row until now.
        steps: Steps until now.
    """

    def __init__(self, device: torch.device, skip: bool) -> None:
        self.skip = skip
        self.allowed = MOST_SKIPPED if skip else 0
        self.names: tuple[str, ...] = ()
        self.sums = torch.zeros(2, dtype=widest_dtype(device), device=device)
        self.bad_step = torch.full((), -1, device=device)
        self.bad_in_a_row = torch.zeros((), dtype=torch.int64, device=device)
        self.steps = torch.zeros((), dtype=torch.int64, device=device)

    def begin(self, names: tuple[str, ...]) -> None:
        """Set the names of the sums: at the first step, or from a checkpoint.

        Raises:
            ConfigError: A name is taken, or the names differ from the earlier ones.
        """
        if names == self.names:
            return
        check_same_names(names, self.names)
        for name in names:
            if name in BOOKKEEPING or name.startswith("validation_") or names.count(name) > 1:
                raise ConfigError(f"the name {name!r} of a logged value is taken; choose another one")
        self.names = names
        self.sums = self.sums.new_zeros(len(names) + 2)

    def is_bad(self, loss: Tensor, rate: Tensor | None, rows: int, norm: Tensor | None) -> Tensor:
        """Whether a step is bad, as a boolean on the device.

        Arguments:
            loss: Sum over the rows.
            rate: Sum over the rows, nats; None if the loss logs no rate.
            rows: Number of rows.
            norm: Norm of the gradient; None to leave it unchecked.
        """
        bad = ~loss.isfinite()
        if rate is not None:
            bad = bad | (rate > EXPLODED * rows)
        return bad if norm is None else bad | ~norm.isfinite()

    def add(self, sums: Tensor, rows: int, bad: Tensor) -> None:
        """Count a step.

        Arguments:
            sums: Sums over the rows, in the order of `names`.
            rows: Number of rows.
            bad: Whether the step is bad.
        """
        if self.skip:
            sums = torch.where(bad, torch.zeros_like(sums), sums)
            self.sums[-2].add_(~bad, alpha=rows)
            self.sums[-1].add_(bad)
        else:
            self.sums[-2].add_(rows)
        self.sums[:-2].add_(sums)
        self.bad_in_a_row.copy_(torch.where(bad, self.bad_in_a_row + 1, 0))
        first = (self.bad_step < 0) & (self.bad_in_a_row > self.allowed)
        self.bad_step.copy_(torch.where(first, self.steps, self.bad_step))
        self.steps.add_(1)

    def first_bad(self) -> int | None:
        """The number of `bad_step`, or None: this waits for the device."""
        bad = int(self.bad_step)
        return bad if bad >= 0 else None

    def means(self) -> dict[str, float]:
        """Means of the epoch so far by name, NaN without rows; its rows and skipped steps. It waits for the device."""
        *sums, rows, skipped = self.sums.tolist()
        named = zip(self.names, sums, strict=True)
        means = {name: value / rows if rows else math.nan for name, value in named}
        return means | {ROWS_KEY: rows} | ({"skipped": skipped} if self.skip else {})


def check_same_names(names: tuple[str, ...], before: tuple[str, ...]) -> None:
    """Check that a loss logs the same names for every batch.

    Arguments:
        names: The names for this batch, in order.
        before: Those for the batches before; empty at the first.

    Raises:
        ConfigError: The names differ.
    """
    if before and names != before:
        raise ConfigError(f"a loss must log the same names for every batch, got {names} after {before}")


def widest_dtype(device: torch.device) -> torch.dtype:
    """The type for sums: the widest one that the device has."""
    return torch.float32 if device.type == "mps" else torch.float64
