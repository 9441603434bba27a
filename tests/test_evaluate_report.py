"""Whole evaluations, of models and of runs: numbers called what they are, files, interruption, other data, bad input."""

import hashlib
import json
import math
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
import vaekit
from vaekit import build
from vaekit.data import Dataset, Split
from vaekit.errors import ConfigError, DataError, RunError
from vaekit.evaluation import Evaluation, compare, evaluate, evaluate_run, measure_contract, model_evaluation
from vaekit.evaluation.evaluation_file import RowSelection, is_outdated
from vaekit.evaluation.likelihood.ais import Annealing
from vaekit.evaluation.measure_contract import Findings, Measure
from vaekit.evaluation.samples import classifier as eyes
from vaekit.explorer.run_page import report
from vaekit.model import LatentVariableModel
from vaekit.runs import job, lifecycle, restore
from vaekit.runs.model_weights import check_weights
from vaekit.store import Run

QUICK = {"samples": 12, "seed": 3}
SHORT = Annealing(temperatures=5, chains=2, leapfrog=2)


@pytest.fixture(autouse=True)
def small_world(tmp_path_factory, monkeypatch) -> None:
    """The tiny data under every name, and a classifier that is kept for all of these tests."""
    cache = tmp_path_factory.getbasetemp() / "cache" / "data"
    monkeypatch.setattr(eyes, "cache_folder", lambda: cache)
    monkeypatch.setattr(eyes, "EPOCHS", 8)
    monkeypatch.setattr(restore.data, "load", lambda name, **_: tiny.dataset(name))


@pytest.fixture
def model() -> LatentVariableModel:
    return made()


def made(likelihood: str = "bernoulli", condition: str = "none") -> LatentVariableModel:
    torch.manual_seed(0)
    sections = {"model": {"latent_size": 3, "condition": condition}, "likelihood": {"name": likelihood}}
    sections |= {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}}
    return build("standard-vae", event_shape=(1, 8, 8), num_classes=3, **sections)


def grey(n: int = 40) -> Dataset:
    """Noise of 256 levels instead of stripes of two."""
    pixels = torch.randint(256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split(pixels, torch.arange(n) % 3)
    return Dataset("grey", split, split, split, ("a", "b", "c"), "9" * 64)


def grey_at_last() -> Dataset:
    """Black and white, but for one pixel of the last of 300 images."""
    pixels = 255 * (grey(300).test.x > 127).to(torch.uint8)
    pixels[-1, 0, 7, 7] = 100
    split = Split(pixels, torch.arange(300) % 3)
    return Dataset("grey at last", split, split, split, ("a", "b", "c"), "8" * 64)


def kinds(found: Evaluation) -> dict[str, str]:
    return {value.name: value.kind for value in found.values}


# -- one model ----------------------------------------------------------------------------------------------------------


def test_an_evaluation_has_everything(model: LatentVariableModel) -> None:
    found = evaluate(model, tiny.dataset(), annealing=SHORT, **QUICK)
    names = [value.name for value in found.values]
    assert len(names) == len(set(names))
    expected = ["elbo", "rate", "distortion", "L_1", "L_10", "L_12", "nll", "bits per dimension", "AIS"]
    assert [name for name in names if name in expected] == expected
    for name in ("BDMC gap, simulated data", "active units", "precision", "coverage", "linear probe accuracy"):
        assert name in names
    assert found["elbo"].value == pytest.approx(-found["rate"].value - found["distortion"].value)
    assert found["nll"].value == -found["L_12"].value
    assert found["bits per dimension"].value == pytest.approx(found["nll"].value / (64 * math.log(2)))
    assert found["bits per dimension"].standard_error == pytest.approx(found["nll"].standard_error / (64 * math.log(2)))
    assert found.protocol["likelihood"] == "probability"
    assert found.protocol["annealing"] == {
        "temperatures": 5,
        "chains": 2,
        "leapfrog": 2,
        "start": "posterior",
        "rows": 16,
    }
    assert len(found.details["kl by dimension"]) == 3
    assert set(found.details["classes"]) == {"rows", "columns", "corner"}
    assert found.details["samples"]["classifier"]["accuracy"] > 90
    assert set(found.pictures) == {"latents", "neighbours"}
    with pytest.raises(ConfigError, match=r"unknown value 'ebo'; did you mean 'elbo'\?"):
        found["ebo"]


def test_an_evaluation_is_determined_by_its_seed(model: LatentVariableModel) -> None:
    torch.manual_seed(1)
    first = evaluate(model, tiny.dataset(), **QUICK)
    torch.manual_seed(2)
    assert evaluate(model, tiny.dataset(), **QUICK).values == first.values
    assert evaluate(model, tiny.dataset(), samples=12, seed=4).values != first.values


def test_it_survives_json(model: LatentVariableModel) -> None:
    found = evaluate(model, tiny.dataset(), judge=False, **QUICK)
    table = json.loads(json.dumps(found.to_json()))
    again = Evaluation.from_json(table)
    assert again.values == found.values
    assert again.to_json() == table
    for damage in ({}, [], {**table, "format": 99}, {**table, "values": [{"name": "x"}]}, {**table, "values": 3}):
        with pytest.raises(RunError, match="evaluate the run again"):
            Evaluation.from_json(damage)


@pytest.mark.parametrize(
    ("likelihood", "data", "binarize", "kind", "bits"),
    [
        ("bernoulli", "binary", "none", "lower bound", True),
        ("bernoulli", "grey", "none", "not a likelihood", False),
        ("bernoulli", "grey at last", "none", "not a likelihood", False),
        ("bernoulli", "grey", "fixed", "lower bound", True),
        ("bernoulli", "grey", "per-epoch", "lower bound", True),
        ("bernoulli", "grey", "threshold", "lower bound", True),
        ("beta-binomial", "grey", "none", "lower bound", True),
        ("discretized-logistic-mixture", "grey", "none", "lower bound", True),
        ("normal", "grey", "none", "lower bound", False),
        ("continuous-bernoulli", "grey", "none", "lower bound", False),
    ],
)
def test_numbers_are_called_what_they_are(likelihood: str, data: str, binarize: str, kind: str, bits: bool) -> None:
    dataset = {"binary": tiny.dataset, "grey": grey, "grey at last": grey_at_last}[data]()
    annealing = SHORT if binarize == "none" and likelihood == "bernoulli" else None
    found = evaluate(made(likelihood), dataset, binarize=binarize, judge=False, annealing=annealing, **QUICK)
    of = kinds(found)
    assert of["elbo"] == of["L_10"] == of.get("AIS", kind) == kind
    assert of["nll"] == ("upper bound" if kind == "lower bound" else kind)
    assert of["rate"] == "estimate"
    assert of.get("BDMC upper, simulated data", "upper bound") == "upper bound"  # what it makes is in its support
    assert ("bits per dimension" in of) is bits
    assert any("not a log-likelihood" in sentence for sentence in found.warnings) is (kind == "not a likelihood")
    assert found.protocol["likelihood"].startswith(
        "not a likelihood" if kind == "not a likelihood" else "probability" if bits else "density"
    )


def test_one_grey_image_among_all_makes_the_numbers_a_loss(model: LatentVariableModel) -> None:
    dataset = tiny.dataset()
    binary = dataset.test.x.repeat(8, 1, 1, 1)  # 128 images, more than a batch of them
    for last, kind in ((binary[-1:], "upper bound"), (binary[-1:] // 2, "not a likelihood")):
        split = Split(torch.cat((binary[:-1], last)), torch.arange(128) % 3)
        found = evaluate(model, replace(dataset, test=split), judge=False, **QUICK)
        assert kinds(found)["nll"] == kind


@pytest.mark.parametrize("binarize", ["threshold", "fixed"])
def test_images_are_binarized_as_in_training(binarize: str) -> None:
    from vaekit.data import Batches

    dataset = grey()
    images, _ = next(iter(Batches(dataset.test, batch_size=40, binarize=binarize)))
    floats = Split(dataset.test.x / 255, dataset.test.labels)

    def prepared(split: Split, how: str) -> Tensor:
        return measure_contract.evaluated_values(made("bernoulli"), split, how)

    assert torch.equal(prepared(dataset.test, binarize) / 255, images)
    assert torch.equal(prepared(floats, binarize), images)
    assert prepared(dataset.test, "none").data_ptr() == dataset.test.x.data_ptr()
    assert torch.equal(prepared(dataset.test, "per-epoch"), prepared(dataset.test, "fixed"))


def test_conditional_models_are_told_the_class() -> None:
    found = evaluate(made(condition="class"), tiny.dataset(), **QUICK)
    assert "recognised as the class asked for" in kinds(found)
    assert "recognised" in found.details["classes"]["rows"]
    assert any("encoder was given these classes" in sentence for sentence in found.warnings)


def test_fewer_images_are_evenly_spread(model: LatentVariableModel) -> None:
    whole = evaluate(model, tiny.dataset(), judge=False, split="train", **QUICK)
    few = evaluate(model, tiny.dataset(), judge=False, split="train", rows=20, **QUICK)
    assert whole.protocol["rows"] == len(tiny.dataset().train) and few.protocol["rows"] == 20
    assert few.per_row["elbo"].shape == (20,)
    assert few["elbo"].standard_error > whole["elbo"].standard_error
    assert few.protocol["choice of rows"] == "evenly spread" and "choice of rows" not in whole.protocol


def test_few_rows_of_a_sorted_split_have_all_classes(model: LatentVariableModel, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        model_evaluation, "MEASURES", (Measure(lambda inputs: seen.append(inputs.stored_rows) or Findings()),)
    )
    train = tiny.dataset().train
    in_order = replace(tiny.dataset(), test=train.rows(train.labels.argsort(stable=True)))
    evaluate(model, in_order, rows=12)
    assert seen[0].labels.bincount().tolist() == [5, 4, 3]


def test_what_a_classifier_cannot_judge_is_left_out(model: LatentVariableModel) -> None:
    split = tiny.dataset().test
    same = Split(split.x, 0 * split.labels)
    one = Dataset("one", same, same, same, ("a",), "7" * 64)
    found = evaluate(model, one, **QUICK)
    assert found.details["samples"].startswith("not judged: a classifier needs 8-bit images of at least 2 classes")
    assert "linear probe accuracy" not in kinds(found)
    few = evaluate(model, tiny.dataset(), rows=5, **QUICK)
    assert few.details["samples"] == "not judged: it takes at least 10 images, to learn from and to compare with"
    digits = tiny.dataset()
    unlabelled = [Split(part.x) for part in (digits.train, digits.validation, digits.test)]
    found = evaluate(model, Dataset("plain", *unlabelled, ("a", "b", "c"), "8" * 64), **QUICK)
    assert found.details["samples"] == "not judged: a classifier needs labels, and the images of 'plain' have none"


def test_a_classifier_is_trained_where_no_test_image_has_a_class(model: LatentVariableModel) -> None:
    digits = tiny.dataset()
    whole = evaluate(model, digits, split="validation", **QUICK).details["samples"]["classifier"]["accuracy"]
    assert whole > 50
    for test in (digits.test.rows(slice(0)), replace(digits.test, labels=torch.full((16,), -1))):
        data = replace(digits, test=test, checksum=str(len(test)) * 64)
        found = evaluate(model, data, split="validation", **QUICK)
        assert found.details["samples"]["classifier"]["accuracy"] is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"samples": 0}, ConfigError, "samples must be at least 1, got 0; papers report 5000"),
        ({"split": "tset"}, ConfigError, "unknown split 'tset'; did you mean 'test'"),
        ({"rows": 0}, ConfigError, "rows must be at least 1, got 0"),
        ({"binarize": "fixd"}, ConfigError, "unknown binarization 'fixd'; did you mean 'fixed'"),
        ({"memory": 10}, ConfigError, "memory must be at least 1048576"),
    ],
)
def test_what_cannot_be_is_refused(model: LatentVariableModel, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        evaluate(model, tiny.dataset(), **options)


def test_an_empty_split_names_those_with_images(model: LatentVariableModel) -> None:
    whole = tiny.dataset()
    empty = Split(whole.test.x[:0], whole.test.labels[:0])
    dataset = Dataset("d", whole.train, empty, whole.test, whole.classes, whole.checksum)
    with pytest.raises(DataError, match="validation split of 'd' has 0 rows; choose one of: train, test"):
        evaluate(model, dataset, split="validation")


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> Run:
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    return lifecycle.train_run(tiny.tiny(epochs=1), name="small", root=tmp_path)


def values(found: Evaluation) -> dict[str, float]:
    return {value.name: value.value for value in found.values}


def test_a_run_is_evaluated_with_its_own_model(run: Run) -> None:
    other = build("standard-vae", event_shape=(1, 8, 8), encoder={"hidden": [9]}, decoder={"hidden": [9]})
    with pytest.raises(ConfigError, match="this is not the model of run small"):
        evaluate_run(run, other, **QUICK)
    changed = vaekit.load(run)
    with torch.no_grad():
        next(changed.parameters()).add_(1.0)
    restored = restore.RestoredRun.of(run)
    assert check_weights(run, changed) == ["the weights of this model are not those of run small"]
    for weights in ("best", "last"):
        assert check_weights(run, restored.model(weights=weights)) == []


def test_a_run_is_evaluated_into_its_folder(run: Run) -> None:
    found = evaluate_run(run, vaekit.load(run), **QUICK)
    table = run.read_json("evaluation.json")
    assert Evaluation.from_json(table).values == found.values
    assert found.protocol["binarize"] == "one fixed draw (trained on a new draw for every epoch)"
    assert found.protocol["checksum"] == run.environment["data"]["checksum"]
    for picture in table["details"]["pictures"]:
        assert (run.path / picture).stat().st_size > 1000
    from safetensors.torch import load_file

    kept = load_file(run.path / table["details"]["per row"])
    assert kept["L_12"].mean().item() == pytest.approx(found["L_12"].value)
    assert found.warnings == table["warnings"]
    assert not tiny.litter(run.path)


def test_an_interrupted_evaluation_of_a_run_goes_on(run: Run) -> None:
    trained = vaekit.load(run)
    options = {"split": "train", "annealing": SHORT, **QUICK}
    expected = values(evaluate_run(run, trained, **options))
    for file in (run.path / "evaluation").iterdir():
        file.unlink()

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("bdmc", 1):
            raise KeyboardInterrupt

    stages: list[tuple[str, int]] = []
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, trained, listener=stop, **options)
    resumed = evaluate_run(run, trained, listener=lambda stage, done, total: stages.append((stage, done)), **options)
    assert values(resumed) == pytest.approx(expected, nan_ok=True)
    assert [stage for stage in stages if stage[0] in ("bounds", "ais", "bdmc")] == [("bdmc", 2)]


@pytest.mark.parametrize("change", [{"seed": 4}, {"samples": 13}, {"split": "validation"}, {"rows": 9}, "weights"])
def test_what_was_kept_is_not_used_for_anything_else(run: Run, change) -> None:
    stages: list[str] = []
    trained = vaekit.load(run)
    evaluate_run(run, trained, **QUICK)
    evaluate_run(run, trained, listener=lambda stage, *_: stages.append(stage), **QUICK)
    assert "bounds" not in stages
    if change == "weights":
        with torch.no_grad():
            next(trained.parameters()).add_(1.0)
    options = QUICK | (change if isinstance(change, dict) else {})
    evaluate_run(run, trained, listener=lambda stage, *_: stages.append(stage), **options)
    assert "bounds" in stages


def test_damaged_batches_are_computed_anew(run: Run) -> None:
    trained = vaekit.load(run)
    expected = values(evaluate_run(run, trained, **QUICK))
    for file in (run.path / "evaluation").glob("bounds-*"):
        file.write_bytes(b"nonsense")
    assert values(evaluate_run(run, trained, **QUICK)) == pytest.approx(expected, nan_ok=True)


def test_other_data_are_said_loudly_and_kept_apart(run: Run) -> None:
    trained = vaekit.load(run)
    evaluate_run(run, trained, **QUICK)
    before = (run.path / "evaluation.json").read_bytes()
    found = evaluate_run(run, trained, data_name="kmnist", **QUICK)
    assert found.warnings[0] == "evaluated on kmnist, but the run was trained on mnist"
    assert "precision" not in values(found)
    assert found.details["samples"] == "not judged: samples are compared with the run's own data only"
    assert "samples" not in evaluate_run(run, trained, data_name="kmnist", judge=False, **QUICK).details
    assert (run.path / "evaluation.json").read_bytes() == before
    assert found.details["file"] == f"evaluation-on-kmnist-{tiny.dataset().checksum[:8]}.json"
    assert run.read_json(found.details["file"])["protocol"]["data"] == "kmnist"


def test_no_name_of_other_data_takes_the_file_of_a_split_or_of_other_data(run: Run, monkeypatch) -> None:
    def named(self: restore.RestoredRun, name: str) -> Dataset:
        return replace(tiny.dataset(name), checksum=hashlib.sha256(name.encode()).hexdigest())

    monkeypatch.setattr(restore.RestoredRun, "_other_dataset", named)
    trained, quick = vaekit.load(run), {"samples": 2, "judge": False}
    for split in ("test", "validation"):
        evaluate_run(run, trained, split=split, **quick)
    own = {name: (run.path / name).read_bytes() for name in ("evaluation.json", "evaluation-validation.json")}
    names = (".", "validation", "train", "a/b", "a-b", "on", "é" * 200)
    names_of_files = {evaluate_run(run, trained, data_name=name, **quick).details["file"] for name in names}
    assert len(names_of_files) == len(names)
    assert {name: (run.path / name).read_bytes() for name in own} == own
    for name in names:
        assert Evaluation.of_run(run, RowSelection(data=name)).protocol["data"] == name
    assert Evaluation.of_run(run, RowSelection("validation", data="a/b")) is None
    earlier = Evaluation.of_run(run, RowSelection(data="a/b")).to_json()
    run.write_json("evaluation-train.json", {**earlier, "protocol": earlier["protocol"] | {"data": "mnist"}})
    assert Evaluation.of_run(run, RowSelection(data="train")).protocol["data"] == "train"
    run.write_json("evaluation-new-x.npy.json", {**earlier, "protocol": earlier["protocol"] | {"data": "new/x.npy"}})
    assert Evaluation.of_run(run, RowSelection(data="./new/x.npy")).protocol["data"] == "new/x.npy"


def test_an_evaluation_of_other_weights_is_not_shown_as_the_present_result(run: Run, tmp_path: Path) -> None:
    other = Run.open(shutil.copytree(run.path, tmp_path / "other"))
    for each in (run, other):
        evaluate_run(each, vaekit.load(each), **QUICK)
    shown = str(Evaluation.of_run(run)["nll"])

    def tells(expected: bool) -> None:
        """Whether everything that shows the evaluation says instead that it is of other weights."""
        card = (vaekit.export(run, tmp_path / "export") / "README.md").read_text()
        for text in (card, report([run]), report([run, other])):
            assert ("other weights" in text) == expected
        assert (f"| nll | {shown}" not in card) == (f"{shown} nats" not in report([run])) == expected
        assert ("Posterior means of test images, of" in report([run])) != expected
        if expected:
            with pytest.raises(RunError, match=r"run small: evaluation.json is of other weights .*; evaluate it again"):
                compare([run, other])
        else:
            assert compare([run, other], columns=["nll"]).repeats == {}

    environment = Path(other.path, "environment.json")
    environment.write_text(json.dumps(other.environment | {"seed": 1}))
    config = Path(other.path, "config.toml")
    config.write_text(config.read_text().replace("seed = 0", "seed = 1"))
    other = Run.open(other.path)
    tells(False)
    stored = run.load_checkpoint("best")
    with run.lock():
        run.save_checkpoint(stored.tensors, stored.state, kind="best")
    tells(False)  # the same weights
    with run.lock():
        run.save_checkpoint(
            {k: v + v.is_floating_point() for k, v in stored.tensors.items()}, stored.state, kind="best"
        )
    tells(True)
    evaluate_run(run, vaekit.load(run), **QUICK)
    shown = str(Evaluation.of_run(run)["nll"])
    tells(False)


def test_an_evaluation_of_other_weights_has_files_of_its_own(run: Run) -> None:
    best, last = vaekit.load(run), run.load_checkpoint("last")
    with run.lock():
        run.save_checkpoint({k: v + 1 if v.is_floating_point() else v for k, v in last.tensors.items()}, last.state)
    evaluate_run(run, best, **QUICK)
    whole = {file: file.read_bytes() for file in run.path.rglob("*evaluation*") if file.is_file()}
    others = [vaekit.load(run, weights="last"), vaekit.load(run)]
    with torch.no_grad():
        next(others[1].parameters()).add_(1.0)
    names = [evaluate_run(run, other, rows=rows, **QUICK).details["file"] for other in others for rows in (None, 9)]
    assert names[:2] == ["evaluation-last.json", "evaluation-9-rows-last.json"]
    digits = names[2].removeprefix("evaluation-weights-").removesuffix(".json")
    assert len(digits) == 8 and names[3] == f"evaluation-9-rows-weights-{digits}.json"
    assert {file: file.read_bytes() for file in whole} == whole and not is_outdated(run)
    assert not any(is_outdated(run, name) for name in names)
    stored = run.load_checkpoint("last")
    with run.lock():
        run.save_checkpoint({k: v - 1 if v.is_floating_point() else v for k, v in stored.tensors.items()}, stored.state)
    assert [is_outdated(run, name) for name in names] == [True, True, False, False]
    with run.lock():
        run.save_checkpoint(stored.tensors, stored.state)
    Path(run.path, "checkpoints", "best").rename(run.path / "gone")
    assert evaluate_run(run, others[0], **QUICK).details["file"] == "evaluation.json"  # the run has no better ones


def test_an_earlier_evaluation_is_outdated_if_the_run_was_resumed_after_it(run: Run) -> None:
    evaluate_run(run, vaekit.load(run), **QUICK)
    table = run.read_json("evaluation.json")
    del table["details"]["weights"]  # as earlier versions wrote it
    run.write_json("evaluation.json", table)
    assert not is_outdated(run) and Evaluation.of_present_weights(run) is not None
    for days, expected in ((-1, False), (1, True)):
        began = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        with run.lock():
            run.record(sessions=[{"began": began, "epoch": 1, "settings": {}}])
        assert is_outdated(run) is expected


def test_data_that_changed_under_a_run_are_noticed(run: Run, monkeypatch) -> None:
    def changed(name: str, **_: object) -> Dataset:
        whole = tiny.dataset(name)
        return Dataset(name, whole.train, whole.validation, whole.test, whole.classes, "f" * 64)

    monkeypatch.setattr(restore.data, "load", changed)
    found = evaluate_run(run, vaekit.load(run), **QUICK)
    assert found.warnings[0] == "the files of 'mnist' are not those that the run was trained on"


def test_data_of_another_shape_are_refused(run: Run, monkeypatch) -> None:
    def wide(name: str, **_: object) -> Dataset:
        split = Split(torch.zeros(20, 3, 8, 8, dtype=torch.uint8), torch.zeros(20, dtype=torch.long))
        return Dataset(name, split, split, split, ("a", "b"), "e" * 64)

    monkeypatch.setattr(restore.data, "load", wide)
    with pytest.raises(DataError, match=r"takes rows of shape \(1, 8, 8\), 'svhn' has \(3, 8, 8\)"):
        evaluate_run(run, vaekit.load(run), data_name="svhn")


def test_the_weights_that_are_evaluated_are_those_of_the_run(run: Run) -> None:
    found = evaluate_run(run, vaekit.load(run), samples=300, split="test")
    tested = run.read_json("test.json")
    error = found["elbo"].standard_error
    assert abs(found["elbo"].value + tested["neg_elbo"]) < 4 * error  # one sample per image there, 300 here


def tensor_bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def test_what_is_kept_of_an_image_is_little(model: LatentVariableModel) -> None:
    found = evaluate(model, tiny.dataset(), judge=False, samples=5000)
    assert tensor_bytes(found.per_row) / 16 < 250
