"""Every posterior's density against its samples, quadrature, autograd's Jacobians and closed forms."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from densities import Features, expectations, moments, shaken, unwatched, z_scores
from vaekit.distributions import CholeskyNormal, bounded, diagonal_normal
from vaekit.distributions.flow import Flow, PlanarTransform
from vaekit.errors import ConfigError
from vaekit.posteriors import (
    DiagonalNormal,
    FullCovarianceNormal,
    IAFPosterior,
    MeanAndVariance,
    NSFPosterior,
    PlanarPosterior,
)

FLOWS = {
    "planar": lambda *a: PlanarPosterior(*a, steps=4),
    "iaf": lambda *a: IAFPosterior(*a, steps=3, hidden=(8,)),
    "nsf": lambda *a: NSFPosterior(*a, steps=2, bins=4, hidden=(8,)),
}
POSTERIORS = {"diagonal-normal": DiagonalNormal, "full-covariance-normal": FullCovarianceNormal, **FLOWS}
SIZE, FEATURES = 6, 5


def make(name: str, latent_size: int, context_size: int = 0, scale: float = 0.5) -> MeanAndVariance:
    torch.manual_seed(1)
    return shaken(POSTERIORS[name](Features(SIZE, FEATURES, context_size), FEATURES, latent_size), scale)


def one(posterior: MeanAndVariance) -> Distribution:
    """The posterior of one row, batch shape ()."""
    return posterior.distribution(posterior.net(data(1))[0])


def data(n: int) -> Tensor:
    return torch.randn(n, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


# --- the bound on the log-variance -------------------------------------------------------------------------------------


def test_bounded_is_exactly_the_identity_within_ten() -> None:
    x = torch.cat((torch.linspace(-10, 10, 4001), torch.tensor([10.0, -10.0, 1e-30]))).requires_grad_()
    upstream = torch.randn(len(x), generator=torch.Generator().manual_seed(0))
    y = bounded(x)
    (gradient,) = torch.autograd.grad(y, x, upstream)
    assert torch.equal(y, x)
    assert torch.equal(gradient, upstream)


def test_bounded_saturates_smoothly() -> None:
    x = torch.linspace(-200, 200, 100_001, dtype=torch.float64, requires_grad=True)
    y = bounded(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    outside = x.abs() > 10
    expected = x.sign() * (10 + 10 * torch.tanh((x.abs() - 10) / 10))
    torch.testing.assert_close(y[outside], expected[outside])
    assert (y.diff() >= 0).all()
    assert slope.diff().abs().max() < 2 * 400 / 100_000  # |second derivative| ≤ 0.08 < 2: the slope has no jump
    assert y.abs().max() <= 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounded_takes_anything(dtype: torch.dtype) -> None:
    x = torch.tensor([1e3, -1e6, 1e30, -math.inf, math.inf], dtype=dtype, requires_grad=True)
    y = bounded(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(y, 20 * x.sign())
    assert slope.isfinite().all()


def test_diagonal_normal_is_the_lecture_formula_bit_for_bit() -> None:
    torch.manual_seed(0)
    posterior = DiagonalNormal(Features(SIZE, FEATURES), FEATURES, 3)
    x = data(4).float()
    h = posterior.net(x)
    q = posterior(x)
    assert torch.equal(q.base_dist.loc, posterior.mu(h))
    assert torch.equal(q.base_dist.scale, (0.5 * posterior.log_var(h)).exp())


# --- shapes, dtypes, parameters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("context_size", [0, 3])
@pytest.mark.parametrize("latent_size", [1, 3])
def test_shapes_and_a_gradient_in_every_parameter(name: str, context_size: int, latent_size: int) -> None:
    posterior, x = make(name, latent_size, context_size), data(4)
    q = posterior(x, torch.eye(4, 3, dtype=torch.float64) if context_size else None)
    z = q.rsample(torch.Size((2,)))
    assert q.batch_shape == (4,)
    assert q.event_shape == (latent_size,)
    assert z.shape == (2, 4, latent_size)
    assert z.dtype == torch.float64
    assert q.log_prob(z).shape == q.log_prob(z.detach()).shape == (2, 4)
    assert q.log_prob(z[0]).shape == (4,)
    assert q.mean.shape == (4, latent_size)
    (q.log_prob(z).sum() + z.square().sum()).backward()
    missing = [n for n, p in posterior.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []


@pytest.mark.parametrize("name", POSTERIORS)
def test_context_and_row_matter(name: str) -> None:
    posterior, x = make(name, 2, 3), data(1).expand(3, -1, -1, -1)
    z = torch.zeros(3, 2, dtype=torch.float64)
    log_q = posterior(x, torch.eye(3, dtype=torch.float64)).log_prob(z)
    assert len(log_q.unique()) == 3


@pytest.mark.parametrize("name", POSTERIORS)
def test_saved_weights_and_copies_give_the_same_density(name: str) -> None:
    posterior, x = make(name, 3), data(4)
    z = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = posterior(x).log_prob(z)
    other = POSTERIORS[name](Features(SIZE, FEATURES), FEATURES, 3).double()
    other.load_state_dict(posterior.state_dict())
    assert torch.equal(other(x).log_prob(z), expected)
    assert torch.equal(copy.deepcopy(posterior)(x).log_prob(z), expected)


@pytest.mark.parametrize("name", POSTERIORS)
def test_nothing_waits_for_the_device(name: str) -> None:
    posterior = make(name, 3)
    with unwatched():
        q = posterior(torch.empty(4, 1, 2, 3, dtype=torch.float64))
        z = q.rsample(torch.Size((2,)))
        assert (q.log_prob(z) + q.log_prob(z.detach())).shape == (2, 4)
        assert q.mean.shape == (4, 3)


@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("size", [1e6, -1e6])
@pytest.mark.parametrize("latent_size", [2, 20])
def test_extreme_features_keep_density_and_gradient_finite(name: str, size: float, latent_size: int) -> None:
    torch.manual_seed(0)
    posterior = POSTERIORS[name](nn.Flatten(), FEATURES, latent_size)
    posterior.net.forward = lambda x, c=None: x
    h = torch.randn(4, FEATURES).mul(size).requires_grad_()
    q = posterior(h)
    z = q.rsample(torch.Size((3,)))
    log_q = q.log_prob(z)
    (log_q.sum() + z.sum()).backward()
    assert z.isfinite().all()
    assert log_q.isfinite().all()
    assert h.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in posterior.parameters())


def test_without_the_bound_extreme_features_overflow() -> None:
    log_var = torch.tensor([1e6, -1e6])
    q = Normal(torch.zeros(2), (0.5 * log_var).exp(), validate_args=False)
    assert not q.log_prob(q.rsample()).isfinite().all()


# --- densities ---------------------------------------------------------------------------------------------------------

WIDE = {1: (12.0, 2001), 2: (10.0, 201)}


@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("latent_size", [1, 2])
def test_density_integrates_to_one_and_agrees_with_the_sampler(name: str, latent_size: int) -> None:
    q = one(make(name, latent_size, scale=0.3))
    total, expected = expectations(q, *WIDE[latent_size], moments)
    torch.testing.assert_close(total.item(), 1.0, atol=2e-3, rtol=0)
    torch.manual_seed(5)
    with torch.no_grad():
        z = q.sample(torch.Size((20_000,)))
        assert z_scores(moments(z, q.log_prob(z)), expected) < 5


@pytest.mark.parametrize("name", FLOWS)
def test_a_log_determinant_of_the_wrong_sign_is_no_density(name: str) -> None:
    q = one(make(name, 2, scale=0.3))

    class Wrong(Flow):
        def log_prob(self, z: Tensor) -> Tensor:
            noise, log_determinant = self.transform.call_and_ladj(z)
            return self.base.log_prob(noise) - log_determinant

    total, _ = expectations(Wrong(q.transform, q.base), *WIDE[2], moments)
    assert abs(total.item() - 1) > 0.02


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("latent_size", [1, 3])
def test_change_of_variables_with_autograd_jacobians(name: str, latent_size: int) -> None:
    q = one(make(name, latent_size))
    forward = lambda noise: q.transform.inv(noise)
    for seed in range(5):
        torch.manual_seed(seed)
        noise = q.base.sample()
        torch.manual_seed(seed)
        z = q.rsample()
        torch.testing.assert_close(z, forward(noise))
        expected = q.base.log_prob(noise) - jacobian(forward, noise).slogdet().logabsdet
        torch.testing.assert_close(q.log_prob(z), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("latent_size", [1, 4])
def test_flows_invert(name: str, latent_size: int) -> None:
    q = make(name, latent_size)(data(3))
    noise = q.base.sample(torch.Size((200,)))
    torch.testing.assert_close(q.transform(q.transform.inv(noise)), noise, rtol=1e-8, atol=1e-8)
    z = 3 * torch.randn(200, 3, latent_size, dtype=torch.float64)
    torch.testing.assert_close(q.transform.inv(q.transform(z)), z, rtol=1e-8, atol=1e-8)


def test_planar_steps_invert_at_the_edge_of_invertibility() -> None:
    """wᵀu = −100 would fold space without the constraint."""
    w = torch.tensor([3.0, -4.0], dtype=torch.float64)
    step = PlanarTransform(-4 * w, w, torch.tensor(0.3, dtype=torch.float64))
    x = torch.randn(1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = step(x)
    torch.testing.assert_close(step.inv(y), x, rtol=1e-6, atol=1e-6)
    assert (step.u @ w).item() > -1
    folded = x - 4 * w * torch.tanh(x @ w + 0.3).unsqueeze(-1)
    along, image = (x @ w).sort().indices, folded @ w
    assert (image[along].diff() < 0).any()  # the unconstrained map is not monotone along w
    assert ((y @ w)[along].diff() > 0).all()


def test_planar_step_without_direction_is_the_identity() -> None:
    x = torch.randn(10, 3, dtype=torch.float64)
    for u, w in [(torch.zeros(3), torch.ones(3)), (torch.zeros(3), torch.zeros(3))]:
        step = PlanarTransform(u.double(), w.double(), torch.tensor(0.5, dtype=torch.float64))
        torch.testing.assert_close(step(x), x)
        torch.testing.assert_close(step.log_abs_det_jacobian(x, x), torch.zeros(10, dtype=torch.float64))


@pytest.mark.parametrize("name", ["full-covariance-normal", *FLOWS])
def test_the_remembered_density_is_the_computed_one(name: str) -> None:
    posterior, x = make(name, 3), data(2)
    q = posterior(x)
    z = q.rsample(torch.Size((2,)))
    parameters = list(posterior.parameters())
    remembered, computed = q.log_prob(z), q.log_prob(z.view_as(z))
    assert remembered is q.log_prob(z)
    torch.testing.assert_close(remembered, computed, rtol=1e-9, atol=1e-9)
    for a, b in zip(
        torch.autograd.grad(remembered.sum(), parameters, retain_graph=True, materialize_grads=True),
        torch.autograd.grad(computed.sum(), parameters, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["full-covariance-normal", *FLOWS])
def test_a_density_remembered_without_gradients_is_not_used_where_one_is_wanted(name: str) -> None:
    posterior = make(name, 3)
    q = posterior(data(2))
    z = q.sample()
    assert not z.requires_grad
    log_q = q.log_prob(z)
    assert log_q.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(q.log_prob(z), log_q.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", POSTERIORS)
def test_gradients_of_the_density_at_any_z(name: str) -> None:
    """By finite differences, with respect to z and to the features: for planar flows through a root."""
    posterior = make(name, 2, scale=0.3)
    h = torch.randn(2, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    z = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, h: posterior.distribution(h).log_prob(z), (z, h), atol=1e-6)


# --- closed forms ------------------------------------------------------------------------------------------------------


def test_full_covariance_is_a_multivariate_normal() -> None:
    posterior, x = make("full-covariance-normal", 3), data(2)
    q = posterior(x)
    z = torch.randn(5, 2, 3, dtype=torch.float64)
    reference = MultivariateNormal(posterior.mu(posterior.net(x)), scale_tril=q.scale_tril)
    torch.testing.assert_close(q.log_prob(z), reference.log_prob(z))
    covariance = q.covariance_matrix[0]
    assert (covariance - covariance.diagonal().diag()).abs().max() > 0.1
    torch.manual_seed(0)
    centred = (q.sample(torch.Size((20_000,))) - q.mean)[:, 0].detach()
    assert z_scores(centred.unsqueeze(-1) * centred.unsqueeze(-2), covariance.detach()) < 5


@pytest.mark.parametrize("name", ["diagonal-normal", "full-covariance-normal"])
def test_analytic_kl_agrees_with_samples(name: str) -> None:
    q = one(make(name, 3))
    p = diagonal_normal(torch.tensor([0.5, -1.0, 0.0]).double(), torch.tensor([0.5, 0.2, -1.0]).double())
    torch.manual_seed(0)
    with torch.no_grad():
        z = q.sample(torch.Size((20_000,)))
        sampled = q.log_prob(z) - p.log_prob(z)
        assert z_scores(sampled, kl_divergence(q, p)) < 5
        assert z_scores(sampled, kl_divergence(p, diagonal_normal(q.mean, q.variance.log()))) > 5


def test_full_covariance_kl_is_torchs() -> None:
    q = make("full-covariance-normal", 3)(data(2))
    p = diagonal_normal(torch.tensor([0.5, -1.0, 0.0]).double(), torch.tensor([0.5, 0.2, -1.0]).double())
    dense = MultivariateNormal(p.mean, scale_tril=p.stddev.diag())
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(q, dense.expand((2,))))


def test_full_covariance_kl_needs_a_normal_prior() -> None:
    q = CholeskyNormal(torch.zeros(2), scale_tril=torch.eye(2))
    with pytest.raises(NotImplementedError):
        kl_divergence(q, Independent(torch.distributions.Laplace(torch.zeros(2), torch.ones(2)), 1))


# --- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda net: PlanarPosterior(net, 5, 2, steps=0), "steps must be at least 1, got 0"),
        (lambda net: IAFPosterior(net, 5, 2, steps=0), "steps must be at least 1, got 0"),
        (lambda net: IAFPosterior(net, 5, 2, hidden=(8, 0)), "hidden must be at least 1, got 0"),
        (lambda net: NSFPosterior(net, 5, 2, bins=1), "bins must be at least 2, got 1"),
    ],
)
def test_options_out_of_range_are_named(make_it: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it(Features(SIZE, FEATURES))
