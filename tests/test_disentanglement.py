"""Scores of disentanglement on representations whose scores are known, and the shapes that they are measured on."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import exact
from vaekit import load
from vaekit.data import load as load_data
from vaekit.data.sources.shapes import FACTORS, every_shape
from vaekit.errors import DataError
from vaekit.evaluation.latent_space.disentanglement import (
    disentanglement,
    factor_vae_score,
    mutual_information_gap,
    separated_attribute_predictability,
)
from vaekit.runs.restore import RestoredRun


@pytest.fixture(scope="module")
def factors() -> Tensor:
    return every_shape()[1]


def scores(z: Tensor, factors: Tensor) -> dict[str, float]:
    return {value.name: value.value for value in disentanglement(z, factors)}


def test_every_image_is_different_and_every_factor_is_drawn(factors: Tensor) -> None:
    images, again = every_shape()
    assert torch.equal(factors, again)
    assert images.shape == (math.prod(FACTORS.values()), 3, 32, 32)
    assert len(torch.unique(images.flatten(1), dim=0)) == len(images)
    grey = images.sum(1).double()
    x = (grey * torch.arange(32)).sum((1, 2)) / grey.sum((1, 2))
    for place in range(6):
        assert abs(x[factors[:, 4] == place].mean() - (16 - 0.5 - 7 + 3 * place)) < 0.6
    area = (grey > 0).sum((1, 2)).double()
    assert area[factors[:, 2] == 0].mean() < area[factors[:, 2] == 1].mean() < area[factors[:, 2] == 2].mean()
    assert bool((images[:, :, [0, -1]] == 0).all())  # nothing leaves the picture


def test_the_data_set_is_the_same_images_once_each() -> None:
    data = load_data("shapes")
    assert (len(data.train), len(data.validation), len(data.test)) == (6000, 480, 1296)
    every = torch.cat([split.x[:] for split in data.splits.values()])
    assert len(torch.unique(every.flatten(1), dim=0)) == 7776
    assert data.train.labels.bincount().min() > 1800


def test_one_latent_for_each_factor_is_perfect(factors: Tensor) -> None:
    found = scores(factors.double(), factors)
    assert found["MIG"] == pytest.approx(1, abs=1e-3)
    chance = sum(1 / n for n in FACTORS.values()) / len(FACTORS)
    assert found["SAP"] == pytest.approx(1 - chance, abs=0.03)
    assert found["FactorVAE score"] == 100
    assert found["DCI disentanglement"] > 0.98 and found["DCI completeness"] > 0.98
    assert found["DCI informativeness"] > 0.98


def test_noise_is_nothing(factors: Tensor) -> None:
    torch.manual_seed(0)
    found = scores(torch.randn(len(factors), 8), factors)
    assert found["MIG"] < 0.01 and found["SAP"] < 0.03
    assert abs(found["FactorVAE score"] - 100 / 6) < 5 * 100 * math.sqrt(5 / 36 / 800) + 5
    assert found["DCI disentanglement"] < 0.1


def test_twice_the_same_latent_is_no_gap_and_mixed_latents_are_worse(factors: Tensor) -> None:
    z = factors.double()
    assert mutual_information_gap(torch.cat((z, z), 1), factors) == pytest.approx(0, abs=1e-9)
    assert separated_attribute_predictability(torch.cat((z, z), 1), factors) == pytest.approx(0, abs=1e-9)
    torch.manual_seed(1)
    mixed = (z - z.mean(0)) / z.std(0) @ torch.linalg.qr(torch.randn(6, 6).double())[0]
    assert mutual_information_gap(mixed, factors) < 0.3
    score = factor_vae_score(mixed, factors).value
    assert score < 90
    found = scores(mixed, factors)
    assert found["DCI disentanglement"] < 0.6 < found["DCI informativeness"] + 0.2


def test_the_gap_of_two_binary_factors_is_by_hand() -> None:
    """One latent copies a fair coin with an error of a fifth, the other is an independent coin."""
    coin = torch.arange(10) % 2
    z = torch.stack((torch.where(torch.arange(10) < 2, 1 - coin, coin), torch.arange(10) // 5), 1)
    h = lambda p: -(p * math.log(p) + (1 - p) * math.log(1 - p))
    expected = (math.log(2) - h(0.2)) / math.log(2)
    other = mutual_information_gap(z[:, 1:].double(), coin[:, None])
    assert mutual_information_gap(z.double(), coin[:, None]) == pytest.approx(expected - other)


def test_silent_latents_are_chance(factors: Tensor) -> None:
    value = factor_vae_score(torch.zeros(len(factors), 3).double(), factors)
    assert value.value == pytest.approx(100 / 6)


def test_a_run_on_shapes_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(**_: object) -> Any:
        data = load_data("shapes")
        return replace(data, **{name: split.rows(slice(64)) for name, split in data.splits.items()}, checksum="few")

    sections = {"data": {"name": "shapes"}, "model": {"latent_size": 3}}
    run = exact.prove("beta-vae", tmp_path / "runs", monkeypatch, load=few, **sections)
    from vaekit.evaluation import run_evaluation

    monkeypatch.setattr(RestoredRun, "dataset", lambda *_, **__: few())
    result = run_evaluation.evaluate_run(run, load(run.path), samples=2)
    names = {value.name for value in result.values}
    assert {"MIG", "SAP", "FactorVAE score", "DCI disentanglement"} <= names
    monkeypatch.setattr(RestoredRun, "dataset", lambda *_, **__: replace(few(), factors=None))  # of the same name
    assert "MIG" not in {value.name for value in run_evaluation.evaluate_run(run, load(run.path), samples=2).values}


def test_a_single_factor_has_scores_and_a_constant_one_is_named() -> None:
    factor = torch.arange(200)[:, None] % 4
    noise = torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
    found = scores(torch.cat((factor.float(), noise), 1), factor)
    assert all(map(math.isfinite, found.values()))
    assert found["MIG"] > 0.8 and found.get("DCI disentanglement", 1.0) == 1.0
    with pytest.raises(DataError, match="factor 1 has a single value"):
        disentanglement(noise, torch.cat((factor, torch.zeros_like(factor)), 1))
