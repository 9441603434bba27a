"""Vectors with missing values: what a bound is worth where not everything was observed, and a whole run on them."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import gaps
import numpy as np
import proof
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from oracles import LinearGaussian
from test_cli import assert_refused
from vaekit import data, elbo, iwae
from vaekit.data import Batches, Split
from vaekit.evaluation.likelihood.bounds import bounds
from vaekit.model import Draw, LatentLevel

ROWS = 7


class Gaps(LinearGaussian):
    """The linear-Gaussian model, told as its context which values are observed: q is exact given those."""

    def __init__(self) -> None:
        super().__init__()
        self.context_size = len(self.bias)

    def posterior(self, x: Tensor, c: Tensor | None = None) -> MultivariateNormal:
        assert c is not None
        seen = self.weight * c[:, :, None]  # (B, D, Z): a row of W for each value that is there
        precision = torch.eye(self.latent_size, dtype=x.dtype) + seen.mT @ seen / self.sigma**2
        covariance = torch.linalg.inv(precision)
        shift = ((x - self.bias) * c)[:, None] @ seen / self.sigma**2
        return MultivariateNormal((shift @ covariance)[:, 0], covariance)


def evidence(model: LinearGaussian, x: Tensor, observed: Tensor) -> Tensor:
    """Log p of the observed values of each row, from the marginal of N(b, WWᵀ + σ²I)."""
    whole = model.evidence()
    found = []
    for row, mask in zip(x, observed, strict=True):
        covariance = whole.covariance_matrix[mask][:, mask]
        found.append(MultivariateNormal(whole.mean[mask], covariance).log_prob(row[mask]))
    return torch.stack(found)


@pytest.fixture
def observed() -> Tensor:
    mask = torch.rand(ROWS, 5, generator=torch.Generator().manual_seed(1)) > 0.4
    mask[0] = True
    mask[1] = torch.arange(5) == 3
    return mask


@pytest.mark.parametrize("hidden", [0.0, 1e3, float("nan")])
@torch.no_grad()
def test_bounds_with_the_exact_posterior_are_the_evidence_of_what_is_observed(observed: Tensor, hidden: float) -> None:
    model = Gaps()
    x = model.data(ROWS)
    expected = evidence(model, x, observed)
    values = x.masked_fill(~observed, hidden)  # what is not observed must not matter
    split = Split(values, torch.zeros(ROWS).long(), observed, c=observed.double())
    (batch,) = (model.to_model(batch) for batch in Batches(split, batch_size=ROWS))
    draw = model.draw(batch.x, batch.c, k=5, observed=batch.observed)
    for objective in (partial(elbo, kl="sampled"), iwae):
        torch.testing.assert_close(objective(draw), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(elbo(quadrature(model, batch)), expected, rtol=0, atol=1e-10)
    found = bounds(model, batch, samples=(1, 10)).per_row
    for name in ("L_1", "L_10"):
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-10)
    wrong = iwae(model.draw(batch.x, batch.c, k=5))  # negative control: as if everything were observed
    assert (wrong - expected)[~observed.all(1)].abs().min() > 1e-3


def quadrature(model: Gaps, batch: Any) -> Draw:
    """A draw whose latents are the sigma points of q, over which the ELBO has no sampling error."""
    q = model.posterior(batch.x, batch.c)
    p = model.prior()
    arms = model.latent_size**0.5 * q.scale_tril.permute(2, 0, 1)
    z = torch.cat((q.mean + arms, q.mean - arms))
    return Draw(batch.x, z, (LatentLevel(z, q, p),), model.likelihood(z), observed=batch.observed)


SECTIONS: dict[str, dict[str, Any]] = {"data": {"name": "gaps:load"}, "likelihood": {"name": "normal"}}


def test_a_run_on_vectors_with_missing_values(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"folder": tmp_path, "command": command, "monkeypatch": monkeypatch}
    run = proof.prove("gaps", sections=SECTIONS, drawn="drawn.npy", **options)
    assert np.load("drawn.npy").shape == (4, gaps.SIZE)
    assert [path.name for path in (run.path / "samples").iterdir()] == ["curves.png"]  # no picture of vectors
    records = run.metrics()
    assert records[-1]["neg_elbo"] < records[0]["neg_elbo"] < 100
    assert run.environment["data"]["kind"] == "vector"
    monkeypatch.setattr(data, "load", gaps.dataset)
    evaluated = command("evaluate", "killed", "--trust", "--samples", 100, "--json")
    assert evaluated.status == 0, evaluated.err
    values = {value["name"]: value["value"] for value in json.loads(evaluated.out)["values"]}
    assert 0 < values["nll"] < values["elbo"] * -1 + 1 < 100
    assert command("encode", "killed", "--trust", "-o", "z.npy").status == 0
    assert np.load("z.npy").shape == (16, 2)
    scored = command("score", "killed", "--trust", "--samples", 5)
    assert scored.status == 0, scored.err
    assert command("reconstruct", "killed", "--trust", "-n", 3, "-o", "pairs.npy").status == 0
    assert np.abs(np.load("pairs.npy")).max() < 100
    assert np.load("pairs.npy").shape == (3, 2, gaps.SIZE)
    assert_refused(
        command("sample", "killed", "--trust", "-o", "drawn.png"),
        "are neither images nor signals, and drawn.png is a picture",
    )


def test_a_data_set_by_import_path_needs_trust(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = command("train", "--set", "data.name=gaps:load")
    assert_refused(refused, "data set 'gaps:load' is code of your own; allow it")
    assert not (tmp_path / "runs").exists()
