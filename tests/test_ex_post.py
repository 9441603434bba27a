"""Densities fitted to latents after the training, and autoencoders that have no other prior."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Exponential, Independent, MultivariateNormal, Normal

import exact
import tiny
from conftest import one_line
from oracles import LinearGaussian
from vaekit import build, elbo, fit, load
from vaekit.data import Batch, Split
from vaekit.distributions.point_mass import PointMass
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.latent_space import ex_post
from vaekit.evaluation.latent_space.ex_post import fit_prior
from vaekit.evaluation.samples.quality import frechet
from vaekit.model import LatentVariableModel, WithPrior
from vaekit.objectives import OfDraw, RegularizedAutoencoder, beta_elbo
from vaekit.objectives.regularized import squared_slope
from vaekit.priors import FullCovarianceNormalMixture, SecondStagePrior, fit_mixture
from vaekit.runs.restore import RestoredRun

DENSITIES: tuple[Any, ...] = ("normal", "mixture")


def two_normals(n: int) -> MultivariateNormal:
    mean = torch.tensor([[-2.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    tril = torch.tensor([[[1.0, 0.0], [0.8, 0.3]], [[0.5, 0.0], [0.0, 0.5]]], dtype=torch.float64)
    return MultivariateNormal(mean[torch.arange(n) % 2], scale_tril=tril[torch.arange(n) % 2])


def test_every_step_of_expectation_maximization_ascends() -> None:
    torch.manual_seed(0)
    prior = FullCovarianceNormalMixture(2, components=5).double()
    (ascent,) = fit_mixture(prior, two_normals(600).sample())
    assert len(ascent) > 3
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(ascent))


def test_a_mixture_is_as_good_as_the_truth_and_better_than_one_normal() -> None:
    torch.manual_seed(1)
    z, new = two_normals(4000).sample(), two_normals(4000).sample()
    truth = torch.stack([two_normals(2).log_prob(new[:, None])[:, i] for i in range(2)]).logsumexp(0) - math.log(2)
    values = {}
    for components in (1, 2):
        prior = FullCovarianceNormalMixture(2, components=components).double()
        fit_mixture(prior, z)
        with torch.no_grad():
            values[components] = prior().log_prob(new) - truth
    error = {k: v.std() / math.sqrt(len(v)) for k, v in values.items()}
    assert abs(values[2].mean()) < 5 * error[2] + 0.01
    assert values[1].mean() < -0.3  # negative control: one normal does not do


def test_one_component_has_the_moments_in_closed_form() -> None:
    torch.manual_seed(2)
    z = torch.randn(50, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64) + 1
    prior = FullCovarianceNormalMixture(3, components=1).double()
    fit_mixture(prior, z)
    tril = prior.tril[0].tril(-1) + prior.tril[0].diagonal().exp().diag()
    centred = z - z.mean(0)
    expected = (3 * torch.cov(z.T) + centred.T @ centred) / (3 + 50)
    torch.testing.assert_close(prior.loc[0].detach(), z.mean(0))
    torch.testing.assert_close(torch.linalg.inv(tril.T @ tril).detach(), expected, rtol=1e-4, atol=1e-4)


def test_labels_in_a_list_are_those_in_a_tensor() -> None:
    z = torch.tensor([[0.0], [0.2], [5.0], [5.2]])
    for labels in ([0, 0, 1, 1], np.array([0, 0, 1, 1]), torch.tensor([0, 0, 1, 1])):
        prior = FullCovarianceNormalMixture(1, context_size=2, components=1)
        fit_mixture(prior, z, labels)  # type: ignore[arg-type]
        torch.testing.assert_close(prior.loc.detach(), torch.tensor([[0.1], [5.1]]))
    with pytest.raises(DataError, match=r"labels must be \(4,\), one per latent, got \(3,\)"):
        fit_mixture(prior, z, torch.zeros(3))
    with pytest.raises(DataError, match="labels must be from 0 to 1, or −1 if unknown, got 4"):
        fit_mixture(prior, z, torch.full((len(z),), 4))


def test_identical_latents_make_no_singular_covariance() -> None:
    prior = FullCovarianceNormalMixture(2, components=3)
    fit_mixture(prior, torch.ones(20, 2))
    assert prior().sample((5,)).isfinite().all()


def test_a_second_vae_estimates_its_density_without_bias() -> None:
    torch.manual_seed(7)
    prior = SecondStagePrior(1, hidden=[8], samples=4).double()
    for weights in prior.decoder.parameters():
        weights.data.mul_(2)
    prior.encoder[-1].bias.data[1] = 0.5  # q wider than the posterior: weights with a variance
    step, z = 0.05, torch.arange(-9, 9, 0.05, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        p = torch.stack([prior().log_prob(z).exp() for _ in range(300)])
        drawn = prior().sample((20_000,))
    for total, expected, noise in (
        (step * p.sum(1), 1.0, 0.0),
        (step * (p * (z[:, 0] > 0.5)).sum(1), (drawn > 0.5).double().mean(), 0.5 / math.sqrt(20_000)),
    ):
        error = math.sqrt(total.std() ** 2 / 300 + noise**2)
        assert abs(total.mean() - expected) < 5 * error + 1e-3


@pytest.mark.parametrize("density", ["mixture", "normal", "flow", "vae"])
def test_a_linear_gaussian_models_aggregate_posterior_is_its_prior(
    density: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ex_post, "EPOCHS", 3)
    monkeypatch.setattr(ex_post, "COMPONENTS", 5)
    model = LinearGaussian()
    torch.manual_seed(3)
    prior = fit_prior(model, Split(model.evidence().sample((3000,))), density)
    new = model.prior().sample((4000,))
    loss = (model.prior().log_prob(new) - prior().log_prob(new)).detach()  # its mean is the KL
    assert loss.mean() < 0.08
    moved = (model.prior().log_prob(new) - prior().log_prob(new + 0.5)).detach()
    assert moved.mean() > 0.25  # negative control


def test_the_bound_of_a_model_with_a_fitted_prior_is_that_of_the_composed_model() -> None:
    torch.manual_seed(4)
    model = build(
        "standard-vae", event_shape=(1, 8, 8), latent_size=3, encoder={"hidden": [8]}, decoder={"hidden": [8]}
    )
    data = tiny.dataset()
    with_prior = WithPrior(model, fit_prior(model, data))
    x = data.test.x.float() / 255
    values = {}
    for name, some in (("own", model), ("fitted", with_prior)):
        torch.manual_seed(5)
        values[name] = some.draw(x, k=4).log_w
    draw = model.draw(x)
    torch.testing.assert_close(with_prior.draw(x).distortion.shape, draw.distortion.shape)
    torch.manual_seed(5)
    z = model.draw(x, k=4).z
    difference = with_prior.prior().log_prob(z) - model.prior().log_prob(z)
    torch.testing.assert_close(values["fitted"] - values["own"], difference, rtol=1e-4, atol=1e-3)
    assert with_prior.sample(3).shape == (3, 1, 8, 8)


class Mean(LatentVariableModel):
    """A model without weights: z is normal about x."""

    latent_size, event_shape = 2, (2,)

    def posterior(self, x, c=None):
        return Independent(Normal(x, 0.1), 1)

    def prior(self, c=None):
        return Independent(Normal(torch.zeros(2), 1.0), 1)

    def likelihood(self, z, c=None):
        return Independent(Normal(z, 0.1), 1)


def test_a_prior_is_fitted_to_a_model_without_weights() -> None:
    x = 5 + 2 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    p = fit_prior(Mean(), Split(x), "normal")()
    assert ((p.mean - 5).abs() < 5 * 2 / 1000**0.5).all()


def test_a_model_with_another_prior_refuses_the_values_that_the_model_refuses() -> None:
    model = build("standard-vae", event_shape=(3,), likelihood={"name": "poisson"})
    for each in (model, WithPrior(model, model.parts["prior"])):
        each.check_known(torch.tensor([0.0, 3.0]))
        for check in (each.check_known, each.check_values):
            with pytest.raises(DataError, match="whole"):
                check(torch.tensor([0.5, 3.0]))


def test_samples_from_a_fitted_mixture_are_nearer_to_the_data_than_those_from_the_prior() -> None:
    """The ordering of Ghosh et al. 2020, here where a light KL leaves the latents far from N(0, I)."""
    torch.manual_seed(8)
    options = {"encoder": {"hidden": [32]}, "decoder": {"hidden": [32]}}
    model = build("standard-vae", event_shape=(1, 8, 8), latent_size=2, **options)
    data = tiny.dataset()
    fit(model, data, objective=OfDraw(beta_elbo, {"beta": 0.01}), epochs=20, batch_size=8, learning_rate=0.01)
    real = data.train.x.flatten(1) / 255
    distances = {}
    models: dict[str, Any] = {density: WithPrior(model, fit_prior(model, data, density)) for density in DENSITIES}
    for name, some in ({"prior": model} | models).items():
        samples = some.sample(len(real), generator=torch.Generator().manual_seed(0)).flatten(1)
        distances[name] = frechet(name, real, samples).value
    assert distances["mixture"] < distances["normal"] < distances["prior"], distances


def test_a_conditional_model_gets_a_density_for_each_class() -> None:
    torch.manual_seed(6)
    config = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "model": {"condition": "class"}}
    model = build("standard-vae", event_shape=(1, 8, 8), num_classes=3, latent_size=2, **config)
    data = tiny.dataset()
    prior = fit_prior(model, data, "normal")
    z, labels = ex_post._latents(model, data.train, "none")
    for label in range(3):
        mean = prior(nn.functional.one_hot(torch.tensor([label]), 3).float()).mean[0]
        error = (mean - z[labels == label].mean(0)).abs() / z[labels == label].std(0) * math.sqrt(64 / 3)
        assert bool((error < 5).all())


def test_latents_that_are_not_real_numbers_are_refused() -> None:
    class Positive(LinearGaussian):
        def posterior(self, x: torch.Tensor, c: Any = None) -> Any:
            return Independent(Exponential(torch.ones(len(x), 3)), 1)

    with pytest.raises(ConfigError, match="any real numbers"):
        fit_prior(Positive(), Split(torch.randn(5, 5)))
    with pytest.raises(ConfigError, match="density"):
        fit_prior(LinearGaussian(), Split(torch.randn(5, 5)), "gauss")  # type: ignore[arg-type]


def test_sampling_from_the_aggregate_fits_once_and_again_after_more_training(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = exact.prove("standard-cvae", Path("runs"), monkeypatch, model={"latent_size": 2})
    monkeypatch.setattr(RestoredRun, "dataset", lambda *_, **__: tiny.dataset())
    options = ("sample", "stopped", "--from", "aggregate", "-n", "3", "-o")
    assert command(*options, "a.npy").status == 0
    file = run.path / "prior-mixture.safetensors"
    before = file.stat().st_mtime_ns, file.read_bytes()
    assert command(*options, "b.npy").status == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert file.stat().st_mtime_ns == before[0]
    file.write_bytes(before[1][:-8])
    assert command(*options, "c.npy").status == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "c.npy").read_bytes()
    assert command("sample", "stopped", "-n", "3", "-o", "d.npy").status == 0
    assert (tmp_path / "a.npy").read_bytes() != (tmp_path / "d.npy").read_bytes()
    assert "aggregat" in one_line(command("sample", "stopped", "--from", "agregate"))


# -- regularized autoencoders -----------------------------------------------------------------------------------------


def test_the_squared_slope_of_a_linear_map_is_its_frobenius_norm() -> None:
    torch.manual_seed(0)
    weight = torch.randn(7, 4, dtype=torch.float64)
    z = torch.randn(1, 20_000, 4, dtype=torch.float64, requires_grad=True)
    estimates = squared_slope(torch.tanh(z[0] * 0 + z[0]).atanh() @ weight.T, z).detach()
    score = (estimates.mean() - weight.square().sum()) / (estimates.std() / math.sqrt(len(estimates)))
    assert abs(score) < 5
    wrong = (estimates.mean() - weight.square().mean()) / (estimates.std() / math.sqrt(len(estimates)))
    assert abs(wrong) > 50  # negative control: a mean instead of a sum


def rae(**options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "prior": {"components": 3}}
    return build("rae", event_shape=(1, 8, 8), latent_size=3, **sizes, **options)


def test_a_fitted_prior_feels_the_codes_and_the_codes_feel_nothing_of_it() -> None:
    model, x = rae(), tiny.dataset().train.x[:8].float() / 255
    loss = RegularizedAutoencoder()
    loss(model, Batch(x), 0.0).loss.sum().backward()
    prior = [p.grad.clone() for p in model.parts["prior"].parameters()]
    encoder = [p.grad.clone() for p in model.parts["posterior"].parameters()]
    assert all(bool(grad.abs().sum() > 0) for grad in prior[:1])
    model.zero_grad()
    terms = loss(model, Batch(x), 0.0)
    draw = model.draw(x)
    only = draw.distortion + 0.05 * draw.z[0].square().sum(1)
    only.sum().backward()
    for grad, p in zip(encoder, model.parts["posterior"].parameters(), strict=True):
        torch.testing.assert_close(grad, p.grad)
    torch.testing.assert_close(terms.loss.detach(), torch.stack(list(terms.logged.values())).sum(0))
    model.zero_grad()
    (-model.prior().log_prob(model.draw(x).z[0])).sum().backward()
    assert any(bool(p.grad.abs().sum() > 0) for p in model.parts["posterior"].parameters())  # negative control


def test_a_point_has_no_rate_and_no_bound() -> None:
    model, x = rae(), tiny.dataset().train.x[:4].float() / 255
    draw = model.draw(x)
    assert draw.levels == ()
    for ask in (lambda: elbo(draw), lambda: OfDraw(elbo).of(draw), lambda: draw.log_w, lambda: draw.rate()):
        with pytest.raises(ConfigError, match="no density"):
            ask()
    with pytest.raises(ConfigError, match=r"choose the posterior 'deterministic'"):
        RegularizedAutoencoder()(build("standard-vae", event_shape=(1, 8, 8)), Batch(x), 0.0)
    with pytest.raises(ConfigError, match="must be at least 0"):
        RegularizedAutoencoder(beta=-1.0)


@pytest.mark.parametrize("regularizer", ["l2", "gradient", "none"])
@pytest.mark.parametrize("condition", ["none", "class"])
def test_every_regularizer_reaches_every_weight(regularizer: Any, condition: str) -> None:
    model = rae(model={"condition": condition}, num_classes=3)
    data = tiny.dataset()
    batch = model.to_model(Batch(data.train.x[:6], labels=data.train.labels[:6]))
    RegularizedAutoencoder(regularizer=regularizer)(model, batch, 0.0).loss.mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_the_l2_regularizer_is_of_the_decoder_alone() -> None:
    model = rae(likelihood={"name": "normal"})
    loss = RegularizedAutoencoder(weight=1.0)
    x = tiny.dataset().train.x[:2].float() / 255
    paid = loss(model, Batch(x), 0.0).logged["regularizer"][0].item()
    weights = model.parts["likelihood"].net.parameters()
    assert paid == pytest.approx(sum(p.detach().square().sum().item() for p in weights))
    with torch.no_grad():
        model.parts["likelihood"].log_scale.fill_(3.0)  # which is not the decoder's
    assert loss(model, Batch(x), 0.0).logged["regularizer"][0].item() == paid
    mine = _NoParts()
    with pytest.raises(ConfigError, match="decoder_parameters"):
        loss(mine, Batch(torch.zeros(2, 3)), 0.0)
    RegularizedAutoencoder(regularizer="gradient")(mine, Batch(torch.zeros(2, 3)), 0.0)


class _NoParts(LatentVariableModel):
    latent_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3))

    def posterior(self, x: torch.Tensor, c: torch.Tensor | None = None) -> Any:
        return PointMass(x @ self.weight)

    def prior(self, c: torch.Tensor | None = None) -> Any:
        return Independent(Normal(torch.zeros(3), 1.0), 1)

    def likelihood(self, z: torch.Tensor, c: torch.Tensor | None = None) -> Any:
        return Independent(Normal(z, 1.0), 1)


def test_a_run_of_an_autoencoder_resumes_evaluates_and_samples(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = exact.prove("rae", Path("runs"), monkeypatch, model={"latent_size": 2}, prior={"components": 2})
    assert {"distortion", "code", "regularizer", "code_nll", "validation_loss"} <= set(run.metrics()[0])
    assert "neg_elbo" not in run.read_json("test.json")
    from vaekit.evaluation import run_evaluation

    monkeypatch.setattr(RestoredRun, "dataset", lambda *_, **__: tiny.dataset())
    result = run_evaluation.evaluate_run(run, load(run.path), samples=2)
    assert "nll" not in [value.name for value in result.values]
    assert any("no density q" in warning for warning in result.warnings)
    assert load(run.path).sample(3).shape == (3, 1, 8, 8)
