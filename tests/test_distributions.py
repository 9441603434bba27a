"""Densities sum or integrate to one, samplers agree with them, and float32 keeps what float64 says."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Beta, Distribution, Independent, Normal, OneHotCategorical, constraints
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli

import vaekit
from vaekit.distributions import (
    BetaBinomial,
    CholeskyNormal,
    ContinuousBernoulli,
    DiscretizedLogistic,
    GreyLevelCategorical,
    GumbelSoftmax,
    IndependentBernoulli,
    LevelDistribution,
    NegativeBinomial,
    Poisson,
    average_over,
    closed_form_kl,
    given_observed,
    grey_levels,
    hard_of,
    is_relaxed,
    log_gamma_rest,
    logged_of,
    nearest_grey_level,
    penalties_of,
    resampled,
)

LEVEL = torch.arange(256, dtype=torch.float64) / 255


def spread(n: int, low: float, high: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(n, dtype=torch.float64, generator=generator)


def logistics(n: int = 300) -> DiscretizedLogistic:
    return DiscretizedLogistic(spread(n, -0.5, 1.5), spread(n, -8, 4, 1).exp())


def beta_binomials(n: int = 300) -> BetaBinomial:
    return BetaBinomial(spread(n, -9, 9).exp(), spread(n, -9, 9, 1).exp())


def categoricals(n: int = 20) -> GreyLevelCategorical:
    return GreyLevelCategorical(spread(n * 256, -5, 5).reshape(n, 256))


LEVEL_CASES = [logistics, beta_binomials, categoricals]


# Sums and integrals


@pytest.mark.parametrize("make", LEVEL_CASES)
def test_levels_sum_to_one_and_have_their_mean(make: Callable[[], Distribution]) -> None:
    p = make()
    mass = p.log_prob(LEVEL[:, None]).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones_like(mass[0]), rtol=0, atol=1e-10)
    torch.testing.assert_close((mass * LEVEL[:, None]).sum(0), p.mean, rtol=0, atol=1e-10)


def test_a_discretized_logistic_with_closed_ends_would_not_sum_to_one() -> None:
    p = logistics()
    upper = torch.sigmoid((LEVEL[:, None] + 0.5 / 255 - p.loc) / p.scale)
    lower = torch.sigmoid((LEVEL[:, None] - 0.5 / 255 - p.loc) / p.scale)
    closed = upper - lower
    torch.testing.assert_close(p.log_prob(LEVEL[:, None]).exp()[1:-1], closed[1:-1], rtol=0, atol=1e-13)
    assert (closed.sum(0) - 1).abs().median() > 0.1


def test_values_between_levels_count_as_the_nearest() -> None:
    p = beta_binomials(5)
    torch.testing.assert_close(p.log_prob(torch.tensor(100.4 / 255, dtype=torch.float64)), p.log_prob(LEVEL[100]))
    assert not torch.allclose(p.log_prob(torch.tensor(100.6 / 255, dtype=torch.float64)), p.log_prob(LEVEL[100]))


@pytest.mark.parametrize("theta", [0.2, 1.0, 7.3, 1e3, 1e6])
@pytest.mark.parametrize("rate", [0.01, 1.0, 30.0])
def test_negative_binomial_sums_to_one(rate: float, theta: float) -> None:
    p = NegativeBinomial(torch.tensor(rate, dtype=torch.float64), torch.tensor(theta, dtype=torch.float64))
    x = torch.arange(20000, dtype=torch.float64)
    mass = p.log_prob(x).exp()
    assert abs(mass.sum().item() - 1) < 1e-9
    assert abs((mass * x).sum().item() - rate) < 1e-8 * max(rate, 1)
    assert abs((mass * (x - rate) ** 2).sum().item() / (rate + rate**2 / theta) - 1) < 1e-8


def test_negative_binomial_tends_to_poisson() -> None:
    x = torch.arange(100, dtype=torch.float64)
    p = NegativeBinomial(torch.tensor(20.0, dtype=torch.float64), torch.tensor(1e12, dtype=torch.float64))
    torch.testing.assert_close(p.log_prob(x), torch.distributions.Poisson(20.0).log_prob(x), rtol=0, atol=1e-8)


def quadrature(panels: int = 2000) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [0, 1], panels finer towards the ends."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = (1 - np.cos(np.linspace(0, np.pi, panels + 1))) / 2
    half = np.diff(edges) / 2
    x = half[:, None] * (nodes + 1) + edges[:-1, None]
    return torch.from_numpy(x.ravel()), torch.from_numpy((half[:, None] * weights).ravel())


ETAS = torch.cat([torch.tensor([0.0, 1e-8, -1e-4, 0.5, -0.5, 0.499999, 0.500001]), torch.linspace(-2000, 2000, 161)])


def bernoulli_pair(logits: Tensor) -> tuple[IndependentBernoulli, "Independent[Bernoulli]"]:
    """Ours, and torch's."""
    values = Bernoulli(logits=logits, validate_args=False)
    return IndependentBernoulli(values, 3, validate_args=False), Independent(values, 3, validate_args=False)


@pytest.mark.parametrize("x", [torch.rand(5, 1, 4, 4).round(), torch.rand(5, 1, 4, 4)], ids=["binary", "grey"])
def test_bernoulli_pixels_in_float32(x: Tensor) -> None:
    scale = torch.logspace(-3, 2, 20)[:, None, None, None, None]
    logits = scale * torch.randn(20, 5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    ours, _ = bernoulli_pair(logits)
    _, exact = bernoulli_pair(logits.double())
    torch.testing.assert_close(ours.log_prob(x).double(), exact.log_prob(x.double()), rtol=1e-6, atol=2e-6)
    assert ours.expand(torch.Size((20, 5))).log_prob(x).shape == (20, 5)
    assert bernoulli_pair(torch.full((1, 1, 2, 2), torch.inf))[0].log_prob(torch.zeros(1, 2, 2)).item() == -math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 125, 127, 784, 3072])
def test_bernoulli_pixels_of_even_odds_do_not_underflow(width: int, dtype: torch.dtype) -> None:
    found = bernoulli_pair(torch.zeros(1, 1, width, dtype=dtype))[0].log_prob(torch.zeros(1, 1, width, dtype=dtype))
    assert found.item() == pytest.approx(-width * math.log(2), rel=5e-3 if dtype == torch.bfloat16 else 1e-6)


def test_gradients_of_bernoulli_pixels() -> None:
    torch.manual_seed(0)
    logits = (3 * torch.randn(3, 2, 1, 2, 2)).double().requires_grad_()
    x = torch.rand(2, 1, 2, 2).double().requires_grad_()
    ours, torchs = bernoulli_pair(logits)
    weight = torch.randn(3, 2).double()
    for found, expected in zip(
        torch.autograd.grad((weight * ours.log_prob(x)).sum(), (logits, x)),
        torch.autograd.grad((weight * torchs.log_prob(x)).sum(), (logits, x)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
    assert torch.autograd.gradgradcheck(lambda eta: bernoulli_pair(eta)[0].log_prob(x.detach()), logits)
    batched = torch.func.vmap(lambda eta, image: bernoulli_pair(eta)[0].log_prob(image), (1, 0), 1)(logits, x)
    torch.testing.assert_close(batched, torchs.log_prob(x))
    one_image = torch.func.vmap(lambda eta: bernoulli_pair(eta)[0].log_prob(x))(logits)
    torch.testing.assert_close(one_image, torchs.log_prob(x))
    one_mean = torch.func.vmap(lambda image: bernoulli_pair(logits)[0].log_prob(image))(torch.stack((x, 1 - x)))
    torch.testing.assert_close(one_mean, torch.stack((torchs.log_prob(x), torchs.log_prob(1 - x))))


def test_continuous_bernoulli_integrates_to_one_and_has_its_mean() -> None:
    x, weights = quadrature()
    p = ContinuousBernoulli(ETAS.double())
    density = p.log_prob(x[:, None]).exp() * weights[:, None]
    torch.testing.assert_close(density.sum(0), torch.ones_like(p.logits), rtol=0, atol=1e-11)
    torch.testing.assert_close((density * x[:, None]).sum(0), p.mean, rtol=0, atol=1e-11)


# float32 against float64


def near_half() -> Tensor:
    """Logits about λ = ½ and about the series' limit, as float32 holds them."""
    return torch.cat([torch.linspace(-0.02, 0.02, 4001), torch.linspace(-0.52, -0.48, 401), torch.linspace(-3, 3, 301)])


def continuous_bernoulli_oracle(eta: Tensor, x: float) -> tuple[Tensor, Tensor, Tensor]:
    """log p, its derivative and the mean by 40-point Gauss-Legendre quadrature in float64, exact for |η| ≤ 3."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(40))
    t, w = (nodes + 1) / 2, weights / 2
    mass = (eta.double()[:, None] * t).exp() * w
    mean = (mass * t).sum(1) / mass.sum(1)
    return eta.double() * x - mass.sum(1).log(), x - mean, mean


def errors(make: Callable[[Tensor], Distribution], x: float = 0.3) -> list[float]:
    eta = near_half().requires_grad_()
    p = make(eta)
    log_prob = p.log_prob(torch.tensor(x))
    (slope,) = torch.autograd.grad(log_prob.sum(), eta)
    found = (log_prob, slope, p.mean)
    oracle = continuous_bernoulli_oracle(eta.detach(), x)
    return [(a.detach().double() - b).abs().max().item() for a, b in zip(found, oracle, strict=True)]


def test_continuous_bernoulli_about_one_half_in_float32() -> None:
    assert max(errors(ContinuousBernoulli)) < 3e-7


def test_torchs_continuous_bernoulli_about_one_half_would_fail_that() -> None:
    _, slope, mean = errors(lambda eta: TorchContinuousBernoulli(logits=eta))
    assert min(slope, mean) > 1e-3


def test_continuous_bernoulli_has_a_smooth_gradient_at_zero() -> None:
    eta = torch.zeros(3, requires_grad=True)
    x = torch.tensor([0.0, 0.3, 1.0])
    (slope,) = torch.autograd.grad(ContinuousBernoulli(eta).log_prob(x).sum(), eta)
    torch.testing.assert_close(slope, x - 0.5)


def test_continuous_bernoulli_far_out() -> None:
    p = ContinuousBernoulli(torch.tensor([1e4, -1e4]))
    torch.testing.assert_close(p.log_prob(torch.tensor([1.0, 0.0])), torch.full((2,), math.log(1e4)))
    torch.testing.assert_close(p.mean, torch.tensor([1 - 1e-4, 1e-4]), rtol=0, atol=1e-7)


def test_log_gamma_rest() -> None:
    z = torch.logspace(-6, 6, 200, dtype=torch.float64)
    expected = torch.lgamma(z) - z * (z + 8).log() + z
    error = (log_gamma_rest(z) - expected).abs()
    assert error.max() < 1e-8  # for large z that of `expected`, whose terms reach 1e7
    assert error[z < 2].max() < 3e-13


def lgamma_beta_binomial(alpha: Tensor, beta: Tensor, k: Tensor) -> Tensor:
    def log_beta(a: Tensor, b: Tensor) -> Tensor:
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    n = torch.full_like(alpha, 255)
    choose = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return choose + log_beta(k + alpha, n - k + beta) - log_beta(alpha, beta)


def test_beta_binomial_in_float32() -> None:
    torch.manual_seed(0)
    alpha, beta = spread(20000, -9, 9).exp().float(), spread(20000, -9, 9, 1).exp().float()
    p = BetaBinomial(alpha, beta)
    x = p.sample()
    exact = lgamma_beta_binomial(alpha.double(), beta.double(), nearest_grey_level(x.double()))
    error = p.log_prob(x).double() - exact
    assert error.abs().max() < 1e-4
    assert error.mean().abs() < 1e-6
    plain = lgamma_beta_binomial(alpha, beta, nearest_grey_level(x)).double() - exact
    assert plain.abs().max() > 5e-3  # what it would be without care


@pytest.mark.parametrize("rate", [1e-6, 0.1, 10.0, 1e3, 1e5, 8e5, 8e6])
def test_counts_in_float32_at_any_rate(rate: float) -> None:
    """torch's Poisson is wrong by 0.7 nats per value at a rate of 8e5."""
    torch.manual_seed(0)
    mu = torch.full((2000,), rate)
    ends = torch.tensor([0.0, 1.0, 5.0, 100.0, round(rate / 2), 2.0 * round(rate)])

    def exact(x: Tensor, theta: float | None) -> Tensor:
        x, m = x.double(), torch.tensor(rate).double()
        if theta is None:
            return x * m.log() - m - torch.lgamma(x + 1)
        t = torch.tensor(theta).double()
        choose = torch.lgamma(x + t) - torch.lgamma(t) - torch.lgamma(x + 1)
        return choose + t * (t / (t + m)).log() + x * (m / (t + m)).log()

    for theta in (None, 0.1, 1.0, 100.0, 8000.0):
        leaf = torch.cat((mu, mu[:6])).requires_grad_()
        p = Poisson(leaf) if theta is None else NegativeBinomial(leaf, torch.tensor(theta))
        x = torch.cat((p.sample()[:2000], ends))
        found, truth = p.log_prob(x), exact(x, theta)
        assert (found[:2000] - truth[:2000]).abs().max() < (1e-3 if rate > 1e5 else 2e-4)
        assert ((found - truth).abs() / (1 + truth.abs())).max() < 1e-4
        (gradient,) = torch.autograd.grad(found.sum(), leaf)
        slope = x / rate - 1 if theta is None else (x / rate - 1) * theta / (theta + rate)
        torch.testing.assert_close(gradient, slope.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("log_theta", [-3.0, 0.0, 4.0, 9.0])
@pytest.mark.parametrize("log_rate", [-2.0, 2.0, 6.0])
def test_negative_binomial_in_float32(log_rate: float, log_theta: float) -> None:
    torch.manual_seed(0)
    rate, theta = torch.full((5000,), log_rate).exp(), torch.full((5000,), log_theta).exp()
    p = NegativeBinomial(rate, theta)
    x = p.sample()
    exact = NegativeBinomial(rate.double(), theta.double()).log_prob(x.double())
    logits = rate.double().log() - theta.double().log()
    reference = torch.distributions.NegativeBinomial(theta.double(), logits=logits).log_prob(x.double())
    torch.testing.assert_close(exact, reference, rtol=0, atol=1e-9)
    assert ((p.log_prob(x).double() - exact).abs() / x.clamp(min=10)).max() < 1e-6


# Samplers


def z_scores(samples: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Of the mean over the first dimension; where the variance is all but 0, of a mean that may be off by rounding."""
    return (samples.mean(0) - mean) / ((variance / len(samples)).sqrt() + 1e-9)


@pytest.mark.parametrize("make", LEVEL_CASES)
def test_level_samplers_agree_with_log_prob(make: Callable[[], Distribution]) -> None:
    torch.manual_seed(1)
    p, n = make(), 4000
    samples = p.sample(torch.Size((n,)))
    assert grey_levels.check(samples).all()
    mass = p.log_prob(LEVEL[:, None]).exp()
    expected = n * mass
    counts = torch.stack([(nearest_grey_level(samples) == k).sum(0) for k in range(256)])
    often = expected * (1 - mass) > 10
    assert often.sum() > 1000
    assert ((counts - expected) / (expected * (1 - mass)).sqrt())[often].abs().max() < 5
    variance = (mass * (LEVEL[:, None] - p.mean) ** 2).sum(0)
    assert z_scores(samples, p.mean, variance).abs().max() < 5


def test_beta_binomial_sampler_with_tiny_parameters() -> None:
    torch.manual_seed(0)
    tiny = torch.full((4000,), 1e-4)
    x = BetaBinomial(tiny, tiny).sample()
    assert ((x > 0) & (x < 1)).float().mean() < 0.01
    assert abs(x.mean().item() - 0.5) < 5 * 0.5 / math.sqrt(4000)
    halves = Beta(tiny, tiny).sample()
    assert (halves == 0.5).float().mean() > 0.5  # torch's beta variables there


def test_continuous_bernoulli_sampler() -> None:
    torch.manual_seed(0)
    x, weights = quadrature()
    p = ContinuousBernoulli(ETAS.double())
    density = p.log_prob(x[:, None]).exp() * weights[:, None]
    samples = p.sample(torch.Size((4000,)))
    assert constraints.unit_interval.check(samples).all()
    for power in (1, 2):
        moment, square = ((x[:, None] ** e * density).sum(0) for e in (power, 2 * power))
        assert z_scores(samples**power, moment, square - moment**2).abs().max() < 5


def test_negative_binomial_sampler() -> None:
    torch.manual_seed(0)
    rate, theta = spread(200, -3, 4).exp(), spread(200, -3, 8, 1).exp()
    p = NegativeBinomial(rate, theta)
    samples = p.sample(torch.Size((4000,)))
    assert (samples == samples.round()).all()
    variance = rate + rate**2 / theta
    assert z_scores(samples, rate, variance).abs().max() < 5
    none = p.log_prob(torch.zeros(())).exp()
    assert z_scores((samples == 0).double(), none, none * (1 - none)).abs().max() < 5


# Gradients


def test_gradients_agree_with_finite_differences() -> None:
    eta = torch.tensor([-30.0, -0.7, -0.3, 1e-3, 0.2, 0.8, 40.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)[:, None]
    assert torch.autograd.gradcheck(lambda e: ContinuousBernoulli(e).log_prob(x), eta)
    assert torch.autograd.gradcheck(lambda e: ContinuousBernoulli(e).mean, eta)
    a = spread(6, -1, 3).exp().requires_grad_()
    b = spread(6, -1, 3, 1).exp().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: DiscretizedLogistic(a - 1, b / 20).log_prob(x), (a, b))
    assert torch.autograd.gradcheck(lambda a, b: DiscretizedLogistic(a - 1, b / 20).mean, (a, b))
    assert torch.autograd.gradcheck(lambda a, b: BetaBinomial(a, b).log_prob(x), (a, b))
    assert torch.autograd.gradcheck(lambda a, b: NegativeBinomial(a, b).log_prob(30 * x), (a, b))
    logits = spread(2 * 256, -3, 3).reshape(2, 256).requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: GreyLevelCategorical(logits).log_prob(x), logits)


FAR = torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4])


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (ContinuousBernoulli, [FAR]),
        (DiscretizedLogistic, [FAR[:, None], torch.tensor([-8.0, 0.0, 8.0]).exp()]),
        (BetaBinomial, [torch.tensor([-9.0, 0.0, 9.0]).exp()[:, None], torch.tensor([-9.0, 0.0, 9.0]).exp()]),
        (NegativeBinomial, [torch.tensor([-16.0, 0.0, 16.0]).exp()[:, None], torch.tensor([-10.0, 0.0, 10.0]).exp()]),
        (GreyLevelCategorical, [torch.cat([torch.full((1, 128), -1e4), torch.full((1, 128), 1e4)], -1)]),
    ],
)
@pytest.mark.parametrize("x", [0.0, 128 / 255, 1.0])
def test_extreme_parameters_stay_finite_in_float32(
    make: Callable[..., Distribution], parameters: list[Tensor], x: float
) -> None:
    torch.manual_seed(0)
    leaves = [p.clone().requires_grad_() for p in parameters]
    distribution = make(*leaves)
    value = torch.tensor(round(1000 * x) if make is NegativeBinomial else x, dtype=torch.float32)
    log_prob = distribution.log_prob(value)
    slopes = torch.autograd.grad(log_prob.sum() + distribution.mean.sum(), leaves)
    for tensor in (log_prob, distribution.mean, distribution.sample(), *slopes):
        assert tensor.isfinite().all()
        assert tensor.dtype == torch.float32


def test_support_of_levels() -> None:
    assert grey_levels.is_discrete
    assert grey_levels.check(LEVEL.float()).all()
    assert not grey_levels.check(torch.tensor([0.5, -1 / 255, 256 / 255])).any()


class Truncated(Normal):
    """A density that is not its base class's."""


class Biased(OneHotCategorical):
    """Likewise."""


def test_a_closed_form_kl_is_of_exactly_its_types() -> None:
    q = CholeskyNormal(torch.zeros(2, 3), scale_tril=torch.eye(3).expand(2, 3, 3))
    torch.testing.assert_close(closed_form_kl(q, Independent(Normal(torch.zeros(3), 1.0), 1)), torch.zeros(2))
    assert closed_form_kl(q, Independent(Truncated(torch.zeros(3), 1.0), 1)) is None
    relaxed = GumbelSoftmax(Independent(OneHotCategorical(logits=torch.zeros(2, 3, 4)), 1), 0.5, True)
    prior = Independent(OneHotCategorical(logits=torch.zeros(3, 4)), 1)
    torch.testing.assert_close(closed_form_kl(relaxed, prior), torch.zeros(2))
    assert closed_form_kl(relaxed, Independent(Biased(logits=torch.zeros(3, 4)), 1)) is None


def test_a_grey_level_has_no_mode_on_another_scale() -> None:
    p = Independent(categoricals(), 1)
    assert 0 < p.mean.min() < p.mean.max() < 1
    for name in ("mode", "variance"):  # torch's are of the numbers 0 to 255
        with pytest.raises(NotImplementedError):
            getattr(p, name)


def test_booleans_are_bits() -> None:
    p = IndependentBernoulli(Bernoulli(logits=spread(6, -2, 2).reshape(2, 3)), 1)
    bits = torch.tensor([[True, False, True], [False, False, True]])
    assert torch.equal(p.log_prob(bits), p.log_prob(bits.float()))
    assert torch.equal(p.log_prob(bits.long()), p.log_prob(bits.float()))


def test_a_plain_distribution_has_every_default() -> None:
    p = Independent(Normal(spread(30, -1, 1).reshape(5, 2, 3), 1.0), 1)
    x, observed = p.sample()[0], torch.rand(2, 3) < 0.5
    assert not penalties_of(p) and not logged_of(p) and not is_relaxed(p) and hard_of(p) is p
    assert given_observed(p, x, observed) is p and resampled(p, torch.zeros(1, 2, dtype=torch.int64)) is None
    weights = torch.rand(5, 2, dtype=torch.float64).softmax(0)
    assert torch.equal(average_over(p, weights), (weights[..., None] * p.mean).sum(0))


def test_only_the_protocols_ask_what_a_distribution_may_have() -> None:
    names = "penalties|logged|relaxed|hard|log_prob_where|log_prob_observed|given|average|resample|maps|map_shapes"
    asked = re.compile(rf"(get|has)attr\([^)]*\"({names})\"")
    source = Path(vaekit.__file__).parent
    where = [path.relative_to(source) for path in source.rglob("*.py") if asked.search(path.read_text("utf-8"))]
    assert sorted(map(Path.as_posix, where)) == ["distributions/protocols.py", "nets/base.py"]


def test_a_level_that_does_not_exist_has_probability_zero() -> None:
    p = LevelDistribution(torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, -math.inf]]))
    assert p.log_prob(torch.arange(3.0)[:, None]).exp().sum(0).allclose(torch.ones(2))
    for level in (-1.0, 3.0, 7.0, math.nan):
        assert p.log_prob(torch.tensor([level, level])).tolist() == [-math.inf, -math.inf]
