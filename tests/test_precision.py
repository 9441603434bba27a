"""Fewer bits while training, and nowhere else."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny import dataset, tiny
from vaekit import VAE, build
from vaekit.config import of_run
from vaekit.data import Batches
from vaekit.errors import ConfigError
from vaekit.nets import MLP, ConvEncoder
from vaekit.runs import job, lifecycle
from vaekit.training import fit, precision, validate
from vaekit.training.precision import find_precision


def images(n: int = 64) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()


def model(**sections: Any) -> Any:
    torch.manual_seed(0)
    return build("course-vae", image_shape=(1, 8, 8), model={"latent_size": 4}, **sections)


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
    run = lifecycle.train(tiny(precision="auto"), name="r", root=tmp_path)
    assert run.config["train"]["precision"] == run.environment["precision"] == "bf16"
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda: False)
    assert of_run(run).train.precision == "bf16"
    text = (tmp_path / "r" / "config.toml").read_text()
    (tmp_path / "r" / "config.toml").write_text(text.replace('precision = "bf16"\n', ""))
    with run.lock():
        run.record(precision="fp32")
    assert of_run(run).train.precision == "fp32"
