"""Calls and files one step away from the documented ones: they get what they mean, or one line that says what to pass."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import vaekit
from vaekit.config import read
from vaekit.data import Dataset, Split, load
from vaekit.data.chosen_rows import held_out
from vaekit.data.evaluation_data import load_evaluation_data
from vaekit.data.table.columns import Column, check_encoded
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.model_with_data import ModelWithData
from vaekit.evaluation.several_runs.comparison_table import Cell, Difference
from vaekit.likelihoods import Bernoulli
from vaekit.model import Composed
from vaekit.nets import MLP
from vaekit.posteriors import DiagonalNormal
from vaekit.priors import StandardNormal
from vaekit.runs.own_model import number_of_rows
from vaekit.store import Run
from vaekit.training.learning_rate import LearningRateFactor
from vaekit.training.meter import EXPLODED
from vaekit.training.progress import Progress

SMALL = (
    "--set",
    "encoder.hidden=[4]",
    "--set",
    "decoder.hidden=[4]",
    "--set",
    "model.latent_size=2",
    "--device",
    "cpu",
)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of 100 rows, and one of 7 rows beside it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, rows in (("my data.csv", 100), ("more.csv", 7)):
        frame = pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows)})
        frame.loc[1, "a"] = np.nan
        frame.to_csv(name, index=False)
    return tmp_path / "my data.csv"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"validation": 0.1}, "validation must be a whole number, got 0.1; for a share of 0.1 pass round"),
        ({"test": 0.2}, "test must be a whole number, got 0.2; for a share"),
        ({"labelled": 100.0}, "labelled must be a whole number, got 100.0"),
        ({"validation": True}, "validation must be a whole number, got True"),
        ({"memory": "1G"}, "memory is a number of GiB, got '1G'"),
    ],
)
def test_counts_of_rows_are_whole(table: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(str(table), **options)


def test_a_table_to_test_on_may_be_a_path_object(table: Path) -> None:
    sizes = [len(load(table, test=test).test) for test in ("more.csv", Path("more.csv"), 30, np.int64(30))]
    assert sizes == [7, 7, 30, 30]


def test_a_share_of_rows_with_tests_of_their_own_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^validation must be from 0 to 9 of the 10 images of x\.npz, got 10$"):
        held_out("x.npz", 10, 10, None, has_own_test=True)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint64"])
def test_whole_numbers_do_not_wrap(dtype: str) -> None:
    column = Column("a", "real", dtype)
    limits = np.iinfo(dtype)
    low, high = column.decode(np.array([-1e20, 1e20], np.float32)).tolist()
    assert low == limits.min and limits.max * (1 - 1e-15) <= high <= limits.max


@pytest.mark.parametrize("options", [{"samples": 2.5}, {"rows": 2.5}, {"samples": 10.0}])
def test_options_of_an_evaluation_are_whole(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be a whole number, at least 1"):
        vaekit.evaluate(vaekit.build("standard-vae"), load("mnist"), **options)


def test_a_config_with_data_by_name_says_what_to_pass() -> None:
    with pytest.raises(
        ConfigError, match=r"names its data already; pass a data set, data=vaekit\.data\.load\('mnist'\)"
    ):
        vaekit.build(read("standard-vae"), data="mnist")


def test_a_page_takes_a_path_or_an_array_and_says_what_it_embeds(tmp_path: Path) -> None:
    model = vaekit.build("standard-vae", event_shape=10, encoder={"hidden": [4]}, decoder={"hidden": [4]})
    rows = np.random.default_rng(0).random((20, 10), np.float32)
    assert "20 rows of the given rows, with their latents" in vaekit.explore(model, rows).embeds
    labelled = Split(rows, torch.arange(20) % 2)
    assert "20 rows of the given rows, with their classes and latents" in vaekit.explore(model, labelled).embeds
    np.save(tmp_path / "x.npy", (255 * np.random.default_rng(0).random((60, 8, 8))).astype(np.uint8))
    model = vaekit.build("standard-vae", event_shape=(1, 8, 8), encoder={"hidden": [4]}, decoder={"hidden": [4]})
    embeds = vaekit.explore(model, tmp_path / "x.npy", images=3).embeds
    assert any(sentence.startswith("3 images of ") for sentence in embeds)


@pytest.mark.parametrize("epochs", [1, 2])
def test_validation_rows_far_from_the_others_are_no_fault_of_the_training(epochs: int) -> None:
    torch.manual_seed(0)
    model = vaekit.build(
        "standard-vae", event_shape=3, likelihood="normal", encoder={"hidden": [4]}, decoder={"hidden": [4]}
    )
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    records = vaekit.fit(model, x, 1e8 * x[:8], epochs=epochs, batch_size=8)
    assert records[-1]["validation_rate"] > EXPLODED


def test_a_step_that_ruins_the_last_weights_is_seen_beside_validation_too() -> None:
    torch.manual_seed(0)
    model = vaekit.build("standard-vae", event_shape=3, encoder={"hidden": [4]}, decoder={"hidden": [4]})
    x = torch.rand(8, 3)
    with pytest.raises(vaekit.errors.NumericalError):
        vaekit.fit(model, x, x, epochs=1, batch_size=8, learning_rate=1e6)


def test_a_run_by_a_path_that_is_its_name(table: Path, command) -> None:
    options = ("--epochs", 1, "--name", "tab", *SMALL)
    assert command("train", "table-vae", "--data", table, *options).status == 0
    assert Run.open(Path("tab")).name == "tab"
    result = command("impute", "tab", "--json")
    assert result.status == 0, result.err
    written = [Path(path) for path in json.loads(result.out)["files"]]
    assert all(path.is_file() and path.parent.name == "imputed" and " " not in path.name for path in written)


def test_rows_that_memory_cannot_hold_are_a_part_of_the_test_rows(tmp_path: Path, command, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (2300, 32, 32), np.uint8))
    options = ("--epochs", 1, "--name", "disk", "--set", "data.memory=0", "--set", "data.test=2048", *SMALL)
    assert command("train", "standard-vae", "--data", "x.npy", *options).status == 0
    run = Run.open("disk")
    for memory, rows, file in ((1 << 30, 2048, "evaluation.json"), (1 << 20, 1024, "evaluation-1024-rows.json")):
        result = vaekit.evaluate(run, samples=2, memory=memory)
        assert (result.protocol["rows"], result.details["file"]) == (rows, file)
        assert ("choice of rows" in result.protocol) == (rows < 2048)
    data, calls = load("x.npy", memory=0, test=2048), []
    listener = lambda *stage: calls.append(stage)
    part = vaekit.evaluate(vaekit.load(run), data, samples=2, memory=1 << 20, progress=True, listener=listener)
    assert part.protocol["rows"] == 1024 and any("fit in `memory`" in sentence for sentence in part.warnings)
    assert calls, "a listener hears beside the progress on the screen"


def test_a_comparison_names_the_page_that_it_writes(tmp_path: Path, command, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        np.save("x.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
        options = ("--data", "x.npy", "--epochs", 1, "--seed", seed, "--name", f"run-{seed}", *SMALL)
        assert command("train", "standard-vae", *options).status == 0
        assert command("evaluate", f"run-{seed}", "--samples", 2, "--device", "cpu").status == 0
    result = command("compare", "run-0", "run-1", "-o", "page.html")
    assert result.out.splitlines()[-1] == "page.html" and Path("page.html").is_file()
    assert "None" not in result.out
    assert json.loads(command("compare", "run-0", "run-1", "-o", "page.html", "--json").out)["files"] == ["page.html"]


@pytest.fixture
def frame() -> pd.DataFrame:
    """A column of the levels 1 and 2, and one of real numbers."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.integers(1, 3, 60), "c": rng.normal(size=60)})


def test_a_frame_is_encoded_as_the_model_reads_it(frame: pd.DataFrame) -> None:
    model = vaekit.build("table-vae", data=load(frame), latent_size=2)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    encoded = load_evaluation_data(frame, columns=model.columns).test
    losses = []
    for rows, validation in ((encoded, None), (frame, None), (frame, frame)):
        model.load_state_dict(weights)
        torch.manual_seed(0)
        losses.append(vaekit.fit(model, rows, validation, epochs=1, batch_size=20)[-1])
    assert losses[0]["loss"] == losses[1]["loss"] == losses[2]["loss"]
    assert "validation_loss" in losses[2] and "validation_loss" not in losses[1]


def test_numbers_that_no_level_has_are_refused(frame: pd.DataFrame) -> None:
    model = vaekit.build("table-vae", data=load(frame), latent_size=2)
    raw = torch.tensor(frame.to_numpy(np.float32))
    for act in (lambda: model.log_prob(raw), lambda: vaekit.fit(model, raw, epochs=1, batch_size=20)):
        with pytest.raises(DataError, match="column 'a': 2 is not a number of one of its 2 levels; these rows are not"):
            act()
    column = Column("n", "count", "int64")
    check_encoded([column], np.array([[0.0], [np.nan], [7.0]]))
    for wrong in (-1.0, 0.5):
        with pytest.raises(DataError, match="is not a count value"):
            check_encoded([column], np.array([[wrong]]))


def test_zero_is_not_a_positive_value_unless_it_stands_for_a_missing_one(frame: pd.DataFrame) -> None:
    frame = frame.assign(p=np.exp(frame.c).where(frame.index != 3))
    data = load(frame, columns={"p": "positive"})
    model = vaekit.build("table-vae", data=data, latent_size=2)
    place = [column.name for column in data.columns].index("p")
    x, missing = data.train.x[:4].clone(), torch.zeros(4, len(data.columns), dtype=torch.bool)
    x[1, place], missing[1, place] = 0, True
    for act in (lambda: model.log_prob(x), lambda: model.encode(x), lambda: vaekit.fit(model, x, epochs=1)):
        with pytest.raises(DataError, match="column 'p': 0 is not a positive value"):
            act()
    assert torch.equal(model.checked(x, ~missing), x)
    assert model.log_prob(x.masked_fill(missing, torch.nan), k=5).isfinite().all()
    vaekit.fit(model, vaekit.data.Split(x, observed=~missing), epochs=1, batch_size=2)
    vaekit.fit(model, data, epochs=1, batch_size=20)
    vaekit.fit(model, x.masked_fill(missing, torch.nan), epochs=1, batch_size=2, on_nan="skip")
    assert vaekit.evaluate(model, data, split="train")


def test_nan_in_memory_is_missing_for_a_model_that_sees_it(tmp_path: Path) -> None:
    signals = 3 * np.random.default_rng(0).normal(size=(40, 2, 16)).astype(np.float32)
    np.save(tmp_path / "signals.npy", signals)
    torch.manual_seed(0)
    model = vaekit.build("signal-vae", data=load(tmp_path / "signals.npy", kind="signal", value_kind="real"))
    assert model.sees_missing
    gap = signals.copy()
    gap[3, 0, 5] = np.nan
    x = torch.from_numpy(gap)
    assert model.log_prob(x).isfinite().all()
    assert np.isfinite(vaekit.evaluate(model, gap, samples=2)["elbo"].value)
    assert np.isfinite(vaekit.fit(model, gap, epochs=1, batch_size=20)[-1]["loss"])
    filler = gap.copy()
    for value in (np.nan, 5.0):
        filler[3, 0, 5] = value
        observed = ~torch.from_numpy(gap).isnan()
        torch.manual_seed(1)
        log_w = model.draw(torch.from_numpy(filler), observed=observed).log_w[0, 3].item()
        torch.manual_seed(1)
        assert log_w == model.log_prob(x)[3].item()


def test_a_draw_takes_what_a_model_takes() -> None:
    model = vaekit.build("standard-vae", event_shape=3, encoder={"hidden": [4]}, decoder={"hidden": [4]})
    pixels = np.array([[0, 128, 255]], np.uint8)
    for x in (pixels, torch.from_numpy(pixels), (torch.from_numpy(pixels) / 255).numpy()):
        assert torch.equal(model.draw(x).x, model(x).x)


def test_a_page_reads_another_table_as_the_model_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, levels in (("a.csv", list("abcd")), ("b.csv", list("bcd"))):
        pd.DataFrame({"t": rng.choice(levels, 60), "x": rng.normal(size=60)}).to_csv(tmp_path / name, index=False)
    model = vaekit.build("table-vae", data=load(tmp_path / "a.csv"), latent_size=2)
    shown = ModelWithData.of_model(model, tmp_path / "b.csv", 100)
    assert len(shown) == 60 and set(shown.x[:, 0].tolist()) == {1.0, 2.0, 3.0}
    with pytest.raises(DataError, match="'t' is read in another way"):
        vaekit.explore(model, load(tmp_path / "b.csv"))


def test_differences_without_any_spread_prove_nothing() -> None:
    difference = Difference("b", "active units", 1.0, 1.0, 1.0, n=2, over="seeds")
    assert difference.verdict == "unknown (no spread)"
    assert Difference("b", "nll", 1.0, 0.5, 1.5, n=2, over="seeds").verdict == "beyond noise, over seeds"


BUILDS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "no classes": (("cvae",), {"num_classes": 0}, "num_classes must be at least 1, got 0"),
    "half a class": (("cvae",), {"num_classes": 2.5}, "num_classes must be a whole number"),
    "no shape": (("vae",), {"event_shape": None}, "event_shape must be a number or several"),
    "options": (({"prior": "vamp"},), {}, r"got dict; options go beside the name: build\('vae', prior='vamp'\)"),
    "rows as data": (("vae",), {"data": torch.rand(4, 1, 8, 8)}, r"got Tensor; pass data=vaekit\.data\.load"),
    "data that take no size": (
        ("vae",),
        {"data": {"size": 8}},
        r"size is for images .*leave it out with 'mnist'",
    ),
    "other shape": (("vae",), {"x": torch.rand(4, 1, 9, 9)}, r"shape \(N, 1, 28, 28\)"),
    "no rows": (("vae",), {"x": torch.rand(0, 1, 28, 28)}, "there are 0 rows"),
    "infinite": (("vae",), {"x": torch.full((4, 1, 28, 28), torch.inf)}, "remove or mask values"),
    "labels alone": (("cvae",), {"labels": [0, 1]}, "labels are the classes of x, which is missing"),
}


@pytest.mark.parametrize("kind", BUILDS)
def test_build_says_what_it_takes(kind: str) -> None:
    arguments, options, message = BUILDS[kind]
    with pytest.raises(vaekit.VAEError, match=message):
        vaekit.build(*arguments, **options)


def test_build_refuses_what_the_data_give_already() -> None:
    x = torch.rand(30, 1, 4, 4)
    data = vaekit.data.Dataset.of_splits(
        "d", {"train": vaekit.data.Split(x, torch.arange(30) % 3)}, classes=("a", "b", "c")
    )
    small = {"encoder": "mlp", "decoder": "mlp", "latent_size": 2}
    assert vaekit.build("vae", data=data, **small).event_shape == (1, 4, 4)
    beside = {"event_shape": (1, 4, 4), "num_classes": 3, "x": x, "labels": torch.arange(30) % 3, "columns": []}
    for name, value in beside.items():
        with pytest.raises(ConfigError, match=rf"^{name}: the data give it already; leave out it, or data$"):
            vaekit.build("vae", data=data, **{name: value}, **small)
    with pytest.raises(ConfigError, match=r"^event_shape, x: the data give them already"):
        vaekit.build("vae", data="missing.npy", event_shape=(1, 4, 4), x=x)
    assert vaekit.build("vae", data={"binarize": "fixed"}, event_shape=(1, 4, 4), **small).event_shape == (1, 4, 4)


@pytest.mark.parametrize("as_given", [np.asarray, torch.Tensor.double, lambda x: (255 * x).round().byte()])
def test_build_starts_from_rows_of_any_type(as_given: Any) -> None:
    x = (255 * torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))).round() / 255
    options = {"event_shape": np.int64(4) * np.array([0, 1, 1]) + [1, 0, 0], "latent_size": 2, "prior": "vamp"}
    weights = []
    for rows in (x, as_given(x)):
        torch.manual_seed(0)
        weights.append(torch.cat([p.flatten() for p in vaekit.build("vae", x=rows, **options).parameters()]))
    assert torch.allclose(*weights, atol=1e-6)


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (3, {}, "a part is a class, a module, or the name of a preset, got 3"),
        (vaekit.VAE, {}, r"is the class of a model; make one, and pass it: check\(VAE\(…\)\)"),
        (StandardNormal(4), {"scale": 2.0}, "options are for a class, and this StandardNormal is made: scale"),
        (StandardNormal, {"latent_size": 0}, "latent_size must be at least 1"),
        (StandardNormal, {"context_size": -1}, "context_size must be at least 0"),
        (StandardNormal, {"beside": "hierarchical"}, "beside is a table, such as {'posterior': 'hierarchical'}"),
        (Bernoulli, {"x": torch.rand(4, 1, 9, 9)}, r"shape \(N, 1, 8, 8\)"),
        ("vae", {"prior": "wamp"}, "did you mean 'vamp'"),
        (vaekit.VAE(64).to("meta"), {}, "Cannot copy out of meta tensor"),
    ],
)
def test_check_says_what_it_takes(part: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(vaekit.VAEError, match=message):
        vaekit.check(part, **options)


def test_check_takes_a_config_a_number_as_shape_and_no_gradients() -> None:
    with torch.inference_mode():
        vaekit.check(read("standard-vae"))
    vaekit.check(StandardNormal, event_shape=30)
    vaekit.check(Bernoulli, x=np.zeros((5, 8, 8), np.uint8))


def test_the_assignment_counts_its_rows_and_its_sizes() -> None:
    x, mu = torch.rand(4, 1, 8, 8), torch.zeros(4, 2)
    with pytest.raises(DataError, match="must have the same rows"):
        vaekit.loss_function(x, x, mu[:2], mu[:2])
    with pytest.raises(DataError, match="must have the same rows"):
        vaekit.loss_function(x, x, mu, mu[:1])
    for call in (lambda: vaekit.VAE(0), lambda: vaekit.VAE(64, 0), lambda: vaekit.CVAE(64, 0)):
        with pytest.raises(ConfigError, match="must be at least 1, got 0"):
            call()


def test_a_run_of_another_type_is_named(tmp_path: Path) -> None:
    for call in (vaekit.load, vaekit.export):
        with pytest.raises(ConfigError, match="a run is given as a Run, its folder or its name, got int"):
            call(3)
    with pytest.raises(ConfigError, match="train=3: give a table"):
        vaekit.train("vae", train=3, epochs=1, root=tmp_path)


def test_a_saved_model_of_float64_keeps_its_precision(tmp_path: Path) -> None:
    model = vaekit.build("standard-vae", event_shape=3, encoder={"hidden": [4]}, decoder={"hidden": [4]}).double()
    model.save(tmp_path / "m.safetensors")
    x = torch.rand(2, 3, dtype=torch.float64)
    assert torch.equal(vaekit.load(tmp_path / "m.safetensors").encode(x), model.eval().encode(x))


def test_a_training_in_float64_by_default(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
    sections = {"encoder": {"hidden": [4]}, "decoder": {"hidden": [4]}, "latent_size": 2}
    torch.set_default_dtype(torch.float64)
    try:
        assert vaekit.train("vae", data=tmp_path / "x.npy", epochs=1, root=tmp_path, **sections).status == "finished"
    finally:
        torch.set_default_dtype(torch.float32)


def test_resume_by_name_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
    sections = {"encoder": {"hidden": [4]}, "decoder": {"hidden": [4]}, "latent_size": 2, "root": tmp_path / "runs"}
    for name, epochs in (("long", 2), ("short", 1)):
        vaekit.train("vae", data=tmp_path / "x.npy", epochs=epochs, name=name, schedule="constant", **sections)
    run = vaekit.resume("short", epochs=2, root=tmp_path / "runs")
    assert run.status == "finished" and run.path.name == "short"
    weights = [vaekit.load(name, root=tmp_path / "runs", weights="last").state_dict() for name in ("short", "long")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    for name in ("seed", "latent_size", "epohcs", "data"):
        with pytest.raises(ConfigError, match=f"^resuming can change .*, epochs, .* only, not {name}; for any other"):
            vaekit.resume(run, **{name: 1})
    with pytest.raises(vaekit.errors.RunError, match="is finished"):
        vaekit.resume(run)


@pytest.mark.parametrize(("of_z", "of_prior"), [(1, 3), (2, 1), (2, 3)])
def test_latents_of_two_shapes_are_refused_before_their_densities_broadcast(of_z: int, of_prior: int) -> None:
    posterior = DiagonalNormal(MLP((1, 2, 2), hidden=(8,)), 8, of_z)
    model = Composed(posterior, StandardNormal(of_prior), Bernoulli(MLP((of_z,), (1, 2, 2), hidden=(4,))))
    x = torch.rand(6, 1, 2, 2).round()
    message = rf"latents of shape \({of_z},\), and the prior of \({of_prior},\)"
    with pytest.raises(ConfigError, match=message):
        model.draw(x)
    with pytest.raises(ConfigError, match=message):
        vaekit.fit(model, x, epochs=1)


def test_a_loader_has_the_rows_of_its_sampler() -> None:
    rows = torch.utils.data.TensorDataset(torch.rand(1000, 1, 2, 2))
    some = torch.utils.data.SubsetRandomSampler(range(50))
    assert number_of_rows(torch.utils.data.DataLoader(rows, sampler=some)) == 50
    assert number_of_rows(torch.utils.data.DataLoader(rows, batch_size=10)) == 1000


def test_a_schedule_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="the factor of the schedule"):
        LearningRateFactor(lambda *_: math.inf, 1.0).at(0.0, Progress())


def test_labels_that_share_one_number_in_memory_have_a_checksum() -> None:
    zero, x = torch.zeros(1, dtype=torch.long), torch.rand(4, 3)
    split, same = Split(x, zero.expand(4)), Split(x, zero.repeat(4))
    assert Dataset("d", split, split, split, ("a",)).checksum == Dataset("d", same, same, same, ("a",)).checksum


def test_one_set_of_weights_is_neither_best_nor_last(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    vaekit.build("vae", event_shape=(1, 4, 4)).save(path)
    assert not vaekit.load(path, weights="best").training
    with pytest.raises(ConfigError, match=r"weights = 'last' is for runs, but .*model.safetensors has one set"):
        vaekit.load(path, weights="last")
    with pytest.raises(ConfigError, match=r"unknown weights 'nonsense'; known: best, last"):
        vaekit.load(path, weights="nonsense")


def test_the_kind_of_data_is_signal_or_left_out() -> None:
    with pytest.raises(ConfigError, match=r"unknown kind 'sig';.* [Kk]nown: signal$"):
        load("mnist", kind="sig")  # type: ignore[arg-type]


def test_a_cell_with_an_infinite_deviation_shows_its_mean() -> None:
    assert [str(Cell(12.0, sd, 3)) for sd in (math.nan, math.inf)] == ["12.00", "12.00"]
    assert str(Cell(12.0, 0.5, 3)) == "12.00 ± 0.50"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-90.12345, 1e-9, "-90.12345 ± 1.0e-09"),
        (1e-7, 1e-9, "1e-07 ± 1.0e-09"),
        (0.01234, 0.00034, "0.01234 ± 0.00034"),
        (5432.1, 123.0, "5432 ± 123"),
        (2.5, 0.25, "2.50 ± 0.25"),
    ],
)
def test_a_value_and_a_mean_over_seeds_are_printed_alike(value: float, error: float, text: str) -> None:
    assert str(vaekit.evaluation.Value("a", value, error, "")) == str(Cell(value, error, 3)) == text


def test_help_shows_the_present_spelling_of_an_option(command: Any) -> None:
    walks, latents = command("interpolate", "--help").out, command("traverse", "--help").out
    assert "--walks" in walks and "--rows" not in walks
    assert "--count" in latents and "--rows" not in latents and "--latents" not in latents
    sample = " ".join(command("sample", "--help").out.split())
    assert "for a table, .csv, .tsv, .parquet or .npy" in sample
