"""Levels that are drawn downwards: exact where the exact posterior is one of them, and rates of every level."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import exact
import tiny
from densities import expectations, moments
from vaekit import build, elbo, load
from vaekit.data import Batch
from vaekit.distributions import diagonal_normal
from vaekit.errors import ConfigError
from vaekit.model import Composed
from vaekit.objectives import OfDraw, free_bits
from vaekit.posteriors import DiagonalNormal, LadderPosterior, TopDownPosterior
from vaekit.priors import LadderPrior, TopDownPrior
from vaekit.runs.restore import RestoredRun

A, W, S1, S = 0.8, 1.3, 0.6, 0.5  # z₂ ~ N(0, 1), z₁ ~ N(A z₂, S1²), x ~ N(W z₁, S²)


class Line(nn.Module):
    """z₂ → N(A z₂, S1²), as a level of the prior."""

    def forward(self, z: Tensor, c: Any = None) -> Any:
        return diagonal_normal(A * z, torch.full_like(z, 2 * math.log(S1)))


class Gaussian(nn.Module):
    def forward(self, z: Tensor, c: Any = None) -> Any:
        return Independent(Normal(W * z[..., :1], S), 1)


class Same(nn.Module):
    def forward(self, x: Tensor, c: Any = None) -> Tensor:
        return x


def two_levels() -> Composed:
    """A ladder whose posterior is the exact one."""
    q = LadderPosterior(Same(), 1, 1, upper_sizes=[1], hidden=[1]).double()
    q.upward[0], q.downward[0] = Same(), Line()
    scatter = W**2 * S1**2 + S**2
    precision = 1 + (W * A) ** 2 / scatter
    slopes, variances = (1 / W, W * A / scatter / precision), (S**2 / W**2, 1 / precision)
    with torch.no_grad():
        for i in range(2):
            q.mu[i].weight.fill_(slopes[i])
            q.mu[i].bias.zero_()
            q.log_var[i].weight.zero_()
            q.log_var[i].bias.fill_(math.log(variances[i]))
    return Composed(q, LadderPrior(q).double(), Gaussian())


def test_two_linear_gaussian_levels_are_exact() -> None:
    model = two_levels()
    torch.manual_seed(0)
    x = torch.randn(6, 1, dtype=torch.float64) * 2
    draw = model.draw(x, k=5)
    spread = torch.tensor((W * A) ** 2 + (W * S1) ** 2 + S**2, dtype=torch.float64).sqrt()
    evidence = Normal(0 * spread, spread).log_prob(x)[:, 0]
    torch.testing.assert_close(draw.log_w.detach(), evidence.expand(5, -1), rtol=1e-10, atol=1e-10)
    assert len(draw.levels) == 2
    uncorrected = two_levels()  # negative control: the data's normal alone, as without the ladder
    uncorrected.parts["posterior"].downward[0] = nn.Module()
    wide = DiagonalNormal(Same(), 1, 1).double()
    with torch.no_grad():
        wide.log_var.weight.zero_(), wide.log_var.bias.fill_(40.0)
    uncorrected.parts["posterior"].downward[0] = wide
    torch.manual_seed(0)
    z = uncorrected.posterior(x).sample((5,))
    p, q = model.prior().log_prob(z), uncorrected.posterior(x).log_prob(z)
    assert (p + model.likelihood(z).log_prob(x) - q).std(0).min() > 0.1


def top_down(levels: int = 2, context_size: int = 0) -> TopDownPosterior:
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    net.forward = lambda x, c=None: nn.functional.linear(x, net.weight, net.bias)  # type: ignore[method-assign]
    q = TopDownPosterior(net, 3, 1, context_size, levels=levels, width=4, hidden=[5]).double()
    with torch.no_grad():
        for p in q.parameters():
            p += 0.3 * torch.randn_like(p)
    return q


def test_both_chains_integrate_to_one_and_draw_what_they_say() -> None:
    q = top_down()
    x = torch.randn(1, 4, dtype=torch.float64)
    for chain in (TopDownPrior(q).double()(), q(x)):
        total, expected = expectations(chain, 9.0, 300, moments)
        assert abs(total.item() - 1) < 1e-3
        torch.manual_seed(1)
        z = chain.sample((20_000,)).reshape(-1, 2)
        samples = moments(z, chain.log_prob(z)).detach()
        error = samples.std(0) / math.sqrt(len(samples))
        assert bool(((samples.mean(0) - expected).abs() < 5 * error + 1e-3).all())


def test_the_path_of_states_is_the_same_however_it_is_walked() -> None:
    q = top_down(3, context_size=2)
    x, c = torch.randn(5, 4, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1, 1]]
    chain = q(x, c)
    z = chain.rsample((2,))
    torch.testing.assert_close(chain.log_prob(z), q(x, c).log_prob(z.clone()))
    other = q.last_state(z, c[[1, 1, 1, 1, 1]])
    assert not torch.allclose(q.last_state(z, c), other)
    states = torch.stack([torch.stack([q.last_state(z[k, b], c[b]) for b in range(5)]) for k in range(2)])
    torch.testing.assert_close(q.last_state(z, c), states)


SMALL: dict[str, dict[str, Any]] = {
    "ladder-vae": {"model": {"latent_size": 3}, "posterior": {"upper_sizes": [2, 1], "hidden": [6]}},
    "top-down-vae": {
        "model": {"latent_size": 2},
        "encoder": {"channels": [2, 3], "dense": 6},
        "decoder": {"channels": [2, 3], "dense": 6},
        "posterior": {"levels": 4, "width": 6, "hidden": [5]},
    },
}


def small(preset: str, condition: str) -> Composed:
    torch.manual_seed(0)
    sections = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}} | SMALL[preset]
    sections |= {"model": {**sections["model"], "condition": condition}}
    model = build(preset, event_shape=(1, 8, 8), num_classes=3, **sections)
    assert isinstance(model, Composed)
    return model


@pytest.mark.parametrize("preset", list(SMALL))
@pytest.mark.parametrize("condition", ["none", "class"])
def test_every_weight_learns_and_every_level_has_a_rate(preset: str, condition: str) -> None:
    model = small(preset, condition)
    x, c = torch.rand(6, 1, 8, 8).round(), torch.arange(6) % 3 if condition == "class" else None
    batch = model.to_model(Batch(x, labels=c))
    terms = OfDraw(elbo)(model, batch, 0.0)
    terms.loss.mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    levels = [terms.logged[f"rate_{i}"] for i in range(1, 1 + len(model.parts["posterior"].latent_sizes))]
    torch.testing.assert_close(torch.stack(levels).sum(0), terms.logged["rate"])
    assert model.sample(4, None if c is None else c[:4]).shape == (4, 1, 8, 8)
    assert model.reconstruct(x, c).shape == x.shape
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names)) == len(model.state_dict())  # nothing is stored twice


def test_free_bits_of_a_level_are_by_hand() -> None:
    model = small("ladder-vae", "none")
    draw = model.draw(torch.rand(6, 1, 8, 8).round(), k=3)
    rates = [level.kl().mean() for level in draw.levels]
    minimum = (min(rates) + 0.1).item()
    by_hand = -draw.distortion - sum(rate.clamp_min(minimum) for rate in rates)
    torch.testing.assert_close(free_bits(draw, minimum=minimum, per="level"), by_hand)
    assert not torch.allclose(free_bits(draw, minimum=minimum), by_hand)  # a minimum for each dimension is more


@pytest.mark.parametrize(("posterior", "prior"), [("diagonal-normal", "ladder"), ("hierarchical", "top-down")])
def test_a_prior_that_shares_with_another_posterior_is_refused(posterior: str, prior: str) -> None:
    with pytest.raises(ConfigError, match=rf"choose the posterior '{prior}'"):
        build("standard-vae", event_shape=(1, 8, 8), posterior={"name": posterior}, prior={"name": prior})
    with pytest.raises(ConfigError, match="at least 2"):
        build("top-down-vae", posterior={"levels": 1})
    assert TopDownPrior(top_down()).double()().event_shape == (2,)


@pytest.mark.parametrize("preset", list(SMALL))
def test_a_run_resumes_and_evaluates(preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = exact.prove(preset, tmp_path / "runs", monkeypatch, **SMALL[preset])
    assert {"rate_1", "rate_3", "validation_rate_2"} <= set(run.metrics()[0])
    from vaekit.evaluation import run_evaluation

    monkeypatch.setattr(RestoredRun, "dataset", lambda *_, **__: tiny.dataset())
    values = {value.name: value.value for value in run_evaluation.evaluate_run(run, load(run.path), samples=20).values}
    assert math.isfinite(values["nll"]) and values["rate"] > -0.1
