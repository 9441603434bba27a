"""The output of the command line: results on stdout, everything else on stderr.

All output passes through here. Control characters are shown by their codes, and signs that the console's encoding lacks
are replaced. A reader that stops reading is not an error; a full disk under stdout is an error of one line. Progress
that cannot be written is dropped, since a training is worth more than its log. Not for: the texts of messages.
"""

import codecs
import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from ..errors import VAEError
from ..store.escape import to_json, visible, visible_lines

# Replacements for signs of this package's texts that the encoding may lack.
_PLAIN = {"−": "-", "–": "-", "—": "-", "×": "x", "±": "+-", "→": "->", "…": "...", "≥": ">=", "≤": "<=", "·": "."}
_PLAIN |= {"‘": "'", "’": "'", "“": '"', "”": '"', "β": "beta", "σ": "sigma", "∞": "inf", "━": "-", "╸": "-", "╺": "-"}


class OutputError(VAEError):
    """The result cannot be written to stdout."""


@contextmanager
def streams() -> Iterator[None]:
    """Let stdout and stderr take any text within the block; stderr drops text that cannot be written.

    A stream that the caller closed, as with `>&-`, drops all text.
    """
    codecs.register_error("vae", _replaced)
    stdout, stderr = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        for stream in (stdout, stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="vae")
        sys.stdout = nowhere if stdout is None else stdout
        sys.stderr = _Dropping(nowhere if stderr is None else stderr)
        try:
            yield
        finally:
            sys.stdout = stdout
            sys.stderr = stderr


def out(text: str = "") -> None:
    """Print one line on stdout."""
    _write(visible(text) + "\n")


def out_lines(text: str) -> None:
    """Print a text of several lines on stdout; the caller has escaped the quoted names."""
    _write(visible_lines(text))


def out_json(value: Any) -> None:
    """Print JSON on one line of stdout; numbers that are not finite become null."""
    from ..store.files import finite

    value = finite(value)
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    _write((to_json(value) if encoding == "utf8" else json.dumps(value)) + "\n")


def note(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(visible(text) + "\n")
    sys.stderr.flush()


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        discard(sys.stdout)
        if error.errno in (errno.EPIPE, errno.EIO):  # the reader closed the pipe; the terminal was closed
            return
        raise OutputError(f"cannot write stdout: {(error.strerror or str(error)).lower()}") from None


class _Dropping:
    """A stream that drops text when the disk is full, the reader has gone or the terminal was closed."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            discard(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop its buffer."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            discard(self._stream)


def discard(stream: IO[str]) -> None:
    """Send the rest of a stream nowhere, with its buffer, which Python would try to write at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # a stream of a notebook or a test, without a file
        pass


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign, "?") for sign in signs), error.end
