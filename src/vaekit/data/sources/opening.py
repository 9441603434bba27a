"""Opening data files: regular files only, and without waiting for a pipe."""

import os
import stat
from pathlib import Path
from typing import IO

from ...errors import DataError
from ...store import files


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
        if size * share > files.MEMORY:
            raise DataError(
                f"{path}: has {size:,} bytes, more than the {files.MEMORY // share:,} that can be read here; "
                "split it, or bring an array .npy"
            )
        return file.read()
