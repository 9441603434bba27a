"""DIP-VAE: the penalty of given covariances, and the covariance of a batch against that of its samples."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from vaekit import Draw, LatentLevel, elbo
from vaekit.config import read
from vaekit.errors import ConfigError
from vaekit.objectives import OfDraw, dip, dip_penalty
from vaekit.objectives.disentangled import _covariance
from vaekit.runs import lifecycle


def draw_of(q: Independent | MultivariateNormal, k: int = 1) -> Draw:  # type: ignore[type-arg]
    z = q.rsample(torch.Size((k,)))
    size = z.shape[-1]
    p = Independent(Normal(torch.zeros(size).to(z), torch.ones(size).to(z)), 1)
    return Draw(z[0].detach(), z, (LatentLevel(z, q, p),), Independent(Normal(z, torch.ones_like(z)), 1))


def posterior(rows: int = 7, full: bool = False) -> Independent | MultivariateNormal:  # type: ignore[type-arg]
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    if full:
        tril = torch.randn(rows, 3, 3, generator=generator, dtype=torch.float64).tril(-1) + torch.eye(3)
        return MultivariateNormal(loc, scale_tril=tril)
    return Independent(Normal(loc, 0.5 + torch.rand(rows, 3, generator=generator, dtype=torch.float64)), 1)


@pytest.mark.parametrize(
    ("covariance", "across", "along"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], 0.0, 0.0),
        ([[2.0, 0.5], [0.5, 1.0]], 2 * 0.25, 1.0),
        ([[0.0, -0.3, 0.1], [-0.3, 4.0, 0.0], [0.1, 0.0, 1.5]], 2 * (0.09 + 0.01), 1 + 9 + 0.25),
    ],
)
def test_the_penalty_of_given_covariances(covariance: list[list[float]], across: float, along: float) -> None:
    c = torch.tensor(covariance, dtype=torch.float64)
    assert dip_penalty(c, 10.0, 100.0).item() == pytest.approx(10 * across + 100 * along, abs=1e-12)
    assert dip_penalty(c, 1.0, 0.0).item() == pytest.approx(across, abs=1e-12)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", ["I", "II"])
def test_the_objective_is_the_elbo_less_the_penalty_once(kind: str, full: bool) -> None:
    q = posterior(full=full)
    draw = draw_of(q)
    expected = torch.cov(q.mean.T, correction=0)
    if kind == "II":
        expected = expected + (q.covariance_matrix.mean(0) if full else q.variance.mean(0).diag())  # type: ignore[union-attr]
    value = dip(draw, kind=kind, off_diagonal=3.0, diagonal=5.0)  # type: ignore[arg-type]
    torch.testing.assert_close(value, elbo(draw) - dip_penalty(expected, 3.0, 5.0))
    assert value.shape == (7,)
    torch.testing.assert_close(dip(draw, off_diagonal=0.0, diagonal=0.0), elbo(draw))


@pytest.mark.parametrize("full", [False, True])
def test_the_second_kind_is_the_covariance_of_the_latents(full: bool) -> None:
    """Of samples by z-score; the first kind, which leaves the posterior's own variance out, is a negative control."""
    torch.manual_seed(0)
    q = posterior(full=full)
    z = q.sample(torch.Size((40_000,)))  # (K, B, Z)
    away = z - q.mean.mean(0)
    products = away.unsqueeze(-1) * away.unsqueeze(-2)  # over K draws of each row
    of_draw = products.mean(1)
    error = of_draw.std(0) / math.sqrt(len(z))

    def score(of_posteriors: bool) -> Tensor:
        return ((of_draw.mean(0) - _covariance(draw_of(q), of_posteriors=of_posteriors)).abs() / error).max()

    assert score(True) < 5
    assert score(False) > 20


def test_latents_that_are_independent_and_of_variance_one_cost_nothing() -> None:
    loc = torch.tensor([[0.6, 0.0], [-0.6, 0.0], [0.0, 0.6], [0.0, -0.6]], dtype=torch.float64)
    scale = torch.full_like(loc, math.sqrt(1 - 0.18))
    draw = draw_of(Independent(Normal(loc, scale), 1))
    torch.testing.assert_close(dip(draw, kind="II"), elbo(draw))
    assert (dip(draw, kind="I") < elbo(draw) - 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["posterior.name=iaf"], "dip needs one latent level with a normal posterior"),
        (["posterior.name=hierarchical", "prior.name=hierarchical"], "dip needs one latent level"),
        (["objective.diagonal=-1.0"], "diagonal must be at least 0, got -1.0"),
        (["objective.kind=III"], "objective.kind"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        lifecycle.train_run(read("dip-vae", settings=settings), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_it_compares_rows_and_is_no_bound() -> None:
    assert OfDraw(dip).couples_rows
    assert not OfDraw(dip).is_bound
