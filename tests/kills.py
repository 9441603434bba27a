"""Trainings that are killed and stopped over and over: python tests/kills.py FOLDER DEATHS [SEED].

A process that has imported torch forks one child after another; each is `vae train` or `vae resume` until it is killed
at a random moment, kills itself at a random call that changes a file, half of which it has written, or is asked to
stop. Every run that comes to its end must be, bit for bit, the run that nothing happened to. Prints what happened.
"""

import io
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tiny import install, litter, outcome, tiny
from vaekit import cli
from vaekit.store import Run, files

CALLS = ("mkdir", "rename", "replace", "unlink", "fsync")


def die_at_call(at: int) -> list[int]:
    """Make this process kill itself at its `at`-th call that changes a file; how many there were is in the list."""
    count = [0]

    def dies() -> bool:
        count[0] += 1
        return count[0] == at

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if dies():
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            if dies():
                super().write(memoryview(data)[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return super().write(data)

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    files.open = lambda file, mode="r", **_: File(file, mode.replace("b", ""))  # type: ignore[attr-defined]
    return count


def forked(action: Callable[[], None], log: Path) -> int:
    """A child that does something, and what it says in a file."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        action()
    except SystemExit as end:
        status = int(end.code or 0)
    except KeyboardInterrupt:  # before or after the command
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ending(child: int) -> int:
    """The exit status of a child; −9 if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def work(root: Path, name: str) -> None:
    """Begin a run, or go on with what there is of it."""
    if (root / name).exists():
        verb = ["resume", name]
    else:
        verb = ["train", "--config", str(root / "tiny.toml"), "--name", name]
    sys.argv = ["vae", *verb, "--runs", str(root)]
    cli.main()


def stopped_by(number: int, *, twice: bool) -> Callable[[int, float], None]:
    def stop(child: int, moment: float) -> None:
        handle = os.pidfd_open(child)
        if not select.select([handle], [], [], moment)[0]:  # it has not ended before
            for _ in range(2 if twice else 1):
                os.kill(child, number)
        os.close(handle)

    return stop


WAYS: dict[str, Callable[[int, float], None]] = {
    "killed at a moment": stopped_by(signal.SIGKILL, twice=False),
    "killed at a call": lambda child, moment: None,
    "Ctrl-C": stopped_by(signal.SIGINT, twice=False),
    "Ctrl-C twice": stopped_by(signal.SIGINT, twice=True),
    "SIGTERM": stopped_by(signal.SIGTERM, twice=False),
}


def quick() -> None:
    """No fsync: a kill does not lose what the system has taken, and it takes most of the time."""
    os.fsync = lambda descriptor: None


def reference(root: Path) -> tuple[dict[str, Any], float, int]:
    """What an undisturbed run comes to, how long it takes, and how many calls change files in it."""
    with suppress(SystemExit):
        work(root, "whole")  # in this process, so that its children find everything imported and warm
    read, write = os.pipe()

    def counted() -> None:
        count = die_at_call(-1)
        with suppress(SystemExit):
            work(root, "counted")
        os.write(write, str(count[0]).encode())
        sys.exit(0)

    begun = time.perf_counter()
    assert ending(forked(counted, root / "log")) == 0
    seconds = time.perf_counter() - begun
    assert outcome(Run.open("counted", root=root)) == outcome(Run.open("whole", root=root))
    return outcome(Run.open("whole", root=root)), seconds, int(os.read(read, 100))


def main(root: Path, deaths: int, seed: int) -> dict[str, Any]:
    """Until so many processes have died: runs that come to their end all the same."""
    torch.set_num_threads(1)
    install()
    quick()
    root.mkdir(parents=True, exist_ok=True)
    (root / "tiny.toml").write_text(tiny(checkpoint_every=0.02).to_toml())
    pick = random.Random(seed)
    expected, seconds, calls = reference(root)
    died, runs = dict.fromkeys(WAYS, 0), 0
    while sum(died.values()) < deaths:
        name = f"run-{runs}"
        while True:
            way = pick.choices(list(WAYS), weights=(4, 4, 1, 1, 1))[0]
            at = 1 + int(calls / 2 * pick.random() ** 2)  # soon, since what is left to do gets less

            def action(name: str = name, at: int = at if way == "killed at a call" else -1) -> None:
                die_at_call(at)
                work(root, name)

            child = forked(action, root / "log")
            WAYS[way](child, pick.uniform(0, seconds))
            status = ending(child)
            if status == 0:
                break
            if status not in (-signal.SIGKILL, -signal.SIGTERM, 130):
                raise AssertionError(f"{name}, {way}: status {status}\n{(root / 'log').read_text()}")
            died[way] += 1
            if (root / name).exists() and Run.open(name, root=root).status == "finished":
                break  # it had done everything but to say so
        run = Run.open(name, root=root)
        assert outcome(run) == expected, f"{name} is another one"
        assert not litter(run.path), litter(run.path)
        runs += 1
    return {
        "deaths": sum(died.values()),
        "ways": died,
        "runs": runs,
        "sha256": expected["tensors"]["checkpoints/best/model.safetensors"],
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)))
