"""One thread for each process, and the command line in this process.

Tests are small, run side by side, and compare weights bit for bit across processes.
"""

import os
import sys
from typing import NamedTuple

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
