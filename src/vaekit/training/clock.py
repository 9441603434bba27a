"""When a training is checked."""

import time
from collections.abc import Sequence

from .ranks import Ranks


class CheckClock:
    """When to check a training: at a fixed interval, or when it is to stop; on all ranks after the same step.

    Arguments:
        ranks: All ranks.
        every: Seconds between two checks.
        stop: Not empty when this rank is asked to stop.
    """

    def __init__(self, ranks: Ranks, every: float, stop: Sequence[float]) -> None:
        self.ranks = ranks
        self.every = every
        self.stop = stop
        self.last = time.perf_counter()
        self.steps = 0
        self.wait = 1
        self.seconds = 0.0  # mean seconds of a step before the last check

    def due(self) -> bool:
        """Whether to check after this step."""
        self.steps += 1
        now = time.perf_counter()
        if self.ranks.world_size == 1:
            due = bool(self.stop) or now - self.last >= self.every
        else:
            due = self.steps >= self.wait
        if not due:
            return False
        pace = self.steps * self.every / max(now - self.last, 1e-9)
        self.wait = max(1, min(int(pace), 2 * self.steps))
        self.seconds = (now - self.last) / self.steps
        self.last = now
        self.steps = 0
        return True

    def stopping(self) -> bool:
        """Whether any rank is asked to stop."""
        return self.ranks.any_rank(bool(self.stop))

    def end(self) -> None:
        """End a check. The first rank, when its work is done, sends all ranks the number of steps to the next check."""
        self.wait = self.ranks.broadcast(self.wait)
