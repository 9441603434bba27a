"""What every extension has to show: `vae train --trust`, killed and resumed, ends with the very same bits.

    python proof.py STEP train --trust …       the command `vae`, killed before a step

It trains on the data set of `tiny`, or on that of a function `dataset` of the extension.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import tiny
from vaekit import cli, config, data
from vaekit.store import Run
from vaekit.training.trainer import Trainer

TRAIN = {"epochs": 3, "learning_rate": 0.02, "patience": 9, "checkpoint_every": 1e-6}


def install(extension: str) -> None:
    """Train on the data of an extension, and check and save after every step."""
    tiny.install()
    from vaekit.runs import job
    from vaekit.training import checkpointer

    job.load_data = getattr(import_module(extension), "dataset", tiny.dataset)  # type: ignore[assignment]
    checkpointer.SNAPSHOT_AFTER = 0.0


def prove(
    extension: str,
    *settings: str,
    folder: Path,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    sections: Mapping[str, Any] | None = None,
    drawn: str = "drawn.png",
) -> Run:
    """Train an extension once without a break, and once killed and resumed; the run of the latter.

    Arguments:
        extension: The module beside this one that has the extension.
        settings: Of the command, as `--set` takes them.
        folder: Where the extension and its runs are put.
        command: The command line in this process.
        monkeypatch: What it is patched with.
        sections: In place of those of `tiny`.
        drawn: File for samples.
    """
    from vaekit.runs import job
    from vaekit.training import checkpointer, loop

    shutil.copy(Path(__file__).with_name(f"{extension}.py"), folder)
    monkeypatch.chdir(folder)
    dataset = getattr(import_module(extension), "dataset", tiny.dataset)
    monkeypatch.setattr(job, "load_data", dataset)
    monkeypatch.setattr(data, "load", tiny.dataset)  # for evaluation, where every class is known
    monkeypatch.setattr(checkpointer, "SNAPSHOT_AFTER", 0.0)
    monkeypatch.setattr(loop, "CHECK_EVERY", 0.0)
    whole_config = tiny.SECTIONS | {"objective": {}, "train": tiny.SECTIONS["train"] | TRAIN} | dict(sections or {})
    (folder / "config.toml").write_text(config.read("standard-vae", settings=settings, sections=whole_config).to_toml())
    arguments = ("train", "--trust", "--config", "config.toml")
    whole = command(*arguments, "--name", "whole")
    assert whole.status == 0, whole.err
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, __file__, extension, "12", *arguments, "--name", "killed"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = Run.open("killed")
    assert run.status == "interrupted"
    assert run.load_checkpoint().state["progress"]["step"] == 12
    resumed = command("resume", "killed", "--trust")
    assert resumed.status == 0, resumed.err
    assert tiny.outcome(run) == tiny.outcome(Run.open("whole"))
    label = ("--class", "rows") if Run.open("whole").config["model"]["condition"] == "class" else ()
    sampled = command("sample", "killed", "--trust", "-n", "4", *label, "-o", drawn)
    assert sampled.status == 0, sampled.err
    return run


def main() -> None:
    """The command `vae` on the data of an extension, killed before a step."""
    extension, step = sys.argv[1], int(sys.argv[2])
    del sys.argv[1:3]
    install(extension)
    real = Trainer.step

    def killed(self: Trainer, item: Any, epoch: float) -> None:
        if self.progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, item, epoch)

    Trainer.step = killed  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
