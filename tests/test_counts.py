"""Counts in bytes mean the same wherever rows are read; what has no rows is refused; remedies name what exists."""

import inspect
import re
from typing import Any

import pytest
import torch
from torch import nn

from vaekit import build, evaluate, fit
from vaekit.config import parse
from vaekit.config.parts import PART_TABLE
from vaekit.config.recipe import Recipe
from vaekit.data import Batches, Dataset, Split
from vaekit.data.batches import as_one_batch
from vaekit.errors import ConfigError, DataError
from vaekit.objectives import base
from vaekit.runs.job import Job
from vaekit.runs.preflight import check_data_for

COUNTS = torch.poisson(torch.full((60, 5), 6.0), generator=torch.Generator().manual_seed(0))


def dataset(x: torch.Tensor) -> Dataset:
    return Dataset(
        name="counts",
        train=Split(x[:30]),
        validation=Split(x[30:40]),
        test=Split(x[40:]),
        classes=("all",),
        checksum="",
    )


def bytes_of_counts() -> Dataset:
    return dataset(COUNTS.to(torch.uint8))


def model_of_counts() -> Any:
    torch.manual_seed(0)
    part = {"name": "mlp", "hidden": [4]}
    return build("vae", event_shape=(5,), likelihood="poisson", encoder=part, decoder=part, latent_size=2)


def test_counts_in_bytes_are_evaluated_as_the_floats_that_they_are() -> None:
    model = model_of_counts()
    fit(model, COUNTS.to(torch.uint8), epochs=1)
    floats, integers = (evaluate(model, dataset(x), samples=10) for x in (COUNTS, COUNTS.to(torch.uint8)))
    assert [value.value for value in integers.values] == [value.value for value in floats.values]
    # The control: a model of pixels takes the same bytes as x / 255.
    assert next(iter(Batches(COUNTS.to(torch.uint8), batch_size=60))).x.max() < 1


def test_a_training_takes_bytes_as_counts() -> None:
    settings = {"data": {"name": f"{__name__}:bytes_of_counts"}, "likelihood": {"name": "poisson"}}
    part = {"name": "mlp", "hidden": [4]}
    config = parse({**settings, "encoder": part, "decoder": part, "train": {"device": "cpu"}})
    job = Job.prepare(Recipe.resolve(config, trust=True))
    served = next(iter(job.batches(job.data.test)))
    assert torch.equal(served.x, COUNTS[40:])


def test_empty_splits_are_refused_with_a_remedy() -> None:
    full = bytes_of_counts()
    for name in ("train", "test"):
        splits = {other: split.rows(slice(0)) if other == name else split for other, split in full.splits.items()}
        with pytest.raises(DataError, match=f"0 rows to {name} on.*(bring|data.test)"):
            check_data_for(parse({}), Dataset(name="d", classes=("all",), checksum="", **splits))
    with pytest.raises(DataError, match="0 rows"):
        as_one_batch(full.train.rows(slice(0)))


def test_remedies_name_parts_that_exist() -> None:
    text = inspect.getsource(base.need_gradient)
    named = re.findall(r"the (objective|posterior) '([\w-]+)'(?: or '([\w-]+)')?", text)
    assert {kind for kind, *_ in named} == {"objective", "posterior"}
    for kind, *names in named:
        assert set(filter(None, names)) <= set(PART_TABLE[kind]), kind


@pytest.mark.parametrize("model", [nn.Linear(5, 5), "vae"], ids=["module", "name"])
def test_what_is_not_a_model_is_refused_with_the_call_that_works(model: Any) -> None:
    with pytest.raises(ConfigError, match=r"Composed\(.*build\('vae'"):
        fit(model, COUNTS)
    if not isinstance(model, str):
        with pytest.raises(ConfigError, match=r"Composed\(.*build\('vae'"):
            evaluate(model, bytes_of_counts())


def test_counts_without_a_data_set_are_evaluated_as_given() -> None:
    model = model_of_counts()
    expected = evaluate(model, Dataset.of_splits("d", {"test": Split(COUNTS)}), samples=2)["nll"].value
    for rows in (COUNTS, Split(COUNTS)):
        assert evaluate(model, rows, samples=2)["nll"].value == expected
    with pytest.raises(ConfigError, match=r"a Split, a tensor \(N, …\), or \(x, labels\), got dict"):
        evaluate(model, {"x": COUNTS})  # type: ignore[arg-type]
