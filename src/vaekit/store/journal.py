"""The journal of a run, metrics.jsonl: one record for each epoch, a line of JSON, appended and never changed.

Not for: the fields of a record (`metrics`).
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import RunError
from . import files

JOURNAL_LIMIT = 256 << 20  # bytes; a record has some 400
MOST_EPOCHS = 100_000  # of a run, one line each; a second is enough to read them
LINE_LIMIT = 64 << 10  # bytes of a line


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The records one by one; a last line that was cut short is left out.

    Raises:
        RunError: Another line is damaged; the message names it.
    """
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        if len(line) > LINE_LIMIT:
            raise RunError(f"{where} is damaged: it has {len(line)} bytes, more than {LINE_LIMIT}")
        yield files.table(files.parse_json(line, where), where)


def append(path: Path, record: Mapping[str, object]) -> None:
    """Append a record. A number that is not finite is written as null, since JSON has no NaN.

    Raises:
        RunError: The record is not JSON-able or cannot be written; the earlier lines stay as they were.
    """
    line = files.dump_json(files.finite(record), path, indent=None) + b"\n"
    if len(line) > LINE_LIMIT:
        raise RunError(f"the record of an epoch would have {len(line)} bytes, more than {LINE_LIMIT}; log less")
    files.append(path, line)


def truncate(path: Path, epochs: int) -> None:
    """Keep the first `epochs` records only."""
    files.write(path, b"".join(line + b"\n" for line in _lines(path)[:epochs]))


def _lines(path: Path) -> list[bytes]:
    content = files.read(path, JOURNAL_LIMIT) if os.path.lexists(path) else b""
    if content.count(b"\n") > MOST_EPOCHS:
        raise RunError(f"{path} has more than {MOST_EPOCHS} lines; it is damaged")
    return content.split(b"\n")[:-1]
