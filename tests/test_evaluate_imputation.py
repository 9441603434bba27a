"""Values that were not observed: weighted samples against the conditional normal, in closed form."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from oracles import LinearGaussian
from vaekit.data import Batch
from vaekit.evaluation.imputation import Weighted, weighted

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


def all_of(model: LinearGaussian, batch: Batch, samples: int = SAMPLES) -> list[Weighted]:
    return list(weighted(model, batch, samples))


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
def test_a_row_does_not_depend_on_its_company(model: LinearGaussian, batch: Batch) -> None:
    together = torch.cat([part.log_prob for part in all_of(model, batch, 7)])
    alone = torch.cat([all_of(model, batch.rows(slice(i, i + 1)), 7)[0].log_prob for i in range(ROWS)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


def test_no_rows_give_nothing(model: LinearGaussian, batch: Batch) -> None:
    assert all_of(model, batch.rows(slice(0, 0))) == []
