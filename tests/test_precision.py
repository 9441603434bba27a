"""Fewer bits while training, and nowhere else."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny import dataset, tiny
from vaekit import CVAE, VAE, build, elbo, fit
from vaekit.config import Fit
from vaekit.config.parts import PART_TABLE
from vaekit.data import Batches
from vaekit.errors import ConfigError
from vaekit.model import Draw, LatentLevel
from vaekit.nets import MLP, ConvEncoder, Network
from vaekit.objectives import as_loss
from vaekit.runs import job, lifecycle
from vaekit.runs.run_config import config_of
from vaekit.training import TrainingPlan, loop, precision, validate
from vaekit.training.precision import find_precision


def images(n: int = 64) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()


def model(**sections: Any) -> Any:
    torch.manual_seed(0)
    return build("course-vae", event_shape=(1, 8, 8), model={"latent_size": 4}, **sections)


@pytest.mark.parametrize("make", [lambda: MLP((1, 8, 8), (5,), hidden=(32,)), lambda: ConvEncoder((1, 8, 8), 0)])
def test_a_network_multiplies_in_bfloat16_and_returns_float32(make: Any) -> None:
    torch.manual_seed(0)
    net = make()
    x = images(4)
    exact = net(x)
    net.dtype = torch.bfloat16
    rounded = net(x)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)
    assert torch.equal(rounded, rounded.bfloat16().float())
    rounded.square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


def test_the_type_of_products_before_a_block_is_there_again_after_it() -> None:
    it = model()
    networks = [part for part in it.modules() if isinstance(part, Network)]
    networks[0].dtype = torch.float16
    with precision.LoweredPrecision(it, "bf16"):
        assert {network.dtype for network in networks} == {torch.bfloat16}
    assert [network.dtype for network in networks] == [torch.float16, *[None] * (len(networks) - 1)]


def trained(name: str) -> tuple[Any, list[dict[str, Any]]]:
    it = model()
    generator = torch.Generator().manual_seed(0)
    batches = Batches(images(), batch_size=16, shuffle=True, generator=generator)
    return it, fit(it, batches, Batches(images(), batch_size=16), epochs=4, precision=name)  # type: ignore[arg-type]


def test_training_in_bfloat16_ends_near_the_exact_one_and_is_validated_exactly() -> None:
    (exact, expected), (rounded, records), (again, _) = trained("fp32"), trained("bf16"), trained("bf16")
    assert records[-1]["neg_elbo"] == pytest.approx(expected[-1]["neg_elbo"], rel=0.02)
    states = [it.state_dict() for it in (exact, rounded, again)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(states[1][name], states[2][name]) for name in states[0])
    best = min(record["validation_neg_elbo"] for record in records)
    assert validate(rounded, Batches(images(), batch_size=16))["neg_elbo"] == best


@pytest.mark.parametrize(
    ("hardware", "sections", "expected"),
    [
        (True, {}, "bf16"),
        (False, {}, "fp32"),
        (True, {"likelihood": {"name": "normal"}}, "fp32"),
        (True, {"likelihood": {"name": "discretized-logistic"}}, "fp32"),
        (True, {"prior": {"name": "vamp", "components": 5}}, "bf16"),
    ],
)
def test_auto_is_the_lowest_that_is_there_and_safe(
    monkeypatch: Any, hardware: bool, sections: Any, expected: str
) -> None:
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: hardware)
    assert find_precision("auto", model(**sections)) == expected
    assert find_precision("fp32", model(**sections)) == "fp32"


@pytest.mark.parametrize("network", ["conv", "resnet"])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 64, 1), "fp32"), ((3, 2, 2), "fp32"), ((1, 8, 2), "fp32"), ((1, 2, 16), "bf16"), ((1, 28, 28), "bf16")],
)
def test_auto_keeps_convolutions_of_narrow_images_in_float32(
    monkeypatch: Any, network: str, shape: tuple[int, int, int], expected: str
) -> None:
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: True)
    parts = {"encoder": {"name": network, "dense": 8}, "decoder": {"name": network, "dense": 8}}
    narrow = build("course-vae", event_shape=shape, **parts)
    assert find_precision("auto", narrow) == expected
    assert find_precision("auto", build("course-vae", event_shape=shape)) == "bf16"  # no convolution
    x = torch.rand(8, *shape)
    assert math.isfinite(fit(narrow, [x], epochs=1, precision="auto")[-1]["neg_elbo"])
    if expected == "fp32":
        with pytest.warns(UserWarning, match="one or two columns; use 'fp32'"):
            find_precision("bf16", narrow)


LIKELIHOODS = sorted(PART_TABLE["likelihood"].keys() - {"columns"})


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_users_autocast_reaches_no_density(likelihood: str, dtype: torch.dtype) -> None:
    """Parameters of a beta-binomial rounded to 8 bits cost 240 nats per image."""
    x = (
        images(8)
        if "binomial" in likelihood or likelihood == "poisson"
        else torch.rand(8, 1, 8, 8).mul(255).round() / 255
    )
    torch.manual_seed(0)
    it = build("course-vae", event_shape=(1, 8, 8), x=x, likelihood={"name": likelihood}, model={"latent_size": 4})
    for parameter in it.parameters():
        parameter.data.mul_(2)  # as far from zero as after a training
    z = torch.randn(3, 8, 4)
    exact = it.likelihood(z).log_prob(x)
    with torch.autocast("cpu", dtype):
        p = it.likelihood(z)
        found = Draw(x, z, (), p).log_likelihood
        draw = it.draw(x, k=3)
        values = (draw.z, draw.log_w, draw.rate(), draw.levels[0].log_q, draw.levels[0].log_p)
    assert all(value.dtype == torch.float32 for value in (found, *values))
    if likelihood == "bernoulli":  # which tolerates rounded logits
        torch.testing.assert_close(found, exact, rtol=0.01, atol=0.1)
    else:
        assert torch.equal(found, exact)


PRIORS = {  # of posteriors that do not go with a flow
    "hierarchical": "hierarchical",
    "ladder": "ladder",
    "power-spherical": "uniform-sphere",
    "wrapped-normal": "wrapped-normal",
    "bernoulli": "bernoulli",
    "categorical": "categorical",
    "gumbel-softmax": "categorical",
    "fsq": "uniform-codes",
}


@pytest.mark.parametrize("posterior", sorted({*PART_TABLE["posterior"]} - {"deterministic", "vq"}))
def test_a_users_autocast_reaches_no_density_of_latents(posterior: str) -> None:
    torch.manual_seed(0)
    kind = {"name": posterior} | ({"straight_through": True} if posterior == "gumbel-softmax" else {})
    it = model(posterior=kind, prior={"name": PRIORS.get(posterior, "maf")})
    x = images(4)
    with torch.autocast("cpu", torch.bfloat16):
        draw = it.draw(x, k=2)
        inside = (draw.log_w, draw.rate("sampled"))
    levels = tuple(LatentLevel(level.z, level.q, level.p) for level in draw.levels)  # which have computed nothing yet
    outside = Draw(x, draw.z, levels, draw.likelihood, {}, draw.q, draw.p)
    torch.testing.assert_close(inside[0], outside.log_w, rtol=1e-4, atol=1e-3)
    assert all(value.dtype == torch.float32 for value in inside)


@pytest.mark.parametrize("of", [VAE, CVAE])
def test_a_users_autocast_reaches_no_density_of_the_assignments_models(of: Any) -> None:
    torch.manual_seed(0)
    it = of(64)
    x, c = images(8), torch.arange(8) if of is CVAE else None
    torch.manual_seed(1)
    exact = it.draw(x, c)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        draw = it.draw(x, c)
        elbo, rate = draw.log_w.mean(), draw.rate()
    assert elbo.dtype == rate.dtype == torch.float32
    assert elbo.item() == pytest.approx(exact.log_w.mean().item(), abs=0.1)
    assert not torch.equal(rate, rate.bfloat16().float())


def test_precisions_that_cannot_be(monkeypatch: Any) -> None:
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: False)
    assert find_precision("auto", VAE(64)) == "fp32"
    with pytest.raises(ConfigError, match="VAE has none; use 'fp32'"):
        find_precision("bf16", VAE(64))
    with pytest.raises(ConfigError, match="'tf32' is for CUDA devices, this is 'cpu'"):
        find_precision("tf32", model())
    with pytest.raises(ConfigError, match="did you mean 'bf16'"):
        find_precision("bf61", model())
    with pytest.warns(UserWarning, match="no bfloat16 products"):
        assert find_precision("bf16", model()) == "bf16"


def test_a_run_keeps_its_precision_on_another_machine(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(job, "load_data", dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: True)
    run = lifecycle.train_run(tiny(precision="auto"), name="r", root=tmp_path)
    assert run.config["train"]["precision"] == run.environment["precision"] == "bf16"
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: False)
    assert config_of(run).train.precision == "bf16"
    text = (tmp_path / "r" / "config.toml").read_text()
    (tmp_path / "r" / "config.toml").write_text(text.replace('precision = "bf16"\n', ""))
    with run.lock():
        run.record(precision="fp32")
    assert config_of(run).train.precision == "fp32"


def test_a_plan_trains_in_the_precision_that_auto_means(monkeypatch: Any) -> None:
    monkeypatch.setattr(loop, "find_precision", lambda name, model: {"auto": "bf16"}[name])
    it = model()
    plan = TrainingPlan(as_loss(elbo), torch.optim.SGD(it.parameters(), 1e-3), None, Fit(precision="auto"))
    assert plan.trainer(it, 1).training_step.lowered.networks
    exact = replace(plan, options=Fit())
    assert not exact.trainer(it, 1).training_step.lowered.networks
