"""Splits and data sets of any shape: images, vectors, with a mask and a context."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaekit.data import Batch, Batches, Dataset, Split, as_batch, load
from vaekit.data.batches import as_one_batch
from vaekit.data.chosen_rows import keep_labels
from vaekit.data.dataset import evenly_spread
from vaekit.data.evaluation_data import load_evaluation_data
from vaekit.errors import ConfigError, DataError

N, D = 10, 3
LABELS = torch.arange(N) % 2
VALUES = torch.arange(N * D, dtype=torch.float32).view(N, D)
MASK = (VALUES % 4 != 0) | (torch.arange(D) == 0)
CONTEXT = torch.stack((LABELS / 1, 1 - LABELS), 1)


def vectors() -> Split:
    return Split(VALUES, LABELS, observed=MASK, c=CONTEXT)


def dataset(split: Split, **options) -> Dataset:
    return Dataset("own", split, split.rows(slice(0)), split.rows(slice(4)), ("a", "b", "c"), "0" * 64, **options)


def test_splits_without_rows_have_a_checksum() -> None:
    x, y = np.zeros((6, 3), np.float32), np.zeros(6, np.int64)
    given = [
        Dataset("d", Split(x, y), Split(x[:0], empty), Split(x, y), ("a",)) for empty in ([], y[:0], y[:0].tolist())
    ]
    assert len({data.checksum for data in given}) == 1


def test_every_label_has_a_class() -> None:
    x = torch.zeros(3, 2)
    known, unnamed = Split(x, [-1, 0, 1]), Split(x, [0, 2, 1])
    assert Dataset("d", known, known, known, ("a", "b")).num_classes == 2
    for splits in ((unnamed, known, known), (known, unnamed, known), (known, known, unnamed)):
        with pytest.raises(DataError, match=r"classes has 2 names, .* has the label 2; name every class"):
            Dataset("d", *splits, ("a", "b"))


def test_rows_take_every_part_along() -> None:
    split = vectors()
    assert split.event_shape == (D,)
    for index in (slice(2, 5), torch.tensor([7, 0])):
        some = split.rows(index)
        assert torch.equal(some.x, VALUES[index])
        assert torch.equal(some.labels, LABELS[index])
        assert torch.equal(some.observed, MASK[index])
        assert torch.equal(some.c, CONTEXT[index])
    assert Split(VALUES, LABELS).rows(slice(2)).observed is None
    assert split.thinned(3).x[:, 0].tolist() == [0, 9, 18]
    assert len(split.thinned(99)) == N
    assert split.thinned(6).labels.shape == (6,)
    assert split.in_memory(1) is split


@pytest.mark.parametrize(
    ("count", "n"), [(1999, 1000), (1000, 999), (7, 7), (5, 9), (0, 3), (1 << 40, 5), (60_000, 8000)]
)
def test_any_number_of_rows_is_spread_over_all(count: int, n: int) -> None:
    numbers = evenly_spread(count, n)
    assert len(numbers) == min(n, count)
    if count:
        gaps = torch.cat((numbers, torch.tensor([count]))).diff()
        assert numbers[0] == 0 and gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_spread_rows_of_a_sorted_split_have_all_classes() -> None:
    split = Split(torch.zeros(1999, 1), torch.arange(1999) * 10 // 1999)
    shares = split.thinned(1000).required_labels().bincount()
    assert len(shares) == 10 and shares.max() - shares.min() <= 2


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_serve_mask_and_context_with_their_rows(shuffle: bool) -> None:
    rows = []
    for batch in Batches(vectors(), batch_size=4, shuffle=shuffle, generator=torch.Generator().manual_seed(0)):
        assert isinstance(batch, Batch)
        index = (batch.x[:, 0] / D).long()
        assert torch.equal(batch.x, VALUES[index] * MASK[index])  # 0 where nothing was observed
        assert torch.equal(batch.observed, MASK[index])
        assert torch.equal(batch.c, CONTEXT[index])
        assert torch.equal(batch.labels, LABELS[index])
        rows += index.tolist()
    assert sorted(rows) == list(range(N))
    assert (rows == list(range(N))) is not shuffle


def test_all_rows_as_one_batch() -> None:
    batch = as_one_batch(vectors())
    assert torch.equal(batch.x, VALUES * MASK)
    assert torch.equal(batch.observed, MASK)
    unknown = VALUES.masked_fill(~MASK, float("nan"))
    assert torch.equal(as_one_batch(Split(unknown, LABELS, observed=MASK)).x, VALUES * MASK)
    pixels = torch.tensor([[0], [255]], dtype=torch.uint8)
    assert as_one_batch(Split(pixels, torch.zeros(2).long())).x.tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(
    ("mask", "context", "message"),
    [
        (MASK[1:], None, r"observed must be booleans of shape \(10, 3\), got torch.bool of \(9, 3\)"),
        (MASK.float(), None, "observed must be booleans"),
        (MASK[:, 0], None, "observed must be booleans"),
        (None, CONTEXT[1:], r"the context must be \(10, C\), floating-point, got \(9, 2\)"),
        (None, LABELS[:, None], "the context must be"),
    ],
)
def test_what_does_not_fit_is_refused(mask, context, message) -> None:
    with pytest.raises(DataError, match=message):
        Split(VALUES, LABELS, observed=mask, c=context)


def test_the_kind_follows_from_the_shape_of_a_row_unless_it_is_given() -> None:
    images = Split(torch.zeros(N, 1, 2, 2), LABELS)
    assert (dataset(images).kind, dataset(images).image_shape) == ("image", (1, 2, 2))
    assert (dataset(vectors()).kind, dataset(vectors()).event_shape) == ("vector", (D,))
    assert dataset(vectors(), kind="table").kind == "table"
    assert dataset(images, kind="vector").kind == "vector"
    with pytest.raises(DataError, match=r"'own' has no images: its kind is 'vector', its rows have \(3,\)"):
        _ = dataset(vectors()).image_shape
    with pytest.raises(DataError, match="unknown kind of data 'imgae'; did you mean 'image'"):
        dataset(images, kind="imgae")
    with pytest.raises(DataError, match=r"images must be \(N, C, H, W\), own has rows of shape \(3,\)"):
        dataset(vectors(), kind="image")


def test_splits_by_name() -> None:
    data = dataset(vectors())
    assert data.split("train") is data.train
    assert list(data.splits) == ["train", "validation", "test"]
    with pytest.raises(ConfigError, match="unknown split 'tset'; did you mean 'test'"):
        data.split("tset")
    with pytest.raises(DataError, match="the validation split of 'own' has 0 rows; choose one of: train, test"):
        data.split("validation")
    with pytest.raises(DataError, match=r"rows of test have shape \(2,\), those of train \(3,\)"):
        Dataset("own", data.train, data.validation, Split(VALUES[:, :2], LABELS), ("a",), "0" * 64)


def test_a_function_loads_a_data_set_of_ones_own() -> None:
    data = dataset(vectors())
    assert load(lambda: data) is data
    given = []
    assert load(lambda validation=3: given.append(validation) or data, validation=5) is data
    assert given == [5]
    with pytest.raises(ConfigError, match="unexpected keyword argument 'validation'; leave the option out"):
        load(lambda: data, validation=5)
    assert (
        load(lambda columns, value_kind: given.append((columns, value_kind)) or data, columns={}, value_kind="counts")
        is data
    )
    assert given[1] == ({}, "counts")
    with pytest.raises(DataError, match=r"must return a vaekit.data.Dataset, got NoneType"):
        load(lambda: None)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (dataset(vectors()), ("validation", "test", "size", "memory", "root", "columns")),
        (VALUES.numpy(), ("size", "memory", "root")),
        ("t.csv", ("size", "root")),
        ("x.npy", ("root", "columns")),
        ("mnist", ("test", "size", "memory", "columns")),
    ],
    ids=["data set", "array", "table", "path", "name"],
)
def test_an_option_that_does_not_apply_is_refused(source: object, options: tuple[str, ...]) -> None:
    for option in options:
        with pytest.raises(ConfigError, match=rf"{option} is for .*; leave it out with (a Dataset|a table|'[a-z.]+')"):
            load(source, **{option: {"a": "real"} if option == "columns" else 4})


def test_a_split_takes_arrays_and_lists() -> None:
    split = Split(np.zeros((6, 3), np.float32), [0, 1, 2, 0, 1, 2], observed=np.ones((6, 3), bool))
    assert isinstance(split.x, torch.Tensor) and isinstance(split.observed, torch.Tensor)
    assert repr(split) == "Split(6 rows of 3, float32, with labels, 100 % observed)"
    assert split.labels is not None and split.labels.dtype == torch.int64 and split.labels.tolist() == [0, 1, 2] * 2
    assert len(dataset(split).train) == 6
    assert Split(split.x, torch.ones(6)).required_labels().dtype == torch.int64
    for label in (1.7, float("nan"), float("inf")):
        with pytest.raises(DataError, match=f"labels must be whole numbers, .* got {label:g}"):
            Split(torch.zeros(6, 3), [0, 1, 2, 0, 1, label])
    with pytest.raises(DataError, match=r"labels must be whole numbers, .* −1 if it is unknown, got -5"):
        Split(torch.zeros(2, 3), [0, -5])
    for nothing in ("digits", None):
        with pytest.raises(DataError, match=f"x must be numbers, .* got {nothing!r}"):
            Split(nothing)
    with pytest.raises(DataError, match=r"x must be dense, .* pass \.to_dense"):
        Split(torch.eye(3).to_sparse())


def test_a_split_holds_floats_or_bytes_without_gradients() -> None:
    assert Split(torch.ones(2, 3, dtype=torch.bool)).x.dtype == torch.float32
    with pytest.raises(DataError, match=r"to binarize x, its values must be in \[0, 1\]"):
        Batches(Split([[0, 255]]), batch_size=1, binarize="threshold")  # every number but 0 became 1
    x = torch.rand(2, 3, requires_grad=True)
    assert not Split(x).x.requires_grad  # a training added to x.grad


def test_a_data_set_is_made_of_splits_and_names() -> None:
    split, x = vectors(), torch.zeros(2, 3)
    data = Dataset(Path("a b"), split, split, split, ["c", "d"])  # type: ignore[arg-type]
    assert data.slug == "a-b" and data.classes == ("c", "d")
    with pytest.raises(DataError, match=r"train must be a Split, got Tensor; pass Split\(x, labels\)"):
        Dataset("own", x, x, x, ())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="classes must be a tuple of names, got 'all'"):
        Dataset("own", split, split, split, "all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown split 'None'"):
        data.split(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value_kind": "pixel"}, "unknown value_kind 'pixel'; did you mean 'pixels'"),
        ({"memory": -1}, "memory must be at least 0, got -1"),
        ({"memory": float("nan")}, "memory must be at least 0, got nan"),
        ({"kind": "table"}, "unknown kind 'table'"),
        ({"columns": ["age"]}, 'columns must name kinds, such as {"age": "count"}'),
    ],
)
def test_load_refuses_words_that_mean_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load("mnist", **options)


def test_a_number_of_any_type_is_one_row() -> None:
    split = vectors()
    x, label = split[2]
    for index in (np.int64(2), np.uint8(2), torch.tensor(2), 2 - N):
        again, same_label = split[index]
        assert torch.equal(again, x) and same_label == label, index
    for rows in ([2], (2,), np.array([2]), torch.tensor([2]), np.arange(N) == 2, slice(2, 3)):
        assert isinstance(split[rows], Split) and torch.equal(split[rows].x, x[None]), rows
    with pytest.raises(IndexError, match=f"numbered 0 to {N - 1}, got {N}"):
        split[np.int64(N)]


@pytest.mark.parametrize("memory", [None, 0])
def test_a_split_knows_where_its_rows_come_from(tmp_path: Path, memory: float | None) -> None:
    x = np.arange(60, dtype=np.float32)[:, None] / 100  # row i has the value i / 100
    np.save(tmp_path / "x.npy", np.hstack((x, 1 - x)))
    data = load(str(tmp_path / "x.npy"), validation=7, test=9, memory=memory, value_kind="real")
    labels = torch.where(torch.arange(44) % 3 == 0, -1, 0)
    chosen = (lambda s: s, lambda s: s[3:], lambda s: s[::2][1:], lambda s: s.thinned(4))
    for split in data.splits.values():
        for of in (*chosen, lambda s: s[[4, 0, 2]], lambda s: s.rows(s.x[:][:, 0] > 0.3).in_memory(1), lambda s: s[:0]):
            some = of(split)
            assert some.row_names() == [str(round(100 * value.item())) for value in some.x[:][:, 0]]
            assert some.row_names("table") == [str(int(name) + 1) for name in some.row_names()]
    known = replace(data.train, labels=labels).labelled()
    assert known.row_names() == [str(round(100 * value.item())) for value in known.x[:, 0]]
    assert Split(x)[10:12].row_names() == ["10", "11"]
    with pytest.raises(DataError, match="the origin must be of 44 rows, got 9"):
        replace(data.train, origin=data.test.origin)


@pytest.mark.parametrize("memory", [None, 0])
def test_any_natural_index_chooses_rows(tmp_path: Path, memory: float | None) -> None:
    np.save(tmp_path / "x.npy", np.arange(40, dtype=np.float32).reshape(20, 2))
    split = load(str(tmp_path / "x.npy"), validation=0, test=2, memory=memory, value_kind="real").train
    x, none = split.x[:], np.zeros(0)
    for index, rows in (([], none), ([-1, 0], [17, 0]), (slice(None, None, -5), [17, 12, 7, 2]), (none > 1, None)):
        if rows is None:
            with pytest.raises(IndexError, match=r"a mask of rows must be \(18,\), got \(0,\)"):
                split[index]
            continue
        assert torch.equal(split[index].x, x[torch.tensor(rows).long()])
        assert len(split[index].row_names()) == len(rows)
    assert torch.equal(split[torch.tensor([1, 2], dtype=torch.uint8)].x, x[1:3])  # numbers, not a mask
    for index, message in (([99], "from 0 to 17"), ([0.5], "whole numbers"), ([[0]], "whole numbers")):
        with pytest.raises(IndexError, match=message):
            split[index]
    for n in (-1, 2.5, None):
        with pytest.raises(ConfigError, match="n must be"):
            split.thinned(n)


def test_odd_values_in_memory_are_refused_in_one_line() -> None:
    x = torch.rand(4, 2)
    assert Split(x, np.arange(4, dtype=np.uint64)).required_labels().tolist() == [0, 1, 2, 3]
    split = Split(x, torch.arange(4) % 2)
    cases: tuple[tuple[Any, str], ...] = (
        (lambda: Split(np.ma.masked_array(x.numpy(), x.numpy() > 0.5)), "x has masked values; fill them in"),
        (lambda: Batches(x, 3, batch_size=2), r"labels must be \(4,\), one per row, got \(\)"),
        (lambda: as_batch({"x": 1}), "x must be .B, …., got the number 1"),
        (lambda: Dataset("d", split, split, split, classes=None), "classes must be a tuple of names, got None"),
        (lambda: Dataset("d", split, split, split, classes=("a", "a")), "classes must be different names"),
        (lambda: Dataset.of_splits("d", {}), "splits must be some of train, validation, test, got None"),
        (lambda: Dataset.of_splits("d", {"val": split}), "splits must be some of train, validation, test, got 'val'"),
        (lambda: Dataset.of_splits("d", {"test": x}), "test must be a Split, got Tensor|train must be a Split"),
        (lambda: Dataset.of_splits("d", {"test": Split(x[:0])}).split("test"), "'d' has 0 rows"),
        (lambda: load(dict), "dict must be a function that returns a vaekit.data.Dataset"),
        (lambda: load_evaluation_data(x), "must be the name or the path of a data set, or a frame, got Tensor"),
    )
    for call, message in cases:
        with pytest.raises(DataError, match=message):
            call()
    data = Dataset("d", split, split, split, classes=("a", "b"))
    for labelled in ("3", 2.5, None):
        with pytest.raises(ConfigError, match="labelled must be a whole number, at least 2"):
            keep_labels(data, labelled)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"columns.x0: a level is a text or a number, got \['a'\]"):
        load(x, columns={"x0": [["a"], "b"]})


def test_of_splits_names_the_value_that_is_not_a_split() -> None:
    with pytest.raises(DataError, match=r"test must be a Split, got Tensor; pass Split\(x, labels\)"):
        Dataset.of_splits("mine", {"test": torch.zeros(3, 4)})  # type: ignore[dict-item]
