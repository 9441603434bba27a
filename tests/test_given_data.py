"""Rows that are handed in to validate or evaluate: all of them count, as the model reads them, under their own names."""

import csv
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from vaekit import build, config, evaluate, fit, load
from vaekit import data as vae_data
from vaekit.data import Batches, Dataset, Split
from vaekit.data.evaluation_data import load_evaluation_data
from vaekit.data.given_data import RowFormat
from vaekit.data.loader_factory import LoaderFactory
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.model_with_data import data_for_model
from vaekit.evaluation.single_rows import named_rows
from vaekit.runs import lifecycle

R = np.random.default_rng(0)
SMALL = {"encoder": {"hidden": [4]}, "decoder": {"hidden": [4]}, "latent_size": 2}


def images(n: int) -> np.ndarray:
    return R.integers(0, 256, (n, 4, 4), np.uint8)


def table(n: int, levels: str, path: Path, **more: Any) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", *more])
        writer.writerows(
            [f"{R.normal():.6f}", levels[i % len(levels)], *(v[i] for v in more.values())] for i in range(n)
        )
    return path


def small(**sections: Any) -> Any:
    return build("vae", event_shape=(1, 4, 4), **SMALL, **sections)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with x.npy, other.npy of 200 rows, t.csv, and runs on x.npy and on t.csv."""
    folder = tmp_path_factory.mktemp("given")
    np.save(folder / "x.npy", images(60))
    np.save(folder / "other.npy", images(200))
    table(60, "uvw", folder / "t.csv")
    for name, preset, file in (("r", "vae", "x.npy"), ("t", "table-vae", "t.csv")):
        sections = {"data": {"name": str(folder / file)}, "train": {"epochs": 1, "batch_size": 20, "device": "cpu"}}
        lifecycle.train_run(config.read(preset, sections={**sections, **SMALL}), name=name, root=folder / "runs")
    return folder


def validated(model: Any, train: Any, validation: Any, **wiring: Any) -> Batches:
    """The rows that a training validates with."""
    row_format = RowFormat(model.event_shape, model.value_kind, columns=model.columns, **wiring)
    _, validating = LoaderFactory(row_format, 8, torch.device("cpu")).loaders(train, validation)
    assert isinstance(validating, Batches)
    return validating


def measured(evaluation: Any) -> tuple[int, str]:
    return evaluation.protocol["rows"], evaluation.protocol["split"]


# paths


def test_a_path_to_validate_with_means_all_of_its_rows(here: Path) -> None:
    x = torch.from_numpy(np.load(here / "other.npy"))
    rows = validated(small(), torch.rand(20, 1, 4, 4), here / "other.npy")
    assert rows.num_rows == 200
    assert torch.equal(rows.x[:, 0], x)
    train, model = torch.from_numpy(images(40)), small()
    records = []
    for validation in (here / "other.npy", x):
        torch.manual_seed(0)
        records.append(fit(deepcopy(model), train, validation, epochs=1, batch_size=20)[-1])
    by_path, by_array = records
    key = next(name for name in by_path if name.startswith("validation"))
    assert by_path[key] == by_array[key]


def test_a_path_to_evaluate_on_means_all_of_its_rows(here: Path, command: Any) -> None:
    for subject in (here / "runs" / "r", load(here / "runs" / "r")):
        found = evaluate(subject, str(here / "other.npy"), samples=2, progress=False)
        assert measured(found) == (200, "all rows")
    assert measured(evaluate(here / "runs" / "r", samples=2, progress=False)) == (6, "test")  # its own: not trained on
    every = ["--samples", "2", "--data", here / "other.npy", "--runs", here / "runs"]
    assert "rows: 200" in command("evaluate", "r", *every, "--all").out
    refused = command("evaluate", "r", *every, "--split", "train")
    assert refused.status == 2
    assert "is not split, so it has no train rows; leave" in refused.err and "all of its 200 rows" in refused.err


def test_data_that_are_split_keep_their_splits(tmp_path: Path) -> None:
    mnist = vae_data.load("mnist")
    given = load_evaluation_data("MNIST")
    assert {name: len(rows) for name, rows in given.splits.items()} == {n: len(r) for n, r in mnist.splits.items()}
    for split, n in (("train", 5), ("val", 3), ("test", 4)):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i, x in enumerate(images(n)):
                Image.fromarray(x).save(tmp_path / "photos" / split / name / f"{i}.png")
    photos = load_evaluation_data(tmp_path / "photos", event_shape=(1, 4, 4))
    assert [len(rows) for rows in photos.splits.values()] == [10, 6, 8] and photos.classes == ("cat", "dog")
    assert photos.test.required_labels().tolist() == [0] * 4 + [1] * 4
    assert validated(small(), torch.rand(20, 1, 4, 4), tmp_path / "photos").num_rows == 6
    found = evaluate(small(), tmp_path / "photos", samples=2)
    assert measured(found) == (8, "test")
    only = load_evaluation_data(tmp_path / "photos" / "val", event_shape=(3, 4, 4), size=2)
    assert len(only.test) == 6 and only.event_shape == (3, 2, 2) and not only.is_split
    x = images(50)
    np.savez(tmp_path / "keras.npz", x_train=x[:40], x_test=x[40:])
    keras = load_evaluation_data(tmp_path / "keras.npz")
    assert [len(rows) for rows in keras.splits.values()] == [38, 2, 10]


# tables


def test_a_second_table_is_read_by_the_columns_of_the_model(here: Path, tmp_path: Path) -> None:
    fewer = table(30, "wu", tmp_path / "va.csv")
    data = vae_data.load(str(here / "t.csv"))
    model = build("table-vae", data=data, **SMALL)
    fit(model, str(here / "t.csv"), str(fewer), epochs=1)
    for subject in (model, here / "runs" / "t"):
        assert measured(evaluate(subject, str(fewer), samples=2, progress=False)) == (30, "all rows")
    split = validated(model, str(here / "t.csv"), str(fewer))
    assert split.x[:, 1].tolist() == [2.0, 0.0] * 15  # u, v, w are 0, 1, 2
    split = validated(build("vae", event_shape=2, likelihood="normal", **SMALL), str(here / "t.csv"), str(fewer))
    assert split.x[:, 1].tolist() == [2.0, 0.0] * 15  # by the columns of the training table
    unknown = table(30, "xu", tmp_path / "unknown.csv")
    with pytest.raises(DataError, match=r"column 'b', row 1: .*'x'"):
        evaluate(model, str(unknown), samples=2)
    with pytest.raises(DataError, match="pass the path: fit and evaluate read a file by the model's columns"):
        evaluate(model, vae_data.load(str(fewer)), samples=2)


def test_a_folder_of_tables_keeps_its_test_rows(here: Path, tmp_path: Path) -> None:
    for part, n in (("train", 20), ("val", 7), ("test", 9)):
        table(n, "uv", tmp_path / f"{part}.csv")
    assert measured(evaluate(here / "runs" / "t", tmp_path, samples=2, progress=False)) == (9, "test")
    model = build("table-vae", data=vae_data.load(str(here / "t.csv")), **SMALL)
    assert validated(model, str(here / "t.csv"), tmp_path).num_rows == 7


def test_classes_to_validate_with_are_numbered_as_in_the_training(tmp_path: Path) -> None:
    for name, classes in (("tr", [0, 3, 5]), ("va", [5, 3]), ("new", [4])):
        np.save(tmp_path / f"{name}.npy", images(30))
        np.save(tmp_path / f"{name}-labels.npy", np.resize(classes, 30))
    np.save(tmp_path / "none.npy", images(30))
    model = small(model={"condition": "class"}, num_classes=3)
    split = validated(model, tmp_path / "tr.npy", tmp_path / "va.npy", num_classes=3)
    assert split.labels.tolist() == [2, 1] * 15
    for name, message in (("new", "'4'"), ("none", "have no labels")):
        with pytest.raises(DataError, match=message):
            validated(model, tmp_path / "tr.npy", tmp_path / f"{name}.npy", num_classes=3)


def named_classes(folder: Path, counts: Mapping[str, int]) -> str:
    """A folder of images of 8×8 pixels: a stripe, which says which animal it is."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        column = 2 * ("bird", "cat", "dog", "cow").index(name)
        for i in range(count):
            image = np.zeros((8, 8), np.uint8)
            image[i % 8 :, column] = 255
            Image.fromarray(image).save(folder / name / f"{i}.png")
    return str(folder)


def test_a_model_numbers_the_classes_of_other_data_by_name(tmp_path: Path) -> None:
    train = named_classes(tmp_path / "a", {"bird": 8, "cat": 8, "dog": 8})
    fewer = named_classes(tmp_path / "b", {"cat": 4, "dog": 4})
    model = build("cvae", data={"name": train, "validation": 2, "test": 2}, latent_size=2)
    assert model.class_names == ("bird", "cat", "dog")
    assert data_for_model(model, fewer).test.labels.tolist() == [1] * 4 + [2] * 4
    model.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").class_names == model.class_names
    validating = LoaderFactory(RowFormat.of(model), 8, model.device).loaders(
        vae_data.load(train, validation=2, test=2).train, fewer
    )[1]
    assert torch.cat([batch.labels for batch in validating]).tolist() == [1] * 4 + [2] * 4

    with pytest.raises(DataError, match=r"'cow'; known: bird, cat, dog; the model is conditional on these 3 classes"):
        data_for_model(model, named_classes(tmp_path / "c", {"cow": 2}))
    unnamed = build("cvae", event_shape=(1, 8, 8), num_classes=3, latent_size=2)
    assert data_for_model(unnamed, train).classes == ("bird", "cat", "dog")  # as many, in their order
    with pytest.raises(DataError, match="unknown class 'cat'; known: 0, 1, 2"):
        data_for_model(unnamed, fewer)


def test_a_model_reads_the_label_column_of_its_table(tmp_path: Path) -> None:
    path = table(60, "xy", tmp_path / "t.csv", smoker=["no", "yes", "yes"] * 20)
    frame, labels = pandas.read_csv(path), [0, 1, 1] * 20
    known = build(
        "table-vae", data={"name": str(path), "columns": {"smoker": "label"}}, model={"condition": "class"}, **SMALL
    )
    known.save(tmp_path / "model.safetensors")
    for model in (known, load(tmp_path / "model.safetensors")):
        for data in (path, frame, (frame, labels), (frame.drop(columns="smoker"), labels)):
            assert data_for_model(model, data).test.labels.tolist() == labels
    batches = LoaderFactory(RowFormat.of(known), 60, known.device)
    for train in (path, frame):
        trained, validated = batches.loaders(train, frame.assign(smoker="yes"))
        assert {0, 1} == set(torch.cat([batch.labels for batch in trained]).tolist())
        assert torch.cat([batch.labels for batch in validated]).tolist() == [1] * 60
    with pytest.raises(DataError, match="lacks column 'smoker'"):
        data_for_model(known, frame.drop(columns="smoker"))

    rows = vae_data.load(frame, columns={"smoker": "label"})
    unknown = build("table-vae", data=rows, model={"condition": "class"}, **SMALL)
    assert data_for_model(unknown, (frame, labels)).test.labels.tolist() == labels
    for use in (lambda: data_for_model(unknown, path), lambda: fit(unknown, str(path)), lambda: fit(unknown, frame)):
        with pytest.raises(DataError, match=r"which column .* has the labels; pass \(frame, labels\)"):
            use()


# rows in memory


def test_a_model_is_evaluated_on_the_rows_that_are_given() -> None:
    model, x = small(), torch.rand(30, 1, 4, 4)
    expected = evaluate(model, Dataset("d", Split(x), Split(x), Split(x), ("all",)), samples=2)["nll"].value
    for rows in (x, x.numpy(), Split(x), (x, torch.arange(30) % 3), x[:, 0]):
        found = evaluate(model, rows, samples=2)
        assert measured(found) == (30, "all rows") and found.protocol["data"] == "given rows"
        assert found["nll"].value == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ConfigError, match=r"a Split, a tensor \(N, …\), or \(x, labels\), got list"):
        evaluate(model, [1, 2])
    with pytest.raises(DataError, match="is not split, so it has no train rows; leave split out"):
        evaluate(model, x, split="train")


def test_a_checksum_tells_rows_apart() -> None:
    x, y = torch.rand(30, 4), torch.arange(30) % 2

    def checksum(x: torch.Tensor, y: torch.Tensor | None = None) -> str:
        return Dataset(
            "d", Split(x[:20]), Split(x[20:20]), Split(x[20:], None if y is None else y[20:]), ("a", "b")
        ).checksum

    other = x.clone()
    other[25, 3] += 1e-6
    assert checksum(x) == checksum(x.clone()) and len(checksum(x)) == 64
    assert len({checksum(x), checksum(other), checksum(x.half()), checksum(x, y), checksum(x, 1 - y)}) == 5
    assert Dataset("d", Split(x), Split(x), Split(x), ("all",), "mine").checksum == "mine"


def test_a_mask_reads_its_rows_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", x := images(40))
    stored = vae_data.load(str(tmp_path / "x.npy"), memory=0).train
    known = vae_data.load(str(tmp_path / "x.npy")).train
    mask = torch.arange(len(stored)) % 3 == 1
    assert not isinstance(stored.x, torch.Tensor) and len(x) > len(stored)
    assert torch.equal(stored.x[mask], known.x[mask])
    assert torch.equal(stored.rows(mask).x, known.rows(mask).x)
    with pytest.raises(IndexError, match="a mask of rows must be"):
        stored.x[mask[:5]]


# names of rows


@pytest.mark.parametrize(("run", "file", "first"), [("r", "x.npy", "0"), ("t", "t.csv", "1")])
def test_a_row_has_one_name_with_and_without_data(here: Path, run: str, file: str, first: str) -> None:
    restored = lifecycle.Run.open(run, root=here / "runs")
    whole = named_rows.rows_of(restored, str(here / file))
    assert whole.names[0] == first
    place = {name: i for i, name in enumerate(whole.names)}
    every = []
    for split in ("train", "validation", "test"):
        rows = named_rows.rows_of(restored, split=split)
        every += rows.names
        assert torch.equal(rows.split.x[:], whole.split.x[:][[place[name] for name in rows.names]])
    assert sorted(every) == sorted(whole.names)
