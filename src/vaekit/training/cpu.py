"""How the processor computes: its treatment of tiny numbers, its number of threads, and the memory that it keeps.

These are not options of a model. The first two may still change the last bits of its weights, so a run records them.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

TRIALS = 5  # timed steps for each number of threads
LONG_ENOUGH = 0.5  # seconds; after that no further trial begins
FAR_SLOWER = 1.5  # times; on an idle machine a second thread never costs as much
CHOSEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # environment variables with the user's choice

_flush: ContextVar[bool | None] = ContextVar("flush", default=None)
_count: ContextVar[int | None] = ContextVar("count", default=None)


@contextmanager
def flushed(on: bool | None = None) -> Iterator[None]:
    """Within the block numbers below 2⁻¹²⁶ ≈ 1e-38 count as 0: Intel's processors compute far faster with 0.

    After a few epochs many averages of Adam are that small: those of dead units and of pixels that are always black.
    The setting holds for this thread, and for the threads that torch starts within the block. A processor that
    lacks the setting ignores it.

    Arguments:
        on: Whether to turn it on; None takes the setting of an outer block, else True.
    """
    chosen = on if on is not None else _flush.get()
    before, token = flushes(), _flush.set(chosen is not False)
    torch.set_flush_denormal(chosen is not False)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
        _flush.reset(token)


def flushes() -> bool:
    """Whether numbers below 2⁻¹²⁶ count as 0 in this thread."""
    return not (torch.tensor(2.0**-126) / 2).item()


def keep_freed_blocks() -> None:
    """Let the C library keep freed blocks of up to 31 MiB for the next result instead of giving them to the system.

    glibc does so once it has freed a block of that size (mallopt(3), M_MMAP_THRESHOLD); this block is never touched,
    so it costs no memory. Otherwise large results cost a page fault for every 4 KiB, up to half of the time. The
    effect lasts for the rest of the process, which keeps up to 62 MiB of freed memory.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Within the block torch computes with `count` threads, if there are as many processors; None changes nothing."""
    if count is None or count > (os.cpu_count() or 1):
        yield
        return
    before, token = torch.get_num_threads(), _count.set(count)
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _count.reset(token)


def find_threads(step: Callable[[], object]) -> int:
    """The number of threads to compute with: the user's, else torch's default, or 1 if the machine is busy.

    The threads of a step wait for one another dozens of times. If another program keeps one of them from running, all
    of them wait for it: if one of two processors is busy, a step of 8 ms takes up to 1 s. One thread then
    takes 9 ms.

    Arguments:
        step: Some of the arithmetic of a training step, to be timed.
    """
    all_threads = torch.get_num_threads()
    if all_threads == 1 or _count.get() is not None or any(name in os.environ for name in CHOSEN):
        return all_threads
    seconds: dict[int, list[float]] = {all_threads: [], 1: []}
    begun = time.perf_counter()
    step()  # the first one also allocates memory
    while len(seconds[1]) < TRIALS and (not seconds[1] or time.perf_counter() - begun < LONG_ENOUGH):
        for count, taken in seconds.items():
            with threads(count):
                before = time.perf_counter()
                step()
                taken.append(time.perf_counter() - before)
    slower = statistics.median(seconds[all_threads]) / max(statistics.median(seconds[1]), 1e-9)
    return 1 if slower > FAR_SLOWER else all_threads


class Pace:
    """The duration of the steps of a training; it notices when they become many times slower.

    Arguments:
        limit: Report steps that are slower by at least this factor.
        lasting: Report them after this many checks in a row.
    """

    def __init__(self, limit: float = 6.0, lasting: int = 8) -> None:
        self.limit = limit
        self.lasting = lasting
        self.best = float("inf")
        self.slow = 0
        self.reported = False

    def slowdown(self, seconds: float) -> float | None:
        """The factor by which steps are slower, reported once, when they have stayed slow; else None.

        Arguments:
            seconds: Mean duration of a step since the last check.
        """
        self.best = min(self.best, seconds)
        self.slow = self.slow + 1 if seconds > self.limit * self.best else 0
        if self.reported or self.slow < self.lasting:
            return None
        self.reported = True
        return seconds / self.best
