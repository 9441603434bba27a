"""Real numbers of any size: a model of them trains as one of standardized numbers, and its densities are those of x."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import Result, one_line
from vaekit import build, fit
from vaekit.errors import ConfigError, DataError
from vaekit.likelihoods import Laplace, Normal
from vaekit.runs import job
from vaekit.runs.run_config import config_of
from vaekit.store import Run

SMALL = {"encoder": {"hidden": [16]}, "decoder": {"hidden": [16]}, "latent_size": 2}
D = 12


def standard() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, D, generator=generator) @ torch.randn(D, D, generator=generator)
    return (x - x.mean()) / x.std()


def trained(x: Tensor, name: str, **likelihood: object) -> list[float]:
    torch.manual_seed(0)
    model = build("standard-vae", event_shape=D, x=x, likelihood={"name": name, **likelihood}, **SMALL)
    return [record["neg_elbo"] for record in fit(model, x, epochs=3)]


@pytest.mark.parametrize(
    ("name", "scale"), [("normal", "shared"), ("normal", "optimal"), ("normal", "per-pixel"), ("laplace", "shared")]
)
@pytest.mark.parametrize(("centre", "unit"), [(290.0, 20.0), (-1e6, 1e6), (0.0, 1e-5)])
def test_a_change_of_units_adds_its_jacobian_and_changes_nothing_else(
    name: str, scale: str, centre: float, unit: float
) -> None:
    y = standard()
    plain = trained(y, name, scale=scale)
    assert max(plain) < 40
    other = trained(centre + unit * y, name, scale=scale)
    assert other == pytest.approx([loss + D * math.log(unit) for loss in plain], abs=0.05)


def test_without_it_large_numbers_diverge() -> None:
    """A negative control: this is why x is standardized."""
    torch.manual_seed(0)
    x = 290 + 20 * standard()
    model = build(
        "standard-vae", event_shape=D, x=x, likelihood={"name": "normal", "centre": 0.0, "unit": 1.0}, **SMALL
    )
    rate = model.draw(x).rate().mean().item()
    model = build("standard-vae", event_shape=D, x=x, likelihood="normal", **SMALL)
    assert rate > 1e3 * model.draw(x).rate().mean().item()


def test_images_stay_as_they_are_and_other_numbers_are_standardized() -> None:
    generator = torch.Generator().manual_seed(1)
    for kind in (Normal, Laplace):
        assert kind.options_from_data(torch.rand(50, 1, 8, 8, generator=generator)) == {"centre": 0.0, "unit": 1.0}
        assert kind.options_from_data(torch.zeros(50, 4) + 7) == {"centre": 0.0, "unit": 1.0}
        assert kind.encoder_transform(centre=0.0, unit=1.0) is None
        x = 3 + 0.001 * torch.randn(1000, 4, generator=generator)
        settled = kind.options_from_data(x)
        assert settled["centre"] == pytest.approx(3, abs=1e-3) and settled["unit"] == pytest.approx(0.001, rel=0.1)
        assert kind.options_from_data(x, centre=1.0) == {"unit": settled["unit"]}
        seen = kind.encoder_transform(**settled)
        assert seen is not None and seen(x).std().item() == pytest.approx(1, rel=1e-2)


def test_a_plain_encoder_sees_the_standardized_numbers() -> None:
    class Plain(nn.Module):
        def __init__(self, in_shape: tuple[int, ...]) -> None:
            super().__init__()
            self.reached: list[float] = []

        def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
            self.reached.append(x.abs().max().item())
            return x

    from vaekit.config import read
    from vaekit.config.parts import Resolved
    from vaekit.config.recipe import Recipe

    recipe = Recipe.resolve(read("standard-vae", sections={"likelihood": {"name": "normal"}}))
    parts = {**recipe.parts, "encoder": Resolved(Plain, {}, ("in_shape",))}
    x = 1e4 + standard()
    model = Recipe(recipe.config, parts, recipe.data_arguments).model(event_shape=(D,), num_classes=0, x=x)
    model.draw(x)
    assert model.parts["posterior"].net.reached[-1] < 10  # type: ignore[union-attr, index]


def test_units_are_positive() -> None:
    with pytest.raises(ConfigError, match=r"^unit must be > 0"):
        build("standard-vae", event_shape=4, likelihood={"name": "normal", "unit": 0.0})


@pytest.mark.parametrize("numbers", ["negative", "standardized", "large", "whole"])
def test_the_command_trains_them_and_records_how_they_are_counted(
    numbers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Result]
) -> None:
    x = standard().numpy().reshape(-1, 1, 3, 4)
    x = {"negative": -np.abs(x) - 5, "standardized": x, "large": 290 + 20 * x, "whole": (9 * x).astype(int)}[numbers]
    np.save(tmp_path / "x.npy", x)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    monkeypatch.setattr(job, "epoch_pictures", lambda *_, **__: [])
    result = command("train", "sigma-vae", "--data", "x.npy", "--epochs", "2", "--device", "cpu", "--name", "r")
    assert result.status == 0, result.err
    run = Run.open("r")
    likelihood = run.config["likelihood"]
    assert likelihood["unit"] == pytest.approx(x.std(), rel=0.1)
    assert likelihood["centre"] == pytest.approx(float(x.mean()), abs=0.1 * float(x.std()))
    assert run.metrics()[-1]["neg_elbo"] < D * math.log(x.std()) + 50
    assert command("encode", "r", "-o", "z.npy").status == 0 and np.isfinite(np.load("z.npy")).all()
    np.save("wrong.npy", np.full((3, 1, 3, 4), np.nan))
    assert "wrong.npy" in one_line(command("encode", "r", "--data", "wrong.npy"))
    # A run from before they were recorded took them as they are.
    path = run.path / "config.toml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if line[:6] not in ("centre", "unit =")))
    older = config_of(run).likelihood.options
    assert (older["centre"], older["unit"]) == (0.0, 1.0)


def test_numbers_that_are_not_finite_are_refused() -> None:
    x = standard()
    x[3, 2] = math.inf
    with pytest.raises(DataError, match="finite"):
        build("standard-vae", event_shape=D, x=x, likelihood="normal", **SMALL)
    model = build("standard-vae", event_shape=D, likelihood="normal", **SMALL)
    with pytest.raises(DataError, match="finite"):
        fit(model, x, epochs=1)
