"""Discrete latents: gradients against enumeration by z-score, the bias of relaxed ones, figures of hard samples only."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, OneHotCategorical

from test_cli import assert_refused
from vaekit import Draw, LatentLevel, build, elbo, plot
from vaekit.config import read
from vaekit.data import Batch
from vaekit.distributions import GumbelSoftmax, closed_form_kl
from vaekit.errors import ConfigError
from vaekit.evaluation.likelihood.bounds import bounds
from vaekit.model.draw import antithetic_pairs
from vaekit.objectives import OfDraw, disarm, rloo
from vaekit.runs import lifecycle

ROWS, PIXELS = 20_000, 4
BITS, CATEGORIES = (3,), (2, 3)
Shape = tuple[int, ...]


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Toy:
    """Latents of a shape, each of whose values can be listed, and pixels that depend on them.

    Arguments:
        shape: (Z,) for bits, (Z, C) for one-hot variables.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.x = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
        self.logits, self.prior = numbers(*shape, seed=1), numbers(*shape, seed=2)
        self.weight = 2 * numbers(math.prod(shape), PIXELS, seed=3)

    def variables(self, logits: Tensor) -> "Independent[Any]":
        return Independent(Bernoulli(logits=logits) if len(self.shape) == 1 else OneHotCategorical(logits=logits), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=z.flatten(-len(self.shape)) @ self.weight), 1)

    @property
    def values(self) -> Tensor:
        """Every z."""
        if len(self.shape) == 1:
            return torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
        every = itertools.product(range(self.shape[1]), repeat=self.shape[0])
        return torch.nn.functional.one_hot(torch.tensor(list(every)), self.shape[1]).double()

    def exact(self) -> tuple[float, Tensor]:
        """The ELBO, summed over every z, and its gradient by the logits of q."""
        logits = self.logits.clone().requires_grad_()
        q = self.variables(logits)
        log_q, log_p = q.log_prob(self.values), self.variables(self.prior).log_prob(self.values)
        value = (log_q.exp() * (self.likelihood(self.values).log_prob(self.x) + log_p - log_q)).sum()
        return value.item(), torch.autograd.grad(value, logits)[0]

    def draw(self, k: int, how: str = "independent", **relaxation: Any) -> tuple[Draw, Tensor]:
        """A draw of many rows with the same x, and their logits, each with a gradient of its own."""
        logits = self.logits.expand(ROWS, *self.shape).clone().requires_grad_()
        hard = self.variables(logits)
        q: Any = GumbelSoftmax(hard, **relaxation) if relaxation else hard
        p = self.variables(self.prior)
        if how == "pairs":
            z = antithetic_pairs(q, k)
        else:
            z = q.rsample(torch.Size((k,))) if relaxation else q.sample(torch.Size((k,)))
        x = self.x.expand(ROWS, -1)
        likelihood = self.likelihood(z)
        return Draw(x, z, (LatentLevel(z, q, p),), likelihood, q=q, p=p, antithetic=how != "independent"), logits


def z_scores(samples: Tensor, expected: Tensor) -> Tensor:
    return (samples.mean(0) - expected).abs() / (samples.std(0) / math.sqrt(len(samples)))


def estimates(toy: Toy, objective: Any, k: int, how: str = "independent", **relaxation: Any) -> tuple[Tensor, Tensor]:
    """Values and gradients, one of each row."""
    torch.manual_seed(0)
    draw, logits = toy.draw(k, how, **relaxation)
    value = objective(draw)
    value.sum().backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


def rloo_of_ratios(draw: Draw) -> Tensor:
    return rloo(draw, beta=1.0, kl="sampled") - rloo(draw, beta=0.0)


UNBIASED = [
    (BITS, rloo, 2, "independent"),
    (BITS, rloo, 5, "independent"),
    (CATEGORIES, rloo, 3, "independent"),
    (BITS, disarm, 2, "pairs"),
    (BITS, disarm, 6, "pairs"),
    (BITS, lambda draw: rloo(draw, kl="sampled"), 3, "independent"),
    (BITS, lambda draw: disarm(draw, kl="sampled"), 4, "pairs"),
    (BITS, lambda draw: disarm(draw, beta=0.5) - 0.5 * draw.rate(), 4, "pairs"),
    (BITS, lambda draw: rloo(draw, beta=0.5, kl="sampled") + 0.5 * rloo_of_ratios(draw), 3, "independent"),
]


@pytest.mark.parametrize(("shape", "objective", "k", "how"), UNBIASED)
def test_values_and_gradients_are_those_of_the_sum_over_all_latents(
    shape: Shape, objective: Any, k: int, how: str
) -> None:
    toy = Toy(shape)
    elbo_exact, gradient = toy.exact()
    values, gradients = estimates(toy, objective, k, how)
    assert z_scores(values, torch.tensor(elbo_exact)).item() < 5
    assert z_scores(gradients, gradient).max() < 5


def test_mistakes_show() -> None:
    """Negative controls: no score at all, a baseline that knows its own sample, pairs that are none."""
    toy = Toy(BITS)
    _, gradient = toy.exact()

    def own_baseline(draw: Draw) -> Tensor:
        f = draw.log_likelihood
        return f.mean(0) - draw.rate() + ((f - f.mean(0)).detach() * draw.score).mean(0)

    for objective, k, how in ((elbo, 2, "independent"), (own_baseline, 2, "independent"), (disarm, 2, "said to be")):
        _, gradients = estimates(toy, objective, k, how)
        assert z_scores(gradients, gradient).max() > 20


def test_pairs_have_the_least_noise() -> None:
    """Reference: Dong, Mnih and Tucker 2020, section 3.2: never more than that of two independent samples."""
    toy = Toy(BITS)
    noise = [estimates(toy, *how)[1].var(0).sum() for how in ((disarm, 2, "pairs"), (rloo, 2))]
    plain = estimates(toy, lambda d: d.log_likelihood.mean(0) + (d.log_likelihood.detach() * d.score).mean(0), 2)[1]
    assert noise[0] < 0.8 * noise[1] < 0.8 * plain.var(0).sum()


def test_the_halves_of_a_pair_have_the_right_probabilities() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([-2.0, 0.1, 1.5]).expand(ROWS, 3)
    first, second = antithetic_pairs(Independent(Bernoulli(logits=logits), 1), 2)
    for half in (first, second):
        assert z_scores(half, logits[0].sigmoid()).max() < 5
    assert not (first * second)[:, 0].any()  # of an improbable bit never both
    assert (first + second)[:, 2].min() == 1  # of a probable bit always one


def test_gumbel_softmax_is_biased_the_more_the_warmer() -> None:
    toy = Toy(CATEGORIES)
    _, gradient = toy.exact()
    bias = {}
    for temperature in (2.0, 1.0, 0.25):
        _, gradients = estimates(toy, elbo, 1, temperature=temperature, straight_through=False)
        error = gradients.std(0) / math.sqrt(ROWS)
        bias[temperature] = (gradients.mean(0) - gradient).norm().item()
        if temperature >= 1:
            assert z_scores(gradients, gradient).max() > 10
            assert bias[temperature] > 10 * error.norm()
    assert bias[2.0] > 1.5 * bias[1.0] > 3 * bias[0.25]


def test_straight_through_values_are_true_and_only_the_gradient_is_biased() -> None:
    toy = Toy(CATEGORIES)
    value, gradient = toy.exact()
    values, gradients = estimates(toy, elbo, 1, temperature=1.0, straight_through=True)
    assert z_scores(values, torch.tensor(value)).item() < 5
    assert z_scores(gradients, gradient).max() > 10
    relaxed, _ = estimates(toy, elbo, 1, temperature=1.0, straight_through=False)
    assert z_scores(relaxed, torch.tensor(value)).item() > 10  # negative control: these are no values of the ELBO


@pytest.mark.parametrize("shape", [BITS, CATEGORIES])
def test_rates_in_closed_form_are_sums(shape: Shape) -> None:
    toy = Toy(shape)
    logits = numbers(5, *shape, seed=4)
    q, p = toy.variables(logits), toy.variables(toy.prior)
    log_q = q.log_prob(toy.values[:, None])
    expected = (log_q.exp() * (log_q - p.log_prob(toy.values)[:, None])).sum(0)
    found = closed_form_kl(q, p)
    assert found is not None
    torch.testing.assert_close(found, expected)
    certain = toy.variables(torch.full((1, *shape), 200.0).float())  # which torch's own makes infinite of bits
    assert closed_form_kl(certain, toy.variables(torch.zeros(shape))).isfinite().all()  # type: ignore[union-attr]


# -- models of parts ---------------------------------------------------------------------------------------------------


SMALL: dict[str, Any] = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "model": {"latent_size": 3}}


def made(preset: str, **more: Any) -> Any:
    torch.manual_seed(0)
    posterior = {} if preset == "discrete-vae" else {"posterior": {"categories": 4}}
    return build(read(preset, sections=SMALL | posterior | more), event_shape=(1, 4, 4), num_classes=3)


@pytest.mark.parametrize("preset", ["discrete-vae", "gumbel-vae"])
def test_evaluation_takes_hard_samples_and_agrees_with_the_sum(preset: str) -> None:
    model = made(preset).eval()
    model.parts["posterior"].logits.weight.data.mul_(0.1)  # near the prior, so that the weights are even
    x = (torch.rand(6, 1, 4, 4) > 0.5).float()
    shape = model.latent_shape
    every: Any = itertools.product(range(2 if len(shape) == 1 else shape[1]), repeat=shape[0])
    z = torch.tensor(list(every))
    z = z.float() if len(shape) == 1 else torch.nn.functional.one_hot(z, shape[1]).float()
    with torch.no_grad():
        log_joint = model.likelihood(z[:, None]).log_prob(x) + model.prior().log_prob(z)[:, None]
        log_q = model.posterior(x).log_prob(z[:, None])
        found = bounds(model, x, samples=(1, 2000)).per_row
    evidence = log_joint.logsumexp(0)
    exact_elbo = (log_q.exp() * (log_joint - log_q)).sum(0)
    assert ((found["elbo"] - exact_elbo).abs() < 5 * found["noise elbo"].sqrt() + 1e-4).all()
    assert ((found["L_2000"] - evidence).abs() < 0.1).all()
    drawn = model.draw(x, k=4).z
    assert torch.equal(drawn, drawn.round())
    assert torch.equal(model.encode(x), model.encode(x).round())


def test_relaxed_samples_are_for_training_only_and_not_called_an_elbo() -> None:
    model = made("gumbel-vae")
    x = (torch.rand(8, 1, 4, 4) > 0.5).float()
    loss = OfDraw(elbo)
    relaxed = model.train().draw(x).z
    assert not torch.equal(relaxed, relaxed.round())
    assert set(loss(model, Batch(x), 0.0).logged) == {"rate", "distortion"}
    with torch.no_grad():
        assert "neg_elbo" in loss(model.eval(), Batch(x), 0.0).logged
    model.train()
    with pytest.raises(ConfigError, match="relaxed samples have no probability"):
        _ = model.draw(x).log_w


@pytest.mark.parametrize("preset", ["discrete-vae", "gumbel-vae"])
@pytest.mark.parametrize("condition", ["none", "class"])
def test_a_preset_trains_saves_and_is_evaluated(
    preset: str, condition: str, tmp_path: Path, command: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vaekit.runs.job.draw_pictures", lambda *_, **__: [])
    generator = np.random.default_rng(0)
    np.savez("x.npz", images=generator.integers(0, 256, (150, 8, 8), "u1"), labels=np.arange(150) % 3)
    settings = ["encoder.hidden=[8]", "decoder.hidden=[8]", "model.latent_size=4", f"model.condition={condition}"]
    options = [word for setting in settings for word in ("--set", setting)]
    trained = command("train", preset, "--data", "x.npz", "--epochs", 2, "--device", "cpu", "--name", "a", *options)
    assert trained.status == 0, trained.err
    records = [json.loads(line) for line in (tmp_path / "runs/a/metrics.jsonl").read_text().splitlines()]
    assert records[-1]["validation_neg_elbo"] < records[0]["validation_neg_elbo"]
    evaluated = command("evaluate", "--samples", 10, "--json")
    assert evaluated.status == 0, evaluated.err
    names = {value["name"] for value in json.loads(evaluated.out)["values"]}
    assert {"nll", "elbo", "active units"} <= names
    assert command("sample", "-n", 4, "-o", "s.png").status == 0
    assert_refused(command("interpolate", "-o", "i.png"), "nothing lies between two of them")
    assert_refused(command("evaluate", "--samples", 10, "--ais"), "needs continuous latents")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["objective.name=elbo"], "choose the objective 'rloo'"),
        (["objective.name=iwae"], "hand no gradient to the encoder"),
        (["prior.name=standard-normal"], "are bits, and the prior StandardNormal is over real numbers"),
        (["prior.name=mixture"], "choose prior.name = 'bernoulli'"),
        (["posterior.name=categorical"], "one-hot categories, and the prior BernoulliPrior is over bits"),
        (["posterior.name=categorical", "prior.name=categorical"], "pairs of samples"),
        (["posterior.name=diagonal-normal"], "real numbers, and the prior BernoulliPrior is over bits"),
        (["objective.samples=3"], "an even number of samples, got 3"),
        (["objective.name=rloo", "objective.samples=1"], "samples must be ≥ 2, got 1"),
        (["objective.name=factor"], "hand no gradient"),
        (["posterior.name=categorical", "posterior.categories=1"], "categories must be at least 2"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        lifecycle.train_run(read("discrete-vae", settings=settings), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_disarm_refuses_independent_samples_and_pictures_refuse_what_lies_between() -> None:
    model = made("discrete-vae")
    x = (torch.rand(8, 1, 4, 4) > 0.5).float()
    with pytest.raises(ConfigError, match="pass antithetic=True"):
        disarm(model.draw(x, k=2))
    assert disarm(model.draw(x, k=2, antithetic=True)).shape == (8,)
    for draw in (plot.traversals, plot.manifold):
        with pytest.raises(ConfigError, match="nothing lies between"):
            draw(model, x)
    with pytest.raises(ConfigError, match="temperature must be greater than 0"):
        made("gumbel-vae", posterior={"categories": 4, "temperature": 0.0})
