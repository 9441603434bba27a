"""Open data files, which must be regular files, since a pipe could wait for ever; and unnamed temporary files."""

import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ...errors import DataError
from ...store import files
from ..registry import cache_folder


def open_file(path: Path | str) -> IO[bytes]:
    """Open a file to read it; unlike a run's own files, it may be a symbolic link.

    Raises:
        DataError: The path cannot be opened or is not a regular file. Reading a pipe could wait for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read ({reason.lower()})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{path}: is not a regular file but a pipe, a device or a folder; move it away")
    return open(descriptor, "rb")


def read_file(path: Path | str, share: int) -> bytes:
    """The content of a file, if this machine's memory is at least `share` times its size.

    Raises:
        DataError: The machine has less memory, or the file cannot be opened.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size * share > files.MACHINE_MEMORY:
            raise DataError(
                f"{path}: has {size:,} bytes, more than the {files.MACHINE_MEMORY // share:,} that can be read here; "
                "split it, or bring an array .npy"
            )
        return file.read()


def temporary_file(owner: object) -> IO[bytes]:
    """A new file without a name in the folder TMPDIR, or by default in the user's cache. Closing it deletes it.

    Arguments:
        owner: The file is closed when this object goes away.

    Raises:
        DataError: No file can be written there.
    """
    with disk_errors():
        file = tempfile.TemporaryFile(dir=_folder())  # noqa: SIM115 (the owner closes it)
    weakref.finalize(owner, file.close)
    return file


def check_room(path: Path, size: int) -> None:
    """Check that a temporary file may take `size` bytes.

    Raises:
        DataError: The disk has less room.
    """
    with disk_errors():
        free = shutil.disk_usage(_folder()).free
    if size > free:
        raise DataError(
            f"{path}: needs {size:,} bytes for its rows in a temporary file, but {free:,} are free in {_folder()}; "
            "free some space, set TMPDIR to a folder on a larger disk, or split the file"
        )


@contextmanager
def disk_errors() -> Iterator[None]:
    """Explain why a temporary file cannot be written.

    Raises:
        DataError: The block raises an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the rows of a large table cannot be written to a temporary file ({error.strerror or error}); free some "
            "space, or set TMPDIR to a folder on a larger disk"
        ) from error


def _folder() -> Path:
    cache = None if os.environ.get("TMPDIR") else cache_folder()  # often /tmp is itself in memory
    if cache is not None:
        with suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            if os.access(cache, os.W_OK):
                return cache
    return Path(tempfile.gettempdir())
