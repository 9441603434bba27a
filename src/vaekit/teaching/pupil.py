"""The process in which a student's file runs: `python -P -m vaekit.teaching.pupil FILE PARTS MEGABYTES`.

It writes one line of JSON for each event to its original stdout; the student's prints are dropped.
"""

import contextlib
import importlib.util
import json
import os
import re
import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from .sheet import POINTS, Mistake

HINTS = (
    (r"shapes cannot be multiplied \(\d+x28 and 784x", "nn.Flatten() belongs before the first layer of the encoder."),
    (r"shapes cannot be multiplied \(\d+x784 and 794x", "The class is not appended to the image."),
    (r"shapes cannot be multiplied \(\d+x794 and 784x", "The first layer leaves no room for the one-hot class."),
    (r"same dtype|expected scalar type|expected m1 and m2", "Integers reach a layer: make them floats first."),
    (r"not enough memory|can't allocate memory|^MemoryError", "It asks for more memory than it may have."),
    (r"^EOFError", "It waits for input(), which nobody gives here."),
    (r"^SystemExit", "It calls exit()."),
)


def main() -> None:
    """Check the parts in turn."""
    file = Path(sys.argv[1])
    parts = [int(part) for part in sys.argv[2].split(",")]
    channel = _channel()
    import torch

    for module in {part.module for part in POINTS}:
        import_module(f".{module}", __package__)
    torch.set_num_threads(1)
    _limit(int(sys.argv[3]) * 2**20)
    _say(channel, event="ready")
    try:
        student = _load(file)
    except BaseException as error:
        _say(channel, event="broken", words=describe(error, file))
        os._exit(0)
    for i in parts:
        _say(channel, event="start", part=i)
        torch.manual_seed(0)
        passed, words = _check(i, student, file)
        _say(channel, event="end", part=i, passed=passed, words=words)
    os._exit(0)  # even if the file has started threads


def _channel() -> BinaryIO:
    """The original stdout; from now on all other output is dropped."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return channel


def _say(channel: BinaryIO, **event: Any) -> None:
    channel.write(json.dumps(event).encode() + b"\n")


def _limit(size: int) -> None:
    """Allow `size` more bytes, at most half of the machine's memory, if the system has limits."""
    try:
        import resource

        page = resource.getpagesize()
        now = int(Path("/proc/self/statm").read_text().split()[0]) * page
        size = min(size, os.sysconf("SC_PHYS_PAGES") * page // 2)
        resource.setrlimit(resource.RLIMIT_AS, (now + size, now + size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return


def _load(file: Path) -> ModuleType:
    """The student's module, under the name `vae`; it imports from its own folder first."""
    sys.path.insert(0, str(file.parent))
    with contextlib.suppress(OSError):
        os.chdir(file.parent)
    loader = importlib.machinery.SourceFileLoader("vae", str(file))
    spec = importlib.util.spec_from_file_location("vae", file, loader=loader)
    assert spec is not None
    sys.dont_write_bytecode = True
    student = importlib.util.module_from_spec(spec)
    sys.modules["vae"] = student
    loader.exec_module(student)
    return student


def _check(i: int, student: ModuleType, file: Path) -> tuple[bool, str]:
    part = POINTS[i]
    try:
        note = getattr(import_module(f".{part.module}", __package__), part.function)(student)
    except Mistake as mistake:
        return False, str(mistake)
    except BaseException as error:
        return False, describe(error, file)
    return True, note or ""


def describe(error: BaseException, file: Path) -> str:
    """An exception as one line: the error, its line in the student's file, and a hint if it is a common one."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"The file is not Python: {error.msg} (line {error.lineno})."
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(file)), None)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    where = f" (line {line})" if line else ""
    hint = next((f" {words}" for pattern, words in HINTS if re.search(pattern, text)), "")
    return f"It stops with {text:.300}{where}.{hint}"


if __name__ == "__main__":
    main()
