"""Several trainings in one process that take turns, so that the steps that all of them wait for can be done at once.

Each is a function in a thread of its own, exactly one of which runs at any time, with random streams of its own: it
computes what it would compute alone. What it hands over are steps, a few dozen at most; it waits for them only when it
wants to know what came out, as it would wait for a device.

Not for: what a step is, or how several are done at once (`stack`).
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ..data import Dataset
from ..rng import Streams

if TYPE_CHECKING:
    from .trainer import Trainer

# Of what waits: a turn costs 0.2 ms, which many small steps share, but an answer to Ctrl-C waits for all of them.
MOST_STEPS, MOST_NUMBERS = 32, 1 << 20


class Work(NamedTuple):
    """A step that is to be done: by whom, on what, when, and the factor on its learning rate."""

    trainer: "Trainer"
    x: Tensor
    c: Tensor | None
    epoch: float
    factor: float
    step: int

    @property
    def kind(self) -> tuple[Any, ...]:
        """What the steps of two trainings must have in common to be done at once."""
        like = [None if t is None else (t.shape, t.dtype) for t in (self.x, self.c)]
        return self.step, self.epoch, self.factor, *like, *self.trainer.settings

    def alone(self) -> None:
        """Do the step by itself."""
        self.trainer.set_rates(self.trainer.optimizer, self.factor)
        self.trainer.advance_alone(self.x, self.c, self.epoch)


class Peer:
    """One of several trainings that take turns.

    Arguments:
        function: The training, which is given this object and uses it in place of a data set, of an answer to
            signals, and of steps of its own.
        data: The data set of all of them.
        stop: Not empty when all are asked to stop.
        together: How many there are.

    Attributes:
        queue: Steps that it waits for.
        error: What it raised.
    """

    def __init__(self, function: Callable[["Peer"], None], data: Dataset, stop: Sequence[float], together: int) -> None:
        self.function, self.data, self.stop, self.together = function, data, stop, together
        self.queue: deque[Work] = deque()
        self.error: BaseException | None = None
        self.ended = self.cancelled = False
        self.streams = Streams()
        self._mine, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, work: Work) -> None:
        """Hand a step over."""
        self.queue.append(work)
        if len(self.queue) >= min(MOST_STEPS, 1 + MOST_NUMBERS // work.x.numel()):
            self.wait()

    def wait(self) -> None:
        """Wait until all steps have been done.

        Raises:
            KeyboardInterrupt: they will not be.
        """
        if self.queue:
            self._back.release()
            self._take_turn()

    def resume(self) -> None:
        """Let it run until it waits or has ended."""
        with self.streams:
            self._mine.release()
            self._back.acquire()

    def cancel(self) -> None:
        """End it where it is, now that nobody does its steps any more."""
        self.cancelled = True
        self._mine.release()
        self._thread.join()

    def _take_turn(self) -> None:
        if not self.cancelled:
            self._mine.acquire()
        if self.cancelled:
            raise KeyboardInterrupt("stopped at once")

    def _run(self) -> None:
        try:
            self._take_turn()
            self.function(self)
        except BaseException as error:  # which is for the thread that started this one
            self.error = error
        self.ended = True
        self._back.release()


def in_turns(peers: Sequence[Peer], advance: Callable[[Sequence[Peer]], None]) -> None:
    """Let trainings take turns until all have ended.

    Arguments:
        peers: The trainings.
        advance: Does steps that the given ones wait for, until one of them waits for none.
    """
    waiting = list(peers)
    try:
        while waiting:
            for peer in waiting:
                if not peer.queue:
                    peer.resume()
            waiting = [peer for peer in waiting if not peer.ended]
            if waiting:
                advance(waiting)
    finally:
        for peer in waiting:
            peer.cancel()
