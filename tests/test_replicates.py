"""A series of seeds: the same runs as one by one, finished however often it was interrupted, and never mixed with others."""

import json
import statistics
from pathlib import Path

import pytest

import tiny
from conftest import Result
from test_cli import assert_refused
from vaekit import config, data, evaluate
from vaekit.cli.common import two_decimals
from vaekit.config.recipe import Recipe
from vaekit.errors import ConfigError, RunError
from vaekit.evaluation import Options
from vaekit.evaluation.samples import classifier as eyes
from vaekit.runs import job, lifecycle, series
from vaekit.store import Run
from vaekit.training import Interrupted

WEIGHTS = "checkpoints/last/model.safetensors"


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    monkeypatch.setattr(data, "load", lambda name, **_: tiny.dataset(name))


@pytest.fixture
def command(command, tmp_path: Path):
    file = tmp_path / "small.toml"
    file.write_text(tiny.tiny().to_toml())

    def run(*arguments: object) -> Result:
        options = ["--config", str(file)] if arguments[0] == "train" else []
        return command(*arguments, *options, "--runs", tmp_path / "runs")

    return run


def interrupting(monkeypatch, after: int):
    """Stop within the training of the replicate number `after`, at its second epoch."""
    train, calls = job.train_epochs, []

    def stopping(*arguments, listener, **options):
        class Stop(type(listener)):
            def __init__(self) -> None:
                self.listeners = listener.listeners

            def epoch(self, record) -> None:
                super().epoch(record)
                raise Interrupted("stopped at epoch 2, step 8")

        calls.append(0)
        return train(*arguments, listener=Stop() if len(calls) == after + 1 else listener, **options)

    monkeypatch.setattr(job, "train_epochs", stopping)


def test_a_series_is_the_same_runs_as_one_by_one(tmp_path: Path) -> None:
    told = []

    def announce(*facts):
        told.append(facts)
        return series.nullcontext()

    found = series.train_replicates(Recipe.resolve(tiny.tiny(seed=3)), 2, name="s", root=tmp_path, announce=announce)
    assert told == [(0, 3, "s-seed3"), (1, 4, "s-seed4")]
    assert [run.name for run in found] == ["s-seed3", "s-seed4"]
    alone = lifecycle.train_run(tiny.tiny(seed=4), name="alone", root=tmp_path)
    assert tiny.outcome(found[1]) == tiny.outcome(alone)
    assert found[0].sha256(WEIGHTS) != found[1].sha256(WEIGHTS)


def test_an_interrupted_series_comes_to_the_same_weights_and_trains_nothing_twice(tmp_path: Path, monkeypatch) -> None:
    whole = series.train_replicates(Recipe.resolve(tiny.tiny()), 3, name="whole", root=tmp_path)
    with monkeypatch.context() as patch:
        interrupting(patch, after=1)
        with pytest.raises(Interrupted):
            series.train_replicates(Recipe.resolve(tiny.tiny()), 3, name="s", root=tmp_path)
    assert Run.open("s-seed1", root=tmp_path).status == "interrupted"
    assert not (tmp_path / "s-seed2").exists()
    told = []

    def announce(i, seed, name):
        told.append(i)
        return series.nullcontext()

    again = series.train_replicates(Recipe.resolve(tiny.tiny()), 3, name="s", root=tmp_path, announce=announce)
    assert told == [1, 2]
    assert [tiny.outcome(run) for run in again] == [tiny.outcome(run) for run in whole]
    more = series.train_replicates(Recipe.resolve(tiny.tiny()), 4, name="s", root=tmp_path, announce=announce)
    assert (told, len(more)) == ([1, 2, 3], 4)


def test_a_series_takes_auto_for_what_auto_became_only(tmp_path: Path) -> None:
    series.train_replicates(Recipe.resolve(tiny.tiny(precision="fp32")), 1, name="s", root=tmp_path)
    with pytest.raises(RunError, match=r"another config \(train.precision 'fp32' → 'auto'\)"):
        series.train_replicates(Recipe.resolve(tiny.tiny()), 2, name="s", root=tmp_path)
    series.train_replicates(Recipe.resolve(tiny.tiny()), 1, name="t", root=tmp_path)
    assert "train.precision" in Run.open("t-seed0", root=tmp_path).environment["auto"]
    assert len(series.train_replicates(Recipe.resolve(tiny.tiny()), 2, name="t", root=tmp_path)) == 2


def test_a_run_is_not_evaluated_on_grey_pixels_if_it_learned_binary_ones(tmp_path: Path) -> None:
    (run,) = series.train_replicates(Recipe.resolve(tiny.tiny()), 1, name="s", root=tmp_path)
    for options in ({"binarize": "none"}, {"options": Options(binarize="none")}):
        with pytest.raises(ConfigError, match=r"binarize = 'none', but run s-seed0 was trained with .*'per-epoch'"):
            evaluate(run, **options)


def test_a_series_never_takes_runs_of_another_config(tmp_path: Path) -> None:
    series.train_replicates(Recipe.resolve(tiny.tiny(seed=1)), 1, name="s", root=tmp_path)
    with pytest.raises(RunError, match=r"s-seed1 has another config \(train.epochs \d+ → 5\).*another name"):
        series.train_replicates(Recipe.resolve(tiny.tiny(epochs=5)), 2, name="s", root=tmp_path)
    assert not (tmp_path / "s-seed0").exists()
    with pytest.raises(ConfigError, match="seeds must be at least 1, got 0"):
        series.train_replicates(Recipe.resolve(tiny.tiny()), 0, name="s", root=tmp_path)


def test_the_command_prints_each_and_the_spread(command, tmp_path: Path, monkeypatch) -> None:
    found = command("train", "--seeds", 2, "--seed", 5, "--name", "s", "--set", "train.epochs=1")
    assert found.status == 0, found.err
    assert "replicate 1 of 2: seed 5, run s-seed5" in found.err
    assert "replicate 2 of 2: seed 6, run s-seed6" in found.err
    again = command("train", "--seeds", 2, "--seed", 5, "--name", "s", "--set", "train.epochs=1", "--json")
    tree = json.loads(again.out)
    assert again.err == ""
    assert [Path(run).name for run in tree["runs"]] == ["s-seed5", "s-seed6"]
    scores = [json.loads((Path(run) / "test.json").read_text())["neg_elbo"] for run in tree["runs"]]
    assert tree["test"]["neg_elbo"] == {"mean": statistics.mean(scores), "sd": statistics.stdev(scores), "n": 2}
    mean, sd = statistics.mean(scores), statistics.stdev(scores)
    assert found.out.splitlines()[-2] == f"mean        {mean:.2f} ± {sd:.2f} (sd over 2 seeds)"
    monkeypatch.setattr(eyes, "cache_folder", lambda: None)
    monkeypatch.setattr(eyes, "EPOCHS", 1)
    for name in ("s-seed5", "s-seed6"):
        assert command("evaluate", name, "--samples", 2, "--device", "cpu").status == 0
    assert "| small | 2 |" in command("compare", "--group", "small", "--format", "markdown").out


@pytest.mark.parametrize("name", [None, "s"])
def test_an_interrupted_command_says_what_to_type(command, tmp_path: Path, monkeypatch, name: str | None) -> None:
    options = ["train", "--seeds", 2, *(["--name", name] if name else [])]
    with monkeypatch.context() as patch:
        interrupting(patch, after=1)
        found = command(*options)
    assert found.status == 130
    said = found.err.splitlines()[-1]
    assert said.startswith("vae: stopped at epoch 2, step 8; `vae train --seeds 2 ")
    assert said.endswith("continues the series")
    assert "vae resume" not in found.err
    typed = said.split("`")[1].split()
    series = typed[typed.index("--name") + 1]
    again = command(*options[:3], "--name", series)
    assert again.status == 0, again.err
    assert "replicate 2 of 2" in again.err and "replicate 1 of 2" not in again.err
    assert len(list((tmp_path / "runs").glob("*-seed?"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", 0), "Invalid value for '--seeds'"),
        (("--seeds", 2, "--name", "a/b"), "a/b-seed0"),
    ],
)
def test_mistakes_are_one_line(command, arguments: tuple[object, ...], message: str) -> None:
    assert_refused(command("train", *arguments), message)


def test_what_is_a_command_of_its_own_says_so(command) -> None:
    assert_refused(command("train", "--resume", "x"), "--resume is a command of its own: `vae resume RUN`")
    assert_refused(command("train", "vae", "--profile"), "--profile is a command of its own: `vae profile PRESET`")


def test_flat_names_every_key() -> None:
    tree = config.read("standard-vae").model_dump()
    assert config.flat(tree)["train.seed"] == tree["train"]["seed"]


def test_a_figure_that_was_not_finite_is_a_dash() -> None:
    assert series.mean_and_sd([1.0, None]) == {"mean": None, "sd": None, "n": 2}
    assert two_decimals(None) == "—" and two_decimals(1.005e2) == "100.50"
