"""One thread for each process, and the command line in this process.

Tests are small, run side by side, and compare weights bit for bit across processes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

os.environ["OMP_NUM_THREADS"] = "1"


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command in this process: status, stdout and stderr."""
    from vaekit import cli

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["vae", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return Result(int(stop.value.code or 0), captured.out, captured.err)

    return run


SMALL = (
    "--set",
    "encoder.hidden=[8]",
    "--set",
    "decoder.hidden=[8]",
    "--set",
    "model.latent_size=2",
    "--device",
    "cpu",
)


def one_line(result: Result) -> str:
    """What a command says that refuses: one line, perhaps after that of a training that had begun."""
    assert result.status == 2, result
    *begun, error = result.err.splitlines(keepends=True)
    assert error.startswith("vae: error: ") and error.endswith("\n"), result.err
    assert not begun or (len(begun) == 1 and " weights, " in begun[0]), result.err
    return error


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with x.npy, and runs/a, which was trained on it and evaluated."""
    folder = tmp_path_factory.mktemp("place")
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (200, 8, 8), "u1"))
    for arguments in (
        ("train", "--data", "x.npy", "--epochs", "1", *SMALL, "--name", "a"),
        ("evaluate", "--samples", "2"),
    ):
        subprocess.run([sys.executable, "-m", "vaekit", *arguments], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    shutil.copytree(place, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"
