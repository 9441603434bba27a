"""Generated tries of the command: whatever a stranger made, it succeeds or says one line. See `generators`."""

import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import generators

SEEDS = st.integers(0, 2**32)
FEW = settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=400)


@pytest.fixture(scope="module")
def runs(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two runs, as the working directory."""
    before, arguments = Path.cwd(), sys.argv
    folder = generators.doubled(shutil.copytree(place, tmp_path_factory.mktemp("generated") / "here"))
    os.chdir(folder)
    yield folder
    os.chdir(before)
    sys.argv = arguments


@pytest.mark.parametrize("kind", generators.KINDS)
def test_a_few(runs: Path, kind: str) -> None:
    @FEW
    @given(SEEDS)
    def check(seed: int) -> None:
        generators.KINDS[kind](runs, random.Random(seed))

    check()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", generators.KINDS)
def test_many(runs: Path, kind: str) -> None:
    @MANY
    @given(SEEDS)
    def check(seed: int) -> None:
        generators.KINDS[kind](runs, random.Random(seed))

    check()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_interrupted_series_end_with_the_weights_of_an_uninterrupted_one(runs: Path) -> None:
    begun = time.monotonic()
    whole = generators.outcome(runs, runs / "whole")
    seconds = time.monotonic() - begun
    assert len(whole) == 2 and whole["s-seed0"]["tensors"] != whole["s-seed1"]["tensors"]
    for seed in range(3):
        generators.interrupted_series(runs, random.Random(seed), whole, seconds)


def test_a_traceback_or_a_wrong_status_would_be_seen(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise KeyError("what no user should see")

    monkeypatch.setattr(generators.cli, "main", fails)
    with pytest.raises(KeyError):
        generators.command("info", "b")
    monkeypatch.setattr(generators.cli, "main", lambda: sys.exit(1))
    with pytest.raises(AssertionError):
        generators.command("info", "b")


def test_memory_of_one_command_would_be_seen(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def takes() -> None:
        assert b"x" * (
            400 << 20
        )  # far more than malloc keeps for itself, or another test's garbage gives back meanwhile
        sys.exit(0)

    monkeypatch.setattr(generators.cli, "main", takes)
    monkeypatch.setattr(generators, "MEMORY", 40 << 20)
    with pytest.raises(AssertionError, match="memory"):
        generators.command("info", "b")
