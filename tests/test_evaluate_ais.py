"""Annealed importance sampling and bidirectional Monte Carlo against exact evidence, from above and from below."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Dirichlet,
    Distribution,
    Exponential,
    HalfNormal,
    Independent,
    LogNormal,
    MixtureSameFamily,
    Normal,
    Uniform,
)

from oracles import LinearGaussian
from vaekit import CVAE, LatentVariableModel, build
from vaekit.data import Batch
from vaekit.distributions import Chain
from vaekit.errors import ConfigError
from vaekit.evaluation.likelihood import ais as module
from vaekit.evaluation.likelihood.ais import Annealing, ais, bidirectional
from vaekit.evaluation.likelihood.bounds import bounds
from vaekit.evaluation.values import variance_key

SHORT = Annealing(temperatures=40, chains=8, leapfrog=3, start="prior")
QUICK = Annealing(temperatures=5, chains=3, leapfrog=2, start="prior")


@pytest.fixture
def wrong() -> LinearGaussian:
    return LinearGaussian(exact=False)


def evidence(model: LinearGaussian, x: Tensor) -> Tensor:
    return model.evidence().log_prob(x).detach()


def weight_z(found: Tensor, truth: Tensor) -> float:
    """Standard errors by which the mean of p̂(x) / p(x) over images is away from 1, its expectation."""
    ratio = (found - truth).exp()
    return ((ratio.mean() - 1) / (ratio.std() / len(ratio) ** 0.5)).item()


# -- against the exact evidence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_weights_average_to_the_evidence(wrong: LinearGaussian, start: module.ChainStart, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROWS_OF_CHAINS", 400)  # one stream and one large matrix: faster
    x = wrong.data(400)
    found = ais(wrong, x, annealing=Annealing(40, 8, 3, start))
    assert abs(weight_z(found.per_row["ais"], evidence(wrong, x))) < 4
    bias = (found.per_row["ais"] - evidence(wrong, x)).mean()
    assert -0.3 < bias < 0.03  # a lower bound, and not far below
    assert 0.4 < found.per_row["acceptance"].mean() < 0.8


def test_a_transition_that_accepts_everything_is_found_out(wrong: LinearGaussian, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROWS_OF_CHAINS", 400)
    monkeypatch.setattr(module._State, "moved", lambda self, accepted, other: other)
    x = wrong.data(400)
    found = ais(wrong, x, annealing=SHORT)
    assert abs(weight_z(found.per_row["ais"], evidence(wrong, x))) > 8


def test_one_temperature_from_the_posterior_is_importance_sampling() -> None:
    exact = LinearGaussian()
    x = exact.data(20)
    found = ais(exact, x, annealing=Annealing(1, 4, 1, "posterior"))
    torch.testing.assert_close(found.per_row["ais"], evidence(exact, x), rtol=0, atol=1e-10)
    assert found.per_row[variance_key("ais")].max() < 1e-10


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_bounds_of_both_directions_bracket_the_evidence(
    wrong: LinearGaussian, start: module.ChainStart, monkeypatch
) -> None:
    monkeypatch.setattr(module, "ROWS_OF_CHAINS", 300)
    simulated: list[Tensor] = []
    chains = module._Chains

    def spy(model, rows, *rest):
        simulated.append(rows.x)
        return chains(model, rows, *rest)

    monkeypatch.setattr(module, "_Chains", spy)
    found = bidirectional(wrong, 300, annealing=Annealing(8, 2, 3, start))
    truth = evidence(wrong, simulated[0])
    lower, upper = found.per_row["ais"], found.per_row["upper"]

    def z(difference: Tensor) -> float:
        return (difference.mean() / (difference.std() / len(difference) ** 0.5)).item()

    assert lower.mean() < truth.mean() < upper.mean()
    assert z(truth - lower) > 1
    assert z(upper - truth) > 1
    assert abs(weight_z(lower, truth)) < 4
    # Backwards it is 1 / p̂(x) whose mean is exact.
    assert abs(weight_z(-upper, -truth)) < 4
    gap = {value.name: value for value in found.values}["BDMC gap, simulated data"]
    assert gap.value == pytest.approx((upper - lower).mean().item())
    assert gap.value > 3 * gap.standard_error


def test_starting_anywhere_else_gives_no_upper_bound(wrong: LinearGaussian) -> None:
    x = wrong.data(25)
    with torch.no_grad():
        torch.manual_seed(0)
        chains = module._Chains(wrong, Batch(x), Annealing(2, 4, 1, "prior"), 1 << 30)
        upper = module._backward(chains, wrong.prior().sample(torch.Size((25,))))
    assert (upper - evidence(wrong, x)).mean() < -1


@pytest.mark.slow
def test_the_gap_closes_with_the_number_of_temperatures(wrong: LinearGaussian, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROWS_OF_CHAINS", 200)
    gaps = []
    for temperatures in (10, 50, 250):
        found = bidirectional(wrong, 200, annealing=Annealing(temperatures, 8, 5, "prior"))
        gaps.append((found.per_row["upper"] - found.per_row["ais"]).mean().item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0


@pytest.mark.slow
def test_long_chains_agree_with_the_evidence_to_a_hundredth_of_a_nat(wrong: LinearGaussian, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROWS_OF_CHAINS", 200)
    x = wrong.data(200)
    found = ais(wrong, x, annealing=Annealing(500, 16, 5, "prior"))
    assert abs((found.per_row["ais"] - evidence(wrong, x)).mean()) < 0.02
    assert abs(weight_z(found.per_row["ais"], evidence(wrong, x))) < 4


def test_annealing_does_not_believe_a_bad_encoder() -> None:
    model = LinearGaussian()
    with torch.no_grad():
        model.offset.add_(3.0)
    x = model.data(25)
    truth = evidence(model, x).mean()
    assert bounds(model, x, samples=(100,)).per_row["L_100"].mean() < truth - 1
    assert ais(model, x, annealing=SHORT).per_row["ais"].mean() > truth - 0.4


# -- parts ------------------------------------------------------------------------------------------------------------


def test_the_path_begins_at_one_end_and_ends_at_the_other() -> None:
    betas = module._schedule(50)
    assert betas[0] == 0 and betas[-1] == 1 and len(betas) == 51
    assert betas == sorted(betas)
    assert betas[1] - betas[0] < 0.3 * (betas[26] - betas[25])


def test_step_sizes_suit_each_image() -> None:
    # The second image's posterior is a hundred times as narrow as the first one's.
    class Uneven(LinearGaussian):
        def likelihood(self, z, c=None):
            scale = torch.tensor([10.0, 0.1], dtype=torch.float64)[: z.shape[-2], None]
            return Independent(torch.distributions.Normal(z @ self.weight.T, scale), 1)

    model = Uneven()
    torch.manual_seed(0)
    with torch.no_grad():
        chains = module._Chains(model, Batch(model.data(2)), Annealing(200, 8, 5, "prior"), 1 << 30)
    wide, narrow = chains.steps[-1]
    assert wide > 5 * narrow
    torch.testing.assert_close(chains.steps[0, 0], chains.steps[0, 1], rtol=0.5, atol=0)  # both are the prior there


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_gradients_are_those_of_the_path(wrong: LinearGaussian, start: module.ChainStart) -> None:
    torch.manual_seed(0)
    x = wrong.data(3)
    with torch.no_grad():
        chains = module._Chains(wrong, Batch(x), Annealing(2, 2, 1, start), 1 << 30)
    z = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    beta = 0.3
    joint = wrong.prior().log_prob(z) + wrong.likelihood(z).log_prob(x)
    base = wrong.prior().log_prob(z) if start == "prior" else wrong.posterior(x).log_prob(z)
    expected = (1 - beta) * base + beta * joint
    (slope,) = torch.autograd.grad(expected.sum(), z)
    state = chains.at(z.detach())
    torch.testing.assert_close(state.log_density(chains.weights(beta)), expected.detach())
    torch.testing.assert_close(state.slope(chains.weights(beta)), slope)


# -- any model, bounded memory, resumable -------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_conditional_and_hierarchical_models_in_single_precision(start: module.ChainStart) -> None:
    torch.manual_seed(0)
    how = Annealing(5, 3, 2, start)
    digits = CVAE(16, num_classes=3, latent_size=4)
    labels = torch.arange(6) % 3
    two = build(
        "standard-vae", posterior={"name": "hierarchical"}, prior={"name": "hierarchical"}, event_shape=(1, 4, 4)
    )
    for model, c in ((digits, labels), (two, None)):
        found = ais(model, Batch(torch.rand(6, 1, 4, 4).round(), labels=c), annealing=how)
        both = bidirectional(model, 6, c, annealing=how)
        assert found.per_row["ais"].isfinite().all()
        assert both.per_row["upper"].mean() > both.per_row["ais"].mean() - 0.5
        assert not any(p.grad is not None for p in model.parameters())


def test_the_memory_limit_changes_the_slices_and_not_the_result() -> None:
    class Wide(LinearGaussian):
        most_rows = 0

        def likelihood(self, z, c=None):
            self.most_rows = max(self.most_rows, z[..., 0].numel())
            return super().likelihood(z.repeat_interleave(2000, -1).unflatten(-1, (-1, 2000)).mean(-1))

    model = Wide(exact=False)
    x = model.data(25)
    ample = ais(model, x, annealing=QUICK)
    assert model.most_rows == 75
    model.most_rows = 0
    tight = ais(model, x, annealing=QUICK, memory=2 << 20)
    assert model.most_rows < 30
    torch.testing.assert_close(tight.per_row["ais"], ample.per_row["ais"])


def test_an_interrupted_annealing_goes_on_and_gives_the_same(wrong: LinearGaussian) -> None:
    class Memory(dict):
        load, save = dict.get, dict.__setitem__

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    x, cache, stages = wrong.data(60), Memory(), []
    expected = ais(wrong, x, annealing=QUICK, seed=3)
    with pytest.raises(KeyboardInterrupt):
        ais(wrong, x, annealing=QUICK, seed=3, cache=cache, listener=stop)
    assert len(cache["ais"]["ais"]) == 25
    resumed = ais(wrong, x, annealing=QUICK, seed=3, cache=cache, listener=lambda *stage: stages.append(stage))
    assert stages == [("ais", 2, 3), ("ais", 3, 3)]
    assert torch.equal(resumed.per_row["ais"], expected.per_row["ais"])
    other = ais(wrong, x, annealing=QUICK, seed=4)
    assert not torch.equal(other.per_row["ais"], expected.per_row["ais"])


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": 0}, "temperatures must be at least 1, got 0"),
        ({"chains": 0}, "chains must be at least 1"),
        ({"leapfrog": -1}, "leapfrog must be at least 1"),
        ({"start": "encoder"}, "unknown start 'encoder'; known: posterior, prior"),
    ],
)
def test_impossible_annealing_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Annealing(**options)


def test_discrete_latents_are_refused(wrong: LinearGaussian) -> None:
    class Coins(LinearGaussian):
        def prior(self, c=None):
            return Independent(Bernoulli(torch.full((3,), 0.3, dtype=torch.float64), validate_args=False), 1)

    with pytest.raises(ConfigError, match="needs continuous latents, but the prior is discrete"):
        ais(Coins(), wrong.data(3), annealing=QUICK)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        bidirectional(wrong, 0)


OFF_THE_REAL_LINE = {
    "positive": lambda: Independent(Exponential(torch.ones(2), validate_args=False), 1, validate_args=False),
    "half": lambda: Independent(HalfNormal(torch.ones(2), validate_args=False), 1, validate_args=False),
    "interval": lambda: Independent(
        Uniform(-torch.ones(2), torch.ones(2), validate_args=False), 1, validate_args=False
    ),
    "simplex": lambda: Dirichlet(torch.ones(2), validate_args=False),
    "mixture": lambda: MixtureSameFamily(
        Categorical(torch.ones(3)),
        Independent(LogNormal(torch.zeros(3, 2), 1.0, validate_args=False), 1, validate_args=False),
        validate_args=False,
    ),
    "chain": lambda: Chain(
        Independent(Normal(torch.zeros(1), 1.0), 1),
        [lambda drawn: Independent(LogNormal(drawn[-1], 1.0, validate_args=False), 1)],
        sizes=(1, 1),
    ),
}


NO_GRADIENT = ("mixture", "posterior")


@pytest.mark.parametrize(
    ("kind", "of"),
    [(kind, of) for kind in OFF_THE_REAL_LINE for of in ("prior", "posterior") if (kind, of) != NO_GRADIENT],
)
def test_latents_off_the_real_line_are_refused(kind: str, of: str) -> None:
    """Off its support a density of torch is finite and wrong: AIS of a positive latent was off by millions of nats."""

    class Model(LatentVariableModel):
        latent_size = 2
        event_shape = (2,)

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
            return self.of(of == "posterior").expand((len(x),)) if kind != "chain" else self.of(of == "posterior")

        def prior(self, c: Tensor | None = None) -> Distribution:
            return self.of(of == "prior")

        def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
            return Independent(Normal(z, 1.0), 1)

        def of(self, asked: bool) -> Distribution:
            return OFF_THE_REAL_LINE[kind]() if asked else Independent(Normal(torch.zeros(2), 1.0), 1)

    model, x = Model(), torch.randn(1, 2)
    for act in (lambda: ais(model, x, annealing=QUICK), lambda: bidirectional(model, 1, annealing=QUICK)):
        with pytest.raises(ConfigError, match=f"can be any real number, but the {of} has values in"):
            act()
