"""The mixture of normals with full covariances: its density, samples, gradients, classes, and where it starts."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal

from vaekit import build
from vaekit.config import read
from vaekit.distributions import FullCovarianceMixture
from vaekit.errors import ConfigError, DataError
from vaekit.priors import FullCovarianceNormalMixture, fit_mixture
from vaekit.priors.base import over_grid


def parameters(k: int, z: int, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(k, z, generator=generator, dtype=torch.float64)
    tril = 0.4 * torch.randn(k, z, z, generator=generator, dtype=torch.float64).tril(-1)
    diagonal = (0.5 * torch.randn(k, z, generator=generator, dtype=torch.float64)).exp()
    weights = torch.randn(k, generator=generator, dtype=torch.float64).log_softmax(0)
    tril = (tril + diagonal.diag_embed()) / scale
    return (scale * loc).to(dtype), tril.to(dtype), weights.to(dtype)


def reference(loc: torch.Tensor, tril: torch.Tensor, weights: torch.Tensor) -> MixtureSameFamily:
    components = MultivariateNormal(loc, precision_matrix=tril.mT @ tril)
    return MixtureSameFamily(Categorical(logits=weights), components)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("gradient", [True, False])
def test_density_is_that_of_torch_s_normals(scale: float, gradient: bool) -> None:
    given = parameters(7, 5, scale=scale)
    z = scale * 2 * torch.randn(3, 4, 5, dtype=torch.float64)
    with torch.set_grad_enabled(gradient):
        ours = FullCovarianceMixture(*given).log_prob(z)
    torch.testing.assert_close(ours, reference(*given).log_prob(z), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("gradient", [True, False])
def test_single_precision_is_good_enough_for_a_bound(gradient: bool) -> None:
    z = 2 * torch.randn(1000, 15, dtype=torch.float64)
    exact = FullCovarianceMixture(*parameters(100, 15)).log_prob(z)
    with torch.set_grad_enabled(gradient):
        single = FullCovarianceMixture(*parameters(100, 15, torch.float32)).log_prob(z.float())
    assert (single.double() - exact).abs().max() < (2e-3 if gradient else 2e-4)


@pytest.mark.parametrize("gradient", [True, False])
def test_density_integrates_to_one(gradient: bool) -> None:
    axis = torch.linspace(-12, 12, 1201, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    with torch.set_grad_enabled(gradient):
        mass = FullCovarianceMixture(*parameters(4, 2)).log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(mass.item() - 1) < 1e-6


def test_gradients_are_those_of_torch_s_normals() -> None:
    loc, tril, logits = (tensor.requires_grad_() for tensor in parameters(3, 4))
    given = [loc, tril, logits]
    z = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad(reference(loc, tril, logits).log_prob(z).sum(), [*given, z])
    found = torch.autograd.grad(FullCovarianceMixture(loc, tril, logits.log_softmax(0)).log_prob(z).sum(), [*given, z])
    for ours, theirs in zip(found, wanted, strict=True):
        below = theirs.tril() if theirs.ndim == 3 else theirs  # of T only what is below its diagonal is a parameter
        torch.testing.assert_close(ours.tril() if ours.ndim == 3 else ours, below, rtol=1e-8, atol=1e-8)


def test_samples_have_its_moments() -> None:
    torch.manual_seed(0)
    loc, tril, weights = parameters(3, 2)
    p = FullCovarianceMixture(loc, tril, weights)
    n = 200_000
    z = p.sample((n,))
    w = weights.exp()
    mean = w @ loc
    torch.testing.assert_close(p.mean, mean)
    covariances = torch.linalg.inv(tril.mT @ tril)
    second = (w[:, None, None] * (covariances + loc[:, :, None] * loc[:, None, :])).sum(0)
    score = (z.mean(0) - mean) / (z.std(0) / math.sqrt(n))
    products = z[:, :, None] * z[:, None, :]
    scores = (products.mean(0) - second) / (products.std(0) / math.sqrt(n))
    assert score.abs().max() < 5
    assert scores.abs().max() < 5


def test_a_class_has_components_of_its_own() -> None:
    torch.manual_seed(0)
    prior = FullCovarianceNormalMixture(2, 3, components=6)
    with torch.no_grad():
        prior.loc.copy_(100.0 * (torch.arange(6) % 3)[:, None].expand(6, 2) + torch.randn(6, 2))
    c = torch.eye(3)
    z = prior(c).sample((500,))
    assert z.shape == (500, 3, 2)
    assert ((z / 100).round() == torch.arange(3.0)[:, None]).all()
    log_p = prior(c).log_prob(torch.zeros(3, 2))
    assert log_p[0] > -50 > log_p[1]
    mixed = prior(torch.full((1, 3), 1 / 3)).log_prob(torch.zeros(1, 2))
    torch.testing.assert_close(mixed, log_p[:1] - math.log(3), rtol=1e-5, atol=1e-4)


def test_a_gradient_of_a_class_leaves_the_others_alone() -> None:
    prior = FullCovarianceNormalMixture(2, 2, components=4)
    prior(torch.eye(2)[:1]).log_prob(torch.zeros(1, 2)).sum().backward()
    gradient = prior.loc.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert (gradient[::2] != 0).any()
    assert (gradient[1::2] == 0).all()


class Halves(nn.Module):
    def forward(self, x: torch.Tensor, c: torch.Tensor | None = None) -> Independent:
        return Independent(Normal(x[:, :2] / 2, torch.ones(len(x), 2)), 1)


def test_means_start_at_the_posterior_s_means_of_images_of_the_class() -> None:
    torch.manual_seed(0)
    images = torch.arange(40.0)[:, None].expand(40, 2)
    prior = FullCovarianceNormalMixture(2, components=5)
    prior.start(Halves(), images)
    assert set((2 * prior.loc[:, 0]).tolist()) <= set(range(40))
    labels = torch.arange(40) % 4
    prior = FullCovarianceNormalMixture(2, 4, components=8)
    prior.start(Halves(), images, nn.functional.one_hot(labels, 4).float())
    assert ((2 * prior.loc[:, 0]).long() % 4 == torch.arange(8) % 4).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 0, {"components": 0}), "at least 1"),
        ((2, 0, {"variance": 0.0}), "must be greater than 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple, message: str) -> None:
    *sizes, options = arguments
    with pytest.raises(ConfigError, match=message):
        FullCovarianceNormalMixture(*sizes, **options)


def test_several_levels_are_refused_with_a_word() -> None:
    config = read("standard-vae", settings=["posterior.name=hierarchical", "prior.name=full-covariance-mixture"])
    with pytest.raises(ConfigError, match="one latent level"):
        build(config, event_shape=(1, 4, 4), x=torch.rand(30, 1, 4, 4))


def test_every_class_has_at_least_one_component() -> None:
    assert FullCovarianceNormalMixture(2, 3, components=5).loc.shape == (3, 2)
    assert FullCovarianceNormalMixture(2, 47, components=10)(torch.eye(47)).sample().shape == (47, 2)


def test_a_single_latent_and_no_latents() -> None:
    p = FullCovarianceMixture(torch.randn(4, 3), torch.eye(3).expand(4, 3, 3), torch.zeros(4).log_softmax(0))
    z = p.sample()
    for gradient in (False, True):
        with torch.set_grad_enabled(gradient):
            torch.testing.assert_close(p.log_prob(z), p.log_prob(z[None])[0])
            assert p.log_prob(z[None][:0]).shape == (0,)
    assert p.sample(torch.Size((0,))).shape == (0, 3)


@pytest.mark.parametrize(
    ("z", "labels"),
    [
        (torch.zeros(0, 2), None),
        (torch.zeros(5, 3), None),
        (torch.full((5, 2), float("nan")), None),
        (torch.zeros(5, 2), torch.zeros(4)),
    ],
)
def test_latents_that_do_not_fit_a_mixture_are_refused(z: torch.Tensor, labels: torch.Tensor | None) -> None:
    with pytest.raises(DataError, match=r"finite latents, shape \(N, 2\)|one per latent"):
        fit_mixture(FullCovarianceNormalMixture(2, components=2), z, labels)


def test_over_a_grid_of_latents_it_starts_at_the_data_too() -> None:
    class Copied(nn.Module):
        def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
            return Independent(Normal(x, torch.ones_like(x)), 3)

    mixture = FullCovarianceNormalMixture(4, components=5)
    x = torch.arange(20.0).reshape(5, 1, 2, 2)
    over_grid(mixture, (1, 2, 2)).start(Copied(), x)
    assert torch.equal(mixture.loc.sort(0).values, x.flatten(1))
