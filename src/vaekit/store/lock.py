"""One writer per run folder: the operating system releases the lock when its process ends, however it ends.

The lock is on the open file, so it is never stale; the text in the file only names the holder. Not for: readers, since
every file is whole at any moment.
"""

import os
import platform
import time
import weakref
from pathlib import Path
from typing import IO

from ..errors import RunError
from .files import JSON_LIMIT, dump_json, file_errors, open_regular, parse_json, read

PAUSE = 0.01  # seconds between attempts: `busy` of another process holds the lock for some microseconds


class Lock:
    """The right to write into one run folder, held by at most one process.

    Arguments:
        path: The lock file, in the run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    @property
    def lost(self) -> bool:
        """Whether the locked file is no longer the one at its path."""
        if self._file is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), os.lstat(self.path))
        except OSError:
            return True

    def busy(self) -> bool:
        """Whether a living process, this one included, holds the lock."""
        if self.held:
            return True
        if not os.path.lexists(self.path):
            return False
        with file_errors("read", self.path), open_regular(self.path) as file:
            return not _take(file, attempts=10)

    def acquire(self) -> None:
        """Take the lock, or keep it if this object holds it already.

        Raises:
            RunError: Another process, or another `Lock` of this process, holds it; the message names the process.
        """
        if self.held:
            return
        with file_errors("lock", self.path):
            file = open_regular(self.path, change=True)
            try:
                self._lock(file)
            except BaseException:
                file.close()
                raise
        self._file = file
        _held.add(self)

    def release(self) -> None:
        """Give the lock back, if this object holds it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        self.release()

    def _lock(self, file: IO[bytes]) -> None:
        if not _take(file, attempts=20):
            raise RunError(f"{self.path.parent} is in use by {self._holder()}; wait until it ends or stop it")
        holder = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.truncate(0)
        file.seek(0)
        file.write(dump_json(holder, self.path))

    def _holder(self) -> str:  # on Windows a locked file cannot be read: "another process"
        try:
            match parse_json(read(self.path, JSON_LIMIT), self.path):
                case {"pid": int(pid), "host": str(host), "since": str(since)}:
                    return f"process {pid} on {host} (since {since})"
        except RunError:
            pass
        return "another process"


def _take(file: IO[bytes], attempts: int) -> bool:
    """Try to lock an open file; closing the file unlocks it."""
    from filelock import lock_descriptor  # its import takes as long as the whole of `vae runs`

    for _ in range(attempts):
        if lock_descriptor(file.fileno(), blocking=False):
            return True
        time.sleep(PAUSE)
    return False


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget() -> None:
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    # A forked worker shares the open file: it would keep the lock after its parent was killed.
    os.register_at_fork(after_in_child=_forget)
