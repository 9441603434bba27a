"""Every likelihood, in every form, as a part: shapes, densities, samplers, gradients, bias, refusals."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vaekit import build, fit, likelihoods
from vaekit.data.value_kinds import value_kind_of
from vaekit.distributions import nearest_grey_level
from vaekit.errors import ConfigError, DataError
from vaekit.likelihoods import (
    Bernoulli,
    BetaBinomial,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    Laplace,
    Likelihood,
    LocationScale,
    NegativeBinomial,
    Normal,
    PerValueLikelihood,
    Poisson,
)
from vaekit.likelihoods.base import soft_bound, soft_bound_inverse
from vaekit.likelihoods.per_column import Columns

CASES: list[tuple[type[PerValueLikelihood], dict[str, Any]]] = [
    (Bernoulli, {}),
    (ContinuousBernoulli, {}),
    (Normal, {"scale": 0.3}),
    (Normal, {"scale": "shared"}),
    (Normal, {"scale": "per-pixel"}),
    (Normal, {"scale": "optimal"}),
    (Laplace, {"scale": 0.3}),
    (Laplace, {"scale": "shared"}),
    (Laplace, {"scale": "per-pixel"}),
    (DiscretizedLogistic, {"scale": 0.05}),
    (DiscretizedLogistic, {"scale": "shared"}),
    (DiscretizedLogistic, {"scale": "per-pixel"}),
    (DiscretizedLogisticMixture, {"components": 1}),
    (DiscretizedLogisticMixture, {"components": 3}),
    (BetaBinomial, {}),
    (Categorical, {}),
    (Poisson, {}),
    (NegativeBinomial, {}),
]
IDS = [f"{part.__name__}-{next(iter(options.values()), '')}" for part, options in CASES]
every = pytest.mark.parametrize(("part", "options"), CASES, ids=IDS)
COUNTS = (Poisson, NegativeBinomial)


class Linear(nn.Module):
    """A network of one layer, whose context joins its input."""

    def __init__(self, latent_size: int, out_shape: tuple[int, ...], context_size: int = 0) -> None:
        super().__init__()
        self.layer = nn.Linear(latent_size + context_size, math.prod(out_shape))
        self.out_shape = out_shape

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        if c is not None:
            z = torch.cat([z, c.expand(*z.shape[:-1], -1)], -1)
        h: Tensor = self.layer(z)
        return h.unflatten(-1, self.out_shape)


def make(
    part: type[PerValueLikelihood],
    options: dict[str, Any],
    event_shape: tuple[int, ...] = (2, 3, 2),
    context_size: int = 0,
) -> PerValueLikelihood:
    """A part wired as the builder does it, reproducibly."""
    torch.manual_seed(0)
    net = Linear(4, part.out_shape(event_shape, **options), context_size)
    wiring = {"event_shape": event_shape} if part is NegativeBinomial else {}
    return part(net, **wiring, **options)


def data(part: type[PerValueLikelihood], rows: int, event_shape: tuple[int, ...]) -> Tensor:
    torch.manual_seed(1)
    if part in COUNTS:
        return torch.randint(0, 20, (rows, *event_shape)).float()
    x = torch.randint(0, 256, (rows, *event_shape)) / 255
    return (x > 0.5).float() if part is Bernoulli else x


class Constant(nn.Module):
    """A network whose output, shape (P·D,), is given."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.value = output

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return self.value.expand(*z.shape[:-1], -1)


def at(likelihood: PerValueLikelihood, output: Tensor) -> Distribution:
    """The distributions, batch shape (1, n), of n values at a given output of the network, shape (P, n)."""
    likelihood.net = Constant(output.flatten())
    values: Distribution = likelihood.eval().to(output.dtype)(torch.zeros(1, 4)).base_dist
    return values


def random_outputs(likelihood: PerValueLikelihood, size: float) -> Tensor:
    torch.manual_seed(2)
    return (2 * torch.rand(likelihood.groups, 40, dtype=torch.float64) - 1) * size


# As a part


@every
@pytest.mark.parametrize("event_shape", [(2, 3, 5), (7,)])
@pytest.mark.parametrize("context_size", [0, 3])
def test_shapes_types_and_gradients(
    part: type[PerValueLikelihood], options: dict[str, Any], event_shape: tuple[int, ...], context_size: int
) -> None:
    k, rows = 3, 4
    likelihood = make(part, options, event_shape, context_size).double()
    x = data(part, rows, event_shape).double()
    c = torch.rand(rows, context_size).double() if context_size else None
    p = likelihood(torch.randn(k, rows, 4).double(), c)
    assert (p.batch_shape, p.event_shape) == ((k, rows), event_shape)
    log_prob = p.log_prob(x)
    for tensor, shape in ((log_prob, ()), (p.mean, event_shape), (p.sample(), event_shape)):
        assert tensor.shape == (k, rows, *shape)
        assert tensor.dtype == torch.float64
    assert p.sample(torch.Size((2,))).shape == (2, k, rows, *event_shape)
    log_prob.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in likelihood.parameters())


@every
def test_rows_and_samples_do_not_mix(part: type[PerValueLikelihood], options: dict[str, Any]) -> None:
    likelihood = make(part, options).eval()
    x, z = data(part, 4, (2, 3, 2)), torch.randn(3, 4, 4)
    whole = likelihood(z).log_prob(x)
    torch.testing.assert_close(whole[1, 2], likelihood(z[1, 2:3]).log_prob(x[2:3])[0])
    torch.testing.assert_close(whole.sum(), likelihood(z.reshape(12, 4)).log_prob(x.repeat(3, 1, 1, 1)).sum())


@every
def test_support_tells_what_has_a_log_likelihood(part: type[PerValueLikelihood], options: dict[str, Any]) -> None:
    likelihood = make(part, options)
    p = likelihood(torch.randn(4, 4))
    assert p.support.is_discrete == part.discrete
    assert p.support.check(data(part, 4, (2, 3, 2))).all()
    assert p.support.check(p.sample()).all()
    if part.value_range is not None:
        assert part.value_range[0] <= p.mean.min()
        assert p.mean.max() <= part.value_range[1]
    grey = torch.full((4, 2, 3, 2), 0.4999)
    assert p.support.check(grey).any() == (not part.discrete)


@every
def test_output_bias_gives_the_mean(part: type[PerValueLikelihood], options: dict[str, Any]) -> None:
    event_shape = (2, 3, 3)
    likelihood = make(part, options, event_shape).double()
    mean = torch.linspace(0.05, 0.95, 18).double().reshape(event_shape)
    bias = likelihood.parameters_at(mean)
    assert bias.shape == part.out_shape(event_shape, **options)
    net: Any = likelihood.net
    nn.init.zeros_(net.layer.weight)
    net.layer.bias.data = bias.flatten()
    torch.testing.assert_close(likelihood(torch.randn(1, 4).double()).mean[0], mean, rtol=0, atol=1e-7)


@every
def test_output_bias_is_finite_for_pixels_that_never_change(
    part: type[PerValueLikelihood], options: dict[str, Any]
) -> None:
    assert make(part, options).parameters_at(torch.tensor([0.0, 1.0]).reshape(2, 1, 1)).isfinite().all()


@every
def test_saved_and_loaded(part: type[PerValueLikelihood], options: dict[str, Any]) -> None:
    one, other = make(part, options), make(part, options)
    x, z = data(part, 5, (2, 3, 2)), torch.randn(5, 4)
    for parameter in one.parameters():
        parameter.data += 0.1
    one(z).log_prob(x)
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one.eval()(z).log_prob(x), other.eval()(z).log_prob(x), rtol=0, atol=0)


def test_every_likelihood_is_in_the_matrix() -> None:
    found = {part for part in vars(likelihoods).values() if isinstance(part, type) and issubclass(part, Likelihood)}
    assert found - {Likelihood, PerValueLikelihood, LocationScale, Columns} == {part for part, _ in CASES}


@pytest.mark.parametrize("part", [Normal, Laplace, DiscretizedLogistic])
def test_scale_starts_at_the_spread_of_the_data(part: Any) -> None:
    images = torch.tensor([[0.2, 0.9], [0.4, 0.5]])
    spread = math.sqrt((2 * 0.1**2 + 2 * 0.2**2) / 4)
    shared, plain = part(nn.Identity(), images), part(nn.Identity())
    assert shared.scale_of(torch.zeros(1)).item() == pytest.approx(spread, rel=0.1)
    assert plain.scale_of(torch.zeros(1)).item() == pytest.approx(math.exp(part.start), rel=0.1)
    per_pixel = part(nn.Identity(), images, scale="per-pixel")
    bias = per_pixel.parameters_at(images.mean(0))
    torch.testing.assert_close(soft_bound(bias[2:], part.limit), torch.full((2,), math.log(spread)))
    assert part(nn.Identity(), images[:1].expand(2, 2)).scale_of(torch.zeros(1)) > 0


@pytest.mark.parametrize("part", [Normal, Laplace, DiscretizedLogistic])
@pytest.mark.parametrize("deviation", [0.005, 0.05, 0.3, 100.0])
def test_scale_starts_there_even_where_that_is_small_or_large(part: Any, deviation: float) -> None:
    """The soft bound made 0.063 of 0.05."""
    images = deviation * torch.randn(20000, 1, generator=torch.Generator().manual_seed(0))
    for scale in ("shared", "per-pixel", *(["optimal"] if part is Normal else [])):
        it = part(nn.Identity(), images, scale=scale)
        output = torch.full((2, 1), it.start)
        assert it.scale_of(output).max().item() == pytest.approx(deviation, rel=0.02)
    assert part(nn.Identity(), torch.zeros(5, 1)).scale_of(torch.zeros(1)) > 0


# As a density


def points(part: type[PerValueLikelihood]) -> tuple[Tensor, Tensor]:
    """All values of x that matter, and the weight of each in a sum or a quadrature."""
    if part is Bernoulli:
        x = torch.tensor([0.0, 1.0], dtype=torch.float64)
    elif part in COUNTS:
        x = torch.arange(10000, dtype=torch.float64)
    elif part.discrete:
        x = torch.arange(256, dtype=torch.float64) / 255
    else:
        nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(20))
        edges = torch.linspace(*(part.value_range or (-80.0, 80.0)), 2001, dtype=torch.float64)
        half = edges.diff()[:, None] / 2
        return (edges[:-1, None] + half * (nodes + 1)).flatten(), (half * weights).flatten()
    return x, torch.ones_like(x)


def size_of(part: type[PerValueLikelihood]) -> float:
    """Network outputs at which the points above reach all but 1e-9 of the mass."""
    return 3.0 if part in COUNTS else 10.0 if part.discrete or part.value_range else 1.2


@every
def test_sums_or_integrates_to_one(part: type[PerValueLikelihood], options: dict[str, Any]) -> None:
    likelihood = make(part, options, (40,))
    x, weight = points(part)
    p = at(likelihood, random_outputs(likelihood, size_of(part)))
    mass = p.log_prob(x[:, None]).exp() * weight[:, None]
    # Laplace: the kink lies inside a panel of the quadrature.
    tolerance = 1e-3 if part is Laplace else 1e-9
    torch.testing.assert_close(mass.sum(0), torch.ones(40).double(), rtol=0, atol=tolerance)
    torch.testing.assert_close((mass * x[:, None]).sum(0), p.mean[0], rtol=0, atol=tolerance)


@every
def test_sampler_agrees_with_log_prob(part: type[PerValueLikelihood], options: dict[str, Any]) -> None:
    """By the mean of x and of log p(x) over the samples, whose expectations and variances the mass gives."""
    likelihood = make(part, options, (40,))
    x, weight = points(part)
    p = at(likelihood, random_outputs(likelihood, min(size_of(part), 3)))
    log_prob = p.log_prob(x[:, None])
    mass = log_prob.exp() * weight[:, None]
    samples = p.sample(torch.Size((4000,)))
    for found, value in ((samples, x[:, None].expand_as(mass)), (p.log_prob(samples), log_prob)):
        mean = (mass * value).sum(0)
        error = ((mass * (value - mean) ** 2).sum(0) / len(samples)).sqrt()
        assert ((found.mean(0)[0] - mean) / (error + 1e-6)).abs().max() < 5


@every
def test_gradient_agrees_with_finite_differences(part: type[PerValueLikelihood], options: dict[str, Any]) -> None:
    likelihood = make(part, options, (4,))
    x = data(part, 1, (4,)).double()
    output = random_outputs(likelihood, 2.0)[:, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda output: at(likelihood, output).log_prob(x), output)


@every
@pytest.mark.parametrize("size", [30.0, 1e4])
def test_extreme_outputs_stay_finite_in_float32(
    part: type[PerValueLikelihood], options: dict[str, Any], size: float
) -> None:
    likelihood = make(part, options, (200,))
    torch.manual_seed(4)
    output = (torch.randint(-1, 2, (likelihood.groups, 200)) * size).requires_grad_()
    p = at(likelihood, output)
    x = torch.tensor([0.0, 1.0, 1.0 if part in COUNTS or part is Bernoulli else 77 / 255])[:, None]
    log_prob = p.log_prob(x)
    (slope,) = torch.autograd.grad(log_prob.sum(), output)
    for tensor in (log_prob, slope, p.mean, p.sample()):
        assert tensor.isfinite().all()


def test_a_mixture_of_one_is_the_component() -> None:
    part = make(DiscretizedLogisticMixture, {"components": 1}, (40,))
    output = random_outputs(part, 3.0)
    mixture, single = at(part, output), at(make(DiscretizedLogistic, {"scale": "per-pixel"}, (40,)), output[1:])
    x = points(DiscretizedLogistic)[0][:, None]
    torch.testing.assert_close(mixture.log_prob(x), single.log_prob(x))
    torch.testing.assert_close(mixture.mean, single.mean)


def test_bernoulli_is_the_binary_cross_entropy() -> None:
    logits, x = torch.randn(5, 1, 4, 4), torch.rand(5, 1, 4, 4)
    loss = nn.functional.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(likelihoods.bernoulli(logits).log_prob(x), -loss)
    torch.testing.assert_close(
        at(Bernoulli(nn.Identity()), logits.reshape(1, -1)).log_prob(x.flatten()).sum(), -loss.sum()
    )


def test_bernoulli_on_grey_is_no_density_and_the_continuous_one_is() -> None:
    x, weight = points(ContinuousBernoulli)
    logits = torch.tensor([-2.0, 0.0, 1.0]).double()
    grey, continuous = (
        (at(part(nn.Identity()), logits[None]).log_prob(x[:, None]).exp() * weight[:, None]).sum(0)
        for part in (Bernoulli, ContinuousBernoulli)
    )
    torch.testing.assert_close(continuous, torch.ones(3).double())
    assert (grey < 0.8).all()


def test_levels_survive_float32() -> None:
    x = torch.arange(256) / 255
    assert (nearest_grey_level(x) == torch.arange(256)).all()


# The optimal σ


def optimal(k: int = 1) -> tuple[PerValueLikelihood, Callable[[], Tensor], Tensor]:
    likelihood = make(Normal, {"scale": "optimal"}).double()
    x, z = data(Normal, 6, (2, 3, 2)).double(), torch.randn(k, 6, 4).double()
    return likelihood, lambda: likelihood(z).log_prob(x).sum(), (x - likelihood(z).mean).detach()


@pytest.mark.parametrize("k", [1, 3])
def test_optimal_scale_makes_the_batch_most_likely(k: int) -> None:
    _, log_prob, error = optimal(k)

    def with_sigma(sigma: Tensor) -> float:
        return torch.distributions.Normal(torch.zeros_like(sigma), sigma).log_prob(error).sum().item()

    best = error.square().mean().sqrt()
    assert log_prob().item() == pytest.approx(with_sigma(best), rel=1e-12)
    assert with_sigma(best) > max(with_sigma(0.99 * best), with_sigma(1.01 * best))


def test_optimal_scale_without_a_gradient_has_the_gradient_of_the_optimum() -> None:
    likelihood, log_prob, error = optimal()
    weight = next(likelihood.parameters())
    (found,) = torch.autograd.grad(log_prob(), weight)
    torch.manual_seed(0)
    twin = make(Normal, {"scale": 1.0}).double()
    x = data(Normal, 6, (2, 3, 2)).double()
    z = torch.randn(1, 6, 4).double()
    squares = (x - twin(z).mean).square()
    torch.testing.assert_close(squares.detach(), error.square())
    whole = -0.5 * squares.numel() * squares.mean().log()
    (expected,) = torch.autograd.grad(whole, next(twin.parameters()))
    torch.testing.assert_close(found, expected)


def test_optimal_scale_is_remembered_for_evaluation() -> None:
    likelihood, log_prob, error = optimal()
    best = error.square().mean()
    for _ in range(300):
        log_prob()
    likelihood.eval()
    before = likelihood.state_dict()["mean_square"].clone()
    assert Normal(nn.Identity(), torch.tensor([[0.0], [1.0]]), scale="optimal").mean_square == pytest.approx(0.25)
    torch.testing.assert_close(before, best)
    x, z = data(Normal, 6, (2, 3, 2)).double(), torch.randn(6, 4).double()
    whole = likelihood(z).log_prob(x)
    torch.testing.assert_close(whole[:1], likelihood(z[:1]).log_prob(x[:1]))
    torch.testing.assert_close(likelihood.state_dict()["mean_square"], before, rtol=0, atol=0)
    likelihood.train()  # where the rows of a batch are coupled
    assert not torch.allclose(likelihood(z).log_prob(x)[:1], likelihood(z[:1]).log_prob(x[:1]))


def test_optimal_scale_stays_where_no_gradient_is_recorded() -> None:
    likelihood, log_prob, error = optimal()
    start = likelihood.state_dict()["mean_square"].clone()
    with torch.no_grad():
        without = log_prob()
    torch.testing.assert_close(likelihood.state_dict()["mean_square"], start, rtol=0, atol=0)
    torch.testing.assert_close(log_prob(), without, rtol=0, atol=0)  # and this moves it
    torch.testing.assert_close(likelihood.state_dict()["mean_square"], start.lerp(error.square().mean(), 0.1))


def test_optimal_scale_of_a_perfect_reconstruction_is_finite() -> None:
    likelihood = make(Normal, {"scale": "optimal"})
    z = torch.randn(2, 4)
    log_prob = likelihood(z).log_prob(likelihood(z).mean.detach())
    assert log_prob.isfinite().all()


# Counts


@pytest.mark.parametrize("part", COUNTS)
def test_size_factor_multiplies_the_mean(part: type[PerValueLikelihood]) -> None:
    z = torch.randn(3, 5, 4)
    c = torch.cat([torch.rand(5, 2), torch.tensor([0.0, 0.5, -1.0, 2.0, 3.0])[:, None]], 1)
    wiring: dict[str, Any] = {"event_shape": (7,)} if part is NegativeBinomial else {}
    net = Linear(4, (7,), 3)
    with_factor = part(net, **wiring, context_size=3, size_factor=True)
    without = part(net, **wiring, context_size=3)
    torch.testing.assert_close(with_factor(z, c).mean, without(z, c).mean * c[:, -1:].exp())
    image = part(Linear(4, (2, 3, 2), 3), **wiring | ({"event_shape": (2, 3, 2)} if wiring else {}), context_size=3)
    assert image(z, c).mean.shape == (3, 5, 2, 3, 2)


class Waiting(torch.nn.Module):
    """Somebody's density of positive real numbers, whose range is that of counts."""

    value_range = (0.0, math.inf)

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, c: Tensor | None = None) -> Independent:
        return Independent(torch.distributions.Exponential(self.net(z, c).exp()), 1)


def test_counts_are_what_says_so_and_not_what_has_their_range() -> None:
    assert {value_kind_of(part) for part in COUNTS} == {"counts"}
    assert value_kind_of(Waiting) == "real"
    assert value_kind_of(Bernoulli) == value_kind_of(type("Grey", (), {"value_range": (0.0, 1.0)})) == "pixels"
    assert value_kind_of(Normal) == value_kind_of(type("Silent", (), {})) == "real"
    model = build("vae", event_shape=(6,), trust=True, likelihood={"name": "test_likelihoods:Waiting"})
    assert model.value_kind == "real"
    assert model.encode(torch.full((2, 6), 2.5)).shape == (2, model.latent_size)  # and not a whole number
    with pytest.raises(DataError, match=r"values in \[0, inf\]"):
        model.encode(torch.full((2, 6), -2.5))


@pytest.mark.parametrize("name", ["poisson", "negative-binomial"])
def test_a_size_factor_is_a_column_of_its_own_and_never_that_of_a_class(name: str) -> None:
    sections = {"model": {"condition": "class", "latent_size": 2}, "likelihood": {"name": name, "size_factor": True}}
    model = build("vae", event_shape=(6,), num_classes=3, **sections)
    x, labels = torch.poisson(torch.full((4, 6), 3.0)), torch.tensor([0, 1, 2, 2])
    for act in (
        lambda: fit(model, [(x, labels)], epochs=1),
        lambda: model.sample(4, 2),
        lambda: model.encode(x, labels),
    ):
        with pytest.raises(DataError, match=r"a class cannot stand for .* size factor; .* shape \(N, 3\)"):
            act()
    rows = torch.cat((torch.eye(2)[labels % 2], x.sum(1, keepdim=True).log()), 1)
    (record,) = fit(model, [(x, rows)], epochs=1)
    assert math.isfinite(record["loss"])
    assert model.encode(x, rows).shape == (4, 2)


def test_size_factor_without_a_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="size_factor is true, but the model has no context"):
        Poisson(nn.Identity(), size_factor=True)


# Refusals


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("part", [Normal, Laplace, DiscretizedLogistic])
def test_bad_scale(part: Any, scale: float) -> None:
    with pytest.raises(ConfigError, match=r"^scale must be > 0 and finite, got .*'shared'"):
        part(nn.Identity(), scale=scale)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(nn.Identity(), scale="shard"), "unknown scale 'shard'; did you mean 'shared'"),
        (lambda: Laplace(nn.Identity(), scale="optimal"), "unknown scale 'optimal'"),
        (lambda: Normal(nn.Identity(), unit="auot"), "did you mean 'auto'"),
        (lambda: Normal(nn.Identity(), centre=math.nan), "centre must be finite, got nan"),
    ],
)
def test_words_and_origins_that_mean_nothing_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_bad_number_of_components() -> None:
    with pytest.raises(ConfigError, match="components must be at least 1, got 0; PixelCNN"):
        DiscretizedLogisticMixture(nn.Identity(), components=0)


@every
def test_data_that_fit_are_accepted(part: type[PerValueLikelihood], options: dict[str, Any]) -> None:
    part.check(data(part, 4, (2, 3, 2)))


@pytest.mark.parametrize("bad", [0.5, -1.0, math.inf, math.nan])
def test_counts_must_be_whole_numbers(bad: float) -> None:
    with pytest.raises(DataError, match=f"Poisson takes counts, whole numbers ≥ 0, got {bad:g}"):
        Poisson.check(torch.tensor([[3.0, bad]]))


@pytest.mark.parametrize("bad", [255.0, -0.1, math.nan])
def test_pixels_must_lie_in_the_unit_interval(bad: float) -> None:
    with pytest.raises(DataError, match=r"BetaBinomial takes values in \[0, 1\]"):
        BetaBinomial.check(torch.tensor([[0.3, bad]]))
    Normal.check(torch.tensor([[0.3, bad]]))


def test_soft_bound() -> None:
    x = torch.linspace(-50, 50, 101, dtype=torch.float64)
    assert soft_bound(x, 6.0).abs().max() <= 6
    torch.testing.assert_close(soft_bound_inverse(soft_bound(x[40:61], 9.0), 9.0), x[40:61])
    assert (soft_bound(x[50:52], 6.0).diff() - 1).abs() < 0.01


@pytest.mark.parametrize("kind", [Poisson, NegativeBinomial])
def test_counts_beyond_the_greatest_mean_start_below_it(kind: Any) -> None:
    likelihood = kind(nn.Identity(), event_shape=(1,)) if kind is NegativeBinomial else kind(nn.Identity())
    output = likelihood.parameters_at(torch.tensor([1.0, 8e6, 9e6, 2e7]))
    assert output.isfinite().all() and torch.equal(output, output.sort().values)


@pytest.mark.parametrize("event_shape", [(4,), (4, 3, 3), (3, 8)])
@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_numbers_for_each_channel_are_for_signals(name: str, event_shape: tuple[int, ...]) -> None:
    options = {"name": name, "centre": [0.0, 10.0, 20.0, 30.0], "unit": 1.0}
    with pytest.raises(ConfigError, match=r"centre has 4 numbers, one for each channel of signals \(4, L\), but a row"):
        build("vae", event_shape=event_shape, likelihood=options)
    model = build("vae", event_shape=(4, 8), likelihood=options, latent_size=2)
    means = model.decode(torch.zeros(3, 2)).mean((0, 2))
    assert (means - torch.tensor([0.0, 10.0, 20.0, 30.0])).abs().max() < 2
