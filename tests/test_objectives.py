"""Objectives against closed forms: exact bounds, ordered bounds, unbiased gradients, and the mistakes that must show."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import vaekit
from oracles import LinearGaussian
from vaekit import Draw, LatentLevel
from vaekit import objectives as o
from vaekit.errors import ConfigError, DataError
from vaekit.model import Composed
from vaekit.nets import MLP
from vaekit.objectives import disentangled
from vaekit.posteriors import DiagonalNormal
from vaekit.priors import StandardNormal

BOUNDS = {
    "elbo": o.elbo,
    "elbo sampled": partial(o.elbo, kl="sampled"),
    "elbo stl": partial(o.elbo, gradient="stl"),
    "iwae": o.iwae,
    "iwae stl": partial(o.iwae, gradient="stl"),
    "iwae dreg": partial(o.iwae, gradient="dreg"),
    "miwae": partial(o.miwae, groups=1),
    "miwae 5": partial(o.miwae, groups=5),
    "piwae": partial(o.piwae, groups=1),
    "ciwae": partial(o.ciwae, beta=0.3),
}
K_OF = {"miwae 5": 5}


def z_score(samples: Tensor, expected: float) -> float:
    return ((samples.mean() - expected) / (samples.std() / math.sqrt(len(samples)))).item()


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_equal_the_evidence_with_the_exact_posterior(name: str, k: int) -> None:
    model = LinearGaussian(exact=True)
    x = model.data(7)
    torch.manual_seed(0)
    value = BOUNDS[name](model.draw(x, k=max(k, K_OF.get(name, 1))))
    expected = model.evidence().log_prob(x)
    # The analytic KL with K = 1 leaves the reconstruction term of one sample.
    if name == "elbo":
        value = o.elbo(model.quadrature(x))
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("function", [o.elbo, o.iwae, o.miwae, o.piwae, o.ciwae])
def test_bounds_say_so(function: object) -> None:
    assert o.OfDraw(function).is_bound  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [o.beta_elbo, o.capacity_elbo, o.free_bits, o.beta_tc, o.mmd])
def test_others_do_not(function: object) -> None:
    assert not o.OfDraw(function).is_bound  # type: ignore[arg-type]


def test_bounds_grow_with_k_and_stay_below_the_evidence() -> None:
    model = LinearGaussian(exact=False)
    x = model.data(1)
    log_p = model.evidence().log_prob(x).item()
    torch.manual_seed(0)
    runs = 4000
    many = x.expand(runs, -1)
    with torch.no_grad():
        one = o.elbo(model.draw(many), kl="sampled")
        five = o.iwae(model.draw(many, k=5))
        fifty = o.iwae(model.draw(many, k=50))
        grouped = o.miwae(model.draw(many, k=50), groups=10)
    for lower, higher in ((one, five), (five, fifty), (fifty, None)):
        mean, variance = lower.mean(), lower.var() / runs
        other, other_variance = (log_p, 0.0) if higher is None else (higher.mean(), higher.var() / runs)
        assert mean - other < 5 * torch.sqrt(variance + torch.as_tensor(other_variance))
    assert abs((grouped.mean() - five.mean()) / torch.sqrt(grouped.var() / runs + five.var() / runs)) < 5
    kl = torch.distributions.kl_divergence(model.posterior(x), model.exact_posterior(x)).item()
    assert abs(z_score(one, log_p - kl)) < 5
    assert kl > 15 * (one.std() / math.sqrt(runs))  # the gap is seen at all


def mean_over_rows_of_z(draw: Draw) -> Tensor:
    q = draw.levels[0].q
    return draw.log_likelihood.mean(0) / draw.x.shape[1] - draw.rate() / q.event_shape[0]


def softmax_over_losses(draw: Draw) -> Tensor:
    weights = draw.log_likelihood.softmax(0)
    return (weights * (draw.log_likelihood + draw.levels[0].log_p - draw.levels[0].log_q)).sum(0)


def mean_of_weights_forgotten(draw: Draw) -> Tensor:
    return draw.log_w.logsumexp(0)


def weighted_kl(draw: Draw) -> Tensor:
    return -draw.distortion - 0.5 * draw.rate()


@pytest.mark.parametrize("wrong", [mean_over_rows_of_z, mean_of_weights_forgotten, weighted_kl])
def test_the_oracle_rejects_classic_mistakes(wrong: object) -> None:
    model = LinearGaussian(exact=True)
    x = model.data(7)
    error = (wrong(model.quadrature(x)) - model.evidence().log_prob(x)).abs().min()  # type: ignore[operator]
    assert error > 1e-2


def test_the_oracle_rejects_a_softmax_over_losses() -> None:
    # With the exact posterior all log-weights are equal and any average of them is right; a wrong posterior shows it.
    model = LinearGaussian(exact=False)
    x = model.data(1).expand(4000, -1)
    torch.manual_seed(0)
    with torch.no_grad():
        draw = model.draw(x, k=50)
        wrong, right = softmax_over_losses(draw), o.iwae(draw)
    assert abs(z_score(right - wrong, 0.0)) > 20


def gradients(model: LinearGaussian, objective: object, x: Tensor, k: int) -> dict[str, Tensor]:
    """The gradient of every row on its own: (rows, parameters) for the posterior and the generative model."""
    found: dict[str, list[Tensor]] = {"posterior": [], "generative": []}
    names = {"posterior": ("gain", "offset", "tril"), "generative": ("weight", "bias")}
    for row in x:
        model.zero_grad()
        objective(model.draw(row[None], k=k)).sum().backward()  # type: ignore[operator]
        for side, members in names.items():
            found[side].append(torch.cat([getattr(model, member).grad.flatten() for member in members]))
    return {side: torch.stack(rows) for side, rows in found.items()}


def assert_same_expectation(a: Tensor, b: Tensor) -> None:
    difference, error = a.mean(0) - b.mean(0), (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    seen = error > 1e-12
    assert (difference[~seen].abs() < 1e-9).all()
    assert ((difference / error)[seen].abs() < 5).all()


REPEATS = 400


@pytest.mark.parametrize(
    ("plain", "other", "k", "sides"),
    [
        (partial(o.elbo, kl="sampled"), partial(o.elbo, gradient="stl"), 1, ("posterior", "generative")),
        (o.iwae, partial(o.iwae, gradient="dreg"), 6, ("posterior", "generative")),
        (o.iwae, partial(o.piwae, groups=2), 6, ("generative",)),
        (partial(o.miwae, groups=2), partial(o.piwae, groups=2), 6, ("posterior",)),
    ],
    ids=["stl", "dreg", "piwae generative", "piwae posterior"],
)
def test_gradient_estimators_are_unbiased(plain: object, other: object, k: int, sides: tuple[str, ...]) -> None:
    model = LinearGaussian(data_size=2, latent_size=2, exact=False)
    x = model.data(1).expand(REPEATS, -1)
    torch.manual_seed(0)
    a, b = gradients(model, plain, x, k), gradients(model, other, x, k)
    for side in sides:
        assert_same_expectation(a[side], b[side])


def test_piwae_posterior_gradient_is_not_that_of_iwae() -> None:
    model = LinearGaussian(data_size=2, latent_size=2, exact=False)
    x = model.data(1).expand(REPEATS, -1)
    torch.manual_seed(0)
    a = gradients(model, o.iwae, x, 6)["posterior"]
    b = gradients(model, partial(o.piwae, groups=6), x, 6)["posterior"]
    with pytest.raises(AssertionError):
        assert_same_expectation(a, b)


def test_stl_has_no_noise_at_the_exact_posterior() -> None:
    model = LinearGaussian(data_size=2, latent_size=2, exact=True)
    x = model.data(1).expand(20, -1)
    torch.manual_seed(0)
    plain = gradients(model, partial(o.elbo, kl="sampled"), x, 1)["posterior"]
    stl = gradients(model, partial(o.elbo, gradient="stl"), x, 1)["posterior"]
    assert stl.abs().max() < 1e-9
    assert plain.std(0).max() > 0.1


def test_dreg_has_less_variance_for_the_posterior() -> None:
    model = LinearGaussian(data_size=2, latent_size=2, exact=False)
    x = model.data(1).expand(400, -1)
    torch.manual_seed(0)
    plain = gradients(model, o.iwae, x, 16)["posterior"]
    dreg = gradients(model, partial(o.iwae, gradient="dreg"), x, 16)["posterior"]
    assert dreg.var(0).sum() < 0.5 * plain.var(0).sum()


def test_dreg_and_piwae_keep_the_value_of_iwae() -> None:
    model = LinearGaussian(exact=False)
    torch.manual_seed(0)
    draw = model.draw(model.data(5), k=8)
    expected = o.iwae(draw)
    torch.testing.assert_close(o.iwae(draw, gradient="dreg"), expected)
    torch.testing.assert_close(o.piwae(draw, groups=4), expected)


def normal_draw(rows: int = 6, latent_size: int = 3, k: int = 1) -> Draw:
    torch.manual_seed(0)
    mu, sigma = torch.randn(rows, latent_size).double(), torch.rand(rows, latent_size).double() + 0.3
    q = Independent(Normal(mu, sigma), 1)
    zeros = torch.zeros(latent_size).double()
    p = Independent(Normal(zeros, zeros + 1), 1)
    z = q.rsample(torch.Size((k,)))
    x = torch.randn(rows, 2).double()
    return Draw(x, z, (LatentLevel(z, q, p),), Independent(Normal(z[..., :2], 1.0), 1))


def test_beta_is_a_weight_of_the_rate() -> None:
    draw = normal_draw()
    torch.testing.assert_close(o.beta_elbo(draw, beta=1.0), o.elbo(draw))
    torch.testing.assert_close(o.beta_elbo(draw, beta=3.0), -draw.distortion - 3 * draw.rate())
    with pytest.raises(ConfigError, match="beta must be at least 0, got -1"):
        o.beta_elbo(draw, beta=-1.0)


def test_capacity_is_best_where_the_rate_is_the_capacity() -> None:
    draw = normal_draw()
    values = [o.capacity_elbo(draw, gamma=10.0, capacity=c).mean() for c in (0.0, draw.rate().mean().item(), 50.0)]
    assert values[1] > max(values[0], values[2])
    torch.testing.assert_close(o.capacity_elbo(draw, gamma=1.0, capacity=0.0), o.elbo(draw))


def test_free_bits_by_hand() -> None:
    draw = normal_draw()
    q, p = draw.levels[0].q.base_dist, draw.levels[0].p.base_dist  # type: ignore[attr-defined]
    kl = torch.distributions.kl_divergence(q, p).mean(0)
    minimum = float(kl.sort().values[1]) + 0.01
    expected = -draw.distortion - kl.clamp_min(minimum).sum()
    torch.testing.assert_close(o.free_bits(draw, minimum=minimum), expected)
    torch.testing.assert_close(o.free_bits(draw, minimum=0.0).mean(), o.elbo(draw).mean())


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_beta_tc_with_weight_one_is_the_sampled_elbo(estimator: str) -> None:
    # I + TC + Σ KL telescopes to the KL, whatever the estimate of q(z).
    draw = normal_draw()
    value = o.beta_tc(draw, 600, beta=1.0, estimator=estimator)  # type: ignore[arg-type]
    torch.testing.assert_close(value, o.elbo(draw, kl="sampled"))


def test_weighted_beta_tc_of_the_whole_data_set_is_exact_up_to_a_constant() -> None:
    # With every row in the batch q(z) is the mixture itself; the estimate of each log q is too low by log N.
    draw = normal_draw(rows=8)
    level, n = draw.levels[0], 8
    pairs = level.q.base_dist.log_prob(level.z[0].unsqueeze(1))  # type: ignore[attr-defined]
    correlation = pairs.sum(2).logsumexp(1) - math.log(n) - (pairs.logsumexp(1) - math.log(n)).sum(1)
    found = o.beta_tc(draw, n, beta=1.0) - o.beta_tc(draw, n, beta=2.0)
    torch.testing.assert_close(found, correlation + 2 * math.log(n))


def test_stratified_weights_are_the_paper_s() -> None:
    weights = disentangled._log_minibatch_weights(4, 10, "stratified", torch.zeros(1).double()).exp()
    # Over random batches that hold row i each row's mean weight is 1/N, since the weights of every batch sum to one.
    torch.testing.assert_close(weights.sum(1), torch.ones(4).double())
    torch.testing.assert_close(weights.diagonal(), torch.full((4,), 0.1).double())
    assert weights[0, 1] == pytest.approx((10 - 3) / (10 * 3))


def test_squared_mmd_by_hand_and_its_expectation() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(5, 2).double(), torch.randn(5, 2).double()

    def k(a: Tensor, b: Tensor) -> float:
        d = (a - b).square().sum().item()
        return sum(4 * s / (4 * s + d) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))

    pairs = [(i, j) for i in range(5) for j in range(5)]
    expected = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / 20
    expected -= 2 * sum(k(x[i], y[j]) for i, j in pairs) / 25
    assert o.squared_mmd(x, y).item() == pytest.approx(expected, rel=1e-12)
    same = torch.stack([o.squared_mmd(torch.randn(20, 2), torch.randn(20, 2)) for _ in range(400)])
    other = torch.stack([o.squared_mmd(torch.randn(20, 2), torch.randn(20, 2) + 1) for _ in range(400)])
    assert abs(z_score(same, 0.0)) < 5
    assert z_score(other, 0.0) > 20


def test_mmd_of_a_wasserstein_autoencoder_has_no_kl() -> None:
    draw = normal_draw()
    torch.manual_seed(1)
    wae = o.mmd(draw, kl_weight=0.0, mmd_weight=0.0)
    torch.testing.assert_close(wae, -draw.distortion)
    torch.testing.assert_close(o.mmd(draw, kl_weight=1.0, mmd_weight=0.0), o.elbo(draw))
    with pytest.raises(DataError, match="at least 2, got"):
        o.mmd(normal_draw(rows=1))
    with pytest.raises(DataError, match="same number of rows"):
        o.squared_mmd(torch.zeros(5, 2), torch.zeros(7, 2))


def test_options_that_do_not_fit_are_refused() -> None:
    draw = normal_draw(k=6)
    with pytest.raises(ConfigError, match="got 6 samples in 4 groups"):
        o.miwae(draw, groups=4)
    with pytest.raises(ConfigError, match="stl' needs the sampled KL"):
        o.elbo(draw, kl="analytic", gradient="stl")
    with pytest.raises(ConfigError, match="must be at most 1, got 2"):
        o.ciwae(draw, beta=2.0)


MISSPELT = [
    (o.elbo, {"kl": "analitic"}, "unknown kl 'analitic'; did you mean 'analytic'"),
    (o.elbo, {"gradient": "slt"}, "unknown gradient 'slt'; did you mean 'stl'"),
    (o.iwae, {"gradient": "drgs"}, "unknown gradient 'drgs'; did you mean 'dreg'"),
    (o.beta_elbo, {"kl": "sample"}, "unknown kl"),
    (o.capacity_elbo, {"kl": None}, "unknown kl 'None'"),
    (o.free_bits, {"per": "dimensions"}, "unknown per"),
    (o.mmd, {"kernel": "rfb"}, "unknown kernel"),
    (o.dip, {"kind": "i"}, "unknown kind"),
    (partial(o.beta_tc, dataset_size=100), {"estimator": "stratifed"}, "unknown estimator"),
    (o.rloo, {"kl": "closed"}, "unknown kl"),
    (o.disarm, {"kl": "closed"}, "unknown kl"),
]


@pytest.mark.parametrize(("function", "options", "message"), MISSPELT)
def test_a_misspelt_word_is_refused(function: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        function(normal_draw(k=4), **options)
    if not isinstance(function, partial):
        with pytest.raises(ConfigError, match=message):  # before any step
            o.OfDraw(function, options, samples=4)


def test_a_misspelt_word_is_refused_below_the_objectives() -> None:
    draw = normal_draw(k=4)
    for call in (lambda: draw.rate("analitic"), lambda: draw.levels[0].kl("analitic")):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="did you mean 'analytic'"):
            call()
    with pytest.raises(ConfigError, match="unknown kernel"):
        o.squared_mmd(draw.z[0], draw.z[1], "rfb")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown regularizer 'L2'; known: gradient, l2, none"):
        o.RegularizedAutoencoder(regularizer="L2")  # type: ignore[arg-type]


def test_the_options_of_an_objective_are_checked_before_the_training() -> None:
    with pytest.raises(ConfigError, match="unknown option of objective 'iwae': 'gradiant'; did you mean 'gradient'"):
        o.OfDraw(o.iwae, {"gradiant": "stl"})
    with pytest.raises(ConfigError, match=r"samples must be a whole number, at least 1, got 2\.5"):
        o.OfDraw(o.iwae, samples=2.5)  # type: ignore[arg-type]
    for samples in (0, -1):
        with pytest.raises(ConfigError, match=f"samples must be at least 1, got {samples}"):
            o.OfDraw(o.iwae, samples=samples)
    with pytest.raises(ConfigError, match="missing a required argument: 'dataset_size'"):
        o.as_loss(o.OfDraw(o.beta_tc))
    o.OfDraw(o.beta_tc, {"dataset_size": 100, "estimator": "stratified"})
    o.OfDraw(lambda draw, **options: o.elbo(draw, **options), {"anything": 1})


def test_a_model_is_answered_with_the_right_call() -> None:
    model = vaekit.VAE(784)
    for function in (o.elbo, o.iwae, o.beta_elbo, o.free_bits, vaekit.elbo):
        name = function.__name__
        with pytest.raises(ConfigError, match=rf"{name} takes a Draw, got VAE; write {name}\(model.draw\(x\)\)"):
            function(model)  # type: ignore[arg-type]
    assert o.elbo(model.draw(torch.rand(3, 1, 28, 28))).shape == (3,)


def test_a_penalty_has_no_bound() -> None:
    draw = normal_draw()
    quantized = Draw(draw.x, draw.z, draw.levels, draw.likelihood, {"commitment": torch.zeros(6)})
    with pytest.raises(ConfigError, match="commitment"):
        o.iwae(quantized)


def test_an_objective_fills_in_schedules() -> None:
    draw = normal_draw()
    warm_up = o.OfDraw(o.beta_elbo, {"beta": lambda epoch: min(epoch / 10, 1.0)})
    torch.testing.assert_close(warm_up.of(draw, 5.0), o.beta_elbo(draw, beta=0.5))
    torch.testing.assert_close(warm_up.of(draw), o.elbo(draw))


@pytest.mark.parametrize("name", [*BOUNDS, "beta-tc", "mmd", "free bits"])
def test_every_objective_trains_a_composed_model(name: str) -> None:
    more = {"beta-tc": partial(o.beta_tc, dataset_size=16), "mmd": o.mmd, "free bits": o.free_bits}
    objective = {**BOUNDS, **more}[name]
    torch.manual_seed(0)

    class Pixels(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, z: Tensor, c: Tensor | None = None) -> Independent:
            return Independent(Normal(self.net(z, c), 1.0), 1)

    encoder, decoder = MLP((6,), hidden=(16,)), MLP((2,), (6,), hidden=(16,))
    model = Composed(DiagonalNormal(encoder, 16, 2), StandardNormal(2), Pixels(decoder), latent_size=2)
    x, optimizer = torch.randn(16, 6) * 2, torch.optim.Adam(model.parameters(), 0.01)
    values = []
    for _ in range(40):
        value = objective(model.draw(x, k=5)).mean()
        optimizer.zero_grad()
        (-value).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        values.append(value.item())
    assert sum(values[-5:]) > sum(values[:5])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.as_loss("elbo"), "such as vaekit.elbo, got 'elbo'"),
        (lambda: o.as_loss(torch.mean), "must be written in Python"),
        (lambda: o.as_loss(nn.MSELoss()), "a module as a loss is called with a model, a batch and the epoch"),
        (lambda: o.OfDraw(o.beta_elbo, {"beta": o.schedules.OneCycle()}), "'beta' of an objective follows a function"),
        (lambda: o.OfDraw(o.beta_elbo, {"beta": o.schedules.Linear}), "'beta' of an objective follows a function"),
        (lambda: o.beta_elbo(normal_draw(), beta="4"), "beta must be a number, got '4'"),
        (lambda: o.beta_tc(normal_draw(), 0), "dataset_size must be at least 1, got 0"),
        (lambda: o.miwae(normal_draw(k=4), groups=2.0), "groups must be a whole number"),
        (lambda: o.AAE(2, hidden=64), r"hidden must be a list, .* pass \[64\]"),
    ],
)
def test_the_natural_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_builtin_without_a_signature_may_be_a_schedule() -> None:
    draw = normal_draw()
    loss = o.OfDraw(o.beta_elbo, {"beta": math.hypot})
    torch.testing.assert_close(loss.of(draw, 0.5), o.beta_elbo(draw, beta=0.5))
