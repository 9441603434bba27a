"""Seeds side by side: real processes, and whatever is killed or stopped, the very weights of single runs."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from vaekit import config
from vaekit.config import Config
from vaekit.config.recipe import Recipe
from vaekit.errors import ConfigError, NumericalError, RunError
from vaekit.runs import environment, lifecycle, replicate, series, side_by_side
from vaekit.store import Run, list_runs

SEEDS = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny images in a file, a config, and single runs with the seeds 0 and 1 on one thread."""
    folder = tmp_path_factory.mktemp("place")
    every = [tiny.dataset().train, tiny.dataset().validation, tiny.dataset().test]
    images = np.concatenate([split.x.numpy() for split in every])
    np.savez(folder / "stripes.npz", images=images.reshape(-1, 8, 8), labels=np.arange(len(images)) % 3)
    (folder / "small.toml").write_text(small(folder).to_toml())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for seed in range(SEEDS):
        lifecycle.train_run(small(folder, seed=seed), name=f"single{seed}", root=folder)
    torch.set_num_threads(before)
    return folder


def small(folder: Path, **train: object) -> Config:
    """The tiny config on images by path, trained for long enough to be killed."""
    data = {"name": str(folder / "stripes.npz"), "validation": 16, "test": 16, "binarize": "per-epoch"}
    settings = {"epochs": 60, "checkpoint_every": 0.02, "patience": None, **train}
    sections = tiny.SECTIONS | {"data": data, "train": tiny.SECTIONS["train"] | settings}
    return config.read("standard-vae", sections=sections)


def begin(place: Path, root: Path, *more: str, jobs: int = 2) -> "subprocess.Popen[str]":
    arguments = ["train", "--config", str(place / "small.toml"), "--name", "s", "--runs", str(root)]
    arguments += ["--seeds", str(SEEDS), "--jobs", str(jobs), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "vaekit", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def both_train(root: Path) -> bool:
    """Whether the first two replicates have finished an epoch."""
    logs = [root / f"s-seed{seed}" / "metrics.jsonl" for seed in (0, 1)]
    return all(log.is_file() and log.read_bytes().count(b"\n") for log in logs)


def children(process: "subprocess.Popen[str]") -> list[int]:
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def kill_a_child(process: "subprocess.Popen[str]") -> None:
    os.kill(children(process)[0], signal.SIGKILL)


def finish(place: Path, root: Path) -> None:
    """Run the same command to its end: the replicates are the single runs, bit for bit, and nothing is left over."""
    process = begin(place, root)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    for seed in range(SEEDS):
        run = Run.open(f"s-seed{seed}", root=root)
        assert tiny.outcome(run) == tiny.outcome(Run.open(f"single{seed}", root=place))
        assert run.environment["threads"] == 1
        assert not tiny.litter(run.path)
    assert re.fullmatch(r"mean +[\d.]+ ± [\d.]+ \(sd over 2 seeds\)", out.splitlines()[-2])
    assert re.search(r"^seed [01]  epoch +60/60  −ELBO", err, re.MULTILINE)


Stop = Callable[["subprocess.Popen[str]"], None]
KILLS: dict[str, tuple[Stop, int, str]] = {
    "a child is killed": (kill_a_child, 2, r"the process that trained s-seed\d was killed by signal 9"),
    "the parent is killed": (lambda process: process.kill(), -9, ""),
}
STOPS = KILLS | {
    "Ctrl-C": (lambda process: process.send_signal(signal.SIGINT), 130, r"`vae train .*` continues the series"),
}


def interrupt(place: Path, root: Path, way: str, when: Callable[[], Any]) -> None:
    """Begin the series or continue it, stop it at a moment, and wait until no process of it is left."""
    stop, status, message = STOPS[way]
    process = begin(place, root)
    until(when)
    pids = until(lambda: children(process) if len(children(process)) == 2 else [])
    stop(process)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert re.search(message, err) and "Traceback" not in err
    until(lambda: not any(map(is_alive, pids)))
    assert {run.status for run in list_runs(root)} <= {"interrupted"}


@pytest.mark.slow
def test_side_by_side_killed_and_started_again_they_are_the_single_runs(place: Path, tmp_path: Path) -> None:
    interrupt(place, tmp_path, "a child is killed", lambda: both_train(tmp_path))
    interrupt(place, tmp_path, "the parent is killed", lambda: True)
    finish(place, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_however_often_they_are_stopped_they_are_the_single_runs(place: Path, tmp_path: Path, seed: int) -> None:
    pick = random.Random(seed)
    interrupt(place, tmp_path, pick.choice(list(STOPS)), lambda: both_train(tmp_path))
    for _ in range(2):
        interrupt(place, tmp_path, "the parent is killed", lambda: time.sleep(2 * pick.random()) or True)
    finish(place, tmp_path)


def test_ctrl_c_stops_all_at_whole_steps(place: Path, tmp_path: Path) -> None:
    interrupt(place, tmp_path, "Ctrl-C", lambda: both_train(tmp_path))
    for run in list_runs(tmp_path):
        assert run.read_json("status.json")["message"].startswith("stopped at epoch ")


def test_an_error_of_one_is_the_error_of_the_series(place: Path, tmp_path: Path) -> None:
    told: list[int] = []

    def announce(number: int, *_: object) -> Any:
        told.append(number)
        return series.nullcontext()

    explosive = small(place, learning_rate=1e30, epochs=3)
    with pytest.raises(NumericalError, match=r"s-seed\d: "):
        series.train_replicates(Recipe.resolve(explosive), 4, name="s", root=tmp_path, jobs=2, announce=announce)
    assert told == [0, 1]
    with pytest.raises(ConfigError, match="jobs must be at least 1, got 0"):
        series.train_replicates(Recipe.resolve(explosive), 2, name="t", root=tmp_path, jobs=0)


def test_an_announcement_ends_if_the_process_cannot_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    @contextmanager
    def announce(*_: object) -> Iterator[None]:
        told.append("begins")
        try:
            yield
        finally:
            told.append("ends")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("too many processes")

    monkeypatch.setattr(side_by_side.subprocess, "Popen", refuse)
    one = replicate.Replicate(0, Recipe.resolve(tiny.tiny()), "s-seed0", "custom", tmp_path, False)
    with pytest.raises(OSError, match="too many processes") as raised:
        side_by_side.train_side_by_side([one], jobs=1, threads=1, announce=announce)
    assert told == ["begins", "ends"] and raised.tb  # which kept the frames, and what they had opened


def test_own_parts_reach_the_processes_if_they_are_trusted(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from vaekit.priors import StandardNormal\nclass Mine(StandardNormal):\n    pass\n"
    )
    command = ["train", "--config", str(place / "small.toml"), "--name", "s", "--seeds", "2", "--jobs", "2"]
    command += ["--set", "prior.name=mine:Mine", "--epochs", "1", "--json"]
    options: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True, "check": False}
    options["env"] = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    python = [sys.executable, "-P", "-c", "from vaekit.cli import main; main()"]
    refused = subprocess.run([*python, *command], **options)
    assert refused.returncode == 2 and "(--trust)" in refused.stderr
    allowed = subprocess.run([*python, *command, "--trust"], **options)
    assert allowed.returncode == 0, allowed.stderr
    assert json.loads(allowed.stdout)["test"]["neg_elbo"]["n"] == 2


def test_a_run_continues_with_the_threads_it_began_with(place: Path, tmp_path: Path) -> None:
    run = Run.open("single0", root=place)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with environment.computing_as(run):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with environment.computing_as(run, ranks=2):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_run_that_another_process_trains_is_waited_for_and_then_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = small(place, epochs=1)
    run = lifecycle.train_run(given, name="s-seed0", root=tmp_path)
    monkeypatch.setattr(replicate, "STOP_SECONDS", 0.1)
    with run.lock(), pytest.raises(RunError, match="in use by"):
        replicate.Replicate(0, Recipe.resolve(given), "s-seed0", "custom", tmp_path, False).train(None)


def test_a_process_whose_parent_dies_while_it_starts_ends_without_a_word(place: Path, tmp_path: Path) -> None:
    """Wherever it is: its libraries, while they are imported, turn interrupts into other exceptions."""
    recipe = Recipe.resolve(small(place))
    task = replicate.Replicate(0, recipe, "s-seed0", "custom", tmp_path, False).task(1)
    command = [sys.executable, "-P", "-m", "vaekit.runs.replicate"]
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": False, "timeout": 60}
    options["env"] = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, input=json.dumps(task) + "\n", **options)
    assert (ended.returncode, ended.stderr) == (replicate.STOPPED, "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_of_the_start_makes_no_traceback(place: Path, tmp_path: Path, number: int) -> None:
    for moment in (0.03 * step for step in range(5, 90, 4)):
        process = begin(place, tmp_path, "--epochs", "1")
        time.sleep(moment)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        assert "Traceback" not in err, (moment, err)
        assert process.returncode in (0, 130, -number), (moment, err)
