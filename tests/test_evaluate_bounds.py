"""Importance-weighted bounds against exact evidence, their diagnostics on known tails, and what must not change them."""

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, kl_divergence

from oracles import LinearGaussian
from vaekit import CVAE, VAE, Draw, LatentVariableModel, build
from vaekit.data import Batch
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation import batchwise
from vaekit.evaluation.likelihood import bounds as module
from vaekit.evaluation.likelihood.bounds import bounds, up_to
from vaekit.evaluation.likelihood.weights import Mean, NestedBounds, pareto_shape
from vaekit.evaluation.values import Value, mean_over_rows, variance_key

EXACT = {"rtol": 0, "atol": 1e-10}


def noise_z(found: module.Bounds, name: str, truth: Tensor) -> float:
    """How many Monte Carlo standard errors the mean over images is away from the truth."""
    return ((found.per_row[name] - truth).sum() / found.per_row[variance_key(name)].sum().sqrt()).item()


class Memory:
    """A cache that counts what it is asked for."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Tensor]] = {}

    def load(self, name: str) -> dict[str, Tensor] | None:
        return self.kept.get(name)

    def save(self, name: str, tensors: dict[str, Tensor]) -> None:
        self.kept[name] = dict(tensors)


class Counting(LinearGaussian):
    """Notes how many rows are encoded and decoded at a time."""

    encoded: list[int]
    decoded: list[int]

    def __init__(self, **options: bool) -> None:
        super().__init__(**options)
        self.encoded, self.decoded = [], []

    def posterior(self, x, c=None):
        self.encoded.append(len(x))
        return super().posterior(x, c)

    def likelihood(self, z, c=None):
        self.decoded.append(z[..., 0].numel())
        return super().likelihood(z, c)


# -- exact values -----------------------------------------------------------------------------------------------------


def test_with_the_exact_posterior_every_bound_is_the_evidence() -> None:
    model = LinearGaussian()
    x = model.data(30)
    found = bounds(model, x, samples=(1, 7, 100))
    truth = model.evidence().log_prob(x).detach()
    for k in (1, 7, 100):
        torch.testing.assert_close(found.per_row[f"L_{k}"], truth, **EXACT)
    torch.testing.assert_close(found.per_row["ess"], torch.full((30,), 100.0, dtype=torch.float64))
    assert found.per_row["pareto_k"].tolist() == [0.0] * 30
    assert found.warnings == []


def test_many_samples_estimate_the_evidence_and_one_sample_falls_short_by_the_kl() -> None:
    model = LinearGaussian(exact=False)
    x = model.data(100)
    found = bounds(model, x, samples=(1, 1000))
    truth = model.evidence().log_prob(x).detach()
    gap = kl_divergence(model.posterior(x), model.exact_posterior(x)).detach()
    assert abs(noise_z(found, "L_1000", truth)) < 4
    for name in ("L_1", "elbo"):
        assert abs(noise_z(found, name, truth - gap)) < 4
        assert noise_z(found, name, truth) < -50  # the test can tell


def test_rate_and_distortion_are_those_of_the_model() -> None:
    model = LinearGaussian(exact=False)
    x = model.data(40)
    found = bounds(model, x, samples=(2000,))
    kl = kl_divergence(model.posterior(x), model.prior()).detach()
    torch.testing.assert_close(found.per_row["rate"], kl)
    assert variance_key("rate") not in found.per_row
    assert abs(noise_z(found, "distortion", -model.quadrature(x).log_likelihood.mean(0).detach())) < 4


def test_bounds_rise_with_the_number_of_samples() -> None:
    model = LinearGaussian(exact=False)
    found = bounds(model, model.data(100), samples=(1, 3, 10, 50, 300))
    means = [found.per_row[f"L_{k}"].mean().item() for k in (1, 3, 10, 50, 300)]
    assert means == sorted(means)
    assert means[-1] - means[0] > 0.5


def test_pruning_an_unused_latent_leaves_the_likelihood_alone_and_pruning_a_used_one_does_not() -> None:
    def likelihood(weight: Tensor) -> module.Bounds:
        model = LinearGaussian(latent_size=weight.shape[1])
        with torch.no_grad():
            model.weight.copy_(weight)
            model.bias.copy_(LinearGaussian().bias)
            gain, covariance = model._exact()
            model.gain.copy_(gain)
            model.offset.copy_(-gain @ model.bias)
            model.tril.copy_(1.2 * torch.linalg.cholesky(covariance))
        return bounds(model, x, samples=(300,))

    x = LinearGaussian().data(200)
    weight = LinearGaussian().weight.detach().clone()
    weight[:, 2] = 0
    whole, pruned, cut = likelihood(weight), likelihood(weight[:, :2]), likelihood(weight[:, 1:])

    def difference(other: module.Bounds) -> float:
        error = (whole.per_row[variance_key("L_300")] + other.per_row[variance_key("L_300")]).sum().sqrt()
        return ((whole.per_row["L_300"] - other.per_row["L_300"]).sum() / error).item()

    assert abs(difference(pruned)) < 4
    assert abs(difference(cut)) > 50


# -- errors of the numbers --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repeats() -> list[module.Bounds]:
    model = LinearGaussian(exact=False)
    x = model.data(20)
    return [bounds(model, x, samples=(1, 20, 200), seed=seed) for seed in range(40)]


@pytest.mark.parametrize("name", ["L_1", "L_20", "L_200", "elbo", "distortion"])
def test_the_noise_is_that_of_repeating_with_other_seeds(name: str, repeats: list[module.Bounds]) -> None:
    spread = torch.stack([found.per_row[name].mean() for found in repeats]).std().item()
    claimed = math.sqrt(torch.stack([found.per_row[variance_key(name)].sum() for found in repeats]).mean().item()) / 20
    assert spread == pytest.approx(claimed, rel=0.45)  # 4 standard errors of a standard deviation from 40 values


def test_the_standard_error_is_that_of_other_test_sets() -> None:
    model = LinearGaussian()
    values = [mean_over_rows("x", model.evidence().log_prob(model.data(n)).detach(), "nats") for n in range(200, 260)]
    truth = -model.evidence().entropy().item()
    scores = torch.tensor([(v.value - truth) / v.standard_error for v in values])
    assert scores.abs().max() < 4
    assert scores.std() > 0.7


def test_one_image_or_one_sample_has_no_error_to_tell() -> None:
    model = LinearGaussian(exact=False)
    values = {value.name: value for value in bounds(model, model.data(1), samples=(1,)).values}
    assert values["L_1"].standard_error is None
    assert values["L_1"].noise is None


def test_a_value_survives_json() -> None:
    value = Value("L_5", -3.5, 0.25, "nats", "lower bound", 0.125)
    assert Value.from_json(value.to_json()) == value
    assert math.isnan(Value.from_json({**value.to_json(), "value": None}).value)


# -- every K, exactly; once encoded; in bounded memory ------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 20, 21, 40, 64])
def test_groups_are_taken_exactly_however_the_samples_come(k: int) -> None:
    log_w = 3 * torch.randn(64, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    nested = NestedBounds(k)
    for part in log_w.split([20, 1, 7, 30, 6]):
        nested.add(part)
    groups = log_w[: 64 // k * k].reshape(-1, k, 5)
    expected = groups.logsumexp(1) - math.log(k)
    torch.testing.assert_close(nested.mean, expected.mean(0))
    if len(groups) > 1:
        torch.testing.assert_close(nested.variance_of_mean, expected.var(0) / len(groups))
    weights = groups[-1].softmax(0)
    torch.testing.assert_close(nested.effective_sample_size, 1 / weights.square().sum(0))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_mean_with_an_infinite_sample_is_infinite_in_any_order(order: tuple[int, int]) -> None:
    samples = torch.tensor([[-math.inf, math.nan, 1.0], [0.0, 0.0, 4.0]], dtype=torch.float64)
    mean = Mean()
    for index in order:
        mean.add(samples[index : index + 1])
    assert mean.mean[0] == -math.inf
    assert mean.variance_of_mean[0] == math.inf
    assert mean.mean[1].isnan()
    assert (mean.mean[2], mean.variance_of_mean[2]) == (2.5, 2.25)


def test_an_impossible_row_has_minus_infinity_and_a_warning_and_leaves_the_others_alone() -> None:
    model = build("standard-vae", event_shape=(3,), likelihood={"name": "normal"}).eval()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    usual = bounds(model, x, samples=(1, 10, 100))
    x[-1, 1] = 9.97e36
    estimates = bounds(model, x, samples=(1, 10, 100))
    for name in ("elbo", "L_1", "L_10", "L_100"):
        assert estimates.per_row[name][-1] == -math.inf, name
        assert not estimates.per_row[variance_key(name)].isnan().any(), name
    assert estimates.per_row["ess"][-1] == 0
    torch.testing.assert_close(estimates.tightest[:-1], usual.tightest[:-1])
    assert all(math.isfinite(value.value) for value in estimates.values if value.name.startswith(("pareto", "eff")))
    assert any("1 row has no density under the model" in sentence for sentence in estimates.warnings)
    assert not any("no density" in sentence for sentence in usual.warnings)


def test_each_image_is_encoded_once_and_decoded_as_often_as_was_asked() -> None:
    model = Counting(exact=False)
    x = model.data(130)
    bounds(model, x[:1], samples=(1,))
    overhead = len(model.decoded), len(model.encoded)
    model.decoded.clear(), model.encoded.clear()
    bounds(model, x, samples=(1, 57))
    probes = sum(1 for n in model.decoded if n == 1)
    assert sum(model.decoded) - probes == 130 * 57
    assert probes <= 2 * overhead[0]
    assert [n for n in model.encoded if n > 1] == [100, 30]


def test_fewer_samples_are_the_first_of_many() -> None:
    model = LinearGaussian(exact=False)
    x = model.data(30)
    many, few = bounds(model, x, samples=(40, 80)), bounds(model, x, samples=(40,))
    assert not torch.equal(many.per_row["L_40"], few.per_row["L_40"])  # two groups against the first one
    double = bounds(model, x, samples=(1, 40)), bounds(model, x, samples=(40,))
    assert torch.equal(double[0].per_row["L_40"], double[1].per_row["L_40"])


class Wide(LinearGaussian):
    """A conditional decoder with much memory to hold."""

    context_size = 3

    def __init__(self) -> None:
        super().__init__(exact=False)
        self.decoded: list[int] = []

    def prior(self, c=None):
        return Independent(Normal(c @ torch.eye(3, dtype=c.dtype), 1.0), 1)

    def likelihood(self, z, c=None):
        self.decoded.append(z[..., 0].numel())
        hidden = z.repeat_interleave(2000, -1)
        return super().likelihood(hidden.unflatten(-1, (-1, 2000)).mean(-1) + 0.1 * c)


@pytest.mark.parametrize("options", [{"memory": 16 << 20}, {}], ids=["memory", "cache"])
def test_the_memory_limit_changes_the_slices_and_not_the_result(monkeypatch, options: dict[str, int]) -> None:
    monkeypatch.setattr("vaekit.evaluation.batchwise.CPU_CACHE", 1 << 40)
    model = Wide()
    x, labels = model.data(120), torch.arange(120) % 3
    ample = bounds(model, Batch(x, labels=labels), samples=(1, 30))
    largest = max(model.decoded)
    model.decoded.clear()
    if not options:
        monkeypatch.setattr("vaekit.evaluation.batchwise.CPU_CACHE", 16 << 20)
    tight = bounds(model, Batch(x, labels=labels), samples=(1, 30), **options)
    assert max(model.decoded) * 6000 * 8 * 2 <= 16 << 20
    assert max(model.decoded) < largest / 5
    for name, value in ample.per_row.items():
        torch.testing.assert_close(tight.per_row[name], value, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_results_are_determined_by_the_seed_and_leave_the_callers_stream_alone() -> None:
    model = LinearGaussian(exact=False)
    x = model.data(20)
    torch.manual_seed(5)
    first = bounds(model, x, samples=(10,), seed=1)
    after = torch.rand(())
    torch.manual_seed(5)
    assert torch.rand(()) == after
    assert torch.equal(bounds(model, x, samples=(10,), seed=1).per_row["L_10"], first.per_row["L_10"])
    assert not torch.equal(bounds(model, x, samples=(10,), seed=2).per_row["L_10"], first.per_row["L_10"])


def test_an_interrupted_evaluation_goes_on_and_gives_the_same() -> None:
    model = Counting(exact=False)
    x = model.data(350)
    expected = bounds(model, x, samples=(1, 10))
    cache = Memory()

    def stop(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("bounds", 4)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bounds(model, x, samples=(1, 10), cache=cache, listener=stop)
    assert len(cache.kept["bounds"]["elbo"]) == 200
    model.encoded.clear()
    resumed = bounds(model, x, samples=(1, 10), cache=cache)
    assert [n for n in model.encoded if n > 1] == [100, 50]
    for name, value in expected.per_row.items():
        assert torch.equal(resumed.per_row[name].nan_to_num(7), value.nan_to_num(7))
    model.encoded.clear()
    again = bounds(model, x, samples=(1, 10), cache=cache)
    assert max(model.encoded) == 1
    assert torch.equal(again.per_row["L_10"], expected.per_row["L_10"])


def test_the_model_is_evaluated_in_evaluation_mode_and_left_as_it_was() -> None:
    class Noisy(LinearGaussian):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def likelihood(self, z, c=None):
            return super().likelihood(self.dropout(z))

    model = Noisy().train()
    x = model.data(10)
    found = bounds(model, x, samples=(5,))
    torch.testing.assert_close(found.per_row["L_5"], model.evidence().log_prob(x).detach(), **EXACT)
    assert model.training
    assert not found.per_row["L_5"].requires_grad


# -- any model --------------------------------------------------------------------------------------------------------


def hierarchical() -> LatentVariableModel:
    return build(
        "standard-vae", posterior={"name": "hierarchical"}, prior={"name": "hierarchical"}, event_shape=(1, 4, 4)
    )


def conditional() -> LatentVariableModel:
    return CVAE(16, num_classes=3, latent_size=4)


@pytest.mark.parametrize("make", [hierarchical, conditional, lambda: VAE(16, latent_size=4)])
def test_bounds_agree_with_the_models_own_draws(make) -> None:
    torch.manual_seed(0)
    model = make().eval()
    x, labels = torch.rand(6, 1, 4, 4), torch.arange(6) % 3
    c = labels if model.context_size else None
    found = bounds(model, Batch(x, labels=c), samples=(1, 10, 4000))
    with torch.no_grad():
        draw = model.draw(x, c, k=4000)
    direct = draw.log_w.double()
    error = (direct.var(0).sum() / 4000 + found.per_row[variance_key("L_1")].sum()).sqrt()
    assert abs(((direct.mean(0) - found.per_row["L_1"]).sum() / error).item()) < 4
    computed = direct.logsumexp(0) - math.log(4000)
    error = 2 * found.per_row[variance_key("L_4000")].sum().sqrt()
    assert abs(((computed - found.per_row["L_4000"]).sum() / error).item()) < 4
    torch.testing.assert_close(found.per_row["elbo"], -found.per_row["rate"] - found.per_row["distortion"])


def test_eight_bit_images_are_scaled() -> None:
    model = VAE(16, latent_size=4).eval()
    pixels = torch.randint(256, (7, 1, 4, 4), dtype=torch.uint8)
    found, expected = bounds(model, pixels, samples=(3,)), bounds(model, pixels / 255, samples=(3,))
    assert torch.equal(found.per_row["L_3"], expected.per_row["L_3"])


# -- the Pareto diagnostic --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [-0.3, 0.0, 0.3, 0.5, 0.7, 1.0, 1.5])
def test_the_shape_of_a_known_pareto_tail_is_found(k: float) -> None:
    u = torch.rand(1000, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    excess = -u.log() if k == 0 else (u**-k - 1) / k
    found = pareto_shape(5.0 * excess)
    assert abs(found.mean().item() - k) < 0.02
    assert found.std().item() < 2 * (1 + abs(k)) / math.sqrt(1000)  # the efficient error is (1 + k) / √n


def test_the_shape_does_not_depend_on_scale_or_order() -> None:
    excess = torch.rand(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) ** -0.6 - 1
    torch.testing.assert_close(pareto_shape(1e-6 * excess.flip(0)), pareto_shape(excess))


@pytest.mark.parametrize(("width", "bad"), [(0.3, True), (1.3, False)])
def test_a_proposal_that_is_too_narrow_is_found_out(width: float, bad: bool) -> None:
    model = LinearGaussian()
    with torch.no_grad():
        model.tril.mul_(width)
    found = bounds(model, model.data(50), samples=(1000,))
    assert bool(found.warnings) is bad
    assert (found.per_row["pareto_k"].median() > found.threshold).item() is bad
    if bad:
        assert "100%" in found.warnings[0] or "Pareto k > 0.67" in found.warnings[0]
        assert "annealing" in found.warnings[0]


def test_too_few_samples_have_no_tail() -> None:
    model = LinearGaussian(exact=False)
    found = bounds(model, model.data(5), samples=(20,))
    assert found.per_row["pareto_k"].isnan().all()
    assert not any("pareto" in value.name for value in found.values)
    assert found.warnings == []


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [0, -5])
def test_no_samples_are_refused(samples: int) -> None:
    with pytest.raises(ConfigError, match=f"samples must be at least 1, got {samples}"):
        up_to(samples)
    with pytest.raises(ConfigError, match="samples must be at least 1"):
        bounds(LinearGaussian(), LinearGaussian().data(3), samples=(samples, 5))


@pytest.mark.parametrize(
    ("samples", "expected"), [(1, (1,)), (10, (1, 10)), (50, (1, 10, 50)), (5000, (1, 10, 100, 1000, 5000))]
)
def test_convergence_is_shown_in_powers_of_ten(samples: int, expected: tuple[int, ...]) -> None:
    assert up_to(samples) == expected


def test_what_does_not_fit_is_refused() -> None:
    model = LinearGaussian()
    with pytest.raises(ConfigError, match="memory must be at least"):
        bounds(model, model.data(3), samples=(1,), memory=1000)
    with pytest.raises(DataError, match="0 rows"):
        bounds(model, model.data(3)[:0], samples=(1,))
    with pytest.raises(DataError, match="conditional on 3 classes"):
        bounds(conditional(), torch.rand(2, 1, 4, 4), samples=(1,))


def test_a_model_without_a_density_is_refused() -> None:
    class Quantized(LinearGaussian):
        def draw(self, x, c=None, *, k=1) -> Draw:
            draw = super().draw(x, c, k=k)
            return Draw(draw.x, draw.z, draw.levels, draw.likelihood, {"commitment": torch.zeros(len(x))})

    with pytest.raises(ConfigError, match="commitment"):
        bounds(Quantized(), Quantized().data(3), samples=(1,))


def test_discrete_latents_have_bounds_too() -> None:
    class Coins(LinearGaussian):
        """z in {0, 1}³: the evidence is a sum over eight states."""

        def prior(self, c=None):
            return Independent(Bernoulli(torch.full((3,), 0.3, dtype=torch.float64)), 1)

        def posterior(self, x, c=None):
            return Switches(torch.sigmoid(x[:, :3]))

    class Switches(Distribution):
        arg_constraints: ClassVar[dict[str, object]] = {}

        def __init__(self, p: Tensor) -> None:
            self.base = Independent(Bernoulli(p), 1)
            super().__init__(self.base.batch_shape, self.base.event_shape)

        def rsample(self, sample_shape=()):
            return self.base.sample(sample_shape)

        def log_prob(self, value):
            return self.base.log_prob(value)

    model = Coins()
    x = model.data(20)
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    with torch.no_grad():
        joint = model.likelihood(states[:, None]).log_prob(x) + model.prior().log_prob(states)[:, None]
    found = bounds(model, x, samples=(2000,))
    assert abs(noise_z(found, "L_2000", joint.logsumexp(0))) < 4
    assert Categorical(logits=joint.T).probs.max() < 1  # no state is certain


# -- bfloat16 ---------------------------------------------------------------------------------------------------------


def coarse(gain: float) -> tuple[LatentVariableModel, Tensor]:
    """A model whose weights are so large that rounding them matters, and images."""
    torch.manual_seed(0)
    model = build("course-vae", event_shape=(1, 8, 8), model={"latent_size": 4})
    with torch.no_grad():
        for parameter in model.parts["likelihood"].parameters():
            parameter.mul_(gain)
    return model, torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(1)).round()


@pytest.mark.filterwarnings("ignore:this processor has no bfloat16")
@pytest.mark.parametrize("corrected", [True, False])
def test_in_bfloat16_the_same_number_is_estimated_thanks_to_the_correction(monkeypatch, corrected: bool) -> None:
    model, x = coarse(2.5)
    correction = module._Decoder._correction
    monkeypatch.setattr(module._Decoder, "_correction", lambda *given: corrected * correction(*given))
    exact, rounded = (bounds(model, x, samples=(100, 500), precision=name).per_row for name in ("fp32", "bf16"))
    for name in ("L_100", "L_500"):
        off = rounded[name] - exact[name]
        z = (off.mean() / off.std() * math.sqrt(len(off))).item()
        assert 0 < off.abs().max() < 0.1
        assert (abs(z) < 4) is corrected
    assert 0.01 < rounded["rounding"].square().mean().sqrt() < 0.05
    assert torch.equal(rounded["rate"], exact["rate"])
    assert not exact["rounding"].any()


@pytest.mark.filterwarnings("ignore:this processor has no bfloat16")
def test_bfloat16_that_is_too_coarse_is_found_out() -> None:
    model, x = coarse(5.0)
    assert 'precision="fp32"' in bounds(model, x[:20], samples=(20,), precision="bf16").warnings[0]
    assert 'precision="fp32"' not in " ".join(bounds(model, x[:20], samples=(20,)).warnings)


@pytest.mark.parametrize("gain", [0.01, 1.0])
def test_tf32_is_corrected_as_well_and_named(monkeypatch, gain: float) -> None:
    """A decoder that is rounded under the name of TF32, as on the GPUs that "auto" picks it for."""
    monkeypatch.setattr(module, "find_precision", lambda name, model: "tf32")
    likelihood, rounds = batchwise.log_likelihood, []

    class Rounding:
        def __init__(self, model: LatentVariableModel, precision: str) -> None:
            rounds.append(precision)

        def __enter__(self) -> None:
            monkeypatch.setattr(batchwise, "log_likelihood", lambda *given: likelihood(*given) + gain)

        def __exit__(self, *_: object) -> None:
            monkeypatch.setattr(batchwise, "log_likelihood", likelihood)

    model, x = coarse(1.0)
    exact = bounds(model, x[:20], samples=(100,), precision="auto")
    monkeypatch.setattr(module, "LoweredPrecision", Rounding)
    rounded = bounds(model, x[:20], samples=(100,), precision="auto")
    torch.testing.assert_close(rounded.per_row["L_100"], exact.per_row["L_100"], atol=1e-4, rtol=0)
    assert rounded.precision == "tf32" and set(rounds) == {"tf32"}
    assert rounded.per_row["rounding"].mean().item() == pytest.approx(gain, abs=1e-4)
    said = [
        sentence for sentence in rounded.warnings if 'with precision="tf32" log p(x | z) is off by 1 nats' in sentence
    ]
    assert len(said) == (gain == 1.0)


def test_a_model_without_networks_has_no_other_precision() -> None:
    with pytest.raises(ConfigError, match="precision = 'bf16' is for models"):
        bounds(LinearGaussian(), torch.zeros(2, 5), samples=(1,), precision="bf16")


@pytest.mark.parametrize("k", [7, 100, 103, 1000])
@pytest.mark.parametrize("spread", [0.5, 2.0, 4.0])
def test_noise_of_the_largest_bound_is_that_of_another_seed(k: int, spread: float) -> None:
    """Also where the effective sample size is small: the delta method is 2.4 times too small at a spread of 4."""
    log_w = spread * torch.randn(k, 2000, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    nested = NestedBounds(k)
    for part in log_w.split(37):
        nested.add(part)
    whole = NestedBounds(k)
    whole.add(log_w)
    torch.testing.assert_close(nested.mean, whole.mean)
    torch.testing.assert_close(nested.variance_of_mean, whole.variance_of_mean)
    true, claimed = nested.mean.std().item(), nested.variance_of_mean.mean().sqrt().item()
    assert claimed == pytest.approx(true, rel=0.12)


@pytest.mark.parametrize("k", [10, 100])
@pytest.mark.parametrize("more", [1, 5, 9])
def test_samples_of_a_group_that_stays_open_leave_the_error_alone(k: int, more: int) -> None:
    log_w = 2 * torch.randn(k + more, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, longer = NestedBounds(k), NestedBounds(k)
    whole.add(log_w[:k])
    for part in log_w.split(7):
        longer.add(part)
    torch.testing.assert_close(longer.mean, whole.mean)
    torch.testing.assert_close(longer.variance_of_mean, whole.variance_of_mean)
    torch.testing.assert_close(longer.effective_sample_size, whole.effective_sample_size)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_any_number_of_rounded_weights_is_unbiased_once_corrected(k: int) -> None:
    torch.manual_seed(0)
    rows = 20_000
    z = torch.randn(100, rows, dtype=torch.float64)
    exact = -2 * z.square()  # E exp(−2 z²) = 1 / √5 for z ~ N(0, 1)
    rounded = exact + 0.2 + 0.5 * torch.sin(3 * z)
    decoder = object.__new__(module._Decoder)
    decoder.num_rows, decoder.exact_slices, decoder.squares = rows, [], module.Mean()
    decoder.generator = torch.Generator().manual_seed(1)
    decoder._log_likelihood = lambda z, slices: -2 * z.square()  # type: ignore[method-assign]
    corrected = rounded + decoder._correction(z, rounded, torch.zeros_like(z))

    def z_score(log_weights: Tensor) -> float:
        means = log_weights[:k].exp().mean(0) - 5**-0.5
        return (means.mean() / (means.std() / rows**0.5)).item()

    assert abs(z_score(corrected)) < 4
    assert z_score(rounded) > 10  # negative control
    assert corrected[:k].logsumexp(0).mean() - math.log(k) < -0.5 * math.log(5)  # a lower bound
