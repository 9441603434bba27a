"""Requests to stop a training, by Ctrl-C or a signal, and the exception that a stopped training raises.

Not for: the times at which a training looks for requests (`clock`).
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import RankError

HANG_UP = getattr(signal, "SIGHUP", None)  # Windows does not have it


class Interrupted(KeyboardInterrupt):
    """The training was asked to stop, by Ctrl-C or a signal, and has stopped at a whole step."""


@contextmanager
def stop_requests() -> Iterator[list[float]]:
    """A list that is empty until Ctrl-C, SIGTERM or SIGHUP comes. A second request, half a second later, acts at once.

    SIGHUP says that the terminal was closed; after `nohup` it stays ignored. One Ctrl-C under torchrun comes twice:
    from the terminal, and from torchrun. In any thread but the main one the list stays empty.
    """
    received: list[float] = []

    def note(number: int, frame: object) -> None:
        now = time.monotonic()
        if received and now - received[0] >= 0.5:
            raise KeyboardInterrupt
        received.append(now)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    if HANG_UP is not None and signal.getsignal(HANG_UP) != signal.SIG_IGN:
        before[HANG_UP] = signal.signal(HANG_UP, note)
    try:
        yield received
    except RankError:
        before[signal.SIGTERM] = signal.SIG_IGN  # torchrun now ends all ranks; this one has yet to say why
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
