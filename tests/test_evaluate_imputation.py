"""Values that were not observed: weighted samples against the conditional normal, in closed form."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from oracles import LinearGaussian
from vaekit import config
from vaekit.data import Batch
from vaekit.errors import DataError
from vaekit.evaluation.missing.completion import completions
from vaekit.evaluation.missing.conditional import rows_given, value_scores
from vaekit.evaluation.missing.imputation import WeightedLatents, weighted_latents
from vaekit.runs import job, lifecycle

ROWS, SAMPLES = 6, 20_000


class Wide(LinearGaussian):
    """The linear-Gaussian model with a posterior that knows nothing of x: wider than any that is right."""

    def posterior(self, x: Tensor, c: Tensor | None = None) -> MultivariateNormal:
        tril = 1.2 * torch.eye(self.latent_size, dtype=x.dtype)
        return MultivariateNormal(x.new_zeros(len(x), self.latent_size), scale_tril=tril)


@pytest.fixture
def model() -> LinearGaussian:
    return Wide()


@pytest.fixture
def batch(model: LinearGaussian) -> Batch:
    observed = torch.rand(ROWS, 5, generator=torch.Generator().manual_seed(3)) > 0.4
    observed[0] = True
    observed[1] = False
    return Batch(model.data(ROWS).masked_fill(~observed, float("nan")), observed=observed)


def conditional(model: LinearGaussian, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the missing values of a row given the observed ones."""
    joint = model.evidence()
    mean, covariance = joint.mean, joint.covariance_matrix
    gain = covariance[~observed][:, observed] @ torch.linalg.inv(covariance[observed][:, observed])
    return mean[~observed] + gain @ (x - mean)[observed], covariance[~observed][:, ~observed] - gain @ covariance[
        observed
    ][:, ~observed]


def all_of(model: LinearGaussian, batch: Batch, samples: int = SAMPLES) -> list[WeightedLatents]:
    return list(weighted_latents(model, batch, samples))


@torch.no_grad()
def test_mean_and_draws_are_those_of_the_conditional_normal(model: LinearGaussian, batch: Batch) -> None:
    torch.manual_seed(0)
    draws = 4000
    mean = torch.cat([part.mean() for part in all_of(model, batch)])
    drawn = torch.cat([part.sample(draws) for part in all_of(model, batch)], 1)
    weights = torch.cat([part.weights for part in all_of(model, batch)], 1)
    ess = 1 / weights.square().sum(0)
    for row in range(1, ROWS):
        missing = ~batch.observed[row]
        expected, covariance = conditional(model, batch.x[row], batch.observed[row])
        spread = covariance.diag().sqrt()
        assert ((mean[row][missing] - expected).abs() < 5 * spread / ess[row].sqrt()).all()
        error = spread * (1 / draws + 1 / ess[row]).sqrt()
        assert ((drawn[:, row][:, missing].mean(0) - expected).abs() < 5 * error).all()
        ratio = drawn[:, row][:, missing].var(0) / covariance.diag()
        assert ((ratio - 1).abs() < 5 * (2 / draws + 2 / ess[row]).sqrt()).all()


@torch.no_grad()
def test_observed_values_stay(model: LinearGaussian, batch: Batch) -> None:
    for part in all_of(model, batch, 10):
        filled = part.filled(part.sample(3))
        assert filled.shape == (3, *part.batch.x.shape)
        assert torch.equal(filled[:, part.batch.observed], part.batch.x[part.batch.observed].expand(3, -1))


@torch.no_grad()
def test_the_evidence_is_that_of_the_observed_values(model: LinearGaussian, batch: Batch) -> None:
    joint = model.evidence()
    parts = all_of(model, batch)
    found = torch.cat([part.log_prob for part in parts])
    ess = 1 / torch.cat([part.weights for part in parts], 1).square().sum(0)
    for row in range(ROWS):
        seen = batch.observed[row]
        covariance = joint.covariance_matrix[seen][:, seen]
        exact = MultivariateNormal(joint.mean[seen], covariance).log_prob(batch.x[row][seen]) if seen.any() else 0.0
        assert (found[row] - exact).abs() < 5 / ess[row].sqrt()  # the relative error of a mean of weights
    wrong = torch.cat([part.log_prob for part in all_of(model, Batch(batch.x.nan_to_num(0.0)))])  # all observed
    assert (wrong - found)[1:].abs().min() > 0.1


@torch.no_grad()
def test_values_that_no_latent_can_have_are_refused_with_the_value(model: LinearGaussian, batch: Batch) -> None:
    given = batch.x[0].clone()
    given[2] = -1e200
    impossible = Batch(torch.stack((batch.x[0], given)))
    (part,) = all_of(model, impossible, 10)
    assert part.log_prob[1] == -torch.inf
    for call in (part.best, part.mean, lambda: part.sample(1), lambda: rows_given(model, 3, given, given.isfinite())):
        with pytest.raises(DataError, match=r"gives these values a density: .*-1e\+200"):
            call()
    scores = value_scores(model, iter((impossible,)), samples=10)
    assert scores[1].isinf().tolist() == [False, False, True, False, False]
    assert scores[0].isfinite().all()


@torch.no_grad()
def test_a_row_does_not_depend_on_its_company(model: LinearGaussian, batch: Batch) -> None:
    together = torch.cat([part.log_prob for part in all_of(model, batch, 7)])
    alone = torch.cat([all_of(model, batch.rows(slice(i, i + 1)), 7)[0].log_prob for i in range(ROWS)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


@torch.no_grad()
def test_chains_end_in_the_conditional_normal_though_the_posterior_is_wrong(batch: Batch) -> None:
    torch.manual_seed(0)
    model = LinearGaussian(exact=False)
    chains = 4000
    rows = batch.rows(slice(2, 4))
    ends = completions(model, rows, chains, steps=60)
    for row in range(2):
        missing = ~rows.observed[row]
        expected, covariance = conditional(model, rows.x[row], rows.observed[row])
        noise = model.sigma**2 * torch.eye(len(expected))  # the mean of x given z has all but this of the variance
        spread = (covariance - noise).diag().sqrt()
        values = ends[:, row][:, missing]
        assert ((values.mean(0) - expected).abs() < 5 * spread / chains**0.5).all()
        assert ((values.var(0) / spread.square() - 1).abs() < 5 * (2 / chains) ** 0.5).all()
    seen = rows.observed.expand(chains, -1, -1)
    assert torch.equal(ends[seen], rows.x.expand(chains, -1, -1)[seen])
    start = completions(model, rows, chains, steps=1)  # negative control: zeros for values, at first
    missing = ~rows.observed[0]
    assert (start[:, 0][:, missing].mean(0) - conditional(model, rows.x[0], rows.observed[0])[0]).abs().max() > 0.1


def test_no_rows_give_nothing(model: LinearGaussian, batch: Batch) -> None:
    assert all_of(model, batch.rows(slice(0, 0))) == []


def test_the_command_draws_ways_to_go_on(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), "u1"))
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    sections = {"data": {"name": "x.npy"}, "encoder": {"hidden": [4]}, "decoder": {"hidden": [4]}, "latent_size": 2}
    lifecycle.train_run(
        config.read("standard-vae", sections=sections | {"train": {"epochs": 1, "device": "cpu"}}), name="a"
    )
    result = command("impute", "a", "--hide", "left", "-n", 2, "--draws", 3, "-o", "ways.npy")
    assert result.status == 0, result.err
    tiles = np.load("ways.npy").reshape(2, 5, 8, 8)  # the image, what is given, three ways
    assert (tiles[:, 1, :, :4] == 0.5).all()
    for shown in range(1, 5):
        assert (tiles[:, shown, :, 4:] == tiles[:, 0, :, 4:]).all()
    assert not (tiles[:, 2] == tiles[:, 3]).all()
