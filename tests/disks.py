"""A training whose disk fills up, or becomes read-only, and has room again: python tests/disks.py DISK ELSEWHERE."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tiny import install, litter, outcome, tiny
from vaekit.errors import RunError
from vaekit.runs import lifecycle
from vaekit.store import Run
from vaekit.training import Listener


class AfterEpochs(Listener):
    """A listener that does something after some epochs."""

    def __init__(self, epochs: int, action: Callable[[], object]) -> None:
        self.epochs, self.action = epochs, action

    def step(self, *_: Any) -> None:
        pass

    def epoch(self, record: dict[str, Any]) -> None:
        if record["epoch"] == self.epochs:
            self.action()


def fill(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass


def cover(disk: Path) -> None:
    """Make the run folder read-only; not the disk, on which the lock is open for writing."""
    folder = str(disk / "read-only")
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)


def uncover(disk: Path) -> None:
    subprocess.run(["umount", str(disk / "read-only")], check=True)


FAULTS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object], str]] = {
    "full": (fill, lambda disk: (disk / "ballast").unlink(), "No space left on device; free some space, then resume"),
    "read-only": (cover, uncover, "Read-only file system; remount it writable"),
}


def main(disk: Path, elsewhere: Path) -> None:
    torch.set_num_threads(1)
    install()
    warnings.simplefilter("error")
    config = tiny(checkpoint_every=1e-6)
    expected = outcome(lifecycle.train_run(config, name="whole", root=elsewhere))
    for name, (harm, mend, message) in FAULTS.items():
        try:
            lifecycle.train_run(config, name=name, root=disk, listener=AfterEpochs(2, lambda harm=harm: harm(disk)))
            sys.exit(f"{name}: it went on")
        except RunError as error:
            print(error)
            if message not in str(error) or "\n" in str(error):
                sys.exit(f"{name}: not {message!r}")
        run = Run.open(name, root=disk)
        assert run.status == "interrupted"
        assert run.load_checkpoint().state["progress"]["epoch"] >= 2  # without a warning, which is an error here
        mend(disk)
        assert outcome(lifecycle.resume_run(Run.open(name, root=disk))) == expected
        assert not litter(disk)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
