"""Latent diagnostics against closed forms, and classifiers on constructed features."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from oracles import LinearGaussian
from vaekit import VAE, build
from vaekit.data import Batch
from vaekit.errors import DataError
from vaekit.evaluation.latent_space.latent_statistics import latent_statistics, linear_probe, nearest_neighbours
from vaekit.evaluation.values import Value


class Diagonal(LinearGaussian):
    """Orthogonal columns of W, so that the exact posterior factorizes; the last latent is not used."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.weight.copy_(torch.linalg.qr(self.weight)[0] * torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
            gain, covariance = self._exact()
            self.gain.copy_(gain)
            self.offset.copy_(-gain @ self.bias)
        self.scale = covariance.diagonal().sqrt().detach()

    def posterior(self, x, c=None):
        return Independent(Normal(x @ self.gain.T + self.offset, self.scale), 1)

    def prior(self, c=None):
        return Independent(Normal(torch.zeros(3, dtype=torch.float64), 1.0), 1)


def z_score(value: Value, truth: float) -> float:
    assert value.standard_error is not None
    return (value.value - truth) / value.standard_error


def named(values: list[Value]) -> dict[str, Value]:
    return {value.name.split(" ")[0]: value for value in values}


def test_information_and_marginal_kl_are_those_of_the_linear_gaussian_model() -> None:
    model = LinearGaussian()
    found = latent_statistics(model, model.data(6000), pairs=1000)
    values = named(found.values)
    noise = torch.eye(5, dtype=torch.float64) * model.sigma**2
    truth = 0.5 * (torch.logdet(model.weight @ model.weight.T + noise) - torch.logdet(noise)).item()
    assert truth > 2
    assert abs(z_score(values["mutual"], truth)) < 4
    assert abs(z_score(values["marginal"], 0.0)) < 4
    assert values["mutual"].standard_error < 0.06
    assert found.kl is None  # its posterior does not factorize
    assert found.warnings == []


def test_a_posterior_that_misses_the_prior_has_a_marginal_kl() -> None:
    model = Diagonal()
    with torch.no_grad():
        model.offset.add_(torch.tensor([0.0, 0.0, 2.0]))
    found = named(latent_statistics(model, model.data(4000), pairs=1000).values)
    assert abs(z_score(found["marginal"], 2.0)) < 4  # 2²/2 nats in the unused dimension


def test_information_and_marginal_kl_add_up_to_the_rate() -> None:
    model = Diagonal()
    x = model.data(1500)
    found = latent_statistics(model, x, pairs=1500)
    rate = kl_divergence(model.posterior(x), model.prior()).detach()
    torch.testing.assert_close(found.kl.sum(), rate.mean())
    sampled = found.information + found.marginal
    assert abs((sampled - rate).mean() / ((sampled - rate).std() / 1500**0.5)) < 4


def test_kl_by_dimension_and_active_units_in_closed_form() -> None:
    model = Diagonal()
    x = model.data(3000)
    found = latent_statistics(model, x, pairs=10)
    q = model.posterior(x)
    expected = kl_divergence(q.base_dist, Normal(0.0, 1.0)).mean(0).detach()
    torch.testing.assert_close(found.kl, expected)
    assert found.kl[2] < 1e-12
    # Var E[z | x] = 1 − E Var[z | x] where q(z) is the prior.
    torch.testing.assert_close(found.variances, 1 - model.scale**2, rtol=0.1, atol=1e-12)
    assert found.active == 2


@pytest.mark.parametrize("spread", [0.099, 0.101])
def test_a_unit_is_active_when_its_mean_varies_by_more_than_a_hundredth(spread: float) -> None:
    class Fixed(Diagonal):
        def posterior(self, x, c=None):
            return Independent(Normal(torch.stack((x[:, 0], 0 * x[:, 0], 0 * x[:, 0]), 1), 1.0), 1)

    x = torch.zeros(1000, 5, dtype=torch.float64)
    x[::2, 0], x[1::2, 0] = spread, -spread
    assert latent_statistics(Fixed(), x, pairs=5).active == (1 if spread > 0.1 else 0)


def test_a_collapsed_posterior_is_said_to_be_one() -> None:
    class Collapsed(Diagonal):
        idle = 3

        def posterior(self, x, c=None):
            q = super().posterior(x, c).base_dist
            keep = (torch.arange(3) < 3 - self.idle).to(x)
            return Independent(Normal(keep * q.loc, keep * q.scale + (1 - keep)), 1)

    model = Collapsed()
    found = latent_statistics(model, model.data(300), pairs=300)
    assert found.active == 0
    assert "all 3 dimensions carry less than 0.01 nats" in found.collapse
    assert abs(found.information).max() < 1e-9
    model.idle = 1
    assert latent_statistics(model, model.data(300)).collapse.startswith(
        "1 of 3 dimensions carry less than 0.01 nats (z3): 2 "
    )
    assert "free-bits" in found.collapse
    whole = LinearGaussian()
    assert latent_statistics(whole, whole.data(300)).collapse is None


def test_without_a_factorized_posterior_collapse_shows_in_the_means() -> None:
    model = LinearGaussian()
    with torch.no_grad():
        model.gain[1] = 0
    assert "1 of 3 dimensions do not depend on the row" in latent_statistics(model, model.data(300), pairs=10).collapse


def test_one_row_says_nothing_of_what_varies_over_rows() -> None:
    model = LinearGaussian()
    alone, pair = (latent_statistics(model, model.data(n)) for n in (1, 2))
    names = [[value.name for value in statistics.values] for statistics in (alone, pair)]
    assert alone.warnings == [] and "active units" not in names[0] and "active units" in names[1]


def test_too_few_images_for_the_information_are_noticed() -> None:
    class Sharp(Diagonal):
        def posterior(self, x, c=None):
            return Independent(Normal(super().posterior(x, c).mean, 1e-4), 1)

    model = Sharp()
    found = latent_statistics(model, model.data(50))
    assert found.information.mean().item() == pytest.approx(math.log(50))
    assert any("at most log N = 3.9" in warning for warning in found.warnings)


def test_where_the_prior_depends_on_the_class_so_does_the_aggregate() -> None:
    class Shifted(Diagonal):
        context_size = 2

        def prior(self, c=None):
            return Independent(Normal(10 * c[:, :1].expand(-1, 3), 1.0), 1)

        def posterior(self, x, c=None):
            q = super().posterior(x).base_dist
            return Independent(Normal(q.loc + 10 * c[:, :1], q.scale), 1)

    plain, shifted = Diagonal(), Shifted()
    x, labels = plain.data(3000), torch.arange(3000) % 2
    found = named(latent_statistics(shifted, Batch(x, labels=labels), pairs=1000).values)
    expected = named(latent_statistics(plain, x, pairs=1000).values)
    # With one q(z) for both classes the information would be log 2 greater.
    assert abs(found["mutual"].value - expected["mutual"].value) < 0.1
    assert abs(z_score(found["marginal"], 0.0)) < 4


def test_the_memory_limit_and_the_callers_stream_change_nothing() -> None:
    model = LinearGaussian(exact=False)
    x = model.data(250)
    ample = latent_statistics(model, x)
    torch.manual_seed(9)
    tight = latent_statistics(model, x, memory=1 << 20)
    torch.testing.assert_close(tight.information, ample.information)
    assert torch.equal(tight.means, ample.means)


@pytest.mark.parametrize("prior", ["standard-normal", "vamp"])
def test_any_model_in_single_precision(prior: str) -> None:
    torch.manual_seed(0)
    x = torch.randint(256, (30, 1, 4, 4), dtype=torch.uint8)
    model = build("standard-vae", prior={"name": prior}, event_shape=(1, 4, 4), x=x / 255)
    found = latent_statistics(model, x)
    assert (found.kl is None) == (prior == "vamp")
    assert found.information.isfinite().all() and found.marginal.isfinite().all()
    hierarchical = build(
        "standard-vae", posterior={"name": "hierarchical"}, prior={"name": "hierarchical"}, event_shape=(1, 4, 4)
    )
    found = latent_statistics(hierarchical, x)
    assert found.kl.shape == found.variances.shape == found.means.shape[1:]
    assert latent_statistics(VAE(16, 4), x[:1]).active == 0


# -- classifiers ------------------------------------------------------------------------------------------------------


def crossed(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two classes that no line parts: the signs of the coordinates agree or not."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return x, (x.prod(1) > 0).long()


def test_a_line_parts_what_a_line_can_part() -> None:
    x = torch.randn(600, 3, generator=torch.Generator().manual_seed(0))
    labels = (x @ torch.tensor([1.0, -2.0, 0.5]) > 0).long()
    shifted = 1e3 + 1e-2 * x  # standardized features: neither offset nor scale matters
    for features in (x, shifted):
        value = linear_probe(features[:400], labels[:400], features[400:], labels[400:])
        assert value.value > 97
    x, labels = crossed(600, 1)
    assert abs(linear_probe(x[:400], labels[:400], x[400:], labels[400:]).value - 50) < 15


def test_neighbours_part_what_is_near() -> None:
    (x, labels), (y, truth) = crossed(3000, 1), crossed(300, 2)
    assert nearest_neighbours(x, labels, y, truth).value > 93
    one = nearest_neighbours(x, labels, x[:100], labels[:100], k=1)
    assert one.value == 100
    assert one.standard_error == 0
    random = torch.randint(2, (300,), generator=torch.Generator().manual_seed(3))
    value = nearest_neighbours(x, labels, y, random)
    assert abs(value.value - 50) < 4 * value.standard_error


def test_the_nearest_neighbour_decides_a_tie() -> None:
    train, labels = torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([1, 0, 0, 1])
    assert nearest_neighbours(train, labels, torch.tensor([[0.0]]), torch.tensor([1]), k=4).value == 100
    assert nearest_neighbours(train, labels, torch.tensor([[0.0]]), torch.tensor([0]), k=3).value == 100


def test_one_class_cannot_be_told_from_itself() -> None:
    x, labels = torch.randn(5, 2), torch.zeros(5, dtype=torch.long)
    for classifier in (linear_probe, nearest_neighbours):
        with pytest.raises(DataError, match="at least 2 classes, got 1"):
            classifier(x, labels, x, labels)
