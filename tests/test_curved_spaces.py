"""Latents on the sphere and in the Poincaré ball: densities, samplers, gradients, and what uses them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import exact
import tiny
from densities import z_scores
from vaekit import build, load
from vaekit.data import Batch, Split
from vaekit.distributions import (
    PoincareBall,
    PowerSpherical,
    UniformSphere,
    UnitSphere,
    WrappedNormal,
    closed_form_kl,
    exponential_at_zero,
)
from vaekit.distributions.wrapped_normal import log_conformal, log_sinh_over
from vaekit.errors import ConfigError
from vaekit.evaluation.latent_space.ex_post import fit_prior
from vaekit.evaluation.likelihood.support import refuse_annealing
from vaekit.plot import interpolation, manifold, traversals
from vaekit.runs.restore import RestoredRun

F64 = torch.float64


def power(d: int, kappa: float, n: int = 1) -> PowerSpherical:
    torch.manual_seed(d)
    loc = torch.nn.functional.normalize(torch.randn(d, dtype=F64), dim=-1)
    return PowerSpherical(loc.expand(n, d), torch.full((n,), kappa, dtype=F64, requires_grad=True))


# -- the sphere -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [0.0, 0.3, 2.0, 40.0])
def test_the_density_on_a_circle_and_on_a_sphere_integrates_to_one(kappa: float) -> None:
    angle = (torch.arange(20_000, dtype=F64) + 0.5) * (2 * math.pi / 20_000)
    circle = torch.stack((angle.cos(), angle.sin()), -1)
    total = power(2, kappa).log_prob(circle).exp().sum() * (2 * math.pi / 20_000)
    assert abs(total.item() - 1) < 1e-6
    height = (torch.arange(400, dtype=F64) + 0.5) / 200 - 1  # areas between two heights are equal: Archimedes
    azimuth = (torch.arange(400, dtype=F64) + 0.5) * (2 * math.pi / 400)
    h, a = torch.meshgrid(height, azimuth, indexing="ij")
    width = (1 - h.square()).sqrt()
    points = torch.stack((width * a.cos(), width * a.sin(), h), -1).flatten(0, 1)
    total = power(3, kappa).log_prob(points).exp().mean() * 4 * math.pi
    assert abs(total.item() - 1) < 1e-4
    assert UniformSphere(torch.zeros(3)).log_prob(points).exp().mean().item() * 4 * math.pi == pytest.approx(1)


@pytest.mark.parametrize("d", [2, 5, 20])
@pytest.mark.parametrize("kappa", [0.5, 8.0])
def test_samples_entropy_and_kl_agree_with_the_density(d: int, kappa: float) -> None:
    q, p = power(d, kappa), UniformSphere(torch.zeros(d, dtype=F64))
    torch.manual_seed(0)
    z = q.sample((20_000,))[:, 0]
    assert bool(q.support.check(z).all())
    cosine, log_q = (z * q.loc).sum(-1), q.log_prob(z[:, None])[:, 0].detach()
    mean = ((q.a - q.b) / (q.a + q.b)).item()
    assert abs(z_scores(cosine, mean)) < 5
    assert abs(z_scores(-log_q, q.entropy().item())) < 5
    kl = closed_form_kl(q, p)
    assert kl is not None and kl.item() > 0
    assert abs(z_scores(log_q - p.log_prob(z), kl.item())) < 5
    assert abs(z_scores(log_q - p.log_prob(z), kl.item() + 0.1)) > 5  # negative control


def slope(values: Tensor, kappa: Tensor) -> Tensor:
    """Derivatives of each row's value by its own κ."""
    return torch.autograd.grad(values.sum(), kappa)[0]


@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize("kappa", [0.7, 2.0])
def test_the_gradient_is_that_of_the_expectation(d: int, kappa: float) -> None:
    q = power(d, kappa, 40_000)
    torch.manual_seed(1)
    cosine = (q.rsample() * q.loc).sum(-1)
    t = torch.linspace(-1, 1, 200_001, dtype=F64)[1:-1]
    t = torch.sin(t * math.pi / 2)  # which is dense where the weight is singular
    jacobian = (1 - t.square()).sqrt()

    def expected(k: float) -> float:
        weight = (1 + t) ** k * (1 - t.square()) ** ((d - 3) / 2) * jacobian
        return ((weight * (t + t.square())).sum() / weight.sum()).item()

    finite = (expected(kappa + 1e-3) - expected(kappa - 1e-3)) / 2e-3
    assert abs(z_scores(slope(cosine + cosine.square(), q.concentration), finite)) < 5


def test_the_usual_gradient_of_von_mises_and_fisher_is_too_small() -> None:
    """A negative control: a rejection sampler's path, without the correction for what was rejected."""
    d, kappa = 5, torch.tensor(2.0, dtype=F64, requires_grad=True)
    root = (4 * kappa**2 + (d - 1) ** 2).sqrt()
    b, a = (-2 * kappa + root) / (d - 1), (d - 1 + 2 * kappa + root) / 4
    limit = 4 * a * b / (1 + b) - (d - 1) * math.log(d - 1)
    torch.manual_seed(0)
    half = torch.tensor((d - 1) / 2, dtype=F64)
    noise = torch.distributions.Beta(half, half).sample((100_000,))
    t = 2 * a * b / (1 - (1 - b) * noise)
    accepted = ((d - 1) * t.log() - t + limit >= torch.rand(len(noise), dtype=F64).log()).detach()
    cosine = ((1 - (1 + b) * noise) / (1 - (1 - b) * noise))[accepted]
    path = torch.autograd.grad(cosine.mean(), kappa)[0].item()
    grid = torch.linspace(-1, 1, 100_001, dtype=F64)

    def mean(k: float) -> float:
        weight = (k * grid).exp() * (1 - grid.square()) ** ((d - 3) / 2)
        return ((weight * grid).sum() / weight.sum()).item()

    true = (mean(2.001) - mean(1.999)) / 0.002
    assert abs(cosine.mean().item() - mean(2.0)) < 0.01  # the samples are right
    assert 0.82 < path / true < 0.92


def test_a_single_precision_sample_has_finite_gradients_however_narrow() -> None:
    kappa = torch.tensor([1e-3, 1.0, 1e3, 1e6], requires_grad=True)
    loc = torch.nn.functional.normalize(torch.randn(4, 3), dim=-1).requires_grad_()
    q = PowerSpherical(loc, kappa)
    z = q.rsample((50,))
    (z.sum() + q.log_prob(z).sum() + q.entropy().sum()).backward()
    assert bool(kappa.grad.isfinite().all()) and bool(loc.grad.isfinite().all())
    assert bool(q.support.check(z).all())


# -- the ball ---------------------------------------------------------------------------------------------------------


def disc(n: int = 1200, reach: float = 16.0) -> tuple[Tensor, Tensor]:
    """Points of the disc, evenly spaced in distance from 0 and in angle, and the area of each."""
    rho = (torch.arange(n, dtype=F64) + 0.5) * (reach / n)
    angle = (torch.arange(400, dtype=F64) + 0.5) * (2 * math.pi / 400)
    r, a = torch.meshgrid(rho, angle, indexing="ij")
    radius = torch.tanh(r / 2)
    area = radius * 0.5 / torch.cosh(r / 2).square() * (reach / n) * (2 * math.pi / 400)
    return torch.stack((radius * a.cos(), radius * a.sin()), -1).flatten(0, 1), area.flatten()


@pytest.mark.parametrize("mean", [(0.0, 0.0), (0.5, -0.8)])
def test_a_wrapped_normal_integrates_to_one_on_the_disc(mean: tuple[float, float]) -> None:
    z, area = disc()
    q = WrappedNormal(exponential_at_zero(torch.tensor(mean, dtype=F64)), torch.tensor([0.7, 1.1], dtype=F64))
    log_p = q.log_prob(z)
    assert abs((log_p.exp() * area).sum().item() - 1) < 1e-3
    r = q._tangent(z).norm(dim=-1)
    for wrong in (log_p - 2 * log_conformal(z), log_p + log_sinh_over(r)):  # negative controls
        assert abs((wrong.exp() * area).sum().item() - 1) > 0.05


def test_samples_in_the_ball_agree_with_the_density() -> None:
    torch.manual_seed(0)
    scale = torch.tensor([0.5, 1.0, 0.8], dtype=F64)
    q = WrappedNormal(exponential_at_zero(torch.tensor([0.9, -0.3, 0.2], dtype=F64)), scale)
    z = q.rsample((20_000,))
    assert bool(q.support.check(z).all())
    remembered, again = q.log_prob(z), q.log_prob(z.clone())
    torch.testing.assert_close(remembered, again, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(q._tangent(z).norm(dim=-1), distance(q.loc, z), rtol=1e-6, atol=1e-6)
    assert abs(z_scores(distance(q.loc, z).square(), scale.square().sum().item())) < 5


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Of points of the ball. Reference: Nickel and Kiela 2017, arXiv:1705.08039, eq. 1."""
    gap = (a - b).square().sum(-1) / ((1 - a.square().sum(-1)) * (1 - b.square().sum(-1)))
    return torch.acosh(1 + 2 * gap)


def test_the_kl_by_monte_carlo_is_not_negative_and_zero_for_equals() -> None:
    torch.manual_seed(0)
    p = WrappedNormal(torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64))
    for _ in range(8):
        q = WrappedNormal(exponential_at_zero(torch.randn(3, dtype=F64)), 0.2 + torch.rand(3, dtype=F64))
        z = q.rsample((4000,))
        ratio = q.log_prob(z) - p.log_prob(z)
        assert ratio.mean() > -5 * ratio.std() / math.sqrt(len(ratio))
    z = p.rsample((10,))
    torch.testing.assert_close(p.log_prob(z), WrappedNormal(p.loc, p.scale).log_prob(z))


# -- what uses them ---------------------------------------------------------------------------------------------------

SIZES: dict[str, Any] = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}}
PARTS = {"spherical-vae": (4, UnitSphere()), "poincare-vae": (2, PoincareBall())}


def small(preset: str, **sections: Any) -> Any:
    torch.manual_seed(0)
    return build(preset, event_shape=(1, 8, 8), num_classes=3, latent_size=PARTS[preset][0], **SIZES, **sections)


def test_a_walk_goes_the_shortest_way() -> None:
    sphere, ball = UnitSphere(), PoincareBall()
    torch.manual_seed(0)
    t = torch.linspace(0, 1, 9, dtype=F64)[:, None]
    a, b = UniformSphere(torch.zeros(4, dtype=F64)).sample((2,))
    way = sphere.between(a, b, t)
    torch.testing.assert_close(way.norm(dim=-1), torch.ones(9, dtype=F64))
    torch.testing.assert_close(way[[0, -1]], torch.stack((a, b)))
    angles = (way[:-1] * way[1:]).sum(-1).acos()
    torch.testing.assert_close(angles, angles[:1].expand(8))
    opposite = sphere.between(a, -a, t)
    torch.testing.assert_close(opposite.norm(dim=-1), torch.ones(9, dtype=F64))
    a, b = exponential_at_zero(torch.randn(2, 3, dtype=F64))
    way = ball.between(a, b, t)
    torch.testing.assert_close(distance(a, way), t[:, 0] * distance(a, b), rtol=1e-6, atol=1e-6)
    straight = torch.lerp(a, b, t)
    assert (distance(a, straight) - t[:, 0] * distance(a, b)).abs().max() > 0.01  # negative control


@pytest.mark.parametrize("preset", list(PARTS))
@pytest.mark.parametrize("condition", ["none", "class"])
def test_models_walk_and_refuse_what_needs_flat_latents(preset: str, condition: str) -> None:
    model, space = small(preset, model={"condition": condition}), PARTS[preset][1]
    x, c = torch.rand(6, 1, 8, 8).round(), torch.arange(6) % 3 if condition == "class" else None
    draw = model.draw(x, c, k=5)
    assert bool(space.check(draw.z).all()) and bool(draw.log_w.isfinite().all())
    (-draw.log_w.mean()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    assert interpolation(model, rows=2, steps=3, c=None if c is None else c[:2]).images.shape == (6, 1, 8, 8)
    with pytest.raises(ConfigError, match=r"sphere|ball"):
        refuse_annealing(model, Batch(x, c=c))
    if condition == "none":
        with pytest.raises(ConfigError, match="any real numbers"):
            fit_prior(model, Split(x))


@torch.no_grad()
def test_pictures_are_grey_where_no_latent_of_the_ball_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("poincare-vae").eval()
    torch.nn.init.normal_(list(model.parameters())[-1])  # no image is grey by itself
    far = 0.95 * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    monkeypatch.setattr(model, "encode", lambda x, c=None: far)
    images = torch.rand(4, 1, 8, 8)
    picture = manifold(model, images, side=9)
    grey = (picture.images == 0.5).flatten(1).all(1).reshape(9, 9)
    assert grey[0, 0] and grey[-1, -1] and not grey[4].any() and not grey[:, 4].any()
    assert picture.title.endswith("; grey outside the Poincaré ball")
    rows = traversals(model, images).images.reshape(2, 11, -1)
    assert (rows[:, 0] == 0.5).all() and not (rows[:, 5] == 0.5).all()


@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        ("power-spherical", "standard-normal"),
        ("diagonal-normal", "uniform-sphere"),
        ("power-spherical", "wrapped-normal"),
        ("wrapped-normal", "full-covariance-mixture"),
    ],
)
def test_spaces_that_differ_are_refused_in_one_line(posterior: str, prior: str) -> None:
    with pytest.raises(ConfigError, match=r"and the prior .* is over .* choose") as error:
        build("standard-vae", event_shape=(1, 8, 8), posterior={"name": posterior}, prior={"name": prior})
    assert "\n" not in str(error.value)


def test_a_sphere_needs_two_dimensions() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        build("spherical-vae", event_shape=(1, 8, 8), latent_size=1)


@pytest.mark.parametrize("preset", list(PARTS))
def test_a_run_resumes_and_evaluates(preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = exact.prove(preset, tmp_path / "runs", monkeypatch, model={"latent_size": 3}, data={"validation": None})
    from vaekit.evaluation import run_evaluation

    monkeypatch.setattr(RestoredRun, "dataset", lambda *_, **__: tiny.dataset())
    result = run_evaluation.evaluate_run(run, load(run.path), samples=20)
    values = {value.name: value.value for value in result.values}
    assert math.isfinite(values["nll"]) and values["rate"] > -0.1
