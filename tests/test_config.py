"""Configs: every key is known or the nearest is named, presets are complete, and TOML goes out and comes back."""

import os
from pathlib import Path

import pytest
import torch

from vaekit import config
from vaekit.cli.config_options import ConfigOptions
from vaekit.config import Config, Data, Train, changed, parse, preset_names, read, recipe
from vaekit.config.building import build
from vaekit.errors import ConfigError


def test_defaults_are_the_course_recipe() -> None:
    assert read("course-vae") == Config()


def test_toml_round_trip() -> None:
    import tomllib

    found = recipe.Recipe.resolve(read("standard-vae")).config
    assert parse(tomllib.loads(found.to_toml())) == found


def test_a_completed_config_names_every_option() -> None:
    assert recipe.Recipe.resolve(Config()).config.encoder.options["hidden"] == [400, 400, 400]
    assert recipe.Recipe.resolve(Config()).config.objective.options == {"kl": "auto", "gradient": "plain"}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_complete_and_documented(name: str) -> None:
    recipe.Recipe.resolve(read(name))
    header = config.preset_header(name)
    assert header["about"].endswith((".", ")")) and "paper" in header


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["trian.epochs=3"], "unknown key 'trian'; did you mean 'train'?"),
        (["train.epoch=3"], "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        (["train.epochs=0"], "train.epochs: input should be greater than or equal to 1, got 0"),
        (["train.epochs=100001"], "less than or equal to 100000, got 100001"),
        (["train.epochs=-1"], "greater than or equal to 1, got -1"),
        (["train.epochs=many"], "train.epochs: input should be a valid integer.*got 'many'"),
        (["train.learning_rate=0"], "train.learning_rate: input should be greater than 0, got 0"),
        (["train.learning_rate=nan"], "train.learning_rate"),
        (["train.learning_rate=inf"], "train.learning_rate"),
        (["data.binarize=sometimes"], "data.binarize"),
        (["model.latent_size=0"], "model.latent_size"),
        (["epochs=3"], "section.key=value, got 'epochs=3'"),
        (["train.epochs"], "section.key=value, got 'train.epochs'"),
        (["=3"], "section.key=value"),
        (["objective.samples=0"], "objective.samples"),
    ],
)
def test_what_does_not_fit_is_named(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read("standard-vae", settings=settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["prior.name=standard-norml"], "unknown prior 'standard-norml'; did you mean 'standard-normal'"),
        (["prior.components=3"], "prior 'standard-normal' has no options, got 'components'"),
        (["objective.name=iwae", "objective.gradent=dreg"], "did you mean 'gradient'"),
        (["objective.name=iwae", "objective.gradient=best"], "objective.gradient"),
        (["encoder.hidden=-1"], "encoder.hidden"),
        (["prior.name=os:system"], "allow it with trust=True"),
        (["optimizer.name=adan"], "did you mean 'adam'"),
        (["objective.name=beta", 'objective.beta={schedule="lineer"}'], "did you mean 'linear'"),
        (["objective.name=beta", 'objective.beta={schedule="linear", epoch=3}'], "epoch"),
    ],
)
def test_parts_that_do_not_fit_are_named(settings: list[str], message: str) -> None:
    found = read("standard-vae", settings=settings)
    with pytest.raises(ConfigError, match=message):
        recipe.Recipe.resolve(found)


def test_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'cave'; did you mean 'cvae'"):
        read("cave")


def test_preset_and_file_exclude_each_other(tmp_path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[train]\nepochs = 3\n")
    assert read(file=file).train.epochs == 3
    with pytest.raises(ConfigError, match="exclude each other"):
        read("standard-vae", file)


@pytest.mark.parametrize("content", [b"\xff", b"[train", b"a = [" + b"[" * 3000])
def test_a_damaged_file_is_named(tmp_path, content: bytes) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"own\.toml cannot be read"):
        read(file=file)
    with pytest.raises(ConfigError, match="does not exist"):
        read(file=tmp_path / "none.toml")


def test_another_part_loses_the_options_of_the_old_one() -> None:
    found = read("standard-vae", settings=["schedule.name=one-cycle", "schedule.warm_up=0.5", "schedule.name=constant"])
    assert found.schedule.name == "constant"
    other = read("standard-vae", settings=["schedule.name=decay"])
    assert other.schedule.options == {}
    kept = read("standard-vae", settings=["schedule.warm_up=0.5"])
    assert (kept.schedule.name, kept.schedule.options["warm_up"]) == ("one-cycle", 0.5)


def test_another_name_of_the_data_or_the_model_keeps_their_other_options(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[data]\nname = "mnist"\nbinarize = "per-epoch"\nvalidation = 1000\n[model]\nlatent_size = 30\n')
    found = read(file=file, sections={"data": "fashion-mnist", "model": {"name": "my:Model"}})
    assert (found.data.name, found.data.binarize, found.data.validation) == ("fashion-mnist", "per-epoch", 1000)
    assert (found.model.name, found.model.latent_size) == ("my:Model", 30)
    by_text = ConfigOptions(None, file, (), "fashion-mnist", *[None] * 5, deterministic=False).config()
    assert by_text.data == found.data


def test_options_that_describe_other_data_are_dropped_by_name(tmp_path: Path) -> None:
    table = {"name": "a.csv", "columns": {"name": "count", "age": "real"}, "test": "b.csv", "binarize": "fixed"}
    config = parse({"data": table})
    with pytest.warns(UserWarning, match=r"data\.test, data\.columns: meant for 'a\.csv' and dropped for 'mnist'; "):
        assert changed(config, {"data": "mnist"}).data == Data(name="mnist", binarize="fixed")
    for same in (
        {"data": "a.csv"},
        {"data": os.path.abspath("a.csv")},
        {"data": {"validation": 3}},
        {"train": {"epochs": 3}},
    ):
        assert changed(config, same).data.columns == table["columns"]
    renamed = changed(config, {"data": {"columns": {"name": "ignore"}}})  # a column that is called "name"
    assert renamed.data.columns == {"name": "ignore", "age": "real"}


def test_a_change_in_python_can_switch_an_option_off() -> None:
    config = parse({"train": {"patience": 3, "clip_norm": 1.0}})
    assert changed(config, {"train": {"patience": None}}).train == Train(clip_norm=1.0)
    with pytest.raises(ConfigError, match=r"train\.device: input should be a valid string, got device\(type='cpu'\)"):
        changed(config, {"train": {"device": torch.device("cpu")}})


def test_a_table_without_a_name_keeps_the_default_part() -> None:
    assert parse({"encoder": {"hidden": [10]}}).encoder.name == "mlp"
    assert parse({"objective": {"samples": 3}}).objective.name == "elbo"


def test_same_seed_same_weights_as_the_assignment() -> None:
    from vaekit import CVAE, VAE

    for preset, make in (("course-vae", VAE), ("course-cvae", CVAE)):
        torch.manual_seed(3)
        ours = build(preset)
        torch.manual_seed(3)
        theirs = make(784)
        pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
        assert all(torch.equal(a, b) for a, b in pairs)
        assert sum(a.numel() for a, _ in pairs) == {"course-vae": 1_288_414, "course-cvae": 1_296_414}[preset]


@pytest.mark.parametrize(
    ("preset", "count"),
    [("vae", 1_288_414), ("cvae", 1_296_414), ("standard-vae", 1_288_414), ("standard-cvae", 1_296_414)],
)
def test_our_recipes_keep_the_assignment_s_architecture(preset: str, count: int) -> None:
    model = build(preset)
    of_networks = [p for name, p in model.named_parameters() if not name.startswith("parts.prior.")]
    assert sum(p.numel() for p in of_networks) == count
    assert [tuple(p.shape) for p in of_networks] == [
        tuple(p.shape) for p in build(f"course-{preset.removeprefix('standard-')}").parameters()
    ]


def test_an_own_part_by_import_path(monkeypatch, tmp_path) -> None:
    (tmp_path / "own_prior.py").write_text(
        "from vaekit.priors import StandardNormal\n"
        "class Mine(StandardNormal):\n"
        "    def __init__(self, latent_size, *, width: float = 1.0):\n"
        "        super().__init__(latent_size)\n"
        "        self.width = width\n"
        "width = 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = read("standard-vae", settings=["prior.name=own_prior:Mine", "prior.width=2"])
    with pytest.raises(ConfigError, match="trust=True"):
        build(found)
    assert build(found, trust=True).parts["prior"].width == 2.0
    wrong = {"own_prior:Other": "cannot be imported", ".own_prior:Mine": "cannot be imported: TypeError"}
    wrong |= {":Mine": "cannot be imported: ValueError", "own_prior:width": "is a float; it must be a class"}
    wrong |= {"broken:Mine": "cannot be imported: ZeroDivisionError"}
    (tmp_path / "broken.py").write_text("1 / 0")
    for name, message in wrong.items():
        with pytest.raises(ConfigError, match=message):
            build(read("standard-vae", settings=[f"prior.name={name}"]), trust=True)


def test_a_parameter_before_the_star_may_have_a_default(monkeypatch, tmp_path) -> None:
    (tmp_path / "plain_prior.py").write_text(
        "from vaekit.priors import StandardNormal\n"
        "class Mine(StandardNormal):\n"
        "    def __init__(self, latent_size, width=3):\n"
        "        super().__init__(latent_size)\n"
        "        self.width = width\n"
        "class Bare(StandardNormal):\n"
        "    def __init__(self, latent_size, width):\n"
        "        super().__init__(latent_size)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = read("standard-vae", settings=["prior.name=plain_prior:Mine"])
    assert build(found, trust=True).parts["prior"].width == 3
    with pytest.raises(ConfigError, match=r"Bare asks for 'width'; .*comes after a star: \(…, \*, width=1\)"):
        build(read("standard-vae", settings=["prior.name=plain_prior:Bare"]), trust=True)


def test_an_own_part_may_have_types_for_a_checker_only_and_must_give_options_defaults(monkeypatch, tmp_path) -> None:
    (tmp_path / "typed_prior.py").write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "from vaekit.priors import StandardNormal\n"
        "if TYPE_CHECKING:\n"
        "    from nowhere import Width\n"
        "class Mine(StandardNormal):\n"
        "    def __init__(self, latent_size: int, *, width: Width = 1.0) -> None:\n"
        "        super().__init__(latent_size)\n"
        "class Bare(StandardNormal):\n"
        "    def __init__(self, latent_size: int, *, width: Width) -> None:\n"
        "        super().__init__(latent_size)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = read("standard-vae", settings=["prior.name=typed_prior:Mine", "prior.width=2"])
    assert build(found, trust=True).parts["prior"]
    with pytest.raises(ConfigError, match="the option 'width' of prior 'typed_prior:Bare' needs a value"):
        build(read("standard-vae", settings=["prior.name=typed_prior:Bare"]), trust=True)


def test_output_bias_is_the_data_mean() -> None:
    images = torch.rand(50, 1, 28, 28)
    model = build("standard-vae", x=images)
    with torch.no_grad():
        for p in list(model.parts["likelihood"].net.parameters())[:-1]:
            p.zero_()
    mean = model.likelihood(torch.zeros(1, 15)).mean[0]
    torch.testing.assert_close(mean, images.mean(0).clamp(1e-3, 1 - 1e-3))


def test_an_optimizer_by_its_path_is_taken_as_torch_writes_it() -> None:
    given = read("course-vae", sections={"optimizer": {"name": "torch.optim:RMSprop", "alpha": 0.9, "momentum": 0.5}})
    found = recipe.Recipe.resolve(given, trust=True)
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = found.optimizer([parameter])
    assert isinstance(optimizer, torch.optim.RMSprop)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["alpha"], group["momentum"]) == (given.train.learning_rate, 0.9, 0.5)
    assert 'name = "torch.optim:RMSprop"' in found.to_toml()
    for wrong, message in (({"alhpa": 0.9}, "did you mean 'alpha'"), ({"alpha": "fast"}, r"optimizer\.alpha")):
        sections = {"optimizer": {"name": "torch.optim:RMSprop", **wrong}}
        with pytest.raises(ConfigError, match=message):
            recipe.Recipe.resolve(read("course-vae", sections=sections), trust=True)


def test_the_optimizer_of_every_preset_can_be_made() -> None:
    for name in preset_names():
        made = recipe.Recipe.resolve(read(name)).optimizer([torch.nn.Parameter(torch.zeros(2))])
        assert isinstance(made, torch.optim.Optimizer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.epoch=5", "train.batch=5"], "unknown key 'train.epoch'; did you mean 'train.epochs'"),
        (["train.epochs=0", "train.batch_size=0"], "train.epochs: input should be greater than or equal to 1, got 0"),
    ],
)
def test_two_faults_of_one_value_are_told_apart(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read("vae", settings=settings)
