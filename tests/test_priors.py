"""Every prior's density against quadrature, its samples and explicit formulas."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException
from torch.distributions import Independent, Normal, kl_divergence

from densities import Features, expectations, moments, shaken, unwatched, z_scores
from vaekit import Composed
from vaekit.errors import ConfigError
from vaekit.likelihoods import Bernoulli
from vaekit.nets import MLP
from vaekit.posteriors import DiagonalNormal, FullCovarianceNormal, IAFPosterior
from vaekit.priors import LearnedNormal, MAFPrior, NormalMixture, NSFPrior, StandardNormal, VampPrior

IMAGE, FEATURES = (1, 2, 3), 5


def posterior_of(latent_size: int, context_size: int = 0, kind: type = DiagonalNormal) -> nn.Module:
    torch.manual_seed(11)
    return shaken(kind(Features(6, FEATURES, context_size), FEATURES, latent_size), seed=11)


def vamp(latent_size: int, context_size: int = 0, **options: object) -> VampPrior:
    posterior = posterior_of(latent_size, context_size)
    return VampPrior(posterior, IMAGE, images(8), **{"components": 4, **options}).double()


def images(n: int) -> Tensor:
    return torch.rand(n, *IMAGE, generator=torch.Generator().manual_seed(3))


LEARNED = {
    "normal": LearnedNormal,
    "mixture": lambda z, c=0: NormalMixture(z, c, components=3),
    "maf": lambda z, c=0: MAFPrior(z, c, steps=2, hidden=(8,)),
    "nsf": lambda z, c=0: NSFPrior(z, c, steps=2, bins=4, hidden=(8,)),
}
PRIORS = {"standard-normal": lambda z, c=0: StandardNormal(z), **LEARNED, "vamp": vamp}


def make(name: str, latent_size: int, context_size: int = 0, scale: float = 0.5) -> nn.Module:
    torch.manual_seed(1)
    return shaken(PRIORS[name](latent_size, context_size), scale)


def classes(n: int, c: int = 3) -> Tensor:
    """One-hot rows of an uneven lot of classes in no order, the last class missing."""
    return torch.eye(c, dtype=torch.float64)[torch.arange(n) ** 2 % (c - 1)]


# --- shapes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("latent_size", [1, 3])
@pytest.mark.parametrize("context_size", [0, 3])
def test_shapes_and_a_gradient_in_every_parameter(name: str, latent_size: int, context_size: int) -> None:
    prior = make(name, latent_size, context_size)
    p = prior(classes(5, context_size) if context_size else None)
    assert p.batch_shape in ((), (5,))
    assert p.event_shape == (latent_size,)
    z = torch.randn(2, 5, latent_size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_p = p.log_prob(z)
    assert log_p.shape == (2, 5)
    assert log_p.dtype == torch.float64
    sample = p.sample() if p.batch_shape else p.sample(torch.Size((5,)))
    assert sample.shape == (5, latent_size)
    assert p.sample(torch.Size((4,))).shape == (4, *p.batch_shape, latent_size)
    for row in range(5):
        alone = prior(classes(5, context_size)[row : row + 1] if context_size else None)
        torch.testing.assert_close(alone.log_prob(z[:, row : row + 1])[:, 0], log_p[:, row])
    if name != "standard-normal":
        log_p.square().sum().backward()
        missing = [n for n, w in prior.named_parameters() if w.grad is None or not w.grad.isfinite().all()]
        assert missing == []


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("context_size", [0, 3])
def test_nothing_but_a_conditional_vamp_waits_for_the_device(name: str, context_size: int) -> None:
    prior = make(name, 2, context_size)
    waits = name == "vamp" and context_size > 0
    with unwatched(), pytest.raises(DynamicOutputShapeException) if waits else nullcontext():
        p = prior(torch.empty(5, 3, dtype=torch.float64) if context_size else None)
        assert p.log_prob(torch.empty(4, 5, 2, dtype=torch.float64)).shape == (4, 5)
        assert p.sample().shape == (*p.batch_shape, 2)


@pytest.mark.parametrize("name", [*LEARNED, "vamp"])
def test_the_class_matters_and_only_the_class(name: str) -> None:
    prior = make(name, 2, 3)
    z = torch.zeros(6, 2, dtype=torch.float64)
    log_p = prior(torch.eye(3, dtype=torch.float64).repeat(2, 1)).log_prob(z)
    torch.testing.assert_close(log_p[:3], log_p[3:])
    assert (log_p[:3].diff().abs() > 1e-3).all()


@pytest.mark.parametrize("name", LEARNED)
def test_saved_weights_and_copies_give_the_same_density(name: str) -> None:
    prior, z = make(name, 3), torch.randn(4, 3, dtype=torch.float64)
    other = LEARNED[name](3).double()
    other.load_state_dict(prior.state_dict())
    assert torch.equal(other().log_prob(z), prior().log_prob(z))
    assert torch.equal(copy.deepcopy(prior)().log_prob(z), prior().log_prob(z))


# --- densities ---------------------------------------------------------------------------------------------------------

WIDE = {1: (14.0, 2001), 2: (10.0, 481)}


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("latent_size", [1, 2])
def test_density_integrates_to_one_and_agrees_with_the_sampler(name: str, latent_size: int) -> None:
    p = make(name, latent_size, scale=0.3)()
    total, expected = expectations(p, *WIDE[latent_size], moments)
    torch.testing.assert_close(total.item(), 1.0, atol=2e-3, rtol=0)
    torch.manual_seed(5)
    with torch.no_grad():
        z = p.sample(torch.Size((20_000,)))
        assert z_scores(moments(z, p.log_prob(z)), expected) < 5
        assert z_scores(moments(1.1 * z, p.log_prob(z)), expected) > 5


@pytest.mark.parametrize("name", [*LEARNED, "vamp"])
def test_conditional_samples_agree_with_the_density_of_their_class(name: str) -> None:
    c, prior = classes(4), make(name, 1, 3, scale=0.3)
    torch.manual_seed(5)
    with torch.no_grad():
        p = prior(c)
        z = p.sample(torch.Size((20_000,)))
        log_p = p.log_prob(z)
    axis = torch.linspace(-14, 14, 2001, dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        on_axis = p.log_prob(axis.expand(-1, 4, 1))
    weight = on_axis.exp() * (axis[1] - axis[0]).item()
    for row in range(4):
        total = weight[:, row].sum()
        torch.testing.assert_close(total.item(), 1.0, atol=2e-3, rtol=0)
        expected = (weight[:, row, None] * moments(axis[:, 0], on_axis[:, row])).sum(0)
        assert z_scores(moments(z[:, row], log_p[:, row]), expected) < 5


@pytest.mark.parametrize("name", ["maf", "nsf"])
def test_flows_invert_and_their_log_determinants_are_autograds(name: str) -> None:
    p = make(name, 3, 2)(torch.eye(2, dtype=torch.float64)[:1])
    z = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = p.transform(z)
    torch.testing.assert_close(p.transform.inv(noise), z, rtol=1e-8, atol=1e-8)
    determinant = torch.autograd.functional.jacobian(p.transform, z)[0, :, 0].slogdet().logabsdet
    expected = Normal(0.0, 1.0).log_prob(noise).sum() + determinant
    torch.testing.assert_close(p.log_prob(z)[0], expected, rtol=1e-10, atol=1e-10)


# --- normals and mixtures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context_size", [0, 3])
def test_learned_normal_starts_at_the_standard_one_and_has_a_closed_form_kl(context_size: int) -> None:
    prior = LearnedNormal(2, context_size).double()
    c = classes(4) if context_size else None
    q = posterior_of(2)(images(4).double())
    torch.testing.assert_close(kl_divergence(q, prior(c)), kl_divergence(q, StandardNormal(2).double()()))
    shaken(prior)
    p = prior(c)
    torch.manual_seed(0)
    with torch.no_grad():
        z = q.sample(torch.Size((20_000,)))
        assert z_scores(q.log_prob(z) - p.log_prob(z), kl_divergence(q, p)) < 5


def test_mixture_is_the_sum_of_its_components() -> None:
    prior, c = make("mixture", 2, 3), classes(4)
    z = torch.randn(5, 4, 2, dtype=torch.float64)
    weights = torch.softmax(c @ prior.weight.T + prior.bias, -1)
    components = torch.stack(
        [Normal(m, (0.5 * v).exp()).log_prob(z).sum(-1) for m, v in zip(prior.mu, prior.log_var, strict=True)], -1
    )
    torch.testing.assert_close(prior(c).log_prob(z), (weights * components.exp()).sum(-1).log())


# --- VampPrior ---------------------------------------------------------------------------------------------------------


def explicit(prior: VampPrior, posterior: nn.Module, z: Tensor, c: Tensor | None = None) -> Tensor:
    """log (1/K) Σ_k q(z | u_k, c), one component and one row at a time; z of shape (S, B, Z)."""
    terms = []
    for u in prior.pseudo_inputs:
        x = u.expand(z.shape[1], *IMAGE)
        terms.append(posterior(x, c).log_prob(z))
    return torch.stack(terms).logsumexp(0) - math.log(len(terms))


@pytest.mark.parametrize("kind", [DiagonalNormal, FullCovarianceNormal, lambda *a: IAFPosterior(*a, steps=2)])
@pytest.mark.parametrize("context_size", [0, 3])
def test_vamp_is_the_explicit_mixture(kind: type, context_size: int) -> None:
    posterior = posterior_of(2, context_size, kind)
    prior = VampPrior(posterior, IMAGE, images(8), components=4).double()
    c = classes(7) if context_size else None
    z = torch.randn(3, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prior(c).log_prob(z), explicit(prior, posterior, z, c))


def test_vamp_encodes_each_class_once() -> None:
    posterior = posterior_of(2, 3)
    prior = VampPrior(posterior, IMAGE, images(8), components=4).double()
    rows = []
    posterior.net.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    prior(classes(50))
    assert rows == [2 * 4]


def composed_vamp() -> Composed:
    posterior = DiagonalNormal(MLP(IMAGE, hidden=(8,)), 8, 2)
    prior = VampPrior(posterior, IMAGE, images(8), components=4)
    likelihood = Bernoulli(MLP((2,), IMAGE, hidden=(8,)))
    return Composed(posterior, prior, likelihood, latent_size=2, event_shape=IMAGE)


def test_vamp_shares_the_posterior_without_owning_it() -> None:
    torch.manual_seed(0)
    model = composed_vamp()
    names = [name for name, _ in model.named_parameters()]
    assert [n for n in names if n.startswith("parts.prior")] == ["parts.prior.raw"]
    assert len(model.state_dict()) == len({t.data_ptr() for t in model.state_dict().values()})
    twin = copy.deepcopy(model)
    x = images(3)
    with torch.no_grad():
        for p in twin.parts["posterior"].parameters():
            p.add_(0.3)
    z = torch.zeros(1, 1, 2)
    for m in (model, twin):
        torch.testing.assert_close(m.prior().log_prob(z), explicit(m.parts["prior"], m.parts["posterior"], z))
    assert not torch.allclose(twin.prior().log_prob(z), model.prior().log_prob(z))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.prior().log_prob(z), model.prior().log_prob(z))
    assert model.double().prior().log_prob(z.double()).dtype == torch.float64
    assert model.draw(x.double(), k=2).log_w.dtype == torch.float64


def test_vamp_trains_pseudo_inputs_and_encoder() -> None:
    model = composed_vamp()
    draw = model.draw(images(3), k=2)
    (-draw.levels[0].log_p).sum().backward()
    assert model.parts["prior"].raw.grad.abs().min() > 0
    z = draw.z.detach()
    encoder = list(model.parts["posterior"].parameters())
    gradients = torch.autograd.grad(model.prior().log_prob(z).sum(), encoder)
    assert all(g.abs().max() > 0 for g in gradients)


def test_pseudo_inputs_start_at_the_images_and_stay_in_their_range() -> None:
    posterior, x = posterior_of(2), 40 * images(6) - 10
    prior = VampPrior(posterior, IMAGE, x, components=6)
    nearest = torch.cdist(prior.pseudo_inputs.detach().flatten(1), x.flatten(1)).min(1)
    assert nearest.values.max() < 40 * 0.03
    assert sorted(nearest.indices.tolist()) == list(range(6))
    with torch.no_grad():
        prior.raw.mul_(1e3)
    assert prior.pseudo_inputs.min() >= x.min()
    assert prior.pseudo_inputs.max() <= x.max() + 1e-4


def test_more_components_than_images_are_all_different() -> None:
    prior = VampPrior(posterior_of(2), IMAGE, images(2), components=7)
    assert torch.cdist(prior.raw.flatten(1), prior.raw.flatten(1)).fill_diagonal_(1).min() > 0


def test_a_saved_vamp_is_rebuilt_without_images() -> None:
    posterior = posterior_of(2).float()
    prior = VampPrior(posterior, IMAGE, 3 + images(8), components=4)
    rebuilt = VampPrior(posterior, IMAGE, None, components=4)
    z = torch.zeros(1, 2)
    assert not torch.allclose(rebuilt().log_prob(z), prior().log_prob(z))
    rebuilt.load_state_dict(prior.state_dict())
    assert torch.equal(rebuilt().log_prob(z), prior().log_prob(z))


def test_random_pseudo_inputs_ignore_the_images() -> None:
    make_it = lambda x: VampPrior(posterior_of(2), IMAGE, x, components=4, init="random")
    torch.manual_seed(0)
    a = make_it(images(8))
    torch.manual_seed(0)
    b = make_it(1 - images(8))
    assert torch.equal(a.raw, b.raw)


def test_constant_images_are_no_division_by_zero() -> None:
    prior = VampPrior(posterior_of(2), IMAGE, torch.zeros(3, *IMAGE), components=2)
    assert prior.pseudo_inputs.isfinite().all()


# --- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: NormalMixture(2, components=0), "components must be at least 1, got 0"),
        (lambda: VampPrior(posterior_of(2), IMAGE, components=-1), "components must be at least 1, got -1"),
        (lambda: MAFPrior(2, steps=0), "steps must be at least 1, got 0"),
        (lambda: NSFPrior(2, bins=1), "bins must be at least 2, got 1"),
    ],
)
def test_options_out_of_range_are_named(make_it: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


@pytest.mark.parametrize("name", LEARNED)
def test_extreme_latents_keep_density_and_gradient_finite(name: str) -> None:
    torch.manual_seed(0)
    prior = LEARNED[name](3)
    z = torch.tensor([[1e6, -1e6, 0.0]], requires_grad=True)
    log_p = prior().log_prob(z)
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert z.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in prior.parameters())


def test_standard_normal_is_the_formula() -> None:
    z = torch.tensor([[0.3, -2.0]])
    expected = -0.5 * z.square().sum(-1) - math.log(2 * math.pi)
    torch.testing.assert_close(StandardNormal(2)().log_prob(z), expected)
    assert isinstance(StandardNormal(2)(), Independent)


def test_a_misspelt_start_of_pseudo_inputs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown init 'date'; did you mean 'data'"):
        vamp(2, init="date")
