"""A thread that writes pictures while the training goes on: to encode a picture takes longer than to make it.

Not for: making one (`pictures`), which takes the model and torch's random streams, and these belong to the training.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class PictureWriter:
    """Does work in the order in which it is given, in a thread of its own, until the end of a `with` block."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "pictures")
        self._given: list[Future[object]] = []

    def __enter__(self) -> "PictureWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._pool.shutdown()

    def do(self, work: Callable[[], object]) -> None:
        """Do some work later; an error of earlier work that has ended is raised here."""
        while self._given and self._given[0].done():
            self._given.pop(0).result()
        self._given.append(self._pool.submit(work))

    def wait(self) -> None:
        """Wait until all is done, and raise the first error."""
        while self._given:
            self._given.pop(0).result()
