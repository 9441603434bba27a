"""Seconds to a likelihood: the test of the mean, the rules, and one entry by the command."""

import json
import math
from pathlib import Path

import pytest

from conftest import SMALL, one_line
from vaekit import config
from vaekit.errors import ConfigError
from vaekit.evaluation.several_runs import speedrun
from vaekit.evaluation.several_runs.speedrun import TRACKS, p_value
from vaekit.store import Run


def test_the_p_value_is_that_of_student() -> None:
    t = math.sqrt(3) / 1.0
    two_degrees = 0.5 - t / (2 * math.sqrt(2 + t * t))  # the distribution of two degrees of freedom in closed form
    assert p_value([0.0, 1.0, 2.0], 2.0) == pytest.approx(two_degrees, abs=1e-6)
    assert p_value([0.0, 1.0, 2.0], 0.0) == pytest.approx(1 - two_degrees, abs=1e-6)
    one_degree = math.atan2(1, 3) / math.pi  # of Cauchy, at t = 3
    assert p_value([0.0, 2.0], 4.0) == pytest.approx(one_degree, abs=1e-6)
    assert p_value([99.0] * 3, 100.0) == 0
    assert p_value([101.0] * 3, 100.0) == 1


def test_the_command_lists_tracks_and_names_the_nearest(command) -> None:
    result = command("speedrun")
    assert result.status == 0
    assert all(name in result.out for name in TRACKS)
    assert "grey-100" in one_line(command("speedrun", "gray-100"))
    assert command("speedrun", "grey-100", "--seeds", "2").status == 2


def test_an_entry_learns_from_mnist_as_the_track_says(here: Path) -> None:
    with pytest.raises(ConfigError, match="55,000 images of mnist"):
        speedrun._check_rules(TRACKS["grey-100"], Run.open("a"))


def test_the_rules_and_the_record_are_checked_before_the_first_training(
    here: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaekit.cli.speedrun._timed", lambda *_: pytest.fail("a training began"))
    for track in TRACKS.values():
        speedrun.check_config(track, config.read(track.preset, settings=track.settings))
    (here / "file").touch()
    for words, message in (
        (("grey-100", "--set", "data.binarize=per-epoch"), "need data.binarize = 'none', got 'per-epoch'"),
        (("binary-90", "--preset", "vae"), "need data.binarize = 'per-epoch', got 'none'"),
        (("binary-90", "--preset", "cvae", "--set", "data.binarize=per-epoch"), "choose an unconditional preset"),
        (("grey-94", "--set", "data.validation=100"), "this one from 59,900 of mnist"),
        (("grey-94", "--set", "train.epohcs=1"), "did you mean 'train.epochs'"),
        (("grey-94", "-o", "no/entry.json"), "cannot write no/entry.json"),
        (("grey-94", "-o", "file/entry.json"), "cannot write file/entry.json"),
    ):
        assert message in one_line(command("speedrun", *words))
    assert sorted(path.name for path in here.glob("*entry*")) == []


@pytest.mark.slow
def test_an_entry_that_is_too_hasty_is_recorded_as_not_passed(command, tmp_path: Path) -> None:
    few = ("--set", "data.validation=59000", "--set", "train.epochs=1", *SMALL[:-2])
    record = tmp_path / "entry.json"
    result = command("speedrun", "grey-100", "--preset", "course-vae", *few, "--runs", tmp_path, "-o", record)
    assert result.status == 0, result.err
    assert "not passed" in result.out
    entry = json.loads(record.read_text())
    assert not entry["passed"]
    assert [one["seed"] for one in entry["seeds"]] == [0, 1, 2]
    for one in entry["seeds"]:
        run = Run.open(one["run"], root=tmp_path)
        assert one["score"] == run.read_json("test.json")["neg_elbo"]
        assert one["seconds"] > run.metrics()[0]["seconds"]
