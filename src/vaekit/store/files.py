"""Files that are written whole or not at all, and are not trusted when read.

Writing: a temporary name in the same folder, flush, fsync, rename, fsync of the folder. Reading: only regular files
inside the given folder (no symbolic link, no `..`, no absolute path), never more bytes than a limit, which is checked
before memory is allocated, JSON without executable or non-standard parts. Not for: the meaning of the files.
"""

import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any

from ..errors import RunError, VAEError
from . import bounded

JSON_LIMIT = 4 << 20  # bytes; a state.json is some 10 KiB
MACHINE_MEMORY = (
    os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 16 << 30
)  # bytes
COMPONENT = re.compile(r"\w[\w.+=,@-]{0,99}")

_TEMPORARY = re.compile(r"\..+\.(\d{1,9})-([0-9a-f]{8})(?:-([0-9a-f]{8}))?-\d+\.tmp")
_ABANDONED = 3600  # seconds; another host, whose processes look dead here, may be writing in the same folder
_PROCESS = os.urandom(4).hex()  # in a container, a restarted process often has the number of its predecessor
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_temporary_number = count()
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_REMEDY = {
    errno.ENOSPC: "free some space, then resume the run",
    errno.EDQUOT: "free some space, then resume the run",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), then resume the run",
    errno.EROFS: "remount it writable or use another folder",
    errno.EACCES: "change its permissions or use another folder",
    errno.EPERM: "change its permissions or use another folder",
}


@contextmanager
def file_errors(action: str, path: Path, fault: type[VAEError] = RunError) -> Iterator[None]:
    """Turn an `OSError` into an error that names the path, the reason and what to do.

    Arguments:
        action: A verb for the message: "cannot <action> <path>: <reason>".
        path: The file or folder at hand.
        fault: Class of the error.

    Raises:
        VAEError: The block raises an `OSError` (disk full, read-only, no permission, a failing disk).
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDY.get(error.errno or 0, "")
        message = f"cannot {action} {path}: {error.strerror or error}{remedy and f'; {remedy}'}"
        raise fault(message, arguments=("root",) if "another folder" in remedy else ()) from error


def component(name: str) -> str:
    """Return `name` if it is safe as the name of a file or folder on every system.

    Raises:
        RunError: The name is not a letter, digit or `_`, followed by at most 99 of these and `.+=,@-`.
    """
    if not COMPONENT.fullmatch(name):
        raise RunError(
            f"{name!r:.120} cannot be the name of a file or folder; use at most 100 letters, digits and _.+=,@-, "
            "beginning with a letter, a digit or _"
        )
    return name


def slug(name: str) -> str:
    """A name as part of a file name. A long name keeps its last 60 characters, which tell it from others.

    >>> slug("T-shirt/top")
    'T-shirt-top'
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[-60:].strip("-.")


def make_folders(folder: Path, *, below: Path) -> None:
    """Make a folder and its parents below `below`; never make `below` itself."""
    for path in reversed([folder, *folder.parents]):
        if below in path.parents:
            path.mkdir(exist_ok=True)


def confine(folder: Path, relative: str) -> Path:
    """Path of `relative` (components joined by "/") inside `folder`, through no symbolic link.

    Raises:
        RunError: The path leads, or could lead, outside: it is absolute, or has `..`, a link or an unsafe name.
    """
    path = folder
    for part in relative.split("/"):
        path = path / component(part)
        with file_errors("open", path):
            link = path.is_symlink()
        if link:
            raise RunError(f"{path} is a symbolic link, which a run folder must not hold; put the file itself there")
    return path


def read(path: Path, limit: int, fault: type[VAEError] = RunError) -> bytes:
    """Content of a regular file of at most `limit` bytes; the size is checked before memory is allocated.

    Raises:
        VAEError: The file is missing, not regular, larger than `limit`, or cannot be read. The error is a `fault`.
    """
    with file_errors("read", path, fault), open_regular(path, fault=fault) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise fault(f"{path} has {size} bytes, more than the {limit} that such a file may have; it is damaged")
        return file.read(size)


def sha256(path: Path) -> str:
    """SHA-256 of a regular file, in hexadecimal.

    Raises:
        RunError: The file is missing or cannot be read.
    """
    with file_errors("read", path), open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def write(path: Path, data: bytes) -> None:
    """Write a file in one step: whatever happens, it has its old content or all of its new content.

    Raises:
        RunError: The file cannot be written, or a device, a pipe or a folder has its name.
    """
    with _new_content(path, data) as new:
        os.replace(new, path)
        sync(path.parent)


def check_can_write(path: Path) -> None:
    """Refuse a file that cannot be written, before the work of which it is the result.

    Raises:
        RunError: See `write`.
    """
    with _new_content(path, b""):
        pass


@contextmanager
def _new_content(path: Path, data: bytes) -> Iterator[Path]:
    """The content of a file in a temporary file beside it, which is removed in the end."""
    new = temporary(path)
    with file_errors("write", path):
        if path.exists() and not path.is_file():  # a rename would replace it
            raise RunError(f"cannot write {path}: it is a device, a pipe or a folder; choose another name")
        try:
            write_new(new, data)
            yield new
        finally:
            new.unlink(missing_ok=True)


def write_new(path: Path, data: bytes) -> None:
    """Write a new file, and flush it to the disk.

    Raises:
        OSError: The file exists or cannot be written.
    """
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def append(path: Path, line: bytes) -> None:
    r"""Append one line (that ends in "\n"), flushed to the disk; a part of a line from a killed process is dropped.

    Raises:
        RunError: The line cannot be written; then the file has the lines it had before.
    """
    with file_errors("write", path), open_regular(path, change=True) as file:
        whole = _end_of_lines(file)
        try:
            file.truncate(whole)
            file.seek(whole)
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(whole)
            raise


def open_regular(path: Path, *, change: bool = False, fault: type[VAEError] = RunError) -> IO[bytes]:
    """Open a file without following a symbolic link or waiting at a pipe.

    Arguments:
        path: The file.
        change: Open it to change it in place; it is made if missing, and not buffered.
        fault: Class of the error.

    Raises:
        OSError: The file cannot be opened.
        VAEError: The path is not a regular file, or the file to change has another name (a hard link) elsewhere.
    """
    descriptor = os.open(path, (os.O_RDWR | os.O_CREAT if change else os.O_RDONLY) | _NO_LINK, 0o666)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and not (change and status.st_nlink > 1):
        return open(descriptor, "r+b", buffering=0) if change else open(descriptor, "rb")
    os.close(descriptor)
    raise fault(f"{path} is a device, a folder or a hard link to another file; put a regular file there")


def identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder, which tell it from another folder of its name; None if it does not exist."""
    try:
        status = os.lstat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sync(folder: Path) -> None:
    """Flush the entries of a folder (what was made, renamed, removed) to the disk."""
    if sys.platform == "win32":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary(path: Path) -> Path:
    """A new name beside `path`; it tells `sweep` whether the process that made it still lives."""
    return path.with_name(f".{path.name}.{os.getpid()}-{_PROCESS}-{_HOST}-{next(_temporary_number)}.tmp")


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders that dead processes left in `folder`, as far as that is possible.

    What another host left is removed an hour after its last change.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            match = _TEMPORARY.fullmatch(path.name)
            if match is None or _alive(int(match[1]), match[2]):
                continue
            if match[3] in (None, _HOST) or time.time() - path.lstat().st_mtime > _ABANDONED:
                remove(path)


def remove(path: Path) -> None:
    """Remove a file, a symbolic link (not what it leads to) or a whole folder, if it is there and may be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def parse_json(data: bytes, path: Path | str) -> Any:
    """Value of a JSON text in UTF-8; `path` is for the message.

    Raises:
        RunError: The text exceeds `JSON_LIMIT`, is not JSON (NaN and Infinity are not) or is nested too deeply.
    """
    if len(data) > JSON_LIMIT:
        raise RunError(f"{path} has {len(data)} bytes, more than the {JSON_LIMIT} that JSON may have; it is damaged")
    try:
        return bounded.json_value(data)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error


def table(value: Any, where: Path | str) -> dict[str, Any]:
    """A parsed value, if it is a table; `where` is for the message.

    Raises:
        RunError: The value is not a table.
    """
    if not isinstance(value, dict):
        raise RunError(f"{where} is damaged: a {type(value).__name__} instead of a table")
    return value


def parse_toml(data: bytes, path: Path | str) -> dict[str, Any]:
    """Table of a TOML text in UTF-8; `path` is for the message.

    Raises:
        RunError: The text exceeds `TOML_LIMIT`, is not TOML or is nested too deeply.
    """
    try:
        return bounded.toml_table(data.decode("utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error


def dump_json(value: object, path: Path | str, *, indent: int | None = 2) -> bytes:
    """JSON text of a value made of dicts with string keys, lists, strings, finite numbers, booleans and None.

    Raises:
        RunError: The value is of another kind, or its text exceeds `JSON_LIMIT`.
    """
    try:
        data = json.dumps(value, allow_nan=False, indent=indent).encode()
        bounded.json_value(data)  # never write a text that cannot be read again
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be written as JSON: {error}") from error
    if len(data) > JSON_LIMIT:
        raise RunError(f"{path} would have {len(data)} bytes, more than {JSON_LIMIT}; store large values as tensors")
    return data


def finite(value: object) -> object:
    """`value` with None, which is null in JSON, in place of every number that is not finite."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
    return value


def _end_of_lines(file: IO[bytes]) -> int:
    """Offset after the last newline, looking backwards by blocks."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _alive(pid: int, process: str) -> bool:
    if pid == os.getpid():
        return process == _PROCESS
    if sys.platform == "win32":  # signal 0 would end it there, and a file in use cannot be removed anyway
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
