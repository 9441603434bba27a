"""Odd but natural values in memory: of models, evaluations, pictures and pages. They get a right number, or one line."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import tiny
import vaekit
from vaekit import plot
from vaekit.cli import command
from vaekit.cli.config_options import ConfigOptions
from vaekit.data import Batch, Dataset, Split
from vaekit.data.table import columns
from vaekit.errors import ConfigError, DataError, VAEError
from vaekit.evaluation import Options, Value, compare, complete, evaluate, evaluate_model, fit_prior
from vaekit.evaluation.latent_space.disentanglement import disentanglement
from vaekit.evaluation.latent_space.ex_post import codes_posterior_of
from vaekit.evaluation.latent_space.latent_statistics import latent_statistics, linear_probe, nearest_neighbours
from vaekit.evaluation.likelihood.ais import ais
from vaekit.evaluation.likelihood.bounds import bounds
from vaekit.evaluation.missing import conditional
from vaekit.evaluation.missing.conditional import rows_given
from vaekit.evaluation.missing.filling import impute_array
from vaekit.evaluation.missing.imputation import filled_rows, weighted_latents
from vaekit.evaluation.samples import synthetic
from vaekit.evaluation.samples.quality import frechet
from vaekit.evaluation.single_rows.named_rows import encode_rows
from vaekit.evaluation.single_rows.outliers import auroc
from vaekit.evaluation.single_rows.scoring import percentiles
from vaekit.likelihoods import Bernoulli, Poisson
from vaekit.model import Composed, LatentVariableModel, WithPrior
from vaekit.model.modes import evaluating
from vaekit.nets import MLP
from vaekit.posteriors import DiagonalNormal
from vaekit.priors import StandardNormal
from vaekit.runs import job, lifecycle
from vaekit.runs.terminal import _means
from vaekit.training.data_checks import try_once
from vaekit.training.schedule_free import ScheduleFreeAdamW

SMALL: dict[str, Any] = {
    "model": {"latent_size": 3},
    "encoder": {"hidden": [4]},
    "decoder": {"hidden": [4]},
    "event_shape": (1, 8, 8),
}
QUICK: dict[str, Any] = {"samples": 2, "progress": False}


def made(preset: str = "standard-vae", **options: Any) -> LatentVariableModel:
    torch.manual_seed(0)
    return vaekit.build(preset, **SMALL, **options)


@pytest.fixture(scope="module")
def model() -> LatentVariableModel:
    return made()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("weights", [torch.float32, torch.float64])
def test_a_draw_takes_rows_of_any_type(x: Tensor, rows: torch.dtype, weights: torch.dtype) -> None:
    model = made().to(weights)
    draws = []
    for given in (x.to(rows), x.to(rows).to(weights)):
        torch.manual_seed(0)
        draws.append(model.draw(given).log_w)
    assert draws[0].dtype == weights and torch.equal(*draws)


def test_a_draw_refuses_rows_and_masks_of_another_shape(model: LatentVariableModel, x: Tensor) -> None:
    with pytest.raises(DataError, match="a batch of rows"):
        model.draw(x[0])
    for mask in (torch.ones(x.shape), torch.ones(12, dtype=torch.bool), np.ones((1, 8, 8), bool)):
        with pytest.raises(DataError, match=r"observed must be booleans of shape \(12, 1, 8, 8\)"):
            model.draw(x, observed=mask)
    known = x > 0.3
    values = []
    for mask in (known, known.numpy()):
        torch.manual_seed(0)
        values.append(model.draw(x, observed=mask).log_w)
    assert torch.equal(*values)


def test_no_rows_have_no_densities(model: LatentVariableModel, x: Tensor) -> None:
    assert model.log_prob(x[:0]).shape == (0,)


def test_parts_in_a_mode_of_their_own_stay_in_it() -> None:
    model = made()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
    model.train()
    frozen.eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert model.training and not frozen.training


def test_codes_are_seen_through_another_prior(x: Tensor) -> None:
    model = vaekit.build("vq-vae", event_shape=(1, 8, 8))
    posterior = codes_posterior_of(model)
    assert posterior is not None and codes_posterior_of(WithPrior(model, torch.nn.Identity())) is posterior
    assert codes_posterior_of(made()) is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vaekit.one_hot([1], 2.5), "num_classes must be a whole number, at least 1, got 2.5"),
        (lambda: vaekit.one_hot([], 0), "num_classes must be at least 1, got 0"),
        (lambda: vaekit.one_hot([float("inf")], 2), "labels must be whole numbers, got inf"),
        (lambda: made().sample(2, generator=0), "generator must be a torch.Generator, got 0"),
    ],
)
def test_what_a_model_cannot_take_is_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(VAEError, match=words):
        call()


# -- evaluations -------------------------------------------------------------------------------------------------------


def test_rows_in_another_order_of_memory_have_the_same_numbers(model: LatentVariableModel, x: Tensor) -> None:
    given, same = (vaekit.evaluate(model, rows, **QUICK) for rows in (x.mT, x.mT.contiguous()))
    assert given.values == same.values and given.protocol == same.protocol


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": "5"}, "samples must be a whole number, at least 1, got '5'"),
        ({"memory": "1GB"}, "memory must be at least 1048576 bytes"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"annealing": True}, "annealing must be an Annealing, got True"),
        ({"split": None}, "unknown split 'None'"),
        ({"precision": None}, "unknown precision 'None'"),
        ({"devise": "cpu"}, "unknown option of an evaluation 'devise'; did you mean 'device'"),
        ({"options": {"samples": 5}}, "options must be vaekit.evaluation.Options, got dict"),
    ],
)
def test_options_of_another_type_are_named(
    model: LatentVariableModel, x: Tensor, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        vaekit.evaluate(model, x, **{**QUICK, **options})


def test_labels_in_the_place_of_options_are_named(model: LatentVariableModel, x: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\(model, \(x, labels\)\)"):
        vaekit.evaluate(model, x, torch.arange(12) % 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: compare(["a", "b"]),
        lambda model, x: evaluate_model(model, x),
        lambda model, x: fit_prior(model, x),
        lambda model, x: complete(model, Batch(x), "top", ways=1.5),
        lambda model, x: bounds(model, x, samples=(1.5,)),
        lambda model, x: bounds(model, x, samples=()),
    ],
)
def test_estimators_name_what_they_cannot_take(
    call: Callable[..., object], model: LatentVariableModel, x: Tensor
) -> None:
    with pytest.raises(ConfigError):
        call(model, x)


COLUMNS = torch.eye(4)[:, :2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, x: bounds(model, x, samples=5), r"numbers of samples K, such as \(5,\)"),
        (lambda model, x: bounds(model, x, samples=np.int64(3)), r"numbers of samples K, such as \(3,\)"),
        (lambda model, x: bounds(model, x, samples=3.0), r"numbers of samples K, such as \(1, 10, 100\), got 3\.0"),
        (lambda model, x: bounds(model, x, samples=(2,), seed="a"), "seed must be a whole number, got 'a'"),
        (lambda model, x: ais(model, x, annealing=5), "annealing must be an Annealing, got 5"),
        (lambda model, x: latent_statistics(model, x, pairs=0), "pairs must be at least 1, got 0"),
        (lambda *_: linear_probe(COLUMNS, torch.tensor([0, 1, -1, 0]), COLUMNS, torch.ones(4).long()), "−1 is an unk"),
        (lambda *_: nearest_neighbours(COLUMNS, torch.arange(4) % 2, COLUMNS, torch.arange(4), k=0), "k must be at le"),
        (lambda *_: nearest_neighbours(COLUMNS[:0], torch.arange(0), COLUMNS, torch.arange(4)), "at least 1 row"),
        (lambda *_: disentanglement(COLUMNS, torch.zeros(3, 1)), r"got \(4, 2\) and \(3, 1\)"),
        (lambda *_: disentanglement(COLUMNS / 0, COLUMNS), "z has values that are not finite"),
        (lambda *_: frechet("d", COLUMNS[:1], COLUMNS), "at least 2 features each, got 1 and 4"),
        (lambda *_: frechet("d", COLUMNS, COLUMNS[:, :1]), r"got \(4, 2\) and \(4, 1\)"),
        (lambda model, x: rows_given(model, 0, x[0], x[0] > 2), "n must be at least 1, got 0"),
        (lambda model, x: filled_rows(model, [], 3), "0 rows to fill"),
        (lambda model, x: filled_rows(model, [Batch(x)], 3, draws=-1), "draws must be at least 0, got -1"),
        (lambda model, x: next(weighted_latents(model, Batch(x), 0)), "samples must be at least 1, got 0"),
        (lambda model, x: encode_rows(model, x), r"rows must have names, got Tensor; pass rows_of\(run, data\)"),
        (lambda model, x: evaluate(model, x[:0]), "there are 0 rows to evaluate"),
        (lambda *_: auroc(torch.tensor([1.0, torch.nan]), torch.tensor([True, False])), "none of them NaN"),
        (lambda *_: auroc(torch.ones(3), torch.tensor([True, False])), r"got \(3,\) and \(2,\)"),
    ],
)
def test_what_estimators_cannot_take_is_named(
    model: LatentVariableModel, x: Tensor, call: Callable[..., object], words: str
) -> None:
    with pytest.raises(VAEError, match=words):
        call(model, x)


def test_a_generator_of_weighted_latents_leaves_the_model_and_gradients_as_they_are(x: Tensor) -> None:
    model = made().train()
    parts = weighted_latents(model, Batch(x), 3)
    part = next(parts)
    assert torch.is_grad_enabled() and model.training
    assert not part.best().requires_grad and not part.log_prob.requires_grad
    parts.close()
    assert torch.is_grad_enabled() and model.training
    with pytest.raises(RuntimeError), torch.no_grad():
        for _ in weighted_latents(model, Batch(x), 3):
            raise RuntimeError
    assert torch.is_grad_enabled() and model.training


def test_labels_and_factors_of_any_type_mean_the_same(model: LatentVariableModel, x: Tensor) -> None:
    scores, unusual = np.array([0.0, 1.0, 2.0]), np.array([0, 0, 1])
    assert auroc(scores, unusual) == auroc(torch.tensor(scores), torch.tensor([False, False, True])) == (1.0, 0.0)
    z, factors = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), (torch.arange(40) % 3)[:, None]
    assert disentanglement(z, factors) == disentanglement(z, factors.double() - 1)
    with pytest.raises(ConfigError, match=r"^hide must be bottom, top, left or right, got 'middle'$"):
        complete(model, x[:2], "middle")
    picture = complete(model, x[:2], "left", ways=1)
    assert torch.equal(picture.images, complete(model, Batch(x[:2]), "left", ways=1).images)
    assert percentiles(torch.tensor([torch.nan, 1.0]), torch.zeros(2)).isnan().tolist() == [True, False]


def test_latents_that_tell_nothing_are_neither_disentangled_nor_complete() -> None:
    values = {value.name: value.value for value in disentanglement(torch.ones(40, 2), torch.arange(40)[:, None] % 2)}
    if "DCI disentanglement" in values:  # with scikit-learn
        assert (values["DCI disentanglement"], values["DCI completeness"]) == (0, 0)
    assert values["MIG"] == values["SAP"] == 0


def test_one_training_row_tells_no_classes_apart(model: LatentVariableModel, x: Tensor) -> None:
    labels = torch.arange(12) % 3
    data = Dataset("few", Split(x[:1], labels[:1]), Split(x[:0]), Split(x, labels), classes=("a", "b", "c"))
    names = [value.name for value in vaekit.evaluate(model, data, **QUICK).values]
    assert "nll" in names and "linear probe accuracy" not in names


def test_rows_without_any_known_value_have_no_bits_per_dimension(model: LatentVariableModel, x: Tensor) -> None:
    nothing = Split((x > 0.5).float(), observed=torch.zeros(x.shape, dtype=torch.bool))
    names = [value.name for value in vaekit.evaluate(model, nothing, **QUICK).values]
    assert "nll" in names and "bits per dimension" not in names


def test_bytes_are_completed_as_pixels(model: LatentVariableModel, x: Tensor) -> None:
    x = (255 * x[:2]).byte()
    picture = complete(model, Batch(x), "bottom", ways=1)
    torch.testing.assert_close(picture.images[::3], x / 255)
    for wrong, words in ((x.float(), "divide 8-bit images by 255"), (x[:0], "N at least 1")):
        with pytest.raises(DataError, match=words):
            complete(model, Batch(wrong), "bottom", ways=1)


def test_a_gap_in_the_visible_half_is_completed_too(model: LatentVariableModel, x: Tensor) -> None:
    observed = torch.ones(2, *x.shape[1:], dtype=torch.bool)
    observed[:, :, 1, 1] = False
    drawn = complete(model, Batch(x[:2], observed=observed), "bottom", ways=2).images.unflatten(0, (2, 4))
    assert (drawn[:, 1, 0, 1, 1] == 0.5).all() and (drawn[:, 2:, 0, 1, 1] > 0).all()
    known = x[:2, None, :, :4].expand(-1, 3, -1, -1, -1)[..., 0, :]
    torch.testing.assert_close(drawn[:, 1:, :, 0], known.to(drawn))


def test_options_keep_what_is_not_set() -> None:
    assert Options.of(Options(samples=7, judge=False), {"seed": 3}) == Options(samples=7, judge=False, seed=3)


# -- pages -------------------------------------------------------------------------------------------------------------


def test_a_page_shows_what_the_model_takes(x: Tensor) -> None:
    model = made().train()
    page = vaekit.explore(model, x)
    assert model.training  # as it was
    assert vaekit.explore(model, x.double()).html == vaekit.explore(model, x[:, 0]).html == page.html
    assert "12 images of the given rows" in repr(vaekit.explore(made().double(), x))
    labels = torch.arange(12) % 3
    conditional = made("cvae", num_classes=3)
    embeds = vaekit.explore(conditional, (x, labels)).embeds
    assert any("with their classes and latents" in sentence for sentence in embeds)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, x: vaekit.explore(model, 255 * x), "divide 8-bit images by 255"),
        (lambda model, x: vaekit.explore(model, x * torch.nan), "not finite"),
        (lambda model, x: vaekit.explore(model, x, images=1.5), "images must be a whole number, at least 0"),
        (lambda model, x: vaekit.explore(x, model), "the model must be a LatentVariableModel, got Tensor"),
        (lambda model, x: vaekit.explore("some-run", x), "a run is shown on its own data"),
        (lambda model, x: vaekit.explore(made("cvae", num_classes=3), Split(x)), "conditional, and a row has no class"),
    ],
)
def test_what_a_page_cannot_show_is_named(
    call: Callable[..., object], model: LatentVariableModel, x: Tensor, words: str
) -> None:
    with pytest.raises(VAEError, match=words):
        call(model, x)


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_bytes_are_reconstructed_as_pixels(model: LatentVariableModel, x: Tensor) -> None:
    x = (255 * x).byte()
    from_bytes, from_floats = plot.reconstructions(model, x), plot.reconstructions(model, x / 255)
    assert torch.equal(from_bytes.images, from_floats.images)
    assert np.array_equal(from_bytes.pixels, from_floats.pixels)


@pytest.mark.parametrize(
    "of", [Tensor.numpy, Tensor.tolist, list, Tensor.bfloat16], ids=["array", "list", "rows", "bf16"]
)
def test_pictures_take_images_of_any_type(x: Tensor, of: Callable[[Tensor], Any], tmp_path: Any) -> None:
    expected = plot.grid(x).pixels.astype(int)
    assert np.abs(plot.grid(of(x)).pixels - expected).max() <= 1
    plot.save(of(x), tmp_path / "a.png")
    plot.save(of(x), tmp_path / "a.npy")
    assert np.allclose(np.load(tmp_path / "a.npy"), x, atol=4e-3)


def test_figures_and_walks_take_arrays(model: LatentVariableModel, x: Tensor) -> None:
    labels = torch.arange(12) % 3
    for given in (labels.numpy(), labels.tolist()):
        assert plot.latents(model, x.numpy(), given)._repr_png_() == plot.latents(model, x, labels)._repr_png_()
    ends = x[0].numpy(), x[1].numpy()
    walks = [plot.interpolation(model, steps=3, between=between).images for between in (ends, (x[0], x[1]))]
    assert torch.equal(*walks)
    assert plot.signals(np.zeros((2, 1, 5)), np.zeros((2, 1, 5)))._repr_png_()
    assert torch.equal(
        plot.manifold(model, x.tolist(), side=2, latents=np.array([0, 2])).images,
        plot.manifold(model, x, side=2, latents=(0, 2)).images,
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, x: plot.reconstructions(model, x[:0]), "0 images"),
        (lambda model, x: plot.reconstructions(model, x, columns=0), "columns must be at least 1"),
        (lambda model, x: plot.interpolation(model, steps=2.5), "steps must be a whole number, at least 2"),
        (lambda model, x: plot.interpolation(model, between=x[:3]), "between takes two images, got 3"),
        (lambda model, x: plot.interpolation(model, path=None), "unknown path 'None'"),
        (lambda model, x: plot.carried(model, x[:0]), "0 images"),
        (lambda model, x: plot.traversals(model, x, image=1.5), "no image number 1.5"),
        (lambda model, x: plot.traversals(model, x, latents=[0]), "latents must be a whole number"),
        (lambda model, x: plot.manifold(model, x, latents=1), "two different latents of 0 to 2, got 1"),
        (lambda model, x: plot.grid(x, columns=2.5), "columns must be a whole number"),
        (lambda model, x: plot.grid((255 * x).long()), "images of int64 must be 0 or 1"),
        (lambda model, x: plot.Picture(x[:0]).png(), "N at least 1"),
        (lambda model, x: plot.Film([]), "at least one frame"),
        (lambda model, x: plot.epochs("some-run"), "vaekit.Run.open"),
        (lambda model, x: plot.save(None, "a.png"), "a picture must be numbers"),
        (lambda model, x: plot.curves([{"loss": 1.0}]), "an `epoch` for each epoch"),
        (lambda model, x: plot.signals(x[:, 0], x[:2, 0]), "over must have the shape of x"),
        (lambda model, x: plot.signals(x[:, 0, :, :0]), "1 to 64 signals"),
    ],
)
def test_what_cannot_be_drawn_is_named(
    call: Callable[..., Any], model: LatentVariableModel, x: Tensor, words: str
) -> None:
    with pytest.raises(VAEError, match=words):
        getattr(call(model, x), "pixels", None)


def test_a_film_has_the_colours_of_its_pictures(model: LatentVariableModel) -> None:
    film = plot.walk(model, rows=1, steps=2, generator=torch.Generator().manual_seed(0))
    dark = film.styled(invert=True)
    assert all(np.array_equal(255 - a.pixels, b.pixels) for a, b in zip(film.frames, dark.frames, strict=True))
    assert film.styled(cmap="magma").frames[0].pixels.shape[2] == 3


@pytest.mark.parametrize(
    "part",
    [
        lambda: vaekit.objectives.M2(3, (4,), 10, rows=2.5),
        lambda: vaekit.priors.SecondStagePrior(2, samples=1.5),
        lambda: vaekit.priors.NormalMixture(2, components=2.5),
        lambda: vaekit.posteriors.FSQPosterior(torch.nn.Identity(), 4, (2,), levels=(3.5, 3)),
    ],
)
def test_a_count_that_is_not_whole_is_refused_at_once(part: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="must be a whole number"):
        part()


def test_a_draw_of_points_says_that_it_has_no_prior() -> None:
    x, z = torch.zeros(3, 4), torch.zeros(1, 3, 2)
    draw = vaekit.Draw(x, z, (), torch.distributions.Normal(torch.zeros(1, 3), 1.0))
    with pytest.raises(ConfigError, match="a deterministic posterior has no density"):
        _ = draw.prior


def test_an_error_with_another_message_keeps_its_remedy() -> None:
    error = ConfigError("before", arguments=("trust",), command="runs").with_message("after")
    assert (str(error), error.arguments, error.command, type(error)) == ("after", ("trust",), "runs", ConfigError)


def test_loading_what_does_not_exist_says_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VAEError, match=r"there is no run 'model\.safetensors', and no run at all in the folder 'runs'"):
        vaekit.load("model.safetensors")


class _SeeingGaps(MLP):
    sees_missing = True

    def row_outputs(self, x: Tensor, c: Tensor | None) -> Tensor:
        return super().row_outputs(x.nan_to_num(0.0), c)


@pytest.mark.parametrize("likelihood", [Bernoulli, Poisson])
def test_nan_is_a_missing_value_for_any_likelihood_if_the_encoder_sees_gaps(likelihood: Any) -> None:
    encoder, decoder = _SeeingGaps((4,), hidden=(8,)), MLP((2,), (4,), hidden=(8,))
    model = Composed(DiagonalNormal(encoder, 8, 2), StandardNormal(2), likelihood(decoder), event_shape=(4,))
    x, known = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]]), torch.ones(2, 4, dtype=torch.bool)
    known[0, 1] = False
    gaps = x.masked_fill(~known, torch.nan)
    assert torch.equal(model.encode(gaps), model.encode(x, observed=known))
    values = [
        model.log_prob(rows, observed=mask, generator=torch.Generator().manual_seed(0))
        for rows, mask in ((gaps, None), (x, known), (x, None))
    ]
    assert torch.equal(values[0], values[1]) and values[0][0] != values[2][0]  # negative control: no gap
    with pytest.raises(DataError, match=f"{likelihood.__name__} takes"):
        model.encode(gaps - 2)


@torch.no_grad()
def test_the_posterior_of_a_batch_depends_on_its_known_values_only() -> None:
    model = vaekit.build("vae", event_shape=(1, 8, 8), latent_size=2)
    x, known = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8) > 0.3
    expected = model.posterior(x * known).mean
    for filler in (0.0, 7.0, torch.nan):
        assert torch.equal(model.posterior_of(Batch(x.masked_fill(~known, filler), observed=known)).mean, expected)
    assert not torch.equal(model.posterior_of(Batch(x)).mean, expected)  # negative control: all are known


@pytest.mark.parametrize("method", ["draw", "log_prob"])
def test_samples_are_passed_by_name_and_the_context_comes_second(method: str) -> None:
    x = torch.rand(3, 1, 8, 8)
    plain = vaekit.build("vae", event_shape=(1, 8, 8), latent_size=2)
    with pytest.raises(ConfigError, match=rf"{method} takes the number of samples by name: {method}\(x, k=50\)"):
        getattr(plain, method)(x, 50)
    with pytest.raises(DataError, match="unconditional"):
        getattr(plain, method)(x, torch.tensor([0, 1, 2]))
    use = getattr(vaekit.build("cvae", event_shape=(1, 8, 8), num_classes=3, latent_size=2), method)
    values = []
    for call in (lambda: use(x, [0, 1, 2]), lambda: use(x, c=torch.eye(3)), lambda: use(x, torch.eye(3), k=1)):
        torch.manual_seed(0)
        result = call()
        values.append(result if method == "log_prob" else result.log_w)
    assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])


def test_the_line_of_an_epoch_without_an_elbo_has_the_terms_that_there_are() -> None:
    record = {"epoch": 1, "loss": 54.5, "distortion": 53.25, "code": 1.25}
    assert _means(record, brief=False) == ["loss 54.50", "code 1.25", "distortion 53.2"]
    whole = {"loss": 3.0, "neg_elbo": 3.0, "rate": 1.0, "distortion": 2.0}
    assert _means(whole, brief=False) == ["−ELBO 3.00 (rate 1.0, distortion 2.0)"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"judge": "no"}, "judge must be True or False, got 'no'"),
    ],
)
def test_options_of_an_evaluation_are_checked_when_they_are_made(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**option)


def test_values_that_are_not_observed_may_be_anything_in_every_method() -> None:
    table = vaekit.data.load(pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc")))
    model = vaekit.build("table-vae", data=table, encoder="mlp", latent_size=2)
    assert not model.sees_missing
    x = torch.randn(5, 3)
    observed = torch.ones(5, 3, dtype=torch.bool)
    observed[:, 1] = False
    holes = x.masked_fill(~observed, torch.nan)
    for method in (model.encode, model.reconstruct):
        torch.testing.assert_close(method(holes, observed=observed), method(x, observed=observed))
        with pytest.raises(DataError):
            method(holes)
    some = [model.log_prob(rows, observed=observed, generator=torch.Generator().manual_seed(1)) for rows in (x, holes)]
    torch.testing.assert_close(*some)
    whole = model.log_prob(x, generator=torch.Generator().manual_seed(1))
    assert bool((whole != some[0]).any())


def test_a_value_with_an_error_that_is_not_a_number_prints() -> None:
    assert str(Value("a", 1.0, float("nan"), "")) == "1"


def test_a_batch_for_a_model_in_double_is_in_double() -> None:
    model = vaekit.build("cvae", event_shape=(1, 8, 8), num_classes=3, latent_size=2).double()
    batch = model.to_model(Batch(torch.rand(6, 1, 8, 8), labels=torch.arange(6) % 3))
    assert batch.c is not None and batch.c.dtype == batch.x.dtype == torch.float64
    assert bool(model.draw(batch.x, batch.c, k=2).log_w.isfinite().all())


def test_a_word_is_not_an_array() -> None:
    with pytest.raises(DataError, match="must be numbers, a tensor or a NumPy array"):
        Split(torch.zeros(1, 2), np.array("cat"))


def test_losses_are_tried_without_a_trace() -> None:
    class Own(torch.nn.Module, vaekit.objectives.Loss):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(64)

        def forward(self, model: LatentVariableModel, batch: Batch, epoch: float) -> vaekit.objectives.Terms:
            return vaekit.objectives.Terms(self.norm(batch.x.flatten(1)).square().mean(-1))

    loss, model, x = Own(), vaekit.build("vae", event_shape=(1, 8, 8), latent_size=2), torch.rand(8, 1, 8, 8)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    try_once(model, [loss], x)
    assert loss.training and all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())
    loss(model, Batch(x), 0.0)
    assert not torch.equal(loss.state_dict()["norm.running_mean"], before["norm.running_mean"])


def test_a_picture_that_cannot_be_drawn_ends_no_training(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConfigError("no mean")

    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr("vaekit.plot.samples", refuse)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = lifecycle.train_run(tiny.tiny(epochs=3), name="r", root=tmp_path)
    assert run.status == "finished" and len(run.metrics()) == 3
    (epochs,) = (str(warning.message) for warning in said if "epoch-0" in str(warning.message))
    assert epochs == "the picture 'epoch-001.png' cannot be drawn for this model: no mean"


def test_a_picture_that_cannot_be_written_ends_no_training(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    save = vaekit.plot.save

    def refuse(picture: Any, path: Any) -> None:
        if path.name.startswith("epoch-"):
            raise ValueError("not in this format")
        save(picture, path)

    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr("vaekit.plot.save", refuse)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = lifecycle.train_run(tiny.tiny(epochs=3), name="r", root=tmp_path)
    messages = [str(warning.message) for warning in said]
    assert "the picture 'epoch-001.png' cannot be drawn for this model: not in this format" in messages
    assert run.status == "finished" and len(run.metrics()) == 3
    assert run.read_json("test.json")["neg_elbo"] > 0


@pytest.mark.parametrize("preset", ["factor-vae", "aae", "cvae"])
def test_rows_of_unknown_class_are_refused_by_every_loss_that_needs_the_class(preset: str) -> None:
    model = vaekit.build(preset, event_shape=(1, 8, 8), num_classes=3, latent_size=2, model={"condition": "class"})
    rows = torch.rand(12, 1, 8, 8), torch.arange(12) % 4 - 1
    with pytest.raises(DataError, match=r"the class of 3 of the 12 training rows is unknown"):
        vaekit.fit(model, rows, preset=preset, epochs=1)


def test_m2_says_that_it_needs_the_shape_of_a_row() -> None:
    model = vaekit.build("m2", event_shape=(1, 8, 8), num_classes=3, latent_size=2)
    model.event_shape = None
    with pytest.raises(ConfigError, match="objective 'm2' needs the shape of a row; give the model an event_shape"):
        vaekit.fit(model, (torch.rand(12, 1, 8, 8), torch.arange(12) % 3), preset="m2", epochs=1)


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"), 2), (MemoryError(), 2)],
)
def test_too_little_memory_is_one_line(error: Exception, status: int, monkeypatch: Any, capsys: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(SystemExit) as stop:
        command._run()
    assert stop.value.code == status and "there is not enough memory for this" in capsys.readouterr().err
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        command._run()


def test_arrays_are_filled_of_signals_and_vectors_only(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    run = lifecycle.train_run(tiny.tiny(epochs=1), name="r", root=tmp_path)
    with pytest.raises(
        ConfigError, match=r"impute_array fills signals and vectors, but the data of run r are .*'image'"
    ):
        impute_array(run, vaekit.load(run), "x.npy")


@pytest.mark.parametrize("name", ["😀.csv", "𠮷野.csv", 'a"b\\.csv', "x\x7f.csv", "3"])
def test_any_name_of_data_reaches_the_config(name: str) -> None:
    chosen = ConfigOptions("vae", None, ("data.name=other",), name, None, None, 3, None, 0, False)
    config = chosen.config()
    assert config.data.name == name and (config.train.epochs, config.train.seed) == (3, 0)


def test_the_command_names_its_options_for_the_arguments_of_the_library() -> None:
    pairs = {"annealing": "--ais", "root": "--runs", "torch_export": "--torch-export", "data": "--data"}
    assert {argument: command._option_of(argument) for argument in pairs} == pairs
    known = set().union(*map(command._options_of, [["evaluate"], ["train"], ["export"]]))
    assert known.issuperset(pairs.values())


def test_no_rows_are_refused_where_densities_are_drawn() -> None:
    model = vaekit.build("vae", event_shape=(1, 8, 8), latent_size=2)
    empty = torch.zeros(0, 1, 8, 8)
    with pytest.raises(DataError, match="there are 0 rows to draw latents for"):
        model.draw(empty)
    assert len(model.log_prob(empty)) == len(model.encode(empty)) == len(model.reconstruct(empty)) == 0


@pytest.mark.parametrize(
    ("options", "message"), [({"mix": 1.5}, "mix must be less than 1"), ({"mix": -1}, "mix must be")]
)
def test_options_of_the_schedule_free_optimizer_are_checked(options: dict[str, float], message: str) -> None:
    weights = [torch.nn.Parameter(torch.zeros(2))]
    with pytest.raises(ConfigError, match=message):
        ScheduleFreeAdamW(weights, 1e-3, **options)
    with pytest.raises(ConfigError, match="learning_rate must be at least 0"):
        ScheduleFreeAdamW(weights, -1e-3)


def test_what_two_readers_tried_is_answered_in_words() -> None:
    model = vaekit.build("vae", event_shape=(1, 8, 8), latent_size=2)
    rows = torch.rand(9, 1, 8, 8)
    with pytest.raises(ConfigError, match="batch_size is for rows; this Tensor is a loader"):
        vaekit.fit(model, torch.rand(4, 10, 1, 8, 8), batch_size=7, epochs=1)
    with pytest.raises(DataError, match="a dict with x, got x = None"):
        vaekit.fit(model, [{"x": None}], epochs=1)
    with pytest.raises(ConfigError, match="seed must have at most 64 bits"):
        evaluate(model, rows, seed=2**70)
    with pytest.raises(ConfigError, match="got Tensor"):
        evaluate(model, torch.rand(3, 4, 1, 8, 8))
    with pytest.raises(ConfigError, match="a model needs data for its map"):
        vaekit.explore(model)
    shown = [str(Value("nll", number, None, "nats")) for number in (12345.6, 123.456, 0.5)]
    assert shown == ["12346", "123.5", "0.5"]


def test_the_elbo_of_a_model_without_density_is_refused_as_its_bounds_are() -> None:
    model = vaekit.build("vq-vae", event_shape=(1, 8, 8))
    draw = model(torch.rand(4, 1, 8, 8))
    for bound in (vaekit.elbo, vaekit.objectives.iwae):
        with pytest.raises(ConfigError, match="it carries the penalty 'commitment'"):
            bound(draw)


@pytest.mark.parametrize("levels", [(0.0, 1.0), (0, 1), (False, True), ("0", "1")])
def test_a_given_level_is_known_by_its_number_or_its_text(levels: tuple[Any, ...]) -> None:
    column = columns.Column("survived", "categorical", "float64", levels)
    for value in (1, "1", levels[1], str(levels[1])):
        assert conditional._number_of(column, value) == 1
    with pytest.raises(ConfigError, match="unknown level '2'"):
        conditional._number_of(column, 2)


def test_what_was_never_measured_has_no_number() -> None:
    assert str(synthetic._mean("pair trends", [float("nan")])) == "—"
    assert synthetic._mean("pair trends", [0.5, float("nan"), 1.0]).value == 75
