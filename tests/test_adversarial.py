"""Losses with a discriminator: what it estimates, against closed forms; who is trained by what; resumes bit for bit."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from test_train import StopAt, new_run, weights
from vaekit import VAE, LatentVariableModel, build, fit
from vaekit.config import read
from vaekit.config.recipe import Recipe
from vaekit.data import Batch, Batches
from vaekit.errors import ConfigError
from vaekit.objectives import AAE, FactorVAE
from vaekit.objectives.adversarial import Adversarial, permuted
from vaekit.training import Interrupted
from vaekit.training.players import players_of

R = 0.8


class Given(LatentVariableModel):
    """A model whose aggregate posterior is the distribution of x itself, as near as makes no difference."""

    event_shape = (2,)

    def __init__(self) -> None:
        super().__init__()
        self.latent_size = 2
        self.scale = torch.nn.Parameter(torch.tensor(1e-6))

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(x, self.scale), 1)

    def prior(self, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(2), 1.0), 1)

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(z, 1.0), 1)


def correlated(n: int, seed: int = 0) -> Tensor:
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return torch.stack((noise[:, 0], R * noise[:, 0] + math.sqrt(1 - R**2) * noise[:, 1]), 1)


def discriminating(loss: Adversarial, make: Any, steps: int = 400, rows: int = 500) -> tuple[float, float]:
    """Train only the discriminator, on a rate that falls to 0; what it says about new latents, and the error of that."""
    model = Given()
    (player,) = loss.opponents(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(player.optimizer, steps)
    for i in range(steps):
        terms = player.loss(model, Batch(make(rows, 1 + i)), 0.0)
        player.optimizer.zero_grad()
        terms.loss.mean().backward()
        player.optimizer.step()
        schedule.step()
    with torch.no_grad():
        ratio = loss.log_ratio(make(2000, 0))
    return ratio.mean().item(), ratio.std().item() / math.sqrt(len(ratio))


def test_total_correlation_of_a_gaussian() -> None:
    torch.manual_seed(0)
    value, error = discriminating(FactorVAE(2, hidden=[32, 32], learning_rate=0.01), correlated)
    exact = -0.5 * math.log(1 - R**2)  # −½ log det of the correlation matrix
    assert abs(value - exact) < 4 * error < 0.15
    assert exact > 20 * error


def test_latents_that_are_permuted_together_have_no_total_correlation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with one order for all dimensions the discriminator has nothing to tell apart."""
    monkeypatch.setattr("vaekit.objectives.adversarial.permuted", lambda z: z[torch.randperm(len(z))])
    torch.manual_seed(0)
    value, _ = discriminating(FactorVAE(2, hidden=[32, 32], learning_rate=0.01), correlated, steps=100)
    assert abs(value) < 0.1


def test_divergence_of_a_gaussian_from_the_prior() -> None:
    torch.manual_seed(0)
    shifted = lambda n, seed: 0.5 + 0.7 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    value, error = discriminating(AAE(2, hidden=[32, 32], learning_rate=0.01), shifted)
    exact = 2 * (0.5 * (0.7**2 + 0.5**2 - 1) - math.log(0.7))
    assert abs(-value - exact) < 4 * error < 0.15


def test_each_dimension_is_permuted_on_its_own() -> None:
    torch.manual_seed(0)
    z = torch.arange(300.0).reshape(100, 3)
    p = permuted(z)
    assert torch.equal(p.sort(0).values, z)
    orders = p.argsort(0)
    assert all(not torch.equal(orders[:, i], orders[:, j]) for i in range(3) for j in range(i))
    correlation = torch.corrcoef(permuted(correlated(2000)).T)[0, 1]
    assert abs(correlation) * math.sqrt(2000) < 4


@pytest.mark.parametrize("make", [lambda: FactorVAE(2, hidden=[8]), lambda: AAE(2, hidden=[8])])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_either_may_step_first(make: Any, order: tuple[int, int]) -> None:
    """No graph is stale, and nobody's gradient reaches the other's weights by its own step."""
    torch.manual_seed(0)
    model, loss = VAE(16, 2), make()
    players = players_of(model, loss, torch.optim.Adam(model.parameters(), 1e-3))
    batch = Batch(torch.rand(8, 1, 4, 4))
    sides = [list(model.parameters()), list(loss.parameters())]
    assert [list(map(id, player.parameters)) for player in players] == [list(map(id, side)) for side in sides]
    for _ in range(3):
        for i in order:
            before = [[p.detach().clone() for p in side] for side in sides]
            players[i].optimizer.zero_grad()
            players[i].loss(model, batch, 0.0).loss.mean().backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in sides[i])
            players[i].optimizer.step()
            other = 1 - i
            assert all(torch.equal(p, q) for p, q in zip(sides[other], before[other], strict=True))
            assert any(not torch.equal(p, q) for p, q in zip(sides[i], before[i], strict=True))


def session(run: Any, make: Any, stop_at: int | None = None, resume: bool = False) -> Tensor:
    torch.manual_seed(5)
    model, loss = VAE(16, 2), make()
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    fit(
        model,
        Batches(images, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3)),
        objective=loss,
        epochs=3,
        run=run,
        resume=run.load_checkpoint() if resume else None,
        listener=StopAt(stop_at) if stop_at is not None else None,  # type: ignore[arg-type]
    )
    return torch.cat((weights(model), torch.nn.utils.parameters_to_vector(loss.parameters())))


@pytest.mark.parametrize("make", [lambda: FactorVAE(2, hidden=[8]), lambda: AAE(2, hidden=[8])])
def test_resume_with_two_optimizers_is_exact(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaekit.training.loop.CHECK_EVERY", 0.0)
    whole, run = new_run(tmp_path, "whole"), new_run(tmp_path)
    expected = session(whole, make)
    with pytest.raises(Interrupted):
        session(run, make, stop_at=7)
    torch.rand(3)
    assert torch.equal(session(run, make, resume=True), expected)
    ends = [r.load_checkpoint().tensors for r in (whole, run)]
    assert {"optimizer", "optimizer-discriminator", "loss"} <= {name.partition("/")[0] for name in ends[0]}
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_conditional_discriminator_is_told_the_class() -> None:
    torch.manual_seed(0)
    model = build("aae", event_shape=(1, 4, 4), num_classes=3, model={"latent_size": 2, "condition": "class"})
    recipe = Recipe.resolve(read("aae"))
    loss = recipe.loss(model, dataset_size=8, num_classes=3)
    assert isinstance(loss, AAE)
    x, c = torch.rand(8, 1, 4, 4), torch.eye(3)[torch.arange(8) % 3]
    terms = [loss(model, Batch(x, c=rows), 0.0) for rows in (c, c) if torch.manual_seed(1)]
    assert torch.equal(terms[0].loss, terms[1].loss)
    z = torch.zeros(3, 2)
    assert len(loss.log_ratio(z, torch.eye(3)).unique()) == 3
    factor = FactorVAE(2, hidden=[8])
    assert factor(model, Batch(x, c=c), 0.0).loss.shape == (8,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FactorVAE(1), "latent_size to 2 or more"),
        (lambda: FactorVAE(2, gamma=-1.0), "gamma must be at least 0, got -1.0"),
        (lambda: FactorVAE(2, hidden=[0]), "hidden"),
        (lambda: AAE(2, weight=-1.0), "weight must be at least 0"),
        (lambda: AAE(2, learning_rate=0.0), "learning_rate must be greater than 0"),
        (lambda: AAE(2).opponents(build("vae", latent_size=2)), "does not train a prior"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_gamma_follows_a_schedule() -> None:
    sections = {"objective": {"gamma": {"schedule": "linear", "start": 0.0, "end": 8.0, "epochs": 4}}, "latent_size": 2}
    config = read("factor-vae", sections=sections)
    model = build(config, event_shape=(1, 4, 4))
    loss = Recipe.resolve(config).loss(model, dataset_size=8)
    batch = Batch(torch.rand(8, 1, 4, 4))
    for epoch, gamma in ((0.0, 0.0), (1.0, 2.0), (math.inf, 8.0)):
        terms = loss(model, batch, epoch)
        torch.testing.assert_close(terms.loss, terms.logged["neg_elbo"] + gamma * terms.logged["total_correlation"])


@pytest.mark.parametrize("preset", ["factor-vae", "aae"])
def test_a_preset_trains_and_is_evaluated(preset: str, tmp_path: Path, command: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vaekit.runs.job.draw_pictures", lambda *_, **__: [])
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (120, 8, 8), "u1"))
    small = ("encoder.hidden=[8]", "decoder.hidden=[8]", "objective.hidden=[8]", "model.latent_size=3")
    options = [word for setting in small for word in ("--set", setting)]
    trained = command("train", preset, "--data", "x.npy", "--epochs", 2, "--device", "cpu", "--name", "a", *options)
    assert trained.status == 0, trained.err
    name = {"factor-vae": "total_correlation", "aae": "divergence"}[preset]
    assert f"{name} " in trained.err
    record = json.loads((tmp_path / "runs/a/metrics.jsonl").read_text().splitlines()[-1])
    assert {name, f"validation_{name}", "discriminator", "neg_elbo"} <= set(record)
    evaluated = command("evaluate", "--samples", 10, "--json")
    assert evaluated.status == 0, evaluated.err
    assert '"nll"' in evaluated.out


def test_frozen_weights_stay_in_every_objective() -> None:
    x = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for preset in ("factor-vae", "vae"):
        model = build("vae", event_shape=(1, 8, 8), latent_size=2)
        frozen, *others = model.parameters()
        frozen.requires_grad_(False)
        before = [weight.clone() for weight in (frozen, others[-1])]
        fit(model, x, preset=preset, optimizer=torch.optim.Adam(model.parameters()), epochs=1, batch_size=16)
        assert torch.equal(frozen, before[0]) and not torch.equal(others[-1], before[1])
        fit(model, x, preset=preset, optimizer=torch.optim.Adam([frozen, *others[:5]]), epochs=1, batch_size=16)
        assert torch.equal(frozen, before[0])


@pytest.mark.parametrize(("loss", "model_size"), [(FactorVAE(3, hidden=(4,)), 2), (AAE(3, hidden=(4,)), 2)])
def test_a_discriminator_of_other_latents_is_refused(loss: Any, model_size: int) -> None:
    model = build("standard-vae", event_shape=(1, 8, 8), latent_size=model_size)
    with pytest.raises(
        ConfigError, match=f"for 3 values, latents and context together, but this model has {model_size}"
    ):
        fit(model, torch.rand(8, 1, 8, 8), objective=loss, epochs=1)


def test_a_scheduled_weight_is_checked() -> None:
    model = build("standard-vae", event_shape=(1, 8, 8), latent_size=2)
    with pytest.raises(ConfigError, match="gamma must be at least 0, got -5"):
        fit(model, torch.rand(8, 1, 8, 8), objective=FactorVAE(2, hidden=(4,), gamma=lambda epoch: -5.0), epochs=1)
