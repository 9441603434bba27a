"""What the command does, as functions: the most natural calls work."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import tiny
import vaekit
from vaekit.config import building, read
from vaekit.config.recipe import Recipe
from vaekit.errors import ConfigError, RunError
from vaekit.evaluation import evaluate_run, fitted_prior, rows_of, score_run
from vaekit.evaluation.samples import classifier as eyes
from vaekit.runs import job, restore
from vaekit.runs.repetition import repeat_run
from vaekit.store import journal
from vaekit.training.loop import in_epochs

SMALL = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    monkeypatch.setattr(restore.data, "load", lambda name, **_: tiny.dataset(name))


def test_a_training_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))  # installed and imported is not running
    run = vaekit.train("standard-vae", epochs=2, latent_size=2, seed=3, batch_size=16, **SMALL)
    assert run.status == "finished"
    assert run.path.parent.name == "runs"
    assert len(run.metrics()) == 2
    assert run.config["train"]["seed"] == 3
    assert capsys.readouterr().err == ""  # no terminal
    model = vaekit.load(run)
    assert model.latent_size == 2
    assert [one.name for one in vaekit.list_runs()] == [run.name]


def test_progress_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    vaekit.train("standard-vae", epochs=1, name="r", progress=True, **SMALL)
    assert "epoch 1/1" in capsys.readouterr().err


def test_a_wrong_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cvae'"):
        vaekit.train("cave")
    with pytest.raises(ConfigError, match=r"did you mean train=\{'epochs': 3\}\?"):
        vaekit.train("vae", epoch=3)
    with pytest.raises(
        ConfigError, match=r"by name or path, or as a table of options, got ndarray; pass data=vaekit\.data\.load"
    ):
        vaekit.train(data=np.zeros((4, 3)))
    assert not Path("runs").exists()


def test_every_key_of_the_data_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        job, "load_data", lambda name, **options: asked.append({"name": name, **options}) or tiny.dataset()
    )
    section = {"name": "fashion-mnist", "labelled": 10, "validation": 5, "binarize": "fixed"}
    run = vaekit.train("standard-vae", data=section, epochs=1, **SMALL)
    assert {key: run.config["data"][key] for key in section} == section
    assert asked[0]["labelled"] == 10 and asked[0]["validation"] == 5
    assert vaekit.train("standard-vae", data={"binarize": "fixed"}, epochs=1, **SMALL).config["data"]["name"] == "mnist"
    monkeypatch.setattr(building, "load", lambda **options: asked.append(options) or tiny.dataset())
    model = vaekit.build("m2", data={"labelled": 100}, latent_size=2, encoder={"hidden": [3]}, decoder={"hidden": [3]})
    assert asked[-1]["name"] == "mnist" and asked[-1]["labelled"] == 100
    assert model.event_shape == tiny.dataset().event_shape
    with pytest.raises(ConfigError, match=r"did you mean data=\{'size': 32\}\?"):
        vaekit.train("vae", size=32)
    with pytest.raises(ConfigError, match=r"did you mean 'data\.name'"):
        vaekit.train("vae", data={"nam": "mnist"})


def test_a_training_is_as_long_as_its_journal_may_be() -> None:
    vaekit.build("vae", event_shape=(4,), train={"epochs": journal.MOST_EPOCHS})
    with pytest.raises(ConfigError, match=f"less than or equal to {journal.MOST_EPOCHS}"):
        vaekit.build("vae", event_shape=(4,), train={"epochs": journal.MOST_EPOCHS + 1})
    assert in_epochs(read("vae").train.model_copy(update={"steps": 2 * journal.MOST_EPOCHS}), 2)[0].epochs == 100_000
    with pytest.raises(ConfigError, match=r"steps must be at most 800000 \(100000 epochs of 8 batches\), got 800001"):
        vaekit.train("standard-vae", steps=800_001, batch_size=8, **SMALL)
    assert not Path("runs").exists()


def test_a_run_and_a_model_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eyes, "FEWEST", 10**9, raising=False)
    run = vaekit.train("standard-vae", epochs=1, name="r", **SMALL)
    by_name = vaekit.evaluate("r", samples=2, rows=4)
    assert by_name["elbo"].unit == "nats"
    assert by_name.protocol["samples"] == 2
    model = vaekit.load(run)
    assert vaekit.evaluate(model, tiny.dataset(), samples=2, rows=4)["elbo"].value == by_name["elbo"].value
    with pytest.raises(ConfigError, match=r"evaluate\(model, vaekit.data.load"):
        vaekit.evaluate(model)


def test_names_of_data_mean_the_same_however_they_are_spelled(tmp_path: Path) -> None:
    run = vaekit.train("standard-vae", epochs=1, name="r", **SMALL)
    restored = restore.RestoredRun.of(run)
    assert restored.is_own("MNIST") and restored.is_own(None) and not restored.is_own("fashion-mnist")
    (tmp_path / "mnist").mkdir()
    assert not restored.is_own("./mnist")  # a folder of one's own
    for typed, meant in (("FashionMNIST", "fashion-mnist"), ("./mnist", str(tmp_path / "mnist"))):
        assert Recipe.resolve(read("vae", sections={"data": {"name": typed}})).config.data.name == meant


def test_latents_of_any_numeric_type_are_decoded_and_a_misfit_changes_no_weight(tmp_path: Path) -> None:
    model = vaekit.build("vae", event_shape=(1, 8, 8), latent_size=2)
    z = np.zeros((3, 2))
    assert torch.equal(model.decode(z), model.decode(torch.zeros(3, 2)))
    assert torch.equal(model.decode(z.astype(int)), model.decode(torch.zeros(3, 2)))
    vaekit.build("vae", event_shape=(1, 8, 8), latent_size=3).save(tmp_path / "other.safetensors")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RunError, match="the weights of another model"):
        model.load(tmp_path / "other.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_restored_run_goes_where_a_run_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_for_verbs.py").write_text("from vaekit.priors import StandardNormal as Mine\n")
    run = vaekit.train("standard-vae", epochs=1, name="r", trust=True, prior={"name": "mine_for_verbs:Mine"}, **SMALL)
    restored = restore.RestoredRun.of("r", trust=True)
    assert restore.RestoredRun.of(restored) is restored
    model = restored.model()
    assert model.state_dict().keys() == vaekit.load(run, trust=True).state_dict().keys()
    rows = rows_of(restored)
    uses = (
        lambda run: rows_of(run).names,
        lambda run: score_run(run, model, rows, samples=2).values["nll"].tolist(),
        lambda run: evaluate_run(run, model, samples=2, rows=4)["elbo"].value,
        lambda run: fitted_prior(run, model, "normal").sample(1).shape,
        lambda run: vaekit.explore(run, images=2).embeds,
        lambda run: vaekit.export(run, tmp_path / "export").name,
        lambda run: repeat_run(run).agrees,
    )
    for use in uses:
        with pytest.raises(ConfigError, match="trust=True"):
            use(run)
        assert use(restored)


def test_presets_say_what_they_are() -> None:
    known = vaekit.presets()
    assert {"vae", "cvae", "course-vae", "standard-vae"} <= known.keys()
    assert all(known.values())


def test_a_run_is_never_evaluated_on_other_data_than_were_given() -> None:
    vaekit.train("standard-vae", epochs=1, name="r", **SMALL)
    with pytest.raises(ConfigError, match=r"evaluate\(vaekit.load\(run\), data\)"):
        vaekit.evaluate("r", tiny.dataset("other"))
