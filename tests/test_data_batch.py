"""Batch: what any loader gives, and how a model takes it."""

import pytest
import torch

from vaekit import build
from vaekit.data import Batch, as_batch
from vaekit.errors import DataError

X, LABELS = torch.arange(12.0).view(4, 3), torch.tensor([2, 0, -1, 1])
MASK = X > 4


def test_a_batch_unpacks_and_is_indexed_as_that_of_a_pytorch_loader() -> None:
    batch = Batch(X, labels=LABELS)
    x, labels = batch
    assert x is X is batch[0]
    assert labels is LABELS is batch[1]
    assert len(batch) == 4


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


@pytest.mark.parametrize("item", [(), (X, X, X), "text", (None, X), {"images": X}, {"x": X, "y": X}, 3, (X, "a")])
def test_what_is_no_batch_is_refused(item: object) -> None:
    with pytest.raises(DataError, match="a batch must be a tensor"):
        as_batch(item)


def test_a_model_gets_the_context_that_it_needs() -> None:
    shape = {"image_shape": (1, 2, 2), "num_classes": 3}
    plain, told = build("vae", **shape), build("cvae", **shape)
    x = torch.rand(4, 1, 2, 2)
    assert plain.to_model(Batch(x, c=X, labels=LABELS)).c is None
    given = told.to_model(Batch(x, c=X, labels=LABELS))
    assert torch.equal(given.c, X)
    made = told.to_model(Batch(x, labels=LABELS)).c
    assert made[[0, 1, 3]].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert made[2].isnan().all()  # unknown: no class by mistake
    with pytest.raises(DataError, match="conditional on 3 classes, but the loader gives no labels"):
        told.to_model(Batch(x))
