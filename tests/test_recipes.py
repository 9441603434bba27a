"""What makes the default recipe: the start from principal components, antithetic pairs, schedule-free AdamW."""

import math

import pytest
import torch
from torch import nn

import tiny
from vaekit import build
from vaekit.config import read
from vaekit.errors import ConfigError
from vaekit.nets.principal import principal_components
from vaekit.runs import lifecycle
from vaekit.training.schedule_free import ScheduleFreeAdamW

PCA = {"model": {"init": "pca", "latent_size": 3}, "encoder": {"hidden": [8, 7]}, "decoder": {"hidden": [9, 6]}}


def rows(n: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    scores = torch.randn(n, 16, generator=generator) * torch.logspace(0, -2, 16)
    return (0.5 + 0.1 * scores @ basis.T).clamp(0, 1).reshape(n, 1, 4, 4)


# -- principal components ---------------------------------------------------------------------------------------------


def test_components_are_those_of_the_covariance() -> None:
    x = rows().flatten(1)
    mean, directions, deviations = principal_components(x, 3)
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(deviations.square(), values.flip(0)[:3], rtol=1e-3, atol=1e-7)
    assert ((directions * vectors.flip(1)[:, :3]).sum(0).abs() > 0.999).all()


@pytest.mark.parametrize("centred", [True, False])
def test_the_model_starts_as_pca(centred: bool) -> None:
    torch.manual_seed(0)
    x = rows()
    sections = PCA | {"likelihood": {"name": "normal"}}
    sections["encoder"] = PCA["encoder"] | {"centred": centred}
    model = build("vae", event_shape=(1, 4, 4), x=x, **sections)
    mean, directions, deviations = principal_components(x.flatten(1), 3)
    scores = (x.flatten(1) - mean) @ directions
    q = model.posterior(x)
    ours = q.mean
    signs = (ours * scores / deviations).mean(0).sign()  # a direction's sign is arbitrary
    with torch.no_grad():
        noise = ours - signs * scores / deviations  # what the other units add, at a tenth of He's weights
        assert (noise.abs().mean(0) < 0.3).all()
        assert ((ours * signs * scores / deviations).mean(0) > 0.8).all()
        torch.testing.assert_close(q.base_dist.scale.log().mean(), torch.tensor(-1.0), rtol=0, atol=0.1)
        wanted = mean + ((signs * ours * deviations) @ (directions * 1.0).T)
        back = model.likelihood(ours).mean.flatten(1)
        explained = 1 - (back - wanted).square().sum() / (wanted - mean).square().sum()
    assert explained > 0.9


def test_without_the_start_the_model_does_not() -> None:
    torch.manual_seed(0)
    x = rows()
    model = build("vae", event_shape=(1, 4, 4), x=x, **(PCA | {"model": {"init": "he", "latent_size": 3}}))
    _, directions, deviations = principal_components(x.flatten(1), 3)
    scores = (x.flatten(1) - x.flatten(1).mean(0)) @ directions / deviations
    assert (model.encode(x) * scores).mean(0).abs().max() < 0.5


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"encoder": {"hidden": [5, 8]}}, r"encoder.hidden layers of at least 6 units.*got \[5, 8\]"),
        ({"encoder": {"hidden": [8], "activation": "tanh"}}, "activation 'relu'"),
        ({"decoder": {"hidden": [8], "norm": "layer"}}, "decoder.name = 'mlp'"),
        ({"model": {"init": "pca", "latent_size": 17}}, "at least"),
    ],
)
def test_networks_that_cannot_start_as_he_says_with_a_word(sections: dict, message: str) -> None:
    with pytest.warns(UserWarning, match=f"{message}.*start as with 'he'"):
        build("vae", event_shape=(1, 4, 4), x=rows(), **(PCA | sections))


# -- antithetic pairs -------------------------------------------------------------------------------------------------


def test_pairs_are_mirror_images_and_estimate_the_same() -> None:
    torch.manual_seed(0)
    x = rows(20)
    model = build("vae", event_shape=(1, 4, 4), x=x, **PCA)
    z = model.draw(x, k=4, antithetic=True).z
    torch.testing.assert_close(z[:2] + z[2:], 2 * model.posterior(x).mean.expand(2, -1, -1))
    with torch.no_grad():
        pairs = torch.stack([model.draw(x, k=2, antithetic=True).log_w.mean() for _ in range(400)])
        others = torch.stack([model.draw(x, k=2).log_w.mean() for _ in range(400)])
    score = (pairs.mean() - others.mean()) / (pairs.var() / 400 + others.var() / 400).sqrt()
    assert abs(score) < 5


@pytest.mark.parametrize(
    ("posterior", "samples", "message"), [("nsf", 2, "need a normal posterior"), ("diagonal-normal", 3, "even")]
)
def test_what_has_no_mirror_image_is_refused(posterior: str, samples: int, message: str) -> None:
    model = build("standard-vae", event_shape=(1, 4, 4), posterior={"name": posterior}, model={"latent_size": 2})
    with pytest.raises(ConfigError, match=message):
        model.draw(rows(3), k=samples, antithetic=True)


# -- schedule-free AdamW ----------------------------------------------------------------------------------------------


def test_steps_are_the_algorithm_s() -> None:
    generator = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.randn(5, generator=generator))
    optimizer = ScheduleFreeAdamW([p], 0.1, mix=0.9, beta2=0.95, eps=1e-8, weight_decay=0.2)
    y = p.detach().double().clone()
    iterate, average, square, total = y.clone(), y.clone(), torch.zeros(5).double(), 0.0
    for t in range(1, 8):
        rate = 0.1 * min(t / 4, 1)
        optimizer.param_groups[0]["lr"] = rate
        gradient = torch.randn(5, generator=generator)
        p.grad = gradient.clone()
        optimizer.step()
        square = 0.95 * square + 0.05 * gradient.double() ** 2
        iterate = iterate * (1 - rate * 0.2)
        iterate = iterate - rate * gradient.double() / ((square / (1 - 0.95**t)).sqrt() + 1e-8)
        total += rate**2 * t
        average = average + (iterate - average) * rate**2 * t / total
        y = 0.1 * iterate + 0.9 * average
        torch.testing.assert_close(p.detach().double(), y, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(optimizer.averages([p])[0].double(), average, rtol=1e-5, atol=1e-6)


def test_a_rate_of_zero_moves_nothing() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = ScheduleFreeAdamW([p], 0.0)
    p.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(p.detach(), torch.ones(3))


def test_the_average_is_better_than_the_iterate_on_noisy_squares() -> None:
    torch.manual_seed(0)
    p = nn.Parameter(torch.full((50,), 3.0))
    optimizer = ScheduleFreeAdamW([p], 0.1, weight_decay=0.0)
    for _ in range(400):
        p.grad = p.detach() + torch.randn(50)
        optimizer.step()
    iterate, average = optimizer.state[p]["iterate"], optimizer.averages([p])[0]
    assert average.square().mean() < 0.3 * iterate.square().mean()


def test_a_run_resumes_bit_for_bit_and_keeps_the_average(tmp_path, monkeypatch) -> None:
    from test_replicates import interrupting
    from vaekit import load
    from vaekit.runs import job
    from vaekit.training import Interrupted

    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    config = read(
        "standard-vae",
        sections=tiny.SECTIONS
        | {"optimizer": {"name": "schedule-free-adamw"}, "train": {"epochs": 4, "batch_size": 8, "device": "cpu"}}
        | {
            "prior": {"name": "full-covariance-mixture", "components": 4},
            "objective": {"samples": 2, "antithetic": True},
        },
    )
    whole = lifecycle.train_run(config, name="whole", root=tmp_path)
    with monkeypatch.context() as patch:
        interrupting(patch, after=0)
        with pytest.raises(Interrupted):
            lifecycle.train_run(config, name="cut", root=tmp_path)
    cut = lifecycle.resume_run(lifecycle.Run.open("cut", root=tmp_path))
    assert tiny.outcome(cut) == tiny.outcome(whole)
    stored = whole.load_checkpoint("last").tensors
    best = load(whole, weights="best").state_dict()
    assert math.isfinite(sum(float(t.double().sum()) for t in best.values()))
    averages = [t for name, t in stored.items() if name.startswith("optimizer/") and name.endswith(".average")]
    assert len(averages) == sum(1 for name in stored if name.startswith("optimizer/") and name.endswith(".iterate"))
