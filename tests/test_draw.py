"""Latent levels: chains of blocks, the two-layer network, closed forms, and gradients without the score."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from densities import Features, expectations, moments, shaken, unwatched, z_scores
from vaekit import Composed, Draw, LatentLevel, LatentVariableModel, build, objectives
from vaekit.distributions import Chain, CholeskyNormal
from vaekit.errors import ConfigError, DataError
from vaekit.likelihoods import Bernoulli
from vaekit.model import levels_of
from vaekit.nets import MLP, ConvDecoder, FirstLevel
from vaekit.posteriors import (
    DiagonalNormal,
    FullCovarianceNormal,
    HierarchicalPosterior,
    IAFPosterior,
    NSFPosterior,
    PlanarPosterior,
)
from vaekit.priors import HierarchicalPrior, NormalMixture, StandardNormal, VampPrior
from vaekit.priors.base import OverGrid

IMAGE = (1, 2, 3)


def dense(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def normal(mean: Tensor, scale: float = 1.0) -> Independent:
    return Independent(Normal(mean, torch.full_like(mean, scale)), 1)


def hierarchical(sizes: tuple[int, ...] = (3, 2), context_size: int = 0) -> Composed:
    torch.manual_seed(2)
    net = Features(6, 5, context_size)
    posterior = HierarchicalPosterior(net, 5, sizes[0], context_size, upper_sizes=sizes[1:], hidden=(7,))
    decoder = FirstLevel(MLP((sizes[0],), IMAGE, context_size, hidden=(7,)), sizes[0])
    prior = HierarchicalPrior(posterior, context_size, hidden=(7,))
    size = posterior.latent_size
    model = Composed(
        posterior, prior, Bernoulli(decoder), latent_size=size, context_size=context_size, event_shape=IMAGE
    )
    return shaken(model, 0.3)


def rows(n: int) -> Tensor:
    return torch.rand(n, *IMAGE, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


# --- chains ------------------------------------------------------------------------------------------------------------


def chain(downward: bool) -> Chain:
    """Three blocks, of one, one and two dimensions; each mean is a nonlinear function of the blocks drawn before."""
    widths = (2, 1, 1) if downward else (1, 1, 2)
    steps = [
        lambda drawn: normal(torch.sin(2 * drawn[-1].sum(-1, keepdim=True)).expand(*drawn[-1].shape[:-1], widths[1])),
        lambda drawn: normal((drawn[0].sum(-1, keepdim=True) * drawn[1]).expand(*drawn[1].shape[:-1], widths[2]), 0.5),
    ]
    sizes = widths[::-1] if downward else widths
    return Chain(normal(torch.ones(widths[0], dtype=torch.float64)), steps, sizes, downward=downward)


@pytest.mark.parametrize("downward", [False, True])
def test_chain_log_prob_is_the_sum_of_its_parts(downward: bool) -> None:
    p, z = chain(downward), dense(5, 4, seed=0)
    a, b, c = z.split(p.sizes, -1)
    if downward:
        a, c = c, a
    second, third = p.steps[0]([a]), p.steps[1]([a, b])
    expected = p.first.log_prob(a) + second.log_prob(b) + third.log_prob(c)
    torch.testing.assert_close(p.log_prob(z), expected)
    assert p.event_shape == (4,)
    wrong = chain(not downward).log_prob(z)
    assert not torch.allclose(wrong, expected)


@pytest.mark.parametrize("downward", [False, True])
def test_chain_integrates_to_one_and_agrees_with_its_sampler(downward: bool) -> None:
    step = lambda drawn: normal(torch.sin(2 * drawn[-1]), 0.5)
    p = Chain(normal(torch.ones(1, dtype=torch.float64)), [step], (1, 1), downward=downward)
    total, expected = expectations(p, 8.0, 201, moments)
    torch.testing.assert_close(total.item(), 1.0, atol=1e-6, rtol=0)
    torch.manual_seed(0)
    z = p.sample(torch.Size((20_000,)))
    assert z_scores(moments(z, p.log_prob(z)), expected) < 5
    assert z_scores(moments(z.flip(-1), p.log_prob(z)), expected) > 5


@pytest.mark.parametrize("downward", [False, True])
def test_chain_remembers_the_factors_of_its_own_sample_only(downward: bool) -> None:
    p = chain(downward)
    z = p.rsample(torch.Size((5,)))
    assert p.factors(z) is p.factors(z)
    assert p.factors(z.clone()) is not p.factors(z)
    torch.testing.assert_close(p.log_prob(z), p.log_prob(z.clone()))


def test_chain_draws_a_block_that_ignores_the_others_as_often_as_them() -> None:
    p = Chain(normal(torch.zeros(3, 1)), [lambda drawn: normal(torch.zeros(2))], (1, 2))
    z = p.rsample(torch.Size((1000,)))
    assert z.shape == (1000, 3, 3)
    assert len(z[..., 1].unique()) == 3000


def test_chain_means_follow_one_another() -> None:
    p = Chain(normal(torch.full((1,), 2.0)), [lambda drawn: normal(3 * drawn[-1])], (1, 1), downward=True)
    assert p.mean.tolist() == [6.0, 2.0]


# --- the hierarchical model --------------------------------------------------------------------------------------------


def test_burdas_two_layer_network() -> None:
    """784-200-200-100-100-100-50 and back, tanh (Burda et al. 2015, section 5)."""
    encoder = MLP((1, 28, 28), hidden=(200, 200), activation="tanh")
    posterior = HierarchicalPosterior(encoder, 200, 100)
    decoder = MLP((100,), (1, 28, 28), hidden=(200, 200), activation="tanh")
    likelihood = Bernoulli(FirstLevel(decoder, 100))
    prior = HierarchicalPrior(posterior)
    model = Composed(posterior, prior, likelihood, latent_size=posterior.latent_size, event_shape=(1, 28, 28))
    dense_size = lambda *widths: sum((a + 1) * b for a, b in pairwise(widths))
    heads = lambda width, size: 2 * (width + 1) * size
    sizes = {
        "posterior": dense_size(784, 200, 200) + heads(200, 100) + dense_size(100, 100, 100) + heads(100, 50),
        "prior": dense_size(50, 100, 100) + heads(100, 100),
        "likelihood": dense_size(100, 200, 200, 784),
    }
    for name, part in model.parts.items():
        assert sum(p.numel() for p in part.parameters()) == sizes[name]
    tanhs = [m for m in model.modules() if isinstance(m, nn.Tanh)]
    assert len(tanhs) == 8
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    draw = model.draw(torch.rand(3, 1, 28, 28), k=2)
    assert [level.z.shape for level in draw.levels] == [(2, 3, 100), (2, 3, 50)]


@pytest.mark.parametrize("sizes", [(3, 2), (4, 3, 2), (2, 2, 1, 1)])
@pytest.mark.parametrize("context_size", [0, 3])
def test_one_level_a_block_and_the_joint_weight_by_hand(sizes: tuple[int, ...], context_size: int) -> None:
    model, x = hierarchical(sizes, context_size), rows(4)
    c = torch.eye(3, dtype=torch.float64)[[0, 2, 1, 0]] if context_size else None
    draw = model.draw(x, k=3, c=c)
    assert [level.z.shape for level in draw.levels] == [(3, 4, size) for size in sizes]
    assert torch.equal(torch.cat([level.z for level in draw.levels], -1), draw.z)

    posterior, prior, likelihood = (model.parts[name] for name in ("posterior", "prior", "likelihood"))
    z = draw.z.split(sizes, -1)
    log_w = likelihood(z[0], c).log_prob(x)  # FirstLevel takes the first block alone as well
    log_w = log_w - posterior.first(x, c).log_prob(z[0]) + Normal(0.0, 1.0).log_prob(z[-1]).sum(-1)
    for below, above, up, down in zip(z, z[1:], posterior.steps, list(prior.steps)[::-1], strict=False):
        log_w = log_w - up(below, c).log_prob(above) + down(above, c).log_prob(below)
    torch.testing.assert_close(draw.log_w, log_w)
    torch.testing.assert_close(
        draw.log_w, draw.log_likelihood + model.prior(c).log_prob(draw.z) - model.posterior(x, c).log_prob(draw.z)
    )


@pytest.mark.parametrize("context_size", [0, 3])
def test_a_hierarchical_model_encodes_reconstructs_samples_and_trains(context_size: int) -> None:
    model, x = hierarchical((3, 2), context_size), rows(4)
    c = torch.eye(3, dtype=torch.float64)[[0, 2, 1, 0]] if context_size else None
    assert model.encode(x, c).shape == (4, 5)
    assert model.reconstruct(x, c).shape == (4, *IMAGE)
    assert model.sample(4, c).shape == (4, *IMAGE)
    assert model.log_prob(x, c, k=5).shape == (4,)
    model.draw(x, k=2, c=c).log_w.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    other = hierarchical((3, 2), context_size)
    other.load_state_dict(model.state_dict())
    z = dense(2, 4, 5, seed=1)
    assert torch.equal(other.posterior(x, c).log_prob(z), model.posterior(x, c).log_prob(z))


def test_nothing_waits_for_the_device() -> None:
    model = hierarchical()
    with unwatched():
        q, p = model.posterior(torch.empty(4, *IMAGE, dtype=torch.float64)), model.prior()
        z = q.rsample(torch.Size((2,)))
        assert [level.kl().shape for level in levels_of(z, q, p)] == [(4,), (4,)]
        assert p.sample(torch.Size((6,))).shape == (6, 5)


def test_only_the_first_level_reaches_the_decoder() -> None:
    model, z = hierarchical(), dense(4, 5, seed=0)
    changed = z.clone()
    changed[:, 3:] += 1
    assert torch.equal(model.decode(z), model.decode(changed))
    changed[:, 0] += 1
    assert not torch.allclose(model.decode(z), model.decode(changed))


def test_levels_need_the_same_blocks_on_both_sides() -> None:
    model, x = hierarchical(), rows(2)
    q = model.posterior(x)
    z = q.rsample(torch.Size((3,)))
    flat = normal(torch.zeros(5, dtype=torch.float64))
    (level,) = levels_of(z, q, flat)
    torch.testing.assert_close(level.log_p - level.log_q, flat.log_prob(z) - q.log_prob(z))
    assert level.analytic_kl is None
    (level,) = levels_of(z, normal(torch.zeros(2, 5, dtype=torch.float64)), model.prior())
    torch.testing.assert_close(level.log_p, model.prior().log_prob(z))


def test_a_vamp_prior_over_all_levels() -> None:
    model = hierarchical()
    posterior = model.parts["posterior"]
    prior = VampPrior(posterior, IMAGE, rows(4), components=3).double()
    z = dense(2, 4, 5, seed=2)
    components = torch.stack([posterior(u[None]).log_prob(z) for u in prior.pseudo_inputs])
    torch.testing.assert_close(prior().log_prob(z), components.logsumexp(0) - math.log(3))
    assert prior().sample(torch.Size((6,))).shape == (6, 5)


def test_a_hierarchical_prior_needs_a_hierarchical_posterior() -> None:
    with pytest.raises(ConfigError, match="needs a posterior with several levels, got DiagonalNormal"):
        HierarchicalPrior(DiagonalNormal(Features(6, 5), 5, 2))


@pytest.mark.parametrize(("upper_sizes", "message"), [((0,), "at least 1, got 0"), ((), "at least 1, got 0")])
def test_upper_sizes_out_of_range_are_named(upper_sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HierarchicalPosterior(Features(6, 5), 5, 2, upper_sizes=upper_sizes)


# --- closed-form KL of a level -----------------------------------------------------------------------------------------


def test_closed_forms_are_used_only_where_the_prior_knows_no_more_than_the_posterior() -> None:
    upwards, downwards = chain(False), Chain(chain(True).first, chain(True).steps, (1, 1, 2), downward=True)
    z = dense(4, 2, 4, seed=0)
    assert [level.closed_form for level in levels_of(z, upwards, downwards)] == [False, False, True]
    assert [level.closed_form for level in levels_of(z, downwards, downwards)] == [True, True, True]
    assert [level.closed_form for level in levels_of(z, upwards, upwards)] == [True, True, True]


def test_rate_of_a_hierarchy_is_the_kl_of_the_joint() -> None:
    model, x = shaken(hierarchical(), 1.0), rows(1)
    torch.manual_seed(0)
    with torch.no_grad():
        draw = model.draw(x, k=20_000)
        joint = (draw.q.log_prob(draw.z) - model.prior().log_prob(draw.z))[:, 0]
        first, second = draw.levels
        samples = (first.log_q - first.log_p)[:, 0] + kl_divergence(second.q, second.p)[:, 0]
        assert z_scores(samples, joint.mean()) < 5
        torch.testing.assert_close(draw.rate()[0], samples.mean())
        torch.testing.assert_close(draw.rate("sampled")[0], joint.mean())
        wrong = kl_divergence(first.q, first.p).mean() + second.kl()[0]  # as if z_2 were independent of z_1
        assert (wrong - joint.mean()).abs() > 5 * joint.std() / len(joint) ** 0.5
    with pytest.raises(ConfigError, match="depends on latents drawn after it"):
        draw.rate("analytic")


# --- oracle ------------------------------------------------------------------------------------------------------------


class TwoLevelLinearGaussian(LatentVariableModel):
    """z_2 ~ N(0, I), z_1 | z_2 ~ N(A z_2, s²I), x | z_1 ~ N(W z_1, σ²I): evidence N(0, W(AAᵀ + s²I)Wᵀ + σ²I).

    q(z_1 | x) and q(z_2 | z_1) are exact, or displaced where `error` is not 0.
    """

    def __init__(self, error: float = 0.0) -> None:
        super().__init__()
        self.sizes, self.latent_size, self.event_shape = (3, 2), 5, (4,)
        self.a, self.w = nn.Parameter(dense(3, 2, seed=1)), nn.Parameter(dense(4, 3, seed=2))
        self.s, self.sigma = 0.8, 0.6
        self.error = nn.Parameter(torch.tensor(error, dtype=torch.float64))

    def marginal(self) -> Tensor:
        return self.a @ self.a.T + self.s**2 * torch.eye(3, dtype=torch.float64)

    def evidence(self) -> MultivariateNormal:
        noise = self.sigma**2 * torch.eye(4, dtype=torch.float64)
        return MultivariateNormal(torch.zeros(4, dtype=torch.float64), self.w @ self.marginal() @ self.w.T + noise)

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Chain:
        def conditional(prior: Tensor, weight: Tensor, noise: float, y: Tensor) -> Distribution:
            covariance = torch.linalg.inv(torch.linalg.inv(prior) + weight.T @ weight / noise**2)
            mean = y @ weight @ covariance / noise**2
            scale = torch.linalg.cholesky(covariance) * (1 + self.error)
            return MultivariateNormal(mean + 0.5 * self.error, scale_tril=scale)

        first = conditional(self.marginal(), self.w, self.sigma, x)
        step = lambda drawn: conditional(torch.eye(2, dtype=torch.float64), self.a, self.s, drawn[-1])
        return Chain(first, [step], self.sizes)

    def prior(self, c: Tensor | None = None) -> Chain:
        top = normal(torch.zeros(2, dtype=torch.float64))
        return Chain(top, [lambda drawn: normal(drawn[-1] @ self.a.T, self.s)], self.sizes, downward=True)

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        return normal(z[..., :3] @ self.w.T, self.sigma)


@pytest.mark.parametrize("k", [1, 5])
def test_two_levels_with_the_exact_posterior_give_the_evidence(k: int) -> None:
    model = TwoLevelLinearGaussian()
    x = model.evidence().sample(torch.Size((6,)))
    expected = model.evidence().log_prob(x)
    draw = model.draw(x, k=k)
    assert len(draw.levels) == 2
    torch.testing.assert_close(draw.log_w, expected.expand(k, -1), rtol=0, atol=1e-10)
    torch.testing.assert_close(model.log_prob(x, k=k), expected, rtol=0, atol=1e-10)


def test_two_levels_with_a_wrong_posterior_fall_short_of_the_evidence() -> None:
    model = TwoLevelLinearGaussian(error=0.2)
    x = model.evidence().sample(torch.Size((1,)))
    expected = model.evidence().log_prob(x)
    exact = TwoLevelLinearGaussian()
    torch.manual_seed(0)
    with torch.no_grad():
        draw = model.draw(x, k=20_000)
        gap = draw.q.log_prob(draw.z) - exact.posterior(x).log_prob(draw.z)
        torch.testing.assert_close(draw.log_w, expected - gap)
        elbo = -draw.distortion - draw.rate()
        assert (expected - elbo).item() > 0.05
        assert z_scores(draw.log_w.exp(), expected.exp()) < 5
        missing_level = draw.log_likelihood + draw.levels[0].log_p - draw.levels[0].log_q
        assert z_scores(missing_level.exp(), expected.exp()) > 5


def test_two_levels_with_the_exact_posterior_leave_no_noise_in_the_path_gradient() -> None:
    """Sticking the landing holds for the joint: also the part of q(z_2 | z_1) that goes through z_1 must be kept."""
    model = TwoLevelLinearGaussian()
    x = model.evidence().sample(torch.Size((4,)))
    (gradient,) = torch.autograd.grad(model.draw(x, k=3).log_w_path.mean(), model.error)
    assert gradient.abs() < 1e-10
    (noisy,) = torch.autograd.grad(model.draw(x, k=3).log_w.mean(), model.error)
    assert noisy.abs() > 1e-3


# --- gradients without the score ---------------------------------------------------------------------------------------

KINDS = {
    "diagonal-normal": DiagonalNormal,
    "full-covariance-normal": FullCovarianceNormal,
    "planar": lambda *a: PlanarPosterior(*a, steps=2),
    "iaf": lambda *a: IAFPosterior(*a, steps=2, hidden=(8,)),
    "nsf": lambda *a: NSFPosterior(*a, steps=2, bins=4, hidden=(8,)),
}


def any_model(name: str) -> Composed:
    if name == "hierarchical":
        return hierarchical()
    torch.manual_seed(0)
    posterior = KINDS[name](Features(6, 5), 5, 2)
    likelihood = Bernoulli(MLP((2,), IMAGE, hidden=(7,)))
    return shaken(Composed(posterior, StandardNormal(2), likelihood, latent_size=2, event_shape=IMAGE), 0.3)


def gradients(value: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(value.sum(), parameters, retain_graph=True, materialize_grads=True))


@pytest.mark.parametrize("name", [*KINDS, "hierarchical"])
def test_the_gradient_is_that_of_the_path_and_the_score(name: str) -> None:
    model, x = any_model(name), rows(3)
    draw = model.draw(x, k=2)
    parameters = list(model.parameters())
    torch.testing.assert_close(draw.log_w_path, draw.log_w, rtol=1e-8, atol=1e-8)
    assert torch.equal(draw.score, torch.zeros(2, 3, dtype=torch.float64))
    pieces = zip(*(gradients(v, parameters) for v in (draw.log_w, draw.log_w_path, draw.score)), strict=True)
    for total, path, score in pieces:
        torch.testing.assert_close(total, path - score, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", [*KINDS, "hierarchical"])
def test_the_score_is_the_gradient_at_fixed_latents(name: str) -> None:
    model, x = any_model(name), rows(3)
    draw = model.draw(x, k=2)
    parameters = list(model.parts["posterior"].parameters())
    expected = gradients(model.posterior(x).log_prob(draw.z.detach().clone()), parameters)
    for a, b in zip(gradients(draw.score, parameters), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert max(g.abs().max() for g in expected) > 1e-2


@pytest.mark.parametrize("name", [*KINDS, "hierarchical"])
def test_the_path_to_the_posterior_goes_through_z_alone(name: str) -> None:
    """What doubly reparametrized gradients rely on: scaling the gradient at z scales all that the posterior gets."""
    model, x = any_model(name), rows(3)
    parameters = list(model.parts["posterior"].parameters())
    draw = model.draw(x, k=2)
    once = gradients(draw.log_w_path, parameters)
    draw.z.register_hook(lambda gradient: 3 * gradient)
    for a, b in zip(gradients(draw.log_w_path, parameters), once, strict=True):
        torch.testing.assert_close(a, 3 * b)
    assert max(g.abs().max() for g in once) > 1e-2


def test_several_levels_without_a_joint_posterior_have_no_path_gradient() -> None:
    z = dense(2, 3, 1, seed=0)
    level = LatentLevel(z, normal(torch.zeros(1, dtype=torch.float64)), normal(torch.zeros(1, dtype=torch.float64)))
    draw = Draw(rows(3), z, (level, level), normal(torch.zeros(3, 1)))
    with pytest.raises(ConfigError, match="2 levels and no joint q"):
        _ = draw.score


def test_one_level_draws_what_it_always_drew() -> None:
    """One call to q's sampler and no other use of randomness."""
    model, x = any_model("diagonal-normal"), rows(3)
    torch.manual_seed(3)
    draw = model.draw(x, k=2)
    after = torch.rand(())
    torch.manual_seed(3)
    q = model.posterior(x).base_dist
    noise = torch.normal(torch.zeros(2, 3, 2).double(), torch.ones(2, 3, 2).double())
    assert torch.equal(draw.z, q.loc + q.scale * noise)
    assert torch.equal(torch.rand(()), after)


def test_the_full_covariance_kl_is_used_by_auto() -> None:
    draw = any_model("full-covariance-normal").draw(rows(3), k=2)
    assert isinstance(draw.levels[0].q, CholeskyNormal)
    torch.testing.assert_close(draw.rate(), kl_divergence(draw.levels[0].q, draw.levels[0].p))


# --- missing values ----------------------------------------------------------------------------------------------------


class LinearGaussian(LatentVariableModel):
    """z ~ N(0, I), x = W z + b + σ ε, with the exact posterior given the values that are known."""

    latent_size = 2
    event_shape = (4,)

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(dense(4, 2, seed=1))
        self.bias = nn.Parameter(dense(4, seed=2))
        self.known = known
        self.sigma = 0.5

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        w = self.weight[self.known]
        precision = torch.eye(2, dtype=torch.float64) + w.T @ w / self.sigma**2
        mean = (x - self.bias)[:, self.known] @ w / self.sigma**2 @ precision.inverse()
        return MultivariateNormal(mean, precision_matrix=precision.expand(len(x), 2, 2))

    def prior(self, c: Tensor | None = None) -> Distribution:
        return MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        return normal(z @ self.weight.T + self.bias, self.sigma)

    def log_evidence(self, x: Tensor) -> Tensor:
        w = self.weight[self.known]
        covariance = w @ w.T + self.sigma**2 * torch.eye(len(w), dtype=torch.float64)
        return MultivariateNormal(self.bias[self.known], covariance).log_prob(x[:, self.known])


@pytest.mark.parametrize("known", [[0, 1, 2, 3], [1, 3], [2]])
def test_with_missing_values_the_exact_posterior_gives_the_evidence_of_the_others(known: list[int]) -> None:
    model = LinearGaussian(torch.tensor(known))
    observed = torch.zeros(5, 4, dtype=torch.bool)
    observed[:, known] = True
    x = dense(5, 4, seed=3)
    draw = model.draw(x.masked_fill(~observed, torch.nan), k=3, observed=observed)
    expected = model.log_evidence(x)
    torch.testing.assert_close(draw.log_w, expected.expand(3, 5), rtol=0, atol=1e-10)
    elbo = -draw.distortion - draw.rate("sampled")
    torch.testing.assert_close(elbo, expected, rtol=0, atol=1e-10)
    elbo.sum().backward()
    assert model.weight.grad.isfinite().all()
    if len(known) < 4:  # a sum over all values, of zeros where nothing is known, is another number
        wrong = model.draw(x.masked_fill(~observed, 0.0), k=3).log_w
        assert (wrong - expected).abs().min() > 1e-3


def test_without_a_mask_nothing_is_computed_otherwise_and_a_full_mask_is_none() -> None:
    model = hierarchical()
    x = rows(3)
    torch.manual_seed(0)
    plain = model.draw(x, k=2)
    torch.manual_seed(0)
    full = model.draw(x, k=2, observed=torch.ones_like(x, dtype=torch.bool))
    assert plain.observed is None
    assert torch.equal(plain.log_likelihood, plain.likelihood.log_prob(x))
    torch.testing.assert_close(full.log_likelihood, plain.log_likelihood)


def test_a_likelihood_that_does_not_factorize_takes_no_mask() -> None:
    p = MultivariateNormal(torch.zeros(3), torch.eye(3))
    x = torch.zeros(1, 3)
    draw = Draw(x, torch.zeros(1, 1, 2), (), p, observed=x.bool())
    with pytest.raises(ConfigError, match="log_prob_where"):
        _ = draw.log_likelihood


# --- closed forms hold for the types that they were registered for ---------------------------------------------------------


def test_a_subclass_with_a_density_of_its_own_does_not_get_the_normal_kl() -> None:
    class Positive(Normal):
        def log_prob(self, value: Tensor) -> Tensor:
            return super().log_prob(value) - Normal(0.0, 1.0).cdf(self.loc / self.scale).log()

    p = normal(torch.zeros(3, 2))
    q = Independent(Positive(torch.ones(3, 2), torch.ones(3, 2)), 1)
    z = torch.rand(4, 3, 2)
    assert LatentLevel(z, q, p).analytic_kl is None
    torch.testing.assert_close(LatentLevel(z, q, p).kl(), (q.log_prob(z) - p.log_prob(z)).mean(0))
    assert LatentLevel(z, normal(torch.ones(3, 2)), p).analytic_kl is not None


# --- latents that are no vectors ---------------------------------------------------------------------------------------


def test_latents_of_any_shape() -> None:
    class Grid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mu = nn.Conv2d(1, 3, 2, 2)
            self.latent_shape = (3, 2, 2)

        def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
            return Independent(Normal(self.mu(x), 0.5), 3)

    torch.manual_seed(0)
    decoder = ConvDecoder((3, 2, 2), (1, 4, 4), channels=[5])
    model = Composed(
        Grid(), StandardNormal((3, 2, 2)), Bernoulli(decoder), latent_shape=(3, 2, 2), event_shape=(1, 4, 4)
    )
    assert (model.latent_size, model.latent_shape) == (12, (3, 2, 2))
    x = torch.rand(5, 1, 4, 4)
    draw = model.draw(x, k=4)
    assert draw.z.shape == (4, 5, 3, 2, 2)
    assert draw.log_w.shape == (4, 5)
    torch.testing.assert_close(draw.rate(), kl_divergence(draw.q, draw.p))
    assert model.sample(2).shape == (2, 1, 4, 4)
    assert model.reconstruct(x).shape == x.shape
    with pytest.raises(DataError, match=r"\(N, 3, 2, 2\)"):
        model.decode(torch.zeros(5, 12))
    vector = OverGrid(NormalMixture(12, components=2), (3, 2, 2))()
    torch.testing.assert_close(vector.log_prob(draw.z), vector.base_dist.log_prob(draw.z.flatten(2)))
    for function, options in (
        (objectives.iwae, {"gradient": "dreg"}),
        (objectives.piwae, {"groups": 2}),
        (objectives.free_bits, {}),
        (objectives.mmd, {}),
        (objectives.beta_tc, {"dataset_size": 10}),
    ):
        value = function(model.draw(x, k=4), **options)
        assert value.shape == (5,)
        value.sum().backward()


def test_a_composed_model_has_the_latents_of_its_posterior() -> None:
    posterior = DiagonalNormal(MLP((3,), (4,), hidden=(4,)), 4, 2)
    parts = (posterior, StandardNormal(2), Bernoulli(MLP((2,), (3,), hidden=(4,))))
    assert Composed(*parts).latent_shape == Composed(*parts, latent_size=2).latent_shape == (2,)
    with pytest.raises(ConfigError, match=r"latents have shape \(3,\) here and \(2,\) in the posterior"):
        Composed(*parts, latent_size=3)


def test_a_draw_that_was_read_without_gradients_still_has_them() -> None:
    torch.manual_seed(0)
    model = build("vae", event_shape=(1, 8, 8), latent_size=2)
    x = torch.rand(16, 1, 8, 8)

    def gradients(read: Callable[[Draw], object]) -> list[Tensor]:
        torch.manual_seed(1)
        draw = model.draw(x)
        with torch.no_grad():
            read(draw)
        model.zero_grad()
        (-objectives.elbo(draw).mean()).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    wanted = gradients(lambda draw: None)
    assert wanted
    reads: list[Callable[[Draw], object]] = [
        lambda draw: draw.distortion,
        lambda draw: draw.log_w,
        lambda draw: draw.rate(),
        lambda draw: draw.levels[0].analytic_kl,
    ]
    for read in reads:
        got = gradients(read)
        assert len(got) == len(wanted) and all(map(torch.equal, got, wanted))


def test_a_value_of_a_draw_is_computed_once() -> None:
    calls: list[None] = []

    class Counting(Normal):
        def log_prob(self, value: Tensor) -> Tensor:
            calls.append(None)
            return super().log_prob(value)

    draw = Draw(torch.zeros(3), torch.zeros(1, 3, 2), (), Counting(torch.zeros(1, 3), 1.0))
    with torch.no_grad():
        assert draw.log_likelihood is draw.log_likelihood
    assert draw.log_likelihood is draw.log_likelihood
    with torch.no_grad():
        assert draw.log_likelihood.shape == (1, 3)
    assert len(calls) == 2  # without gradients, and once more with them


def test_a_model_without_weights_draws_samples_and_has_a_density() -> None:
    class Plain(nn.Module):
        def __init__(self, function: Callable[..., Distribution]) -> None:
            super().__init__()
            self.function = function

        def forward(self, *arguments: Any) -> Distribution:
            return self.function(*arguments)

    model = Composed(
        Plain(lambda x, c: Independent(Normal(x / 2, 0.5**0.5), 1)),
        Plain(lambda c=None: Independent(Normal(torch.zeros(2), 1.0), 1)),
        Plain(lambda z, c=None: Independent(Normal(z, 1.0), 1)),
        latent_shape=(2,),
        event_shape=(2,),
    )
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    exact = Independent(Normal(torch.zeros(2), 2**0.5), 1).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), exact)  # the posterior is exact, so that one sample is enough
    assert model.sample(3).shape == (3, 2) and model.encode(x).shape == (5, 2) and model.device.type == "cpu"
