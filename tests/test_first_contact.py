"""The first ten minutes: what is typed first, and what comes of it on a terminal of 80 columns."""

import json
import math
import re
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import vaekit
from conftest import SMALL, Result, one_line
from vaekit import training
from vaekit.cli.tables import table_lines
from vaekit.config import Train, nearest_setting, read
from vaekit.config.recipe import Recipe
from vaekit.data.registry import known_as
from vaekit.errors import ConfigError, DataError, RunError, VAEError
from vaekit.objectives import OfBatch, Terms, draw_of, elbo
from vaekit.objectives.schedules import Constant, OneCycle
from vaekit.runs.job import Job
from vaekit.runs.terminal import packed
from vaekit.training import Listener, Record


def narrow(result: Result) -> str:
    """The whole output of a command that has succeeded, no line of which is wider than 80 columns."""
    assert result.status == 0, result.err
    for line in (result.out + result.err).splitlines():
        assert len(line) <= 80, line
    return result.out


def test_a_training_says_what_it_does_and_what_to_do_next(command, here: Path) -> None:
    name = "a-name-that-is-so-long-that-it-has-a-line-of-its-own"
    result = command("train", "--data", here / "x.npy", "--epochs", 2, *SMALL, "--name", name)
    narrow(result)
    heading, where, *lines = [line for line in result.err.splitlines() if "warning" not in line]
    assert re.fullmatch(r"vae: [\d,]+ weights, 170 images of x.npy, cpu (fp32|bf16),", heading)
    assert where.strip() == f"runs/{name}"
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert re.search(r"^pictures    in it, samples/samples.png and \d+ more$", result.out, re.MULTILINE)
    assert result.out.splitlines()[-1].startswith("next        `vae evaluate`")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("help",),
        ("help", "train"),
        ("presets",),
        ("data",),
        ("runs",),
        ("info",),
        ("evaluate", "--samples", "2", "--images", "10"),
        ("evaluate", "--samples", "2", "--images", "10", "--all"),
    ],
    ids=str,
)
def test_everything_fits_80_columns(command, here: Path, monkeypatch: pytest.MonkeyPatch, arguments) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert narrow(command(*arguments))


def test_long_lists_have_a_line_for_each_row(command, here: Path) -> None:
    rows = narrow(command("presets"))
    assert "arXiv" not in rows
    long = command("presets", "--long").out.splitlines()
    assert len(long) < len(rows.splitlines()) and "arXiv:1312.6114" in "\n".join(long)
    assert str(here / "x.npy") not in command("runs").out
    assert "where" in command("data", "--long").out.splitlines()[0]


def test_help_is_help(command) -> None:
    assert command("help").out == command("--help").out == command().out
    assert command("help", "sample").out == command("sample", "--help").out
    assert command("help").out.startswith("Usage: vae ")
    assert "..." not in command("help").out.partition("Commands:")[2]  # no line is cut


def test_help_shows_no_bound_that_only_guards_memory(command) -> None:
    for verb in ("sample", "score", "impute", "interpolate", "evaluate", "compare", "check", "speedrun"):
        text = command(verb, "--help").out
        assert "1000000" not in text and "9223372" not in text, verb
    assert "1<=x<=1000" in command("impute", "--help").out  # one that a user may want to know
    for number, limit in (
        ("0", "at least 1, got 0"),
        ("1000001", "at most 1000000, got 1000001"),
        ("x", "not a valid"),
    ):
        assert limit in one_line(command("sample", "-n", number))


TYPED = {
    ("train", "--lr", "1e-3"): "there is no option --lr; type --set train.learning_rate=1e-3",
    ("train", "--latent-size=2"): "type --set model.latent_size=2",
    ("train", "--epoch", "3"): "type --epochs 3",
    ("train", "--beta"): "type --set objective.beta=VALUE",
    ("resume", "--lr", "1e-3"): "type --set train.learning_rate=1e-3",
    ("resume", "--epochs", "3"): "there is no option --epochs; type --set train.epochs=3",
    ("speedrun", "--epochs=3"): "type --set train.epochs=3",
    ("train", "--set", "size=32"): "did you mean data.size=32?",
    ("train", "--set", "lr=1e-3"): "did you mean train.learning_rate=1e-3?",
    ("train", "--set", "train.lr=1"): "did you mean 'train.learning_rate'?",
    ("train", "--set", "prior=vamp"): "did you mean prior.name=vamp?",
    ("train", "mnist"): "mnist is not a preset but data: vae train --data mnist",
    ("train", "people.csv"): "people.csv is not a preset but data: vae train --data people.csv",
    ("train", "mine.toml"): "vae train --config mine.toml",
    ("train", "cave"): "unknown preset 'cave'; did you mean 'cvae'?",
    ("cvae",): "type `vae train cvae`",
    ("mnist",): "type `vae train --data mnist`",
    ("people.csv",): "type `vae train --data people.csv`",
    ("tran",): "Did you mean 'train'?",
    ("train", "--nonsense"): "No such option '--nonsense'",
}


@pytest.mark.parametrize("arguments", TYPED, ids=str)
def test_a_slip_is_answered_with_the_right_spelling(command, arguments) -> None:
    assert TYPED[arguments] in one_line(command(*arguments))


def test_no_runs_are_a_hint_and_an_empty_list(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("runs")
    assert (result.status, result.out) == (0, "")
    assert result.err == "vae: there is no run in runs yet; `vae train` makes one\n"
    assert command("runs", "--json").out == "[]\n"


def test_tables_fold_their_widest_cells_and_lose_nothing() -> None:
    rows = [["name", "what"], ["a", "one two three " * 9], ["b" * 100, "x"]]
    lines = table_lines(rows)
    assert max(map(len, lines)) <= 80
    assert "".join(lines).count("b") == 100 and " ".join(lines).count("three") == 9
    assert len(table_lines(rows, None)) == 3
    assert packed(["a" * 50, "b" * 29]).splitlines() == ["a" * 50, "    " + "b" * 29]
    assert packed(["a" * 50, "b" * 28]) == "a" * 50 + "  " + "b" * 28


def test_words_of_other_libraries_are_understood_and_nonsense_is_not() -> None:
    assert nearest_setting("batch_size") == "train.batch_size" and nearest_setting("patiense") == "train.patience"
    assert nearest_setting("foo") is None and nearest_setting("") is None


# -- Python -----------------------------------------------------------------------------------------------------------


def test_a_model_is_saved_into_one_file_and_loaded_from_it(tmp_path: Path) -> None:
    small = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "latent_size": 2}
    for name, preset in (("a.safetensors", "standard-vae"), ("b", "standard-cvae")):
        model = vaekit.build(preset, num_classes=3, **small)
        model.save(tmp_path / name)
        again = vaekit.load(tmp_path / name)
        assert not again.training and again.context_size == model.context_size
        for key, tensor in model.state_dict().items():
            assert torch.equal(again.state_dict()[key], tensor)
    again.save(tmp_path / "c")  # what was loaded is saved again
    assert vaekit.load(tmp_path / "c").latent_size == 2
    with pytest.raises(ConfigError, match=r"torch.save\(model.state_dict\(\), path\)"):
        vaekit.VAE(784).save(tmp_path / "d")
    with pytest.raises(RunError, match="cannot write"):
        model.save(tmp_path / "nowhere" / "e")


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.ckpt", "m.bin", "m.safetensors", "m"])
def test_a_saved_model_is_loaded_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    model = vaekit.build("vae", latent_size=2, encoder={"hidden": [4]}, decoder={"hidden": [4]}).eval()
    model.save(tmp_path / name)
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(vaekit.load(tmp_path / name).encode(x), model.encode(x))


def test_a_file_that_is_not_a_saved_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(RunError, match="text"):
        vaekit.load(tmp_path / "text")
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(RunError, match="does not record the model of its weights"):
        vaekit.load(tmp_path / "w.safetensors")
    vaekit.build("standard-vae", latent_size=2).save(tmp_path / "m")
    with safe_open(tmp_path / "m", "pt") as stored:
        facts = stored.metadata()
    save_file({"w": torch.zeros(2)}, tmp_path / "n", facts)
    with pytest.raises(RunError, match="do not fit"):
        vaekit.load(tmp_path / "n")


def test_things_print_as_a_person_would_say(tmp_path: Path) -> None:
    digits = vaekit.data.load("MNIST")
    assert repr(digits).startswith("Dataset('mnist': 55,000 train, 5,000 validation, 10,000 test; image 1×28×28, 10 cl")
    assert repr(digits.test) == "Split(10,000 rows of 1×28×28, uint8, with labels)"
    cvae = vaekit.build("standard-cvae", latent_size=2)
    assert "x (1, 28, 28), z (2,), context 10, " in repr(cvae)
    labels = torch.tensor([1, 2])
    for c in (labels, labels.tolist(), vaekit.one_hot(labels, 10)):
        assert repr(cvae(torch.rand(2, 1, 28, 28), c)) == "Draw(x (2, 1, 28, 28), z (1, 2, 2), 1 latent level)"
    assert str(read("vae")).startswith('[data]\nname = "mnist"')


def stripes(n: int = 60) -> vaekit.data.Dataset:
    torch.manual_seed(0)
    split = vaekit.data.Split(torch.randint(256, (n, 1, 6, 6), dtype=torch.uint8), torch.arange(n) % 3)
    return vaekit.data.Dataset("stripes", split, split[:20], split[20:], classes=("a", "b", "c"), checksum="")


SIZES = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "latent_size": 2}


def test_a_split_has_rows_by_number() -> None:
    split = stripes().train
    assert repr(split[:10]) == "Split(10 rows of 1×6×6, uint8, with labels)"
    x, label = split[-1]
    assert torch.equal(x, split.x[59]) and label == 2
    assert split[[4, 3]].labels.tolist() == [1, 0]
    assert len(list(split)) == 60
    assert next(iter(torch.utils.data.DataLoader(split, batch_size=5)))[1].tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(IndexError, match="0 to 59, got 60"):
        split[60]


def test_a_model_of_a_data_set_is_trained_as_a_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit: it starts from the same rows, and has the preset's objective, optimizer and schedule."""
    data = stripes()
    monkeypatch.setattr("vaekit.runs.job.load_data", lambda **_: data)
    settings = {"epochs": 2, "precision": "fp32"}
    job = Job.prepare(Recipe.resolve(read("cvae", sections={"train": settings, **SIZES})))
    job.train_model()
    torch.manual_seed(0)
    model = vaekit.build("cvae", data=data, **SIZES)
    assert model.event_shape == (1, 6, 6) and model.context_size == 3
    batches = vaekit.data.Batches(data.train, batch_size=128, shuffle=True, generator=torch.Generator().manual_seed(0))
    vaekit.fit(model, batches, data.validation, preset="cvae", **settings)
    for name, tensor in job.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_a_model_fits_a_data_set_by_name(tmp_path: Path) -> None:
    path = tmp_path / "colour.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8))
    for data in (str(path), path, {"name": str(path), "validation": 3}):
        assert vaekit.build("vae", data=data, **SIZES).event_shape == (3, 8, 8)
    assert vaekit.build("vae", event_shape=4, data={"binarize": "fixed"}, **SIZES).event_shape == (4,)
    with pytest.raises(DataError, match="no such file"):
        vaekit.build("vae", data=str(tmp_path / "none.npy"), **SIZES)


def test_a_run_and_its_config_print_as_they_are(here: Path) -> None:
    run = vaekit.list_runs(here / "runs")[0]
    assert re.fullmatch(r".*: vae, \d+ epochs?, finished", str(run))
    assert tomllib.loads(str(run.config)) == run.config


def test_fit_trains_by_a_preset_and_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    data, told = stripes(), []
    model = vaekit.build("vae", data=data, **SIZES)
    (record,) = vaekit.fit(model, data, preset="beta-tcvae", epochs=1, learning_rate=1e-5)
    assert capsys.readouterr().err == ""  # nobody watches
    assert record["loss"] != record["neg_elbo"] and record["learning_rate"] < 1e-5

    class Own(Listener):
        def epoch(self, record: Record) -> None:
            told.append(record["epoch"])

    vaekit.fit(model, data.train.x, epochs=2, progress=True, listener=Own())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Composed: ") and ", 60 rows, cpu fp32" in lines[0]
    assert [line[:9] for line in lines[1:]] == ["epoch 1/2", "epoch 2/2"] and told == [1, 2]


def test_fit_names_its_arguments_and_they_take_precedence_over_a_preset() -> None:
    data = stripes()
    how = {"objective": elbo, "optimizer": partial(torch.optim.SGD, lr=0.25), "schedule": Constant()}
    model = vaekit.build("vae", data=data, **SIZES)
    own = vaekit.fit(model, data, preset="beta-tcvae", epochs=1, **how)[0]
    assert own["loss"] == own["neg_elbo"] and own["learning_rate"] == 0.25


FITS = {
    "list": (([torch.rand(4, 1, 6, 6)],), {"preset": "beta-tcvae"}, "depends on the number of rows, which list does"),
    "both": ((torch.rand(4, 1, 6, 6),), {"preset": "vae", "options": Train()}, "leave one out"),
    "seed": ((torch.rand(4, 1, 6, 6),), {"preset": "vae", "seed": 1}, "fit has no seed"),
    "lr": ((torch.rand(4, 1, 6, 6),), {"preset": "vae", "lr": 1}, "did you mean 'learning_rate'"),
    "name": ((torch.rand(4, 1, 6, 6),), {"preset": "vea"}, "did you mean 'vae'"),
    "flat": ((torch.rand(4, 36),), {}, r"pass x.reshape\(-1, 1, 6, 6\)"),
    "number": ((torch.rand(4, 1, 6, 6),), {"preset": 3}, "unknown preset '3'"),
    "validation": ((torch.rand(4, 1, 6, 6), torch.rand(0, 1, 6, 6)), {}, "the validation data have no batch"),
    "options": ((torch.rand(4, 1, 6, 6),), {"options": {"epochs": 1}}, "or pass its fields, such as epochs=3"),
    "run": ((torch.rand(4, 1, 6, 6),), {"run": "here"}, r"run is a vaekit\.Run"),
    "optimizer": ((torch.rand(4, 1, 6, 6),), {"optimizer": "adam"}, "or a function that makes one"),
    "closure": ((torch.rand(4, 1, 6, 6),), {"optimizer": torch.optim.LBFGS}, "that needs no closure"),
    "elsewhere": (
        (torch.rand(4, 1, 6, 6),),
        {"optimizer": torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)},
        "the optimizer has no weight of this model",
    ),
    "schedule": ((torch.rand(4, 1, 6, 6),), {"schedule": "one-cycle"}, "a schedule is a function of"),
    "class": ((torch.rand(4, 1, 6, 6),), {"schedule": OneCycle}, r"such as vaekit\.schedules\.OneCycle\(\)"),
    "epoch": ((torch.rand(4, 1, 6, 6),), {"schedule": lambda epoch: 1.0}, "a schedule is a function of"),
    "negative": ((torch.rand(4, 1, 6, 6),), {"schedule": lambda *_: -1.0}, "at least 0, got -1.0"),
    "float": ((torch.rand(4, 1, 6, 6),), {"objective": lambda draw: 1.0}, "for each of 4 rows, got a float"),
    "detached": (
        (torch.rand(4, 1, 6, 6),),
        {"objective": lambda draw: -draw.distortion.detach()},
        "depends on no weight that is trained",
    ),
}


@pytest.mark.parametrize("kind", FITS)
def test_fit_says_what_it_cannot_do(kind: str) -> None:
    arguments, options, message = FITS[kind]
    with pytest.raises(VAEError, match=message):
        vaekit.fit(vaekit.build("vae", event_shape=(1, 6, 6), **SIZES), *arguments, **{"epochs": 1, **options})


@pytest.mark.parametrize(
    ("altered", "message"),
    [
        (lambda model: model.requires_grad_(False), "no weight of the model requires a gradient"),
        (lambda model: model.bfloat16(), r"is torch\.bfloat16; train a model of float32 weights"),
        (lambda model: model.to("meta"), "has no value"),
    ],
)
def test_fit_names_weights_that_cannot_be_trained(altered: Any, message: str) -> None:
    model = altered(vaekit.build("vae", event_shape=(1, 6, 6), **SIZES))
    with pytest.raises(ConfigError, match=message):
        vaekit.fit(model, torch.rand(4, 1, 6, 6))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_training_without_gradients_is_refused(context: Any, tmp_path: Path) -> None:
    model = vaekit.build("vae", event_shape=(1, 6, 6), **SIZES)
    with context(), pytest.raises(ConfigError, match="gradients, which are off here"):
        vaekit.fit(model, torch.rand(4, 1, 6, 6))
    np.save(tmp_path / "x.npy", np.zeros((60, 6, 6), np.uint8))
    with context(), pytest.raises(ConfigError, match="gradients, which are off here"):
        vaekit.train("vae", data=tmp_path / "x.npy", root=tmp_path / "runs", **SIZES)
    assert not (tmp_path / "runs").exists()


def test_an_epoch_of_skipped_steps_has_no_mean() -> None:
    class Mended(list[torch.Tensor]):
        """A loader whose rows are NaN in the first epoch."""

        def __iter__(self) -> Iterator[torch.Tensor]:
            yield self.pop(0) if len(self) > 1 else self[0]

    model = vaekit.build("vae", event_shape=(1, 6, 6), **SIZES)
    rows = Mended([torch.full((4, 1, 6, 6), torch.nan), torch.rand(4, 1, 6, 6)])
    first, second = vaekit.fit(model, rows, epochs=2, on_nan="skip")
    assert math.isnan(first["loss"]) and first["rows"] == 0 and first["skipped"] == 1
    assert math.isfinite(second["loss"]) and second["rows"] == 4 and second["skipped"] == 0


@pytest.mark.parametrize("names", ["ab", "a-", "-a"])
def test_validation_of_other_names_in_another_batch_is_refused(names: str) -> None:
    served = iter(names)

    def loss(model: vaekit.LatentVariableModel, batch: vaekit.data.Batch, epoch: float) -> Terms:
        name = next(served)
        neg_elbo = -elbo(draw_of(model, batch))
        return Terms(neg_elbo, {} if name == "-" else {name: neg_elbo})

    model = vaekit.build("vae", event_shape=(1, 6, 6), **SIZES)
    with pytest.raises(ConfigError, match="log the same names for every batch, got"):
        training.validate(model, [torch.rand(4, 1, 6, 6)] * 2, OfBatch(loss))


def test_validation_of_one_number_for_all_rows_is_refused() -> None:
    model = vaekit.build("vae", event_shape=(1, 6, 6), **SIZES)
    with pytest.raises(ConfigError, match=r"each of 4 rows, got shape \(\)"):
        training.validate(model, [torch.rand(4, 1, 6, 6)], lambda draw: draw.distortion.sum())


def test_a_model_takes_saved_weights(tmp_path: Path) -> None:
    model, other = (vaekit.build("standard-vae", event_shape=(1, 6, 6), **SIZES) for _ in range(2))
    model.save(tmp_path / "m")
    x = torch.rand(3, 1, 6, 6)
    assert not torch.equal(model.encode(x), other.encode(x))
    assert torch.equal(model.encode(x), other.load(tmp_path / "m").encode(x))
    with pytest.raises(RunError, match=r"the weights of another model; vaekit\.load"):
        vaekit.build("standard-vae").load(tmp_path / "m")


def test_presets_print_as_a_list_and_as_json(command) -> None:
    lines = repr(vaekit.presets()).splitlines()
    assert max(map(len, lines)) <= 80 and lines[0].startswith("aae  ")
    table = json.loads(command("presets", "vae", "--json").out)
    assert table["config"]["prior"]["name"] == "full-covariance-mixture" and "arXiv:1312.6114" in table["paper"]


@pytest.mark.parametrize("name", ["MNIST", "Mnist", "mnist"])
def test_data_sets_have_names_in_any_spelling(name: str) -> None:
    assert known_as(name) == "mnist" and known_as("Fashion_MNIST") == "fashion-mnist"
    assert known_as("mnist2") == "mnist2"


def test_build_says_where_an_option_belongs() -> None:
    with pytest.raises(ConfigError, match=r"did you mean train=\{'learning_rate': 0.001\}\?"):
        vaekit.build("vae", learning_rate=1e-3)
    with pytest.raises(ConfigError, match=r"did you mean latent_size=2\?"):
        vaekit.build("vae", latent_dim=2)
