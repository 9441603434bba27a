"""What tutorials use: slopes, dropout, kernels and strides, no dense layer, torch's schedules, RMSprop, steps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import exact
import tiny
from vaekit import OfDraw, build, elbo, fit
from vaekit.config import read
from vaekit.config.recipe import Recipe
from vaekit.errors import ConfigError, RunError
from vaekit.nets import MLP, ConvDecoder, ConvEncoder
from vaekit.nets.stages import Strides
from vaekit.objectives import Loss, Terms
from vaekit.objectives.schedules import Cyclical, Exponential, Plateau, StepDecay
from vaekit.runs import job, lifecycle
from vaekit.training import Listener


def test_a_leaky_relu_has_the_slope_that_is_asked_for() -> None:
    torch.manual_seed(0)
    net = MLP((4,), hidden=(5,), activation="leaky-relu", negative_slope=0.2)
    x = torch.randn(7, 4)
    torch.testing.assert_close(net(x), nn.functional.leaky_relu(net.layers[0](x), 0.2))
    assert not torch.allclose(net(x), nn.functional.leaky_relu(net.layers[0](x), 0.01))  # negative control
    conv = ConvEncoder((1, 8, 8), channels=(2,), activation="leaky-relu", negative_slope=0.3)
    assert [m.negative_slope for m in conv.modules() if isinstance(m, nn.LeakyReLU)] == [0.3, 0.3]


def test_dropout_keeps_the_mean_and_is_silent_in_evaluation() -> None:
    torch.manual_seed(0)
    net = MLP((4,), (3,), hidden=(64,), dropout=0.3)
    x = torch.randn(1, 4)
    hidden = net.layers[:2](x)
    draws = torch.stack([net.layers[:3](x) for _ in range(4000)])
    error = draws.std(0) / 4000**0.5
    assert bool(((draws.mean(0) - hidden).abs() <= 5 * error + 1e-6).all())
    net.eval()
    torch.testing.assert_close(net(x), net.layers[3](hidden))
    assert [type(m) for m in MLP((4,), hidden=(5,)).layers] == [nn.Linear, nn.ReLU]  # without it nothing is added
    for net in (ConvEncoder((1, 8, 8), dropout=0.5), ConvDecoder((3,), (1, 8, 8), dropout=0.5)):
        assert any(isinstance(m, nn.Dropout) for m in net.modules())
    with pytest.raises(ConfigError, match=r"\[0, 1\)"):
        MLP((4,), dropout=1.0)


@pytest.mark.parametrize("kernel_size", [None, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(28, 28), (31, 17)])
@pytest.mark.parametrize("dense", [16, False])
def test_a_decoder_meets_any_size(kernel_size: int | None, stride: int, size: tuple[int, int], dense: Any) -> None:
    options: dict[str, Any] = {"kernel_size": kernel_size, "stride": stride, "channels": (3, 4), "dense": dense}
    if kernel_size is None and stride != 2:
        with pytest.raises(ConfigError, match="needs a kernel_size"):
            ConvEncoder((1, *size), **options)
        return
    encoder, decoder = ConvEncoder((1, *size), **options), ConvDecoder((5,), (2, *size), **options)
    x = torch.randn(2, 1, *size)
    assert encoder(x).shape == (2, *encoder.out_shape)
    assert [tuple(m.shape[1:]) for m in encoder.maps(x)] == list(encoder.map_shapes)
    assert decoder(torch.randn(2, 5)).shape == (2, 2, *size)
    grid = ConvDecoder.wanted_shape(6, (2, *size), **options)
    assert grid[1:] == encoder.map_shapes[1][1:]
    assert ConvDecoder(grid, (2, *size), **options)(torch.randn(2, *grid)).shape == (2, 2, *size)


def test_without_options_a_stage_halves_as_before() -> None:
    for n in range(1, 70):
        assert Strides().after((n, n)) == ((n + 1) // 2,) * 2
        assert Strides().excess((n, n)) == (0, 0)
    with pytest.raises(ConfigError, match="too large"):
        ConvEncoder((1, 4, 4), channels=(2, 2, 2), kernel_size=6)


def test_the_networks_of_a_well_known_tutorial_are_a_config() -> None:
    """conv 3 stride 2 pad 1, LeakyReLU, one linear layer to μ and to log σ², one from z: pytorch tutorials' usual VAE."""
    net = {"channels": [32, 64], "kernel_size": 3, "dense": False, "activation": "leaky-relu", "negative_slope": 0.2}
    model = build("conv-vae", encoder=net, decoder=net, latent_size=2)
    conv = 32 * 9 + 32 + 64 * 32 * 9 + 64
    back = 64 * 32 * 9 + 32 + 32 * 9 + 1
    assert sum(p.numel() for p in model.parameters()) == conv + 2 * (3136 * 2 + 2) + (2 * 3136 + 3136) + back
    assert model.draw(torch.rand(3, 1, 28, 28)).log_w.shape == (1, 3)
    config = Recipe.resolve(read("conv-vae", sections={"encoder": net, "decoder": net})).config
    assert "dense = false" in config.to_toml() and config.encoder.options["dense"] is False


# -- schedules --------------------------------------------------------------------------------------------------------


def rates(scheduler: Any, optimizer: Any, epochs: int) -> list[float]:
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_step_and_exponential_are_torchs() -> None:
    make = lambda: torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    optimizer = make()
    expected = rates(torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5), optimizer, 10)
    assert [StepDecay(step_size=3, gamma=0.5)(e, 10) for e in range(10)] == pytest.approx(expected)
    optimizer = make()
    expected = rates(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), optimizer, 10)
    assert [Exponential(gamma=0.9)(e + 0.5, 10) for e in range(10)] == pytest.approx(expected)
    for wrong in (lambda: StepDecay(step_size=0), lambda: Exponential(gamma=0.0), lambda: Plateau(factor=1.0)):
        with pytest.raises(ConfigError):
            wrong()


def test_plateau_reduces_when_torchs_does_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = exact.prove(
        "standard-vae",
        tmp_path / "runs",
        monkeypatch,
        model={"latent_size": 2},
        schedule={"name": "plateau", "patience": 1, "factor": 0.5},
        train={"epochs": 8, "learning_rate": 0.3},
    )
    records = run.metrics()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.0)
    for record in records:
        assert record["learning_rate"] == pytest.approx(optimizer.param_groups[0]["lr"])
        scheduler.step(record["validation_loss"])
    assert records[-1]["learning_rate"] < 0.3  # there was a plateau
    with pytest.raises(ConfigError, match="plateau lowers the learning rate when the validation loss stops falling"):
        fit(build("standard-vae"), torch.rand(8, 1, 28, 28).round(), schedule=Plateau(), epochs=1)


def test_a_length_in_steps_stops_there_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {"schedule": {"name": "one-cycle", "warm_up": 0.0}, "model": {"latent_size": 2}}
    run = exact.prove("standard-vae", tmp_path / "runs", monkeypatch, train={"steps": 11}, **sections)
    records = run.metrics()
    assert [record["rows"] for record in records] == [64, 24]
    assert run.load_checkpoint().state["progress"]["step"] == 11
    assert records[-1]["learning_rate"] < 0.05 * exact.TRAIN["learning_rate"]  # the schedule ends with the steps
    model = build("standard-vae", event_shape=(1, 8, 8), latent_size=2)
    assert len(fit(model, tiny.dataset().train, steps=3, batch_size=32)) == 2
    with pytest.raises(ConfigError, match="how many batches"):
        fit(model, iter([torch.rand(2, 1, 8, 8)]), steps=3)


def test_rmsprop_is_torchs_by_name_and_by_path() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3)
    results = []
    for name in ("rmsprop", "torch.optim:RMSprop"):
        recipe = Recipe.resolve(
            read("standard-vae", settings=[f"optimizer.name={name}", "optimizer.alpha=0.9"]), trust=True
        )
        parameter = nn.Parameter(weight.clone())
        optimizer = recipe.optimizer([parameter])
        for _ in range(3):
            parameter.grad = 2 * parameter.detach()
            optimizer.step()
        results.append(parameter.detach())
    assert torch.equal(*results) and not torch.equal(results[0], weight)


def test_a_run_whose_length_is_in_steps_says_that_it_cannot_be_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    run = lifecycle.train_run(tiny.tiny(steps=3, patience=None), name="r", root=tmp_path)
    with pytest.raises(RunError, match=r"train\.steps = 3, cannot change"):
        lifecycle.resume_run(run)
    with pytest.raises(ConfigError, match=r"train\.epochs cannot be set"):
        lifecycle.resume_run(run, sections={"train": {"epochs": 20}})
    assert not run.sessions


def test_validation_is_at_the_end_of_a_cycle_not_at_the_start_of_the_next() -> None:
    betas: list[float] = []

    class Heard(Loss):
        def __call__(self, model: Any, batch: Any, epoch: float) -> Terms:
            betas.append(cycle(epoch))
            return OfDraw(elbo)(model, batch, epoch)

    cycle = Cyclical(period=2)
    model = build("standard-vae", event_shape=(1, 8, 8), latent_size=2)
    fit(model, tiny.dataset().train, tiny.dataset().validation, epochs=2, batch_size=64, objective=Heard())
    assert betas[-1] == 1.0  # it was 0


def test_listeners_see_the_averages_that_are_kept() -> None:
    seen: list[torch.Tensor] = []

    class Sees(Listener):
        def epoch(self, record: dict[str, Any]) -> None:
            seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))

    model = build("standard-vae", event_shape=(1, 8, 8), latent_size=2)
    fit(model, tiny.dataset().train, epochs=2, batch_size=16, ema=0.9, listener=Sees())
    assert torch.equal(seen[-1], torch.cat([p.detach().flatten() for p in model.parameters()]))
