"""`vae encode` and `vae score`: single images of one's own, as the run takes them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from test_cli import assert_refused
from vaekit import config, evaluate, load
from vaekit.cli.common import file_stem
from vaekit.data import Batch, Split
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.likelihood.bounds import bounds
from vaekit.evaluation.missing import conditional
from vaekit.evaluation.missing.imputation import weighted_latents
from vaekit.evaluation.run_evaluation import evaluate_run
from vaekit.evaluation.single_rows import named_rows, scoring
from vaekit.runs import job, lifecycle
from vaekit.store import Run


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A run on the tiny stripes and a conditional one."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "load_data", tiny.dataset)
        patch.setattr(job, "draw_pictures", lambda *_, **__: [])
        for name, condition in (("plain", "none"), ("asked", "class")):
            sections = {"encoder": {"hidden": [16]}, "decoder": {"hidden": [16]}}
            sections |= {"model": {"latent_size": 2, "condition": condition}}
            sections |= {"train": {"epochs": 8, "batch_size": 8, "learning_rate": 0.01, "device": "cpu"}}
            lifecycle.train_run(config.read("course-vae", sections=sections), name=name, root=folder)
    return folder


@pytest.fixture(autouse=True)
def stripes(monkeypatch) -> None:
    monkeypatch.setattr(named_rows.data, "load", lambda name="mnist", **_: tiny.dataset(name))


@pytest.fixture
def command(command, root: Path):
    return lambda verb, run, *arguments: command(verb, run, *arguments, "--runs", root, "--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Test images in subfolders that are two of the run's three classes, the last one first."""
    test = tiny.dataset().test
    for i, (image, label) in enumerate(zip(test.x, test.labels, strict=True)):
        name = {0: None, 1: "columns", 2: "corner"}[int(label)]
        if name is not None:
            place = tmp_path / "photos" / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(place / f"{i:02d}.png")
    return tmp_path / "photos"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def in_order(folder: Path) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Names, pixels in [0, 1] and the run's own numbers of the classes, read without the code under test."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(folder / name))) for name in names])
    labels = torch.tensor([("rows", "columns", "corner").index(name.split("/")[0]) for name in names])
    return names, pixels[:, None] / 255, labels


@pytest.mark.parametrize("run", ["plain", "asked"])
def test_latents_are_those_of_the_model_under_the_names_of_the_files(command, root, folder, tmp_path, run) -> None:
    names, x, labels = in_order(folder)
    model = load(root / run)
    expected = model.encode(x, labels if run == "asked" else None).numpy()
    for suffix in ("csv", "npy", "npz"):
        out = tmp_path / f"z.{suffix}"
        found = command("encode", run, "--data", folder, "-o", out)
        assert (found.status, found.out.strip()) == (0, str(out)), found.err
    table = rows(tmp_path / "z.csv")
    with np.load(tmp_path / "z.npz") as stored:
        archive = dict(stored)
    assert [row["image"] for row in table] == names == archive["images"].tolist()
    assert [row["class"] for row in table] == [name.split("/")[0] for name in names] == archive["classes"].tolist()
    np.testing.assert_allclose([[float(row[f"z{i}"]) for i in (1, 2)] for row in table], expected, rtol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), expected, rtol=1e-5)
    np.testing.assert_allclose(archive["z"], expected, rtol=1e-5)
    other = model.encode(x, (labels + 1) % 3) if run == "asked" else model.encode(1 - x)
    assert not np.allclose(expected, other.numpy(), atol=1e-3)


def test_scores_are_bounds_ranked_against_the_test_images(command, root: Path, folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(folder / "columns" / "grey.png")
    names, x, _ = in_order(folder)
    model = load(root / "plain")
    expected = -bounds(model, x, samples=(7,)).per_row["L_7"].numpy()
    reference = -bounds(model, tiny.dataset().test.x, samples=(7,)).per_row["L_7"].numpy()
    found = command("score", "plain", "--data", folder, "--samples", 7, "-o", tmp_path / "scores.csv")
    assert found.status == 0, found.err
    table = rows(tmp_path / "scores.csv")
    assert [row["image"] for row in table] == names
    nll = np.array([float(row["nll"]) for row in table])
    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    ranks = [100 * np.mean(reference < value) for value in expected]
    np.testing.assert_allclose([float(row["percentile"]) for row in table], ranks, rtol=1e-5)
    assert all(float(row["distortion"]) + float(row["rate"]) >= float(row["nll"]) - 1 for row in table)
    first = found.out.splitlines()[1].split()
    assert first[0] == names[int(nll.argmax())]
    with Image.open(root / "plain" / "samples" / f"least-likely-{file_stem(str(folder))}.png") as picture:
        assert min(picture.size) > 100


def test_every_block_of_rows_has_noise_of_its_own(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(named_rows, "SERVED_AT_A_TIME", 3)
    model = load(root / "plain")
    x = tiny.dataset().test.x[:1].expand(6, -1, -1, -1)
    images = named_rows.NamedRows("six of one", Split(x, torch.zeros(6, dtype=torch.long)), [""] * 6, [""] * 6, "none")
    found = scoring.score_rows(model, images, samples=2)["nll"]
    first = -bounds(model, x[:3], samples=(2,)).per_row["L_2"]
    assert torch.equal(found[:3], first)
    assert not bool((found[3:] == first).any())


def test_scores_have_the_noise_of_all_rows_at_once(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(named_rows, "SERVED_AT_A_TIME", 200)
    model = load(root / "plain")
    x = tiny.dataset().test.x[:1].expand(250, -1, -1, -1)
    images = named_rows.NamedRows("one", Split(x), [""] * 250, [""] * 250, "none")
    found = scoring.score_rows(model, images, samples=2)["nll"]
    torch.testing.assert_close(found, -bounds(model, x, samples=(2,)).per_row["L_2"])
    other = scoring.score_rows(model, images, samples=2, seed=1)["nll"]
    assert not bool((found[200:] == other[:50]).any())  # block 1 of seed 0 and block 0 of seed 1


def test_scores_of_pixels_add_up_to_the_distortion(command, root: Path, folder: Path, tmp_path: Path) -> None:
    found = command("score", "plain", "--data", folder, "--samples", 1, "--pixels", tmp_path / "pixels.npy")
    assert found.status == 0, found.err
    pixels = np.load(tmp_path / "pixels.npy")
    _, x, _ = in_order(folder)
    (part,) = weighted_latents(load(root / "plain"), Batch(x), 1, seed=0)
    distortion = -part.draw.likelihood.log_prob(x)[0]
    assert pixels.shape == tuple(x.shape)
    np.testing.assert_allclose(pixels.sum((1, 2, 3)), distortion.detach().numpy(), rtol=1e-5)
    assert_refused(command("score", "plain", "--pixels", tmp_path / "pixels.csv"), "must end in .npy")


def test_scores_of_values_that_a_likelihood_does_not_give_are_refused_before_the_work(
    command, root: Path, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    scored: list[str] = []
    monkeypatch.setattr(conditional, "log_prob_of_values", refused := Refused())
    monkeypatch.setattr(scoring, "score_rows", lambda _, rows, **__: scored.append(rows.name))
    path = tmp_path / "pixels.npy"
    assert_refused(command("score", "plain", "--data", folder, "--samples", 50, "--pixels", path), "not of each value")
    assert refused.calls == 1 and not scored and not path.exists()


class Refused:
    """A likelihood's density of each value, which it does not have."""

    calls = 0

    def __call__(self, *_: object) -> torch.Tensor:
        self.calls += 1
        raise ConfigError("not of each value")


def test_scores_that_say_nothing_come_with_a_warning(command, root: Path, folder: Path, tmp_path: Path) -> None:
    """The cross-entropy of grey pixels has no minimum at the pixels themselves: what is unusual gets the best score."""
    binary = command("score", "plain", "--data", folder, "--samples", 3)
    assert "beware" not in binary.out
    assert json.loads(command("score", "plain", "--data", folder, "--samples", 3, "--json").out)["warnings"] == []
    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(folder / "corner" / "zz-grey.png")  # one, the very last
    grey = command("score", "plain", "--data", folder, "--samples", 3)
    assert "beware" in grey.out and "'normal'" in grey.out and "'discretized-logistic'" in grey.out
    (sentence,) = json.loads(command("score", "plain", "--data", folder, "--samples", 3, "--json").out)["warnings"]
    assert "not a log-likelihood" in sentence


def test_by_default_the_test_images_go_into_the_run_folder(command, root: Path) -> None:
    found = command("score", "plain", "--samples", 3, "--json")
    result = json.loads(found.out)
    assert result["files"][0] == str(root / "plain" / "scores" / "mnist-test.csv")
    assert all(Path(file).is_file() for file in result["files"]) and len(result["files"]) == 2
    table = rows(Path(result["files"][0]))
    assert [row["image"] for row in table] == [str(i) for i in range(16)]
    assert max(float(row["percentile"]) for row in table) == pytest.approx(100 * 15 / 16)
    assert result["least_likely"][0]["nll"] == pytest.approx(max(float(row["nll"]) for row in table), rel=1e-5)
    assert Path(command("encode", "asked", "--split", "validation").out.strip()).name == "mnist-validation.npz"


def test_a_folder_is_read_as_the_runs_own_was(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.undo()
    noise = np.random.default_rng(0)
    for name in ("own", "new"):
        (tmp_path / name).mkdir()
    for i in range(20):
        Image.fromarray(noise.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(tmp_path / "own" / f"{i}.png")
    for i in range(3):  # grey, and of several sizes
        Image.fromarray(noise.integers(0, 256, (12 + i, 9), dtype=np.uint8)).save(tmp_path / "new" / f"{i}.png")
    sections = {"data": {"name": str(tmp_path / "own"), "size": 8}, "train": {"epochs": 1, "batch_size": 8}}
    sections |= {"encoder": {"hidden": [4]}, "decoder": {"hidden": [4]}}
    run = lifecycle.train_run(config.read("course-vae", sections=sections), name="own", root=tmp_path / "runs")
    images = named_rows.rows_of(run, str(tmp_path / "new"))
    assert images.split.x.shape == (3, 3, 8, 8) and list(images.names) == ["0.png", "1.png", "2.png"]
    assert named_rows.encode_rows(load(run), images).shape == (3, 15)


def of_classes(*names: str):
    """`load` of the stripes of some classes only, which are numbered in this order and may have other names."""

    def load(name: str = "mnist", **_):
        whole = tiny.dataset(name)
        numbers = [whole.classes.index("rows" if name == "wolf" else name) for name in names]
        splits = {}
        for key, split in whole.splits.items():
            rows = torch.isin(split.labels, torch.tensor(numbers)).nonzero().flatten()
            labels = torch.tensor([numbers.index(label) for label in split.labels[rows].tolist()])
            splits[key] = replace(split.rows(rows), labels=labels)
        return replace(whole, classes=names, **splits)

    return load


def test_classes_of_other_data_are_numbered_by_name(root: Path, monkeypatch) -> None:
    run, model = Run.open("asked", root=root), load(root / "asked")
    own = tiny.dataset()
    for names in (("corner", "columns"), ("corner", "rows", "columns")):
        monkeypatch.setattr(named_rows.data, "load", of_classes(*names))
        found = evaluate_run(run, model, samples=4, data_name="svhn")
        rows = named_rows.rows_of(run, "svhn")
        kept = torch.isin(own.test.labels, torch.tensor([own.classes.index(name) for name in names]))
        x, labels = own.test.x[kept], own.test.labels[kept]
        expected = bounds(model, Batch(x, labels=labels), samples=(4,)).per_row["L_4"]
        torch.testing.assert_close(found.per_row["L_4"], expected)
        assert torch.equal(rows.split.labels, labels) and rows.classes == [own.classes[i] for i in labels]
        wrong = bounds(model, Batch(x, labels=(labels + 1) % 3), samples=(4,)).per_row["L_4"]
        assert not torch.allclose(expected, wrong)
    monkeypatch.setattr(named_rows.data, "load", of_classes("columns", "wolf", "corner"))  # three classes, as the run
    for use in (lambda: evaluate_run(run, model, samples=4, data_name="svhn"), lambda: named_rows.rows_of(run, "svhn")):
        with pytest.raises(DataError, match=r"unknown class 'wolf'; known: columns, corner, rows; run asked is cond"):
            use()
    plain = Run.open("plain", root=root)
    assert set(named_rows.rows_of(plain, "svhn").classes) == {"columns", "wolf", "corner"}


def test_what_evaluate_cannot_follow_is_refused(root: Path) -> None:
    run = Run.open("plain", root=root)
    with pytest.raises(ConfigError, match=r"binarize = 'threshold', but run plain was trained with data\.binarize = "):
        evaluate(run, samples=1, binarize="threshold")
    with pytest.raises(ConfigError, match="unknown option of an evaluation 'data_name'; did you mean 'data'"):
        evaluate(run, data_name="mnist")
    with pytest.raises(ConfigError, match="unknown option of an evaluation 'model'"):
        evaluate(run, model=load(root / "plain"))
    with pytest.raises(ConfigError, match="'sample'; did you mean 'samples'"):
        evaluate(load(root / "plain"), tiny.dataset(), sample=3)


def test_what_does_not_fit_is_refused(command, root: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "corner").rename(folder / "corners")
    assert_refused(command("encode", "asked", "--data", folder), "unknown class 'corners'; did you mean 'corner'")
    assert command("encode", "plain", "--data", folder).status == 0
    np.save(tmp_path / "wide.npy", np.zeros((2, 8, 9), np.uint8))
    assert_refused(command("score", "plain", "--data", tmp_path / "wide.npy"), r"run plain takes .* has \(1, 8, 9\)")
    np.save(tmp_path / "bare.npy", np.zeros((2, 8, 8), np.uint8))
    assert_refused(command("score", "asked", "--data", tmp_path / "bare.npy"), "unknown class 'all'.*is conditional")
    assert_refused(command("score", "plain", "--data", tmp_path / "no" / "where"), "no such file")
    assert_refused(command("score", "plain", "-o", tmp_path / "scores.txt"), "must end in .csv")
    assert_refused(command("encode", "plain", "-o", tmp_path / "z.pkl"), "must end in .npz, .npy or .csv")
    assert_refused(command("encode", "plain", "--split", "tset"), "did you mean 'test'")
    for verb in ("encode", "score"):
        split = command(verb, "plain", "--data", folder, "--split", "train")
        assert_refused(split, "split = 'train' is for the run's own data.*leave split out")
