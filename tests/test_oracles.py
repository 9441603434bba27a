"""The linear-Gaussian oracle: with the exact posterior every bound is log p(x), with another it falls short by a KL."""

import pytest
import torch
from torch.distributions import kl_divergence

from oracles import LinearGaussian
from vaekit import Draw, elbo

EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture
def exact():
    return LinearGaussian()


@pytest.fixture
def wrong():
    return LinearGaussian(exact=False)


def gap(model, x):
    """KL(q ‖ p(z | x)), shape (B,)."""
    return kl_divergence(model.posterior(x), model.exact_posterior(x))


def z_score(samples, expected):
    """How many standard errors the mean over the first dimension is away from `expected`."""
    return (samples.mean(0) - expected) / (samples.std(0) / len(samples) ** 0.5)


def test_every_importance_weight_is_the_evidence(exact):
    x = exact.data(4)
    torch.manual_seed(0)
    draw = exact.draw(x, k=7)
    torch.testing.assert_close(draw.log_w, exact.evidence().log_prob(x).expand(7, 4), **EXACT)
    torch.testing.assert_close(elbo(draw, kl="sampled"), exact.evidence().log_prob(x), **EXACT)


@pytest.mark.parametrize("k", [1, 5])
def test_log_prob_is_the_evidence(exact, k):
    x = exact.data(4)
    estimate = exact.log_prob(x, k=k, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(estimate, exact.evidence().log_prob(x).detach(), **EXACT)


@pytest.mark.parametrize("kl", ["auto", "analytic", "sampled"])
def test_elbo_falls_short_of_the_evidence_by_the_kl_to_the_posterior(exact, wrong, kl):
    x = exact.data(4)
    torch.testing.assert_close(elbo(exact.quadrature(x), kl=kl), exact.evidence().log_prob(x), **EXACT)
    assert gap(wrong, x).min() > 0.1
    torch.testing.assert_close(elbo(wrong.quadrature(x), kl=kl), wrong.evidence().log_prob(x) - gap(wrong, x), **EXACT)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_sampled_elbo_is_unbiased(wrong, kl):
    x = wrong.data(4)
    torch.manual_seed(1)
    draw = wrong.draw(x, k=20_000)
    # Each sample's own ELBO; they average to elbo(draw).
    samples = draw.log_likelihood - draw.rate(kl) if kl == "analytic" else draw.log_w
    torch.testing.assert_close(samples.mean(0), elbo(draw, kl=kl), **EXACT)
    assert z_score(samples, wrong.evidence().log_prob(x) - gap(wrong, x)).abs().max() < 5


def test_sampled_elbo_is_not_the_evidence(wrong):
    x = wrong.data(4)
    torch.manual_seed(1)
    assert z_score(wrong.draw(x, k=20_000).log_w, wrong.evidence().log_prob(x)).abs().min() > 5


def test_importance_weights_average_to_the_evidence(wrong):
    x = wrong.data(4)
    torch.manual_seed(2)
    weights = (wrong.draw(x, k=20_000).log_w - wrong.evidence().log_prob(x)).exp()
    assert z_score(weights, 1.0).abs().max() < 5


def test_log_prob_approaches_the_evidence_from_the_elbo(wrong):
    x = wrong.data(4)
    truth = wrong.evidence().log_prob(x).detach()
    estimate = wrong.log_prob(x, k=20_000, generator=torch.Generator().manual_seed(3))
    assert ((estimate - truth).abs() < 0.1 * gap(wrong, x)).all()


def test_elbo_gradient_vanishes_at_the_exact_posterior(exact, wrong):
    for model in (exact, wrong):
        elbo(model.quadrature(model.data(4)), kl="analytic").sum().backward()
    assert max(exact.gain.grad.abs().max(), exact.offset.grad.abs().max()) < 1e-10
    assert min(wrong.gain.grad.abs().max(), wrong.offset.grad.abs().max()) > 0.1


MISTAKES = {
    "mean over pixels": lambda d: d.log_likelihood.mean(0) / d.x.shape[1] - d.rate(),
    "mean over latents": lambda d: d.log_likelihood.mean(0) - d.rate() / d.z.shape[2],
    "KL forgotten": lambda d: d.log_likelihood.mean(0),
    "KL added": lambda d: d.log_likelihood.mean(0) + d.rate(),
    "KL the wrong way round": lambda d: d.log_likelihood.mean(0) - kl_divergence(d.levels[0].p, d.levels[0].q),
    "KL summed over samples": lambda d: d.log_likelihood.mean(0) - (d.levels[0].log_q - d.levels[0].log_p).sum(0),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_classic_mistakes_miss_the_evidence(exact, mistake):
    x = exact.data(4)
    draw: Draw = exact.quadrature(x)
    assert (mistake(draw) - exact.evidence().log_prob(x)).abs().min() > 0.01
