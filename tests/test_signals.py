"""Signals, (N, L) and (N, C, L): networks along time, units of each channel, gaps, curves; from a file to files."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal as NormalDistribution

import vaekit
from conftest import one_line
from vaekit import build, config, elbo, fit, plot
from vaekit.data import Batch, load
from vaekit.errors import ConfigError, DataError
from vaekit.likelihoods import Normal
from vaekit.likelihoods.location_scale import Standardized
from vaekit.nets import ConvDecoder, ConvEncoder, ResNetEncoder
from vaekit.objectives import as_loss
from vaekit.runs import lifecycle
from vaekit.runs.restore import RestoredRun
from vaekit.training import validate

SMALL = {
    "encoder": {"channels": [4, 8], "dense": 16},
    "decoder": {"channels": [4, 8], "dense": 16},
    "latent_size": 3,
    "train": {"epochs": 40, "batch_size": 16, "device": "cpu", "learning_rate": 1e-2},
}
OFFSETS, UNITS = np.array([0.0, 100.0]), np.array([5.0, 0.5])


def waves(n: int = 120, length: int = 30) -> Any:
    """Two channels, (n, 2, length): a wave and its derivative, in units of their own."""
    r = np.random.default_rng(0)
    phase = 2 * np.pi * (r.uniform(1, 2, (n, 1)) * np.linspace(0, 1, length) + r.uniform(size=(n, 1)))
    x = np.stack((np.sin(phase), np.cos(phase)), 1) + r.normal(0, 0.05, (n, 2, length))
    return (OFFSETS[:, None] + UNITS[:, None] * x).astype(np.float32)


def gappy(x: Any) -> Any:
    """The same with a fifth of each second signal missing, in one channel."""
    x = x.copy()
    x[::2, ..., 0, 5:11] = np.nan
    return x


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with signals of two channels and of one, both with gaps, and a run on each."""
    folder = tmp_path_factory.mktemp("signals")
    np.save(folder / "two.npy", gappy(waves()))
    np.save(folder / "one.npy", gappy(waves())[:, 0])
    for name in ("two", "one"):
        sections = {**SMALL, "data": {"name": str(folder / f"{name}.npy")}}
        lifecycle.train_run(config.read("signal-vae", sections=sections), name=name, root=folder / "runs")
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("length", [1, 2, 29, 30, 31])
@pytest.mark.parametrize("options", [{}, {"kernel_size": 5}, {"norm": "batch"}, {"norm": "layer", "context": "planes"}])
def test_convolutions_along_time_go_there_and_back(length: int, options: dict[str, Any]) -> None:
    if length < 5 and options.get("kernel_size"):
        return
    x, c = torch.randn(6, 2, length), torch.eye(6)[:, :3]
    encoder = ConvEncoder((2, length), 3, channels=(4, 8), dense=16, **options)
    decoder = ConvDecoder((5,), (2, length), 3, channels=(4, 8), dense=16, **options)
    assert encoder(x, c).shape == (6, 16) and decoder(torch.randn(6, 5), c).shape == (6, 2, length)
    assert [tuple(h.shape[1:]) for h in encoder.maps(x, c)] == list(encoder.map_shapes)
    wanted = ConvDecoder.wanted_shape(5, (2, length), channels=(4, 8))
    grid = ConvDecoder(wanted, (2, length), channels=(4, 8))
    assert grid(torch.randn(6, *wanted)).shape == (6, 2, length)


def test_a_signal_is_the_image_of_one_row_that_sees_no_other_row() -> None:
    """The convolution along time equals the one of an image of height 1, with the middle row of each kernel."""
    signal = ConvEncoder((2, 16), channels=(4,), dense=False, activation="tanh")
    image = ConvEncoder((2, 1, 16), channels=(4,), dense=False, activation="tanh")
    with torch.no_grad():
        image.convs[0].weight.zero_()
        image.convs[0].weight[:, :, 1] = signal.convs[0].weight
        image.convs[0].bias.copy_(signal.convs[0].bias)
    x = torch.randn(5, 2, 16)
    torch.testing.assert_close(signal(x), image(x.unsqueeze(2)))


def test_each_channel_has_its_own_unit_and_the_density_is_that_of_x_itself() -> None:
    x = torch.from_numpy(waves())
    settled = Normal.options_from_data(x)
    np.testing.assert_allclose(settled["centre"], x.mean((0, 2)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(settled["unit"], x.transpose(0, 1).flatten(1).std(1, correction=0), rtol=1e-3)
    assert Normal.options_from_data(x[:, :1] / 10) == {"centre": 0.0, "unit": 1.0}  # within [−1, 1] as it is
    assert isinstance(Normal.options_from_data(x, scale="optimal")["unit"], float)

    class Given(nn.Module):
        def forward(self, z: torch.Tensor, c: Any = None) -> torch.Tensor:
            return z.unflatten(-1, (2, 30))

    likelihood = Normal(Given(), scale=0.7, **settled)
    z = torch.randn(4, 60)
    centre, unit = (torch.tensor(settled[name])[:, None] for name in ("centre", "unit"))
    # A scale that is a number is in the units of x; one that is learned is in those of the channels.
    expected = NormalDistribution(centre + unit * z.unflatten(-1, (2, 30)), 0.7).log_prob(x[:4]).sum((1, 2))
    torch.testing.assert_close(likelihood(z).log_prob(x[:4]), expected)
    learned = Normal(Given(), x, scale="shared", **settled)
    expected = (
        NormalDistribution(centre + unit * z.unflatten(-1, (2, 30)), learned.scale_of(z)).log_prob(x[:4]).sum((1, 2))
    )
    torch.testing.assert_close(learned(z).log_prob(x[:4]), expected)
    ratio = (learned.scale_of(z)[0] / learned.scale_of(z)[1]).item()
    assert ratio == pytest.approx(settled["unit"][0] / settled["unit"][1], rel=1e-5)
    assert not [name for name in learned.state_dict() if name in ("centre", "unit")]  # options, not weights
    torch.testing.assert_close(learned(learned.parameters_at(x[0]).flatten()[None]).mean[0], x[0])
    for wrong in ({"unit": [1.0, 0.0]}, {"unit": [1.0, 2.0], "scale": "optimal"}):
        with pytest.raises(ConfigError, match=r"^(unit must be|scale = 'optimal' takes one)"):
            Normal(Given(), **wrong)  # type: ignore[arg-type]


def test_the_encoder_sees_a_gap_as_the_mean_of_its_channel(here: Path) -> None:
    transform = Standardized([0.0, 100.0], [5.0, 0.5])
    x = torch.tensor([[[5.0, math.nan], [100.5, math.nan]]])
    assert transform(x).tolist() == [[[1.0, 0.0], [1.0, 0.0]]]
    model = vaekit.load("two")
    assert model.sees_missing
    data = load("two.npy", kind="signal", value_kind="real")
    mask = data.test.observed_in_memory
    assert data.kind == "signal" and mask is not None
    values = data.test.x[:]
    row = int((~mask).flatten(1).any(1).long().argmax())
    outcomes = []
    for filler in (0.0, 123.0, math.nan):  # a gap is a gap, whatever lies in it
        x = values[[row]].masked_fill(~mask[[row]], filler)
        x = model.posterior_input(Batch(x, observed=mask[[row]]))
        outcomes.append(model.encode(x))
    assert torch.equal(outcomes[0], outcomes[1]) and torch.equal(outcomes[0], outcomes[2])
    draw = model.draw(Batch(values[[row]], observed=mask[[row]]).x, observed=mask[[row]])
    log_prob = NormalDistribution(draw.likelihood.base_dist.loc, draw.likelihood.base_dist.scale)
    known = log_prob.log_prob(values[[row]]).masked_fill(~mask[[row]], 0).sum((-2, -1))
    torch.testing.assert_close(-draw.distortion, known.reshape(draw.distortion.shape))


@pytest.mark.parametrize("name", ["one", "two"])
def test_from_signals_to_samples_imputations_and_scores(name: str, here: Path, command: Any) -> None:
    given = np.load(f"{name}.npy")
    truth = waves() if name == "two" else waves()[:, 0]
    assert command("impute", name, "-o", "full.npy", "--samples", 50).status == 0
    full = np.load("full.npy")
    known = ~np.isnan(given)
    assert full.shape == given.shape and np.array_equal(full[known], given[known]) and np.isfinite(full).all()
    mean = np.broadcast_to(np.nanmean(given, 0), given.shape)
    assert np.square(full - truth)[~known].mean() < 0.8 * np.square(mean - truth)[~known].mean()
    result = json.loads(command("impute", name, "-o", "d.npy", "--draws", 2, "--samples", 20, "--json").out)
    assert result["gaps"] == (~known).sum() and len(result["files"]) == 2
    assert not np.array_equal(np.load("d-1.npy")[~known], np.load("d-2.npy")[~known])
    assert command("sample", name, "-n", 5, "--noise", "-o", "new.npy").status == 0
    new = np.load("new.npy")
    assert new.shape == (5, *given.shape[1:])
    if name == "one":
        np.save("deep.npy", given[:, None])  # the same signals with an axis for their channel
        assert command("impute", name, "--data", "deep.npy", "-o", "deep-full.npy", "--samples", 50).status == 0
        assert np.array_equal(np.load("deep-full.npy"), full[:, None])
    if name == "two":
        assert abs(new[:, 1].mean() - 100) < 1 and abs(new[:, 0].mean()) < 5
    assert command("score", name, "--data", f"{name}.npy", "-o", "scores.csv", "--samples", 10).status == 0
    assert len(Path("scores.csv").read_text().splitlines()) == 121
    assert command("encode", name, "--data", f"{name}.npy", "-o", "z.npy").status == 0
    assert np.load("z.npy").shape == (120, 3)


def test_pictures_of_signals_are_curves(here: Path, command: Any) -> None:
    names = {path.name for path in Path("runs/two/samples").iterdir()}
    assert names == {"training.png", "samples.png", "reconstructions.png", "curves.png"}
    for words in (("sample", "two", "-n", 3, "-o", "x.png"), ("reconstruct", "two", "-n", 4, "-o", "r.png")):
        assert command(*words).status == 0 and Path(words[-1]).read_bytes()[:4] == b"\x89PNG"
    assert command("reconstruct", "two", "-n", 4, "-o", "r.npy").status == 0
    pairs = torch.from_numpy(np.load("r.npy"))
    assert pairs.shape == (4, 2, 2, 30)
    gaps = pairs[:, 0].isnan()  # a picture shows what the model makes of a gap, not of a 0 in its place
    assert gaps.any()
    model = vaekit.load("two")
    torch.testing.assert_close(pairs[:, 1], model.reconstruct(pairs[:, 0]))
    assert not torch.allclose(pairs[:, 1], model.reconstruct(pairs[:, 0].nan_to_num(0)), atol=1e-3)
    x = torch.from_numpy(gappy(waves(3)))
    figure = plot.signals(x, x + 1, names=("signal", "reconstruction"))
    panel = figure.axes[0]
    assert len(panel.lines) == 4 and len([axes for axes in figure.axes if axes.get_visible()]) == 3
    heights = [line.get_ydata() for line in panel.lines]
    assert np.isnan(heights[0][5:11]).all() and np.nanmin(heights[0]) >= 1 > np.nanmax(heights[1])  # bands apart
    drawn = plot.signals(x[:, :1]).axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, x[0, 0])  # one channel is drawn in its own unit
    with pytest.raises(DataError, match="a picture holds 1 to 64 signals"):
        plot.signals(torch.zeros(65, 1, 8))


def test_what_cannot_be_drawn_is_said_before_any_work(
    here: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = RestoredRun.dataset(RestoredRun.of("two"))
    with monkeypatch.context() as patch:
        patch.setattr(RestoredRun, "model", lambda *_, **__: pytest.fail("the work began"))
        for words in (("sample",), ("reconstruct",), ("interpolate", "--walks", 7, "--steps", 10)):
            count = () if len(words) > 1 else ("-n", 70)
            refused = one_line(command(words[0], "two", *words[1:], *count, "-o", "x.png"))
            assert "a picture holds 1 to 64 signals, got 70; draw fewer, or write .npy" in refused
    monkeypatch.setattr(RestoredRun, "dataset", lambda *_: replace(rows, test=rows.test.rows(slice(0))))
    for words in (("reconstruct", "-n", 3), ("interpolate", "--between", 0, 1)):
        refused = one_line(command(words[0], "two", *words[1:], "-o", "x.npy"))
        assert "there are 0 test" in refused and "numbered" not in refused


def test_channels_are_listed(here: Path, command: Any) -> None:
    rows = json.loads(command("data", "two.npy", "--set", "data.kind=signal", "--json").out)
    assert [row["kind"] for row in rows] == ["signal of 30 values"] * 2
    assert rows[0]["missing"] == pytest.approx(0.1) and rows[1]["missing"] == 0
    assert rows[1]["minimum"] == pytest.approx(np.load("two.npy")[:, 1].min())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "signal-vae"), "kind is for arrays of your own, such as signals.npy"),
        (("train", "--data", "two.npy"), "for signals (N, C, L) use the preset 'signal-vae'"),
        (("train", "signal-vae", "--data", "four.npy"), "signals must be (N, L) or (N, C, L), got (3, 2, 2, 5)"),
        (("train", "signal-vae", "--data", "."), "kind = 'signal' is for arrays"),
        (("data", "two.npy"), "for signals (N, C, L) set kind = 'signal'"),
        (("impute", "two", "--hide", "top"), "--hide is for images, but the data of run two are signals"),
        (("impute", "two", "-o", "x.csv"), "x.csv must end in .npy"),
        (("score", "two", "--data", "one.npy"), "takes rows of shape (2, 30)"),
        (
            ("train", "signal-vae", "--data", "two.npy", "--set", "encoder.name=resnet"),
            "a residual network needs images",
        ),
    ],
    ids=range(9),
)
def test_what_cannot_be_is_said(words: tuple[str, ...], message: str, here: Path, command: Any) -> None:
    np.save("four.npy", np.zeros((3, 2, 2, 5), np.float32))
    result = command(*words)
    assert result.status == 2 and message in one_line(result)
    with pytest.raises(ConfigError, match="a residual network needs images"):
        ResNetEncoder((2, 30))


def test_a_channel_without_values_is_listed(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = waves(50, 8)
    x[:, 1] = np.nan
    np.save("sig.npy", x)
    listed = command("data", "sig.npy", "--set", "data.kind=signal")
    assert listed.status == 0 and listed.out.splitlines()[2].split()[-2:] == ["100%", "none"], listed.err
    full, empty = json.loads(command("data", "sig.npy", "--set", "data.kind=signal", "--json").out)
    assert full["median"] is not None and empty["missing"] == 1
    assert [empty[key] for key in ("minimum", "median", "maximum")] == [None] * 3


def test_nan_is_a_missing_value_in_every_call_of_a_model_that_sees_it() -> None:
    torch.manual_seed(0)
    options = {"name": "normal", "centre": [0.0, 1.0], "unit": [1.0, 2.0]}
    model = build("vae", event_shape=(2, 16), likelihood=options, latent_size=2)
    x = torch.randn(5, 2, 16)
    x[0, 0, 3] = math.nan
    observed = ~x.isnan()
    losses = []
    for rows, mask in ((x, None), (x.nan_to_num(7.0), observed)):
        torch.manual_seed(1)
        losses.append(elbo(model.draw(rows, observed=mask)))
    assert torch.equal(*losses) and losses[0].isfinite().all()
    assert math.isfinite(validate(model, [x], as_loss(elbo))["loss"])
    (record,) = fit(model, [x], [x], epochs=1)
    assert math.isfinite(record["loss"]) and math.isfinite(record["validation_loss"])
    whole = build("vae", event_shape=(2, 16), likelihood="normal", latent_size=2)
    with pytest.raises(DataError, match="nan"):
        whole.log_prob(x)
