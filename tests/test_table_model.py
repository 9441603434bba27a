"""Models of tables against closed forms: densities that sum to one, exact bounds, imputations and scores for any mask."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal
from torch.nn.functional import logsigmoid

import vaekit
from vaekit import Composed, OfDraw, elbo, fit, iwae
from vaekit.config import preset_names, read
from vaekit.config.building import build
from vaekit.config.recipe import Recipe
from vaekit.data import Batch, Dataset, Split, load
from vaekit.data.table.columns import Column
from vaekit.distributions import average_over, given_observed, level_probs, log_prob_observed, resampled
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.likelihood.bounds import bounds
from vaekit.evaluation.missing.conditional import rows_given, value_scores
from vaekit.evaluation.missing.imputation import weighted_latents
from vaekit.evaluation.samples.synthetic import synthetic
from vaekit.evaluation.single_rows.outliers import auroc, rarer
from vaekit.evaluation.single_rows.scoring import Scores, _ranks, percentiles
from vaekit.evaluation.values import share_of
from vaekit.likelihoods import Columns
from vaekit.nets import ColumnView
from vaekit.priors.normal import StandardNormal

NAN = math.nan
KINDS = [
    Column("a", "real", "float64", loc=3.0, scale=2.0),
    Column("b", "positive", "float64", loc=0.5, scale=0.7),
    Column("c", "count", "int64", loc=1.0, scale=0.5),
    Column("d", "ordinal", "int64", levels=(1, 2, 5)),
    Column("e", "categorical", "str", levels=("x", "y", "z", "w")),
    Column("f", "bernoulli", "bool", levels=(False, True)),
    Column("g", "ordinal", "int64", levels=(1, 2, 3, 4, 5)),
    Column("h", "categorical", "str", levels=("x", "y", "z")),
]
LEVELS = KINDS[3:6]


class Fixed(nn.Module):
    """A network that is linear in z, or the same for every z."""

    def __init__(self, outputs: int, latent_size: int = 1, slope: float = 1.0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(5)
        self.in_shape = (latent_size,)
        self.weight = nn.Parameter(slope * torch.randn(outputs, latent_size, generator=g))
        self.bias = nn.Parameter(torch.randn(outputs, generator=g))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return z @ self.weight.T + self.bias


def likelihood(columns: list[Column], slope: float = 1.0, latent_size: int = 1, **options: Any) -> Columns:
    (outputs,) = Columns.out_shape((len(columns),), columns=columns, **options)
    made = Columns(Fixed(outputs, latent_size, slope), columns, **options)
    with torch.no_grad():
        made.steps += 0.3 * torch.arange(made.steps.shape[1])
    return made


# densities


@pytest.mark.parametrize("options", [{}, {"scale": "network"}, {"real": "student-t"}, {"missing": "self-masking"}])
@torch.no_grad()
def test_every_column_has_a_density_that_sums_to_one(options: dict[str, Any]) -> None:
    model = likelihood(KINDS, **options)
    p = model(torch.tensor([[0.7]]))
    grid = torch.linspace(-400, 400, 400_001, dtype=torch.float64).float()
    for i, column in enumerate(KINDS):
        values = grid[grid > 0] if column.kind == "positive" else grid
        step = 0.002
        if column.is_discrete:
            values, step = torch.arange(float(len(column.levels) or 3000)), 1.0
        x = torch.full((len(values), len(KINDS)), NAN)
        x[:, i] = values
        log_p = p.log_prob_where(x[:, None], ~x[:, None].isnan())[:, 0, i]
        assert float(log_p.double().exp().sum() * step) == pytest.approx(1, abs=2e-3), column


@torch.no_grad()
def test_ordinal_columns_are_cumulative() -> None:
    model = likelihood(KINDS)
    z = torch.tensor([[-1.0], [0.4]])
    p = model(z)
    out = model.net(z)[:, 3:5]  # after a real, a positive and a count column
    for row, i in enumerate((3, 6)):
        levels = len(KINDS[i].levels)
        x = torch.full((levels, 2, len(KINDS)), NAN)
        x[:, :, i] = torch.arange(float(levels))[:, None]
        below = p.log_prob(x).exp().cumsum(0)
        rises = nn.functional.softplus(model.steps[row, 1:])
        thresholds = model.steps[row, 0] + torch.cat((torch.zeros(1), rises.cumsum(0)))
        expected = torch.sigmoid(thresholds[: levels - 1, None] - out[:, row])
        torch.testing.assert_close(below[:-1], expected, rtol=0, atol=1e-5)


def test_missing_values_change_neither_the_density_nor_its_gradient() -> None:
    model = likelihood(KINDS)
    z = torch.randn(4, 3, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = model(z).sample()[0]
    observed = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) > 0.4
    gradients = []
    for hidden in (0.0, -7.0, 1e6, NAN):
        model.zero_grad()
        values = log_prob_observed(model(z), x.masked_fill(~observed, hidden), observed)
        by_column = model(z).log_prob_where(x, torch.ones_like(observed)) * observed
        torch.testing.assert_close(values, by_column.sum(-1), rtol=0, atol=1e-5)
        torch.testing.assert_close(values, model(z).log_prob(x.masked_fill(~observed, NAN)), rtol=0, atol=1e-5)
        values.sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert gradients[0].isfinite().all() and gradients[0].abs().sum() > 0
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])


@torch.no_grad()
def test_draws_have_the_moments_of_their_columns() -> None:
    torch.manual_seed(0)
    p = likelihood(KINDS)(torch.tensor([[0.2]]))
    x = p.sample(torch.Size((40_000,)))[:, 0]
    assert p.support.check(x).all() and not p.support.check(x.index_fill(1, torch.tensor([4]), 4.0)).any()
    for block in p.blocks:
        if block.levels is None:
            mean, sd = x[:, block.index].mean(0), x[:, block.index].std(0)
            assert ((mean - block.p.mean[0]).abs() < 5 * sd / 200).all()
    for i, column in enumerate(KINDS):
        for level in range(len(column.levels)):
            row = torch.full((1, len(KINDS)), NAN)
            row[0, i] = level
            share = float(p.log_prob(row).exp())
            assert abs(float((x[:, i] == level).double().mean()) - share) < 5 * math.sqrt(share / 40_000) + 1e-4


@torch.no_grad()
def test_counts_follow_the_size_factor_of_their_row() -> None:
    columns = [KINDS[2], Column("s", "size-factor", "float64", loc=2.0, scale=0.3)]
    p = likelihood(columns)(torch.tensor([[0.0]]))
    mean = float(p.mean[0, 0])
    for factor in (0.5, 1.0, 4.0):
        row = torch.tensor([[1.0, factor * math.exp(2.0)]])
        x = row.repeat(4000, 1)
        x[:, 0] = torch.arange(4000.0)
        each = p.log_prob_where(x[:, None], torch.ones(4000, 1, 2, dtype=torch.bool))[:, 0, 0].double().exp()
        assert float(each.sum()) == pytest.approx(1, abs=1e-3)
        assert float((each * x[:, 0]).sum()) == pytest.approx(factor * mean, rel=1e-3)
        gap = torch.tensor([[False, True]])
        known = p.given(row, gap)
        assert float(known.mean[0, 0]) == pytest.approx(factor * mean, rel=1e-5)
        assert float(known.average(torch.ones(1, 1))[0, 0]) == pytest.approx(factor * mean, rel=1e-5)
        drawn = known.sample(torch.Size([4000]))[..., 0].flatten()
        assert abs(float(drawn.mean()) - factor * mean) < 5 * float(drawn.std()) / math.sqrt(4000)
        unknown = p.given(row, torch.tensor([[False, False]]))  # negative control
        assert float(unknown.mean[0, 0]) == pytest.approx(mean)


def test_a_gap_among_counts_is_filled_at_the_size_of_its_row() -> None:
    columns = [KINDS[2], Column("s", "size-factor", "float64", loc=2.0, scale=0.3)]
    torch.manual_seed(0)
    model = build("count-vae", columns=columns, encoder={"hidden": [8]}, decoder={"hidden": [8]}, latent_size=1)
    rows = torch.tensor([[0.0, math.exp(2.0)], [0.0, 8 * math.exp(2.0)]])
    observed = torch.tensor([[False, True]] * 2)
    (part,) = weighted_latents(model.eval(), Batch(rows, observed=observed), 2000)
    for values in (part.best(), part.mean(), part.sample(4000).mean(0)):
        assert float(values[1, 0] / values[0, 0]) == pytest.approx(8, rel=0.25)


@torch.no_grad()
def test_the_probability_of_a_masked_level_is_that_of_the_level_that_is_filled_in() -> None:
    torch.manual_seed(0)
    p: Any = likelihood(KINDS, missing="self-masking")(torch.zeros(3, 1, 1))
    p.mechanism.level_logits.normal_(0, 3)
    p = p.given(torch.ones(3, 1, len(KINDS)), torch.zeros(3, 1, len(KINDS), dtype=torch.bool))
    weights = torch.full((3, 1), 1 / 3)
    best = p.average(weights)
    for block in (block for block in p.blocks if block.levels is not None):
        probability = (weights[..., None, None] * p.level_probabilities(block)).sum(0)[0]
        assert probability.argmax(-1).tolist() == best[0, block.index].int().tolist()
        torch.testing.assert_close(probability.sum(-1), torch.ones(len(block.index)))


# what the encoder sees


def test_the_encoder_sees_standardized_numbers_levels_and_gaps() -> None:
    x = torch.tensor([[5.0, math.exp(1.2), math.e - 1, 2.0, 1.0, 1.0, 0.0, NAN], [NAN] * 8])
    seen = ColumnView(KINDS)(x)
    assert seen.shape == (2, 4 + 3 + 4 + 5 + 3 + 8) == (2, ColumnView(KINDS).size)
    torch.testing.assert_close(seen[0, :4], torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert seen[0, 4:19].tolist() == [0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert seen[0, 19:].tolist() == [1] * 7 + [0]
    assert seen[1].tolist() == [0] * 27
    assert ColumnView(KINDS, mask=False)(x).shape == (2, 19)


# the linear-Gaussian model, exact for any mask

D, Z, SIGMA = 5, 2, 0.6
REAL = [Column(f"x{i}", "real", "float64", loc=10.0 * i, scale=1.0 + i) for i in range(D)]


class Exact(nn.Module):
    """The posterior of the linear-Gaussian model given the values that are not NaN."""

    sees_missing = True

    def __init__(self, net: Fixed) -> None:
        super().__init__()
        self.net = net
        self.latent_size = Z

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        loc, scale = (torch.tensor([getattr(column, name) for column in REAL]) for name in ("loc", "scale"))
        u = ((x - loc) / scale - self.net.bias).double()
        w = self.net.weight.double()
        seen = w * (~x.isnan()).double()[..., None]
        precision = torch.eye(Z, dtype=torch.float64) + seen.mT @ seen / SIGMA**2
        covariance = torch.linalg.inv(precision)
        mean = (covariance @ seen.mT @ u.nan_to_num(0)[..., None])[..., 0] / SIGMA**2
        return MultivariateNormal(mean.float(), covariance.float())


@pytest.fixture
def exact() -> Composed:
    made = likelihood(REAL, latent_size=Z)
    with torch.no_grad():
        made.log_scale.fill_(5 * math.atanh(math.log(SIGMA) / 5))
    return Composed(Exact(made.net), StandardNormal(Z), made, latent_size=Z, event_shape=(D,))


def marginal(model: Composed) -> MultivariateNormal:
    """p(x), in the units of the columns."""
    net: Any = model.parts["likelihood"].net
    loc, scale = (torch.tensor([getattr(column, name) for column in REAL]).double() for name in ("loc", "scale"))
    w = scale[:, None] * net.weight.detach().double()
    return MultivariateNormal(loc + scale * net.bias.detach().double(), w @ w.T + torch.diag((SIGMA * scale) ** 2))


@pytest.fixture
def rows(exact: Composed) -> Tensor:
    torch.manual_seed(3)
    x = marginal(exact).sample((6,)).float()
    observed = torch.rand(x.shape) > 0.4
    observed[0], observed[1] = True, False
    return x.masked_fill(~observed, NAN)


def evidence(model: Composed, x: Tensor) -> Tensor:
    joint, found = marginal(model), []
    for row in x.double():
        seen = ~row.isnan()
        part = MultivariateNormal(joint.mean[seen], joint.covariance_matrix[seen][:, seen])
        found.append(part.log_prob(row[seen]) if seen.any() else row.new_zeros(()))
    return torch.stack(found)


@torch.no_grad()
def test_bounds_and_scores_are_the_evidence_for_any_mask(exact: Composed, rows: Tensor) -> None:
    expected = evidence(exact, rows)
    observed = ~rows.isnan()
    batch = Batch(rows.masked_fill(~observed, 0), observed=observed)
    draw = exact.draw(batch.x, k=8, observed=observed)
    for value in (elbo(draw, kl="sampled"), iwae(draw)):
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=2e-4)
    torch.testing.assert_close(
        bounds(exact, batch, samples=(1, 10)).per_row["L_10"].double(), expected, rtol=0, atol=2e-4
    )
    torch.testing.assert_close(exact.log_prob(rows, k=3).double(), expected, rtol=0, atol=2e-4)  # NaN is missing
    wrong = iwae(exact.draw(batch.x, k=8))  # negative control: zeros for values
    assert (wrong - expected).abs()[2:].max() > 1


@torch.no_grad()
def test_imputations_are_the_conditional_normal(exact: Composed, rows: Tensor) -> None:
    torch.manual_seed(1)
    observed = ~rows.isnan()
    (part,) = weighted_latents(exact, Batch(rows.masked_fill(~observed, 0), observed=observed), 4000)
    best, drawn = part.best(), part.sample(4000)
    joint = marginal(exact)
    for i in range(1, len(rows)):
        seen = observed[i]
        cov = joint.covariance_matrix
        gain = cov[~seen][:, seen] @ torch.linalg.inv(cov[seen][:, seen])
        mean = joint.mean[~seen] + gain @ (rows[i].double()[seen] - joint.mean[seen])
        covariance = cov[~seen][:, ~seen] - gain @ cov[seen][:, ~seen]
        error = covariance.diag().sqrt() / math.sqrt(4000)
        assert ((best[i][~seen] - mean).abs() < 5 * error).all()
        values = drawn[:, i][:, ~seen].double()
        assert ((values.mean(0) - mean).abs() < 8 * error).all()  # of latents that are drawn twice
        spread = torch.outer(error, error) * math.sqrt(4000)
        assert ((values.T.cov().reshape(covariance.shape) - covariance).abs() < 10 * spread).all()


@torch.no_grad()
def test_scores_of_columns_add_up_to_the_distortion(exact: Composed, rows: Tensor) -> None:
    observed = ~rows.isnan()
    batch = Batch(rows.masked_fill(~observed, 0), observed=observed)
    scores = value_scores(exact, iter([batch]), samples=50)
    assert torch.equal(scores.isnan(), ~observed)
    (part,) = weighted_latents(exact, batch, 50)
    expected = -(part.weights * part.draw.log_likelihood).sum(0)
    torch.testing.assert_close(scores.nan_to_num(0).sum(1), expected, rtol=1e-4, atol=1e-3)


# a small table of levels, summed exactly


class Wide(nn.Module):
    """A posterior that knows nothing."""

    latent_size = 1

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(len(x), 1), 1.3), 1)


@pytest.fixture
def discrete() -> Composed:
    return Composed(Wide(), StandardNormal(1), likelihood(LEVELS, slope=1.5), latent_size=1, event_shape=(3,))


def table_of(model: Composed) -> tuple[Tensor, Tensor]:
    """Every row that there is, and its probability, by Gauss-Hermite quadrature over z."""
    every = torch.tensor(list(product(*(range(len(column.levels)) for column in LEVELS)))).float()
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    z = torch.tensor(nodes)[:, None, None].float().expand(-1, len(every), 1)
    share = torch.tensor(weights / weights.sum())[:, None]
    return every, (model.likelihood(z).log_prob(every).double().exp() * share).sum(0)


@torch.no_grad()
def test_a_discrete_table_is_summed_exactly(discrete: Composed) -> None:
    every, p = table_of(discrete)
    assert len(every) == 24 and float(p.sum()) == pytest.approx(1, abs=1e-6)
    found = bounds(discrete, every, samples=(20_000,), seed=1).per_row
    error = found["noise L_20000"].sqrt()
    assert ((found["L_20000"] - p.log()).abs() < 5 * error).all()
    assert (error < 0.05).all()
    torch.manual_seed(0)
    drawn = discrete.sample(40_000, noise=True)
    for row, share in zip(every, p.tolist(), strict=True):
        seen = float((drawn == row).all(1).double().mean())
        assert abs(seen - share) < 5 * math.sqrt(share * (1 - share) / 40_000)


@torch.no_grad()
def test_missing_levels_and_given_ones_follow_the_enumerated_table(discrete: Composed) -> None:
    torch.manual_seed(0)
    every, p = table_of(discrete)
    given, observed = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([True, False, True])
    fits = (every[:, 0] == 2) & (every[:, 2] == 1)
    expected = p[fits] / p[fits].sum()  # of the second column
    (part,) = weighted_latents(discrete, Batch(given[None], observed=observed[None]), 20_000)
    drawn = part.sample(20_000)[:, 0, 1]
    rows_drawn, ess = rows_given(discrete, 20_000, given, observed)
    assert (rows_drawn[:, 0] == 2).all() and (rows_drawn[:, 2] == 1).all()
    assert 1000 < ess < 400_000
    for values, size in ((drawn, float(1 / part.weights.square().sum())), (rows_drawn[:, 1], ess)):
        for level, share in enumerate(expected.tolist()):
            error = math.sqrt(share * (1 - share) * (1 / 20_000 + 1 / size))
            assert abs(float((values == level).double().mean()) - share) < 5 * error
    assert int(part.best()[0, 1]) == int(expected.argmax())
    marginal_share = torch.stack([p[every[:, 1] == level].sum() for level in range(4)])
    assert (marginal_share - expected).abs().max() > 0.015  # negative control: what is given matters


# values that are missing because of what they are


@torch.no_grad()
@pytest.mark.parametrize("sign", ["unknown", "high", "low"])
def test_the_density_of_values_and_their_mask_is_an_integral(sign: Any) -> None:
    torch.manual_seed(0)
    columns = [KINDS[0], KINDS[1], KINDS[4], KINDS[5]]
    model = likelihood(columns, slope=0.0, missing="self-masking", sign=sign)
    for parameter in model.mechanism.parameters():
        parameter.copy_(torch.randn(parameter.shape))
    x, observed = torch.tensor([[4.0, 1.5, 2.0, 1.0]]), torch.tensor([[True, False, False, True]])
    n = 40_000
    p = model(torch.zeros(n, 1, 1))
    log_joint = log_prob_observed(p, x, observed)[:, 0].double()
    at_random = p.log_prob_where(x, observed)[0, 0].masked_fill(~observed[0], 0).sum().double()
    grid = torch.linspace(1e-3, 80, 200_001)
    some = torch.full((len(grid), 1, 4), NAN)
    some[:, 0, 1] = grid
    one = model(torch.zeros(1, 1))
    density = one.log_prob_where(some, ~some.isnan())[:, 0, 1].double().exp()
    hidden = torch.sigmoid(model.mechanism.of_numbers(grid[:, None], torch.tensor([1])))[:, 0].double()
    expected = float((density * hidden).sum() * (grid[1] - grid[0]))
    masks = torch.sigmoid(model.mechanism.level_logits)
    shares = torch.tensor([_share(one, 2, level, 4) for level in range(len(columns[2].levels))])
    expected *= float((shares * masks[2, :4]).sum())
    of_a = torch.sigmoid(-model.mechanism.of_numbers(torch.tensor([[4.0]]), torch.tensor([0])))
    expected *= float(of_a) * float(1 - masks[3, 1])
    ratio = (log_joint - at_random).exp()
    assert abs(float(ratio.mean()) - expected) < 5 * float(ratio.std()) / math.sqrt(n)
    assert float(ratio.std()) > 0


@torch.no_grad()
def test_the_numbers_drawn_for_given_rows_stay() -> None:
    """A latent is weighted, averaged and drawn with the same missing numbers, whatever is computed in between."""
    torch.manual_seed(0)
    columns = [KINDS[0], KINDS[1], KINDS[5]]
    model = likelihood(columns, slope=0.0, missing="self-masking")
    for parameter in model.mechanism.parameters():
        parameter.copy_(torch.randn(parameter.shape))
    x, observed = torch.tensor([[4.0, 0.0, 1.0]]), torch.tensor([[True, False, True]])
    k = 5
    p = model(torch.zeros(k, 1, 1))
    given = given_observed(p, x, observed)
    log_p = log_prob_observed(given, x, observed)
    others = log_prob_observed(p, x, observed), log_prob_observed(given, x + 0, observed)  # drawn anew
    assert torch.equal(log_prob_observed(given, x, observed), log_p)
    assert all((log_p != other).any() for other in others)
    rows = resampled(given, torch.arange(k)[:, None])
    assert rows is not None and len(rows[:, 0, 1].unique()) == k
    of_values = p.log_prob_where(x, observed).masked_fill(~observed, 0).sum(-1)
    logits = torch.cat([model.mechanism.of_numbers(rows[..., :2], torch.arange(2))[..., [i]] for i in range(2)], -1)
    of_mask = logsigmoid(-logits[..., 0]) + logsigmoid(logits[..., 1])
    of_mask = of_mask + logsigmoid(-model.mechanism.of_levels(torch.tensor([2]), 2)[0, 1])
    torch.testing.assert_close(log_p, of_values + of_mask)
    weights = torch.rand(k, 1)
    weights = weights / weights.sum()
    torch.testing.assert_close(average_over(given, weights)[0, 1], (weights * rows[..., 1]).sum())
    assert given_observed(p, x, observed).drawn[..., 1].ne(rows[..., 1]).all()  # negative control: given again


def _share(p: Any, column: int, level: int, size: int) -> float:
    """P(x_d = level), from blocks and not from the joint density."""
    block = next(block for block in p.blocks if column in block.index)
    return float(level_probs(block.p)[0, block.index.tolist().index(column), level])


def test_self_masking_learns_what_hides() -> None:
    """Half of the high values of one column are hidden: at random their mean is too low, self-masked it is not."""
    torch.manual_seed(0)
    r = np.random.default_rng(0)
    z = r.normal(size=(2000, 1))
    x = (z @ np.ones((1, 3)) + 0.3 * r.normal(size=(2000, 3))).astype("f4")
    truth = x[:, 0].copy()
    hidden = r.random(2000) < 1 / (1 + np.exp(-6 * (truth - 0.3)))
    x[hidden, 0] = np.nan
    x[:, 1:][r.random((2000, 2)) < 0.6] = np.nan  # so that the rest says little
    error = {}
    for missing in ("at-random", "self-masking"):
        data = load(x, test=10, validation=10)
        torch.manual_seed(0)
        sections: dict[str, Any] = {
            "likelihood": {"name": "columns", "missing": missing},
            "model": {"latent_size": 1, "init": "default"},
        }
        model = build("not-miwae", columns=data.columns, encoder={"hidden": [16]}, decoder={"hidden": [16]}, **sections)
        fit(model, data, epochs=12, batch_size=100, learning_rate=1e-2, objective=OfDraw(iwae, samples=8))
        every = torch.from_numpy(x)
        observed = ~every.isnan()
        parts = weighted_latents(model, Batch(every.nan_to_num(0), observed=observed), 200)
        best = torch.cat([part.best() for part in parts])[:, 0]
        error[missing] = float((best - torch.from_numpy(truth))[torch.from_numpy(hidden)].mean())
    assert abs(error["self-masking"]) < 0.5 * abs(error["at-random"])


# presets, options


TABLES = [name for name in preset_names() if read(name).likelihood.name == "columns"]


@pytest.mark.parametrize("condition", ["none", "class"])
@pytest.mark.parametrize("name", TABLES)
def test_every_preset_of_tables_lowers_its_loss(name: str, condition: str) -> None:
    torch.manual_seed(0)
    columns = [KINDS[2], Column("total", "size-factor", "float64", loc=1.0)] if name == "count-vae" else KINDS
    with torch.no_grad():
        x = likelihood(columns)(torch.randn(32, 1)).sample()
    observed = torch.rand(x.shape) > 0.3
    config = read(name, settings=["objective.samples=4", f"model.condition={condition}"])
    model = build(config, columns=columns, num_classes=2)
    loss = Recipe.resolve(config).loss(model, dataset_size=32, num_classes=2)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    batch = model.to_model(Batch(x, labels=torch.arange(32) % 2, observed=observed))
    values = []
    for _ in range(25):
        torch.manual_seed(7)
        value = loss(model, batch, 0).loss.mean()
        optimizer.zero_grad()
        value.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.5
    torch.testing.assert_close(
        model.encode(x.masked_fill(~observed, NAN), batch.c),
        model.posterior_of(batch).mean,
    )


def test_parts_of_tables_need_a_table() -> None:
    with pytest.raises(ConfigError, match=r"likelihood 'columns' takes a table.*choose 'normal'"):
        build("table-vae", event_shape=3, encoder="mlp")
    with pytest.raises(ConfigError, match=r"encoder 'table' takes a table.*choose 'mlp'"):
        build("table-vae", event_shape=3, likelihood="normal")
    with pytest.raises(ConfigError, match=r"sign = 'high' goes with missing = 'self-masking'"):
        build("table-vae", columns=KINDS, likelihood={"sign": "high"})


def test_the_area_under_the_curve_counts_pairs() -> None:
    g = torch.Generator().manual_seed(0)
    scores, unusual = torch.randint(0, 9, (60,), generator=g).double(), torch.rand(60, generator=g) > 0.7
    high, low = scores[unusual], scores[~unusual]
    pairs = (high[:, None] > low).double() + 0.5 * (high[:, None] == low).double()
    area, error = auroc(scores, unusual)
    assert area == pytest.approx(float(pairs.mean()))
    assert auroc(-scores, unusual)[0] == pytest.approx(1 - area)
    assert 0.02 < error < 0.2


@pytest.mark.parametrize(
    ("values", "rare"),
    [
        (["a", "a", None], [False, False, True]),
        ([None, None, "a"], [False, False, True]),
        ([1.0, math.nan, 1.0], [False, True, False]),
        (["b", "a", "a"], [True, False, False]),
    ],
)
def test_the_rarer_value_of_a_column_may_be_a_missing_one(values: list[Any], rare: list[bool]) -> None:
    pandas = pytest.importorskip("pandas")
    for dtype in (None, "category", "string" if isinstance(values[0] or values[2], str) else "Int64"):
        assert rarer(pandas.DataFrame({"y": pandas.Series(values, dtype=dtype)}), "y").tolist() == rare
    with pytest.raises(DataError, match="both values of column 'y' are in 2 rows"):
        rarer(pandas.DataFrame({"y": [1, 0, 1, 0]}), "y")


def test_a_column_without_reference_values_explains_no_row() -> None:
    nats = torch.tensor([1.0, math.nan, 3.0])
    assert _ranks(nats, torch.tensor([2.0, math.nan])).tolist() == [0, -1, 100]
    unknown = _ranks(nats, torch.full((4,), math.nan))
    assert unknown.tolist() == [-1, -1, -1]
    scores = Scores(None, {}, {"empty": nats, "known": nats}, torch.stack((unknown, torch.tensor([99.0, -1, 0]))), ())  # type: ignore[arg-type]
    assert scores.reasons(0) == [("known", 99.0)]
    with pytest.raises(DataError, match="at least one reference value"):
        percentiles(nats, torch.empty(0))


# drawn rows beside real ones


class Drawing(nn.Module):
    """Stands for a model that draws rows in one way."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.draw = draw

    def sample(self, n: int, *, noise: bool) -> Tensor:
        assert noise
        return self.draw(n)


def related(n: int) -> Tensor:
    """Two numbers and a level that go together, and a Bernoulli column that does not."""
    z = torch.randn(n, 1)
    numbers = z + 0.5 * torch.randn(n, 2)
    level = (z + 0.5 * torch.randn(n, 1) > 0).float() + (z > 1).float()
    return torch.cat((numbers, level, (torch.rand(n, 1) > 0.7).float()), 1)


def test_drawn_rows_are_compared_with_real_ones() -> None:
    torch.manual_seed(0)
    every = related(1500)
    every[torch.rand(1500) < 0.2, 1] = NAN
    columns = (
        Column("a", "real", "float64"),
        Column("b", "real", "float64"),
        Column("c", "categorical", "str", levels=("x", "y", "z")),
        Column("d", "bernoulli", "bool", levels=(False, True)),
    )
    observed = ~every.isnan()
    parts = [
        Split(every[rows].nan_to_num(0), None, observed[rows]) for rows in (slice(1000), slice(2), slice(1000, None))
    ]
    data = Dataset("t", *parts, classes=("all",), checksum="", kind="table", columns=columns[:4])
    ways = {
        "true": related,
        "copies": lambda n: every[:1000].nan_to_num(0)[torch.randint(1000, (n,))],
        "alone": lambda n: torch.stack([related(n)[:, i] for i in range(4)], 1),
        "shifted": lambda n: related(n) + torch.tensor([0.8, 0.0, 0.0, 0.0]),
    }
    found: dict[str, dict[str, float]] = {}
    for name, draw in ways.items():
        found[name] = {value.name: value.value for value in synthetic(Drawing(draw), data)}  # type: ignore[arg-type]
    true, copies, alone, shifted = found.values()
    assert true["column shapes"] > 93 and true["pair trends"] > 93
    assert abs(true["told from real rows"] - 50) < 5
    assert 0.8 < true["nearest training row"] < 1.25
    assert copies["nearest training row"] < 0.1 and copies["column shapes"] > 93
    assert alone["column shapes"] > 93 and alone["pair trends"] < true["pair trends"] - 3
    assert alone["told from real rows"] > 65
    assert shifted["column shapes"] < true["column shapes"] - 3
    assert abs(true["learned from drawn rows: d"] - true["learned from real rows: d"]) < 5


def test_drawn_rows_are_compared_with_the_rows_of_the_split() -> None:
    torch.manual_seed(0)
    columns = tuple(Column(name, "real", "float64") for name in "ab")
    near, far = Split(torch.randn(300, 2), None), Split(torch.randn(300, 2) + 3, None)
    model = build("table-vae", columns=columns, latent_size=1, encoder={"hidden": [4]}, decoder={"hidden": [4]})
    whole = Dataset("t", near, near, far, classes=("all",), checksum="", kind="table", columns=columns)
    options: dict[str, Any] = {"samples": 2, "seed": 0}

    def shapes(data: Dataset, **more: Any) -> float:
        return vaekit.evaluate(model, data, **options, **more)["column shapes"].value

    assert shapes(whole, split="validation") > shapes(whole, split="test") + 10
    assert shapes(whole, split="test", rows=20) != shapes(whole, split="test")
    part = Dataset.of_splits("t", {"train": near, "validation": near}, kind="table", columns=columns)
    assert shapes(part, split="validation") == shapes(whole, split="validation")
    names = {value.name for value in vaekit.evaluate(model, whole, split="train", **options).values}
    assert {"column shapes", "pair trends"} <= names and "nearest training row" not in names
    with pytest.raises(DataError, match="there are 0 trials"):
        share_of("accuracy", torch.zeros(0, dtype=torch.bool))


def test_a_table_that_means_something_else_is_refused_instead_of_misread() -> None:
    pd = pytest.importorskip("pandas")

    def table(levels: str) -> Dataset:
        texts = np.array(list(levels))[np.arange(60) % len(levels)]
        return load(pd.DataFrame({"a": np.linspace(-1, 1, 60), "level": texts}))

    known = table("abc")
    model = vaekit.build("table-vae", data=known, encoder={"hidden": [8]}, decoder={"hidden": [8]})
    with pytest.raises(DataError, match="column 'level' is read in another way"):
        vaekit.evaluate(model, table("bc"), samples=2)
    with pytest.raises(DataError, match="column 'level' is read in another way"):
        fit(model, table("abcd"), epochs=1)
    assert len(fit(model, known, epochs=1)) == 1


@pytest.mark.parametrize("options", [{"real": "norma"}, {"scale": "colum"}, {"missing": "random"}])
def test_misspelt_words_are_refused(options: dict[str, str]) -> None:
    ((option, word),) = options.items()
    with pytest.raises(ConfigError, match=rf"unknown {option} '{word}'"):
        likelihood(KINDS, **options)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
def test_a_gap_is_not_an_infinite_number(value: float) -> None:
    model = build("miwae-table", columns=KINDS, encoder={"hidden": [4]}, decoder={"hidden": [4]})
    x = torch.ones(2, len(KINDS))
    x[1, 2] = torch.nan
    assert model.encode(x).isfinite().all()
    x[0, 0] = value
    for use in (model.encode, model.log_prob, model.check_values):
        with pytest.raises(DataError, match=rf"takes finite numbers, got \[.*{value:g}"):
            use(x)
