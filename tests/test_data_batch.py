"""Batch: what any loader gives, and how a model takes it."""

import numpy as np
import pytest
import torch

from vaekit import build
from vaekit.data import Batch, Split, as_batch
from vaekit.errors import DataError

X, LABELS = torch.arange(12.0).view(4, 3), torch.tensor([2, 0, -1, 1])
MASK = X > 4


def test_a_batch_unpacks_as_that_of_a_pytorch_loader() -> None:
    batch = Batch(X, labels=LABELS)
    x, labels = batch
    assert x is X
    assert labels is LABELS
    assert len(batch) == 4
    with pytest.raises(TypeError, match="not subscriptable"):
        batch[0]  # the values, or the first row?


def test_rows_are_those_of_every_part() -> None:
    some = Batch(X, c=X + 1, observed=MASK, labels=LABELS).rows(slice(1, 3))
    assert torch.equal(some.x, X[1:3])
    assert torch.equal(some.c, X[1:3] + 1)
    assert torch.equal(some.observed, MASK[1:3])
    assert some.labels.tolist() == [0, -1]
    assert Batch(X).rows(torch.tensor([3])).observed is None


def test_what_loaders_give_becomes_a_batch() -> None:
    batch = Batch(X)
    assert as_batch(batch) is batch
    for item in (X, (X,), [X], (X, None)):
        found = as_batch(item)
        assert found.x is X
        assert found.labels is found.c is None
    for item in ((X, LABELS), [X, LABELS], {"x": X, "labels": LABELS}):
        assert as_batch(item).labels is LABELS
    assert as_batch((X, X)).c is X
    assert as_batch({"x": X, "observed": MASK}).observed is MASK


def test_arrays_and_the_names_that_others_use_become_a_batch() -> None:
    for name in ("image", "images", "pixel_values", "x"):
        assert as_batch({name: X, "label": LABELS}).x is X
        assert as_batch({name: X, "y": LABELS}).labels is LABELS
    for array in (X.numpy(), X.numpy().astype(">f8"), X.numpy()[::-1][::-1]):
        assert torch.equal(as_batch((array, LABELS.numpy())).x.float(), X)
    assert as_batch((X, [2, 0, -1, 1])).labels.tolist() == [2, 0, -1, 1]


BAD_ITEMS: list[object] = [(), (X, X, X), "text", (None, X), {"pictures": X}, {"x": X, "y": LABELS, "label": LABELS}]
BAD_ITEMS += [{"x": X, "weight": X}, {"labels": LABELS}, 3, (X, "a"), (X, ["a"] * 4), torch.tensor(1.0)]


@pytest.mark.parametrize("item", BAD_ITEMS)
def test_what_is_no_batch_is_refused(item: object) -> None:
    with pytest.raises(DataError, match="a batch must be a tensor"):
        as_batch(item)


def test_rows_must_be_as_many_everywhere() -> None:
    with pytest.raises(DataError, match=r"labels must have 4 rows, as x has, got \(3,\)"):
        as_batch((X, LABELS[1:]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float64, torch.float16])
def test_a_model_takes_numbers_of_any_type(dtype: torch.dtype) -> None:
    bits = torch.rand(4, 1, 2, 2) > 0.5
    x = bits.to(dtype) * (255 if dtype == torch.uint8 else 1)
    found = build("vae", event_shape=(1, 2, 2)).to_model(Batch(x.to(dtype))).x
    assert torch.equal(found, bits.float())


def test_bytes_are_counts_where_the_likelihood_takes_counts() -> None:
    x = torch.arange(4, dtype=torch.uint8).view(2, 2)
    assert torch.equal(build("vae", event_shape=(2,), likelihood="poisson").to_model(Batch(x)).x, x.float())


def test_rows_and_classes_of_another_kind_are_refused() -> None:
    model = build("cvae", event_shape=(1, 2, 2), num_classes=3)
    x = torch.rand(4, 1, 2, 2)
    for batch, message in (
        (
            Batch(x[0], labels=LABELS),
            r"x must have shape \(B, 1, 2, 2\), got .1, 2, 2.; these are the values of one row",
        ),
        (Batch(x.flatten(1), labels=LABELS), r"x must have shape \(B, 1, 2, 2\), got \(4, 4\)"),
        (Batch(x, labels=LABELS + 1), "labels must be from 0 to 2, or −1 if unknown, got 0 to 3"),
        (Batch(x, labels=LABELS / 2), "labels must be whole numbers"),
        (Batch(x, c=x.flatten(1)), r"the context must have shape \(4, 3\), got \(4, 4\)"),
    ):
        with pytest.raises(DataError, match=message):
            model.to_model(batch)


def test_whole_floating_point_labels_are_classes_in_every_call() -> None:
    model = build("cvae", event_shape=(1, 2, 2), num_classes=3)
    x, labels = torch.rand(4, 1, 2, 2), torch.tensor([2.0, 0.0, 1.0, 1.0])
    assert torch.equal(model.encode(x, labels), model.encode(x, labels.long()))
    assert torch.equal(model.context(labels, 4), model.to_model(Batch(x, labels=labels)).c)
    with pytest.raises(DataError, match=r"whole numbers, got 0\.5; a context must have shape \(N, 3\)"):
        model.encode(x, labels / 2)
    with pytest.raises(DataError, match=r"shape \(4, 3\), got \(4, 2\); or pass classes, shape \(4,\)"):
        model.encode(x, torch.zeros(4, 2))


@pytest.mark.parametrize("observed", [torch.ones(4, 3), torch.ones(4, dtype=torch.bool)])
def test_a_mask_is_made_of_booleans_of_the_shape_of_x(observed: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"observed must be booleans of shape \(4, 3\), got"):
        as_batch({"x": torch.rand(4, 3), "observed": observed})


def test_a_model_gets_the_context_that_it_needs() -> None:
    shape = {"event_shape": (1, 2, 2), "num_classes": 3}
    plain, told = build("standard-vae", **shape), build("standard-cvae", **shape)
    x = torch.rand(4, 1, 2, 2)
    assert plain.to_model(Batch(x, c=X, labels=LABELS)).c is None
    given = told.to_model(Batch(x, c=X, labels=LABELS))
    assert torch.equal(given.c, X)
    made = told.to_model(Batch(x, labels=LABELS)).c
    assert made[[0, 1, 3]].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert made[2].isnan().all()  # unknown: no class by mistake
    with pytest.raises(DataError, match="conditional on 3 classes, but the loader gives no labels"):
        told.to_model(Batch(x))


def test_arrays_of_several_shapes_are_refused_in_a_line() -> None:
    with pytest.raises(DataError, match="x must be numbers, a tensor or a NumPy array, got"):
        Split([np.zeros((2, 3)), np.zeros((2, 4))])  # type: ignore[arg-type]
