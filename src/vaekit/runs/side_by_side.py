"""Several replicates at the same time, each in its own process.

A process ends when its replicate ends, when it is asked to stop, or when this process dies (see `replicate`).
It has its own run folder and lock, so nothing is shared but the processors.
"""

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from queue import SimpleQueue
from typing import Any

from .. import errors
from ..errors import RunError
from ..training import Interrupted, Listener
from .replicate import Replicate

Announce = Callable[[int, int, str], AbstractContextManager[Listener | None]]
"""Takes the number of a replicate, its seed and the name of its run; gives the listener to its training."""


def train_side_by_side(replicates: Sequence[Replicate], *, jobs: int, threads: int, announce: Announce) -> None:
    """Train replicates, some at the same time.

    Arguments:
        replicates: The replicates to train.
        jobs: How many processes to use at the same time.
        threads: Number of threads of each process.
        announce: Called with the next replicate; its context is open during the training.

    Raises:
        VAEError: A replicate failed; the others have stopped at whole steps.
        RunError: The process of a replicate was killed; the others have stopped at whole steps.
        Interrupted: Ctrl-C was pressed; all have stopped at whole steps.
    """
    events: SimpleQueue[tuple[_Process, dict[str, Any] | None]] = SimpleQueue()
    waiting = list(replicates)
    running: list[_Process] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Process(waiting.pop(0), threads, announce, events))
            process, event = events.get()
            if event is None:
                running.remove(process)
                process.end()
            else:
                process.take(event)
    except KeyboardInterrupt:
        raise Interrupted("stopped at whole steps") from None
    finally:
        for process in running:
            process.stop()
        for process in running:
            process.wait()


class _Process:
    """A replicate in its own process.

    Arguments:
        replicate: The replicate to train.
        threads: Number of threads of the process.
        announce: Called when it begins.
        events: Queue of the events of the process, and of None when it has ended.
    """

    def __init__(
        self,
        replicate: Replicate,
        threads: int,
        announce: Announce,
        events: "SimpleQueue[tuple[_Process, dict[str, Any] | None]]",
    ) -> None:
        self.replicate = replicate
        self.events = events
        self.error: Exception | None = None
        with ExitStack() as stack:
            self.listener = stack.enter_context(announce(replicate.number, replicate.seed, replicate.name))
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.replicate"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
                start_new_session=True,  # Ctrl-C reaches it through this process, once
            )
            self.stack = stack.pop_all()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it was killed already
            self.process.stdin.write(json.dumps(replicate.task(threads)).encode() + b"\n")
            self.process.stdin.flush()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def take(self, event: dict[str, Any]) -> None:
        """Pass on the events of the process."""
        if "begin" in event and self.listener is not None:
            self.listener.begin(event["begin"])
        if "epoch" in event and self.listener is not None:
            self.listener.epoch(event["epoch"])
        if "warning" in event:
            warnings.warn(f"{self.replicate.name}: {event['warning']}", stacklevel=2)
        if "error" in event:
            kind = getattr(errors, event["kind"], RunError)
            self.error = kind(
                f"{self.replicate.name}: {event['error']}", arguments=event["arguments"], command=event["command"]
            )

    def stop(self) -> None:
        """Ask the process to stop at a whole step."""
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    def wait(self) -> int:
        """Wait for the end of the process; its exit status."""
        status = self.process.wait()
        self.reader.join()
        self.stop()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.stack.close()
        return status

    def end(self) -> None:
        """Clean up after the process, and raise its error.

        Raises:
            VAEError: The process has reported an error.
            RunError: The process has failed without a report.
        """
        status = self.wait()
        if self.error is not None:
            raise self.error
        if status:
            ending = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            name = self.replicate.name
            raise RunError(f"the process that trained {name} {ending}; the same call continues the series")

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with suppress(ValueError):  # a line that was cut short by a kill
                    self.events.put((self, json.loads(line)))
        self.events.put((self, None))
