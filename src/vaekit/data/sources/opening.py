"""Opening data files: regular files only, and without waiting, whatever a name leads to."""

import os
import stat
from pathlib import Path
from typing import IO

from ...errors import DataError
from ...store import files


def open_file(path: Path | str) -> IO[bytes]:
    """Open a file to read it; unlike a run's own files, it may be a symbolic link.

    Raises:
        DataError: The path is not a regular file (a pipe would be waited for without end), or cannot be opened.
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
    """All of a file, if this machine has `share` times the memory that it takes.

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
