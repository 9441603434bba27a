"""Numbers and sizes from outside are bounded before memory or time is taken; what is large is said."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import tiny
from test_data_kinds import TINY, photos
from vaekit import build, config
from vaekit.cli.command import app
from vaekit.config.recipe import Recipe
from vaekit.data import Batch, load
from vaekit.errors import ConfigError, DataError, RunError
from vaekit.evaluation import evaluate
from vaekit.evaluation.likelihood.bounds import bounds, up_to
from vaekit.model import LatentVariableModel
from vaekit.objectives import Loss, Terms, elbo
from vaekit.runs import job, lifecycle, preflight
from vaekit.runs.series import train_replicates
from vaekit.store import Run
from vaekit.store.bounded import TOML_LIMIT, TomlTable, check_config_table, toml_table


@pytest.mark.parametrize("prior", ["vamp", "mixture", "full-covariance-mixture"])
def test_components_are_bounded(prior: str) -> None:
    with pytest.raises(ConfigError, match=r"^components must be at most 65536, got 1000000"):
        build("vae", event_shape=(1, 8, 8), prior={"name": prior, "components": 1_000_000})


def test_seeds_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seeds must be at most 10000, got 2000000"):
        train_replicates(config.read("vae"), 2_000_000, name="s", root=tmp_path)
    found = CliRunner().invoke(app, ["train", "--seeds", "2000000"])
    assert found.exit_code == 2
    assert not list(tmp_path.iterdir())


class LogsRows(Loss):
    """A loss that logs a value under a name that is taken."""

    def __call__(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        loss = -elbo(model.draw(batch.x))
        return Terms(loss, {"rows": loss})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"schedule": {"name": "plateau"}}, "the schedule plateau .* pass validation data"),
        ({"optimizer": "schedule-free-adamw", "train": {"ema": 0.9}}, "ema averages the weights, which this optimizer"),
        ({"objective": f"{__name__}:LogsRows"}, "the name 'rows' of a logged value is taken"),
    ],
)
def test_a_training_that_would_not_begin_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], message: str
) -> None:
    data = replace(tiny.dataset(), validation=tiny.dataset().validation.rows(slice(0)))
    monkeypatch.setattr(job, "load_data", lambda **_: data)
    sections["train"] = {"device": "cpu", "epochs": 1, **sections.get("train", {})}
    recipe = Recipe.resolve(config.read("standard-vae", sections=sections), trust=True)
    with pytest.raises(ConfigError, match=message):
        lifecycle.train_run(recipe, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_samples_are_bounded() -> None:
    model = build("standard-vae", event_shape=(1, 8, 8))
    for use in (
        lambda: up_to(10**30),
        lambda: bounds(model, torch.rand(3, 1, 8, 8), samples=(10**30,)),
        lambda: evaluate(model, tiny.dataset(), samples=10**30),
    ):
        with pytest.raises(ConfigError, match="samples must be at most 1048576, got 10000000000000"):
            use()
    for verb in ("evaluate", "score"):
        assert CliRunner().invoke(app, [verb, "nothing", "--samples", "1" + 30 * "0"]).exit_code in (1, 2)


def test_one_great_label_makes_one_class(tmp_path: Path) -> None:
    labels = np.zeros(200, int)
    labels[0] = 65535
    np.savez(tmp_path / "y.npz", images=np.zeros((200, 8, 8), np.uint8), labels=labels)
    assert load(tmp_path / "y.npz").classes == ("0", "65535")


def test_a_model_that_memory_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "memory_of", lambda device: 1 << 20)
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    wide: dict[str, Any] = {"encoder": {"hidden": [4000]}, "decoder": {"hidden": [4000]}}
    settings = config.read("standard-vae", sections=wide)
    with pytest.raises(
        ConfigError, match=r"numbers, which takes 0 GiB to train, but this machine has 0; try data.size"
    ):
        job.Job.prepare(Recipe.resolve(settings))


@pytest.mark.parametrize(
    ("machine", "card", "message"),
    [(1 << 20, 1 << 40, "this machine has 0"), (1 << 40, 16 << 20, "cuda:1 has 0"), (4 << 20, 24 << 20, None)],
)
def test_copies_of_a_model_count_where_it_is_trained(
    monkeypatch: pytest.MonkeyPatch, machine: int, card: int, message: str | None
) -> None:
    wide: dict[str, Any] = {"encoder": {"hidden": [4000]}, "decoder": {"hidden": [4000]}}  # 2.8 MB, and 22 MB to train
    recipe = Recipe.resolve(config.read("standard-vae", sections=wide))
    monkeypatch.setattr(preflight, "memory_of", lambda device: machine if device.type == "cpu" else card)
    check = partial(preflight.check_fits_in_memory, recipe, tiny.dataset(), torch.device("cuda:1"))
    if message is None:
        check()
        return
    with pytest.raises(ConfigError, match=message):
        check()


def test_a_model_that_is_huge_for_its_data_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "LARGE", 1000)
    photos(tmp_path / "p", 6)
    settings = config.read("standard-vae", sections=TINY | {"data": {"name": str(tmp_path / "p")}})
    with pytest.warns(
        UserWarning,
        match=r"rows of shape \(3, 8, 8\) the model has .* million weights, but the 5 training rows have only",
    ):
        job.Job.prepare(Recipe.resolve(settings))


class Killed(BaseException):
    pass


def test_a_picture_that_a_kill_prevented_is_drawn_at_the_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    draw = "vaekit.runs.pictures._draw_epoch"
    settings = tiny.tiny(epochs=3, checkpoint_every=1e-9)
    lifecycle.train_run(settings, name="whole", root=tmp_path)

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(draw, die)
        lifecycle.train_run(settings, name="part", root=tmp_path)
    run = Run.open("part", root=tmp_path)
    assert not (run.path / "samples" / "epoch-001.png").exists()
    lifecycle.resume_run(run)
    for number in (1, 2, 3):
        name = f"samples/epoch-{number:03d}.png"
        assert (run.path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_recipe_is_bounded_before_anything_is_made() -> None:
    with pytest.raises((ConfigError, DataError)):
        Recipe.resolve(config.read("vae", sections={"objective": {"samples": 10**30}}))


def test_a_config_holds_thousands_of_units_and_a_longer_one_is_named_before_it_is_written(tmp_path: Path) -> None:
    units = {"likelihood": {"centre": [1.234] * 5000, "unit": [9.876] * 5000}}
    run = Run.create("many", preset="signal-vae", config=str(TomlTable(units)), environment={}, root=tmp_path)
    assert run.config == units
    many = "centre = [" + "1.5, " * (TOML_LIMIT // 5) + "]"
    with pytest.raises(RunError, match=r"^the config of this run would have 1,0.* more than the 1,048,576 .*; give"):
        Run.create("more", preset="signal-vae", config=many, environment={}, root=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["many"]


@pytest.mark.parametrize(
    "start",
    ["", "[", "a = {b = '''t'''', ", 'x = {b = """t"""", ', 'x = {b = "\\"", ', "# '''\n", "'\n"],
)
@pytest.mark.parametrize("step", ["a.", "a \t. ", '"a".', "'a.'."])
def test_a_long_dotted_key_costs_no_time(start: str, step: str) -> None:
    """tomllib takes 45 minutes for a key of this length."""
    with pytest.raises(ValueError, match="nested more than 16 deep"):
        toml_table(start + step * ((TOML_LIMIT - 40) // len(step)) + "a = 1")
    plain = toml_table(f"{'.'.join('a' * 14)} = '''{step * 50}c'''  # {'a.' * 50}\nb = [1.5, 2.5]")
    assert plain["b"] == [1.5, 2.5]


def test_a_key_is_short() -> None:
    with pytest.raises(ValueError, match="a key is longer than 1000 letters: data"):
        check_config_table({"data": {"columns": {"A" * 1000: "real"}}})
