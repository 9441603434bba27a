"""Check a student's file: run it in a process of its own, within limits, and add up the points.

Not for: the mistakes themselves (`networks`, `draws`, `forward` and `loss`).
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, check_range
from .points import GradedSection, Report
from .sheet import POINTS, SECTION_NAMES

START_LIMIT = 180.0  # seconds to import torch, on a busy machine


@dataclass(frozen=True)
class Verdict:
    """Whether a part has its point, and the words for the student."""

    passed: bool
    words: str


def check(path: str | Path, *, seconds: int = 20, megabytes: int = 4096) -> Report:
    """Grade a student's file: points for each section of the assignment, and a diagnosis of each mistake.

    `vae check` prints the report; `vaekit.check` tries a part of a model before training. The file runs in a process
    of its own. Its prints are dropped. A part that crashes, hangs or exits gets no point, and the others are checked
    all the same.

    Arguments:
        path: The student's file, of any name.
        seconds: Time limit for the import of the file, and for each part.
        megabytes: Memory limit, torch's own memory excluded; at most half of the machine's memory. Windows and macOS
            do not enforce it.

    Returns:
        A `Report`, which prints itself.

    Raises:
        DataError: The file does not exist or cannot be read.
        ConfigError: A limit is below 1.
    """
    check_range("seconds", seconds, 1)
    check_range("megabytes", megabytes, 1)
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{path} is not a file; pass the student's solution")
    try:
        file.open("rb").close()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    verdicts: dict[int, Verdict] = {}
    while len(verdicts) < len(POINTS):
        rest = [i for i in range(len(POINTS)) if i not in verdicts]
        verdicts |= _run(file.absolute(), rest, seconds, megabytes)
    return _report(file.name, verdicts)


def _report(name: str, verdicts: dict[int, Verdict]) -> Report:
    sections = []
    for section in SECTION_NAMES:
        own = [verdicts[i] for i, part in enumerate(POINTS) if part.section == section]
        words = dict.fromkeys(verdict.words for verdict in own if verdict.words)
        points = sum(verdict.passed for verdict in own)
        sections.append(GradedSection(section, points, len(own), " ".join(words)))
    return Report(name, tuple(sections))


def _run(file: Path, rest: list[int], seconds: int, megabytes: int) -> dict[int, Verdict]:
    """Verdicts on some parts, at least one: until all are done, or the process hangs or dies."""
    verdicts: dict[int, Verdict] = {}
    at: int | None = None  # the part that is being checked; None while the file is imported
    limit = START_LIMIT
    with _pupil(file, rest, megabytes) as (process, events):
        while len(verdicts) < len(rest):
            try:
                event = events.get(timeout=limit)
            except queue.Empty:
                words = f"It was stopped after {limit:.0f} s: is there a loop that does not end?"
                return verdicts | _failed(at, rest, words)
            limit = seconds
            if event is None:
                return verdicts | _failed(at, rest, _death(process.wait()))
            if event["event"] == "broken":
                return _failed(None, rest, event["words"])
            if event["event"] == "start":
                at = event["part"]
            if event["event"] == "end":
                verdicts[event["part"]] = Verdict(event["passed"], event["words"])
    return verdicts


def _failed(at: int | None, rest: list[int], words: str) -> dict[int, Verdict]:
    """No point for the part that was being checked, or for all of them if the file itself does not load."""
    return {i: Verdict(False, words) for i in (rest if at is None else [at])}


def _death(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"Its process was killed by {signal.Signals(-status).name}."
    return f"It ended its process (status {status})."


@contextmanager
def _pupil(
    file: Path, rest: list[int], megabytes: int
) -> "Iterator[tuple[subprocess.Popen[bytes], queue.Queue[dict[str, Any] | None]]]":
    """Yield a process that checks some parts of a file, and a queue of its events; None follows the last event."""
    root = str(Path(__file__).parents[2])  # the process imports this very package, installed or not
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}
    parts = ",".join(map(str, rest))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", f"{__package__}.pupil", str(file), parts, str(megabytes)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=os.name == "posix",
    )
    events: queue.Queue[dict[str, Any] | None] = queue.Queue()
    listener = threading.Thread(target=_listen, args=(process, events), daemon=True)
    listener.start()
    try:
        yield process, events
    finally:
        _end(process)
        listener.join(1)
        if process.stdout is not None and not listener.is_alive():  # else a process that got away holds the pipe
            process.stdout.close()


def _listen(process: "subprocess.Popen[bytes]", events: "queue.Queue[dict[str, Any] | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        with suppress(ValueError):  # half a line of a process that was killed
            events.put(json.loads(line))
    events.put(None)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process, and on POSIX all processes that it has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
