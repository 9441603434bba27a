"""A thread that writes pictures while the training goes on: encoding a picture takes longer than drawing it.

Not for: drawing one (`pictures`), which needs the model and torch's random streams; these belong to the training.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class PictureWriter:
    """Does work in order, in its own thread, until the end of a `with` block."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "pictures")
        self._pending: list[Future[object]] = []

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
        """Do work later, in its turn; raise the error of earlier work that has failed."""
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()
        self._pending.append(self._pool.submit(work))

    def wait(self) -> None:
        """Wait until all work is done, and raise the first error."""
        while self._pending:
            self._pending.pop(0).result()
