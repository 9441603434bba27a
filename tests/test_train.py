"""The training loop: same seed same weights, exact resume, good averages, faults that stop it."""

import math
import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vae import CVAE, VAE, Objective, elbo
from vae.data import Batches
from vae.errors import ConfigError, DataError, DeviceError, NumericalError
from vae.likelihoods import Bernoulli
from vae.model import Composed
from vae.nets import MLP
from vae.posteriors import DiagonalNormal
from vae.priors import StandardNormal
from vae.run import Run
from vae.schedules import OneCycle
from vae.train import Interrupted, find_device, fit, validate


def images(n: int = 60) -> Tensor:
    """Three patterns of stripes, one pixel in ten flipped."""
    g = torch.Generator().manual_seed(0)
    pixels = torch.arange(16)
    patterns = torch.stack((pixels % 2 == 0, pixels < 8, pixels % 4 < 2))[torch.arange(n) % 3]
    return (patterns ^ (torch.rand(n, 16, generator=g) < 0.1)).float().view(n, 1, 4, 4)


def small(context_size: int = 0) -> Composed:
    encoder = MLP((1, 4, 4), context_size=context_size, hidden=(12,))
    decoder = MLP((2,), (1, 4, 4), context_size, hidden=(12,))
    return Composed(
        DiagonalNormal(encoder, 12, 2),
        StandardNormal(2),
        Bernoulli(decoder),
        latent_size=2,
        context_size=context_size,
        image_shape=(1, 4, 4),
    )


def loader(seed: int = 1, **options: Any) -> Batches:
    return Batches(
        images(),
        torch.arange(60) % 3,
        batch_size=8,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def new_run(root: Path, name: str = "r") -> Run:
    return Run.create(name, preset="test", config="", environment={}, root=root)


def test_records_are_means_over_the_epoch() -> None:
    torch.manual_seed(0)
    model = small()
    sgd = torch.optim.SGD(model.parameters(), lr=1e-12)
    records = fit(model, loader(), Batches(images(), batch_size=60), epochs=1, optimizer=sgd)
    (record,) = records
    assert record["images"] == 60 and record["epoch"] == 1
    assert record["neg_elbo"] == pytest.approx(record["rate"] + record["distortion"])
    assert record["loss"] == pytest.approx(record["neg_elbo"])
    # At a learning rate of nothing the rate is that of the initial weights: batches of 8 and the last of 4 count alike.
    draw = model.draw(images())
    assert record["rate"] == pytest.approx(draw.rate().mean().item(), rel=1e-5)
    assert record["validation_rate"] == pytest.approx(record["rate"], rel=1e-5)


def test_loss_is_the_objective_and_validation_is_always_the_elbo() -> None:
    torch.manual_seed(0)
    half = Objective(lambda draw: 0.5 * elbo(draw))
    (record,) = fit(small(), loader(), Batches(images(), batch_size=60), objective=half, epochs=1)
    assert record["loss"] == pytest.approx(0.5 * record["neg_elbo"])
    assert record["validation_neg_elbo"] > 0.8 * record["neg_elbo"]


def test_training_lowers_the_loss_and_ends_with_the_best_weights() -> None:
    torch.manual_seed(0)
    model, validation = small(), Batches(images(), batch_size=60)
    records = fit(model, loader(), validation, epochs=15, optimizer=torch.optim.Adam(model.parameters(), 0.03))
    best = min(record["validation_neg_elbo"] for record in records)
    assert best < records[0]["validation_neg_elbo"] - 0.5
    assert validate(model, validation)["neg_elbo"] == pytest.approx(best, rel=1e-6)
    assert not model.training


@pytest.mark.parametrize("make", [lambda: VAE(16, 2), lambda: CVAE(16, 3, 2), lambda: small(3)])
@pytest.mark.parametrize("kind", ["batches", "dataloader"])
def test_any_model_and_any_loader(make: Any, kind: str) -> None:
    torch.manual_seed(0)
    batches: Any = loader()
    if kind == "dataloader":
        batches = DataLoader(TensorDataset(images(), torch.arange(60) % 3), batch_size=8, shuffle=True)
    (record,) = fit(make(), batches, epochs=1)
    assert math.isfinite(record["loss"])


def test_same_seed_same_weights() -> None:
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = small()
        fit(model, loader(), epochs=2)
        found.append(weights(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


class StopAt:
    """A listener that interrupts the training at a step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, progress: Any, batches: Any, means: Any) -> None:
        if progress.step == self.at:
            os.kill(os.getpid(), signal.SIGINT)

    def epoch(self, record: Any) -> None:
        pass


OPTIONS: dict[str, Any] = {
    "epochs": 3,
    "schedule": OneCycle(),
    "objective": Objective(lambda draw, beta: elbo(draw) * beta, {"beta": lambda epoch: 0.1 + epoch}),
    "ema": 0.9,
    "clip_norm": 1.0,
}


def session(
    run: Run | None, stop_at: int | None = None, *, resume: bool = False, binarize: str = "per-epoch"
) -> Tensor:
    torch.manual_seed(5)
    model = small()
    listener = StopAt(stop_at) if stop_at is not None else None
    fit(
        model,
        loader(binarize=binarize),
        Batches(images(), batch_size=60),
        optimizer=torch.optim.Adam(model.parameters(), 0.02),
        run=run,
        resume=run.load_checkpoint() if run is not None and resume else None,
        listener=listener,  # type: ignore[arg-type]
        **OPTIONS,
    )
    return weights(model)


@pytest.mark.parametrize("stop_at", [1, 7, 8, 12, 16, 23])
def test_resume_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    monkeypatch.setattr("vae.train.LOOK_EVERY", 0.0)
    whole = new_run(tmp_path, "whole")
    expected = session(whole)
    run = new_run(tmp_path)
    with pytest.raises(Interrupted, match="step"):
        session(run, stop_at)
    torch.rand(7)  # whatever happens in between
    found = session(run, resume=True)
    assert torch.equal(found, expected)
    timing = ("seconds", "images_per_second")
    records = [[{k: v for k, v in m.items() if k not in timing} for m in r.metrics()] for r in (run, whole)]
    assert records[0] == records[1]
    ours, theirs = run.load_checkpoint().tensors, whole.load_checkpoint().tensors
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_resume_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vae.train.LOOK_EVERY", 0.0)
    expected = session(None)
    run = new_run(tmp_path)
    for stop_at, resume in ((5, False), (13, True)):
        with pytest.raises(Interrupted):
            session(run, stop_at, resume=resume)
    assert torch.equal(session(run, resume=True), expected)


def test_a_different_position_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vae.train.LOOK_EVERY", 0.0)
    expected = session(None)
    run = new_run(tmp_path)
    with pytest.raises(Interrupted):
        session(run, 12)
    monkeypatch.setattr("vae.train.set_random_state", lambda state: None)
    assert not torch.equal(session(run, resume=True), expected)


def test_sigterm_stops_at_a_whole_step(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    model = small()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        fit(model, loader(), epochs=100_000, run=run)
    assert signal.getsignal(signal.SIGTERM) is before
    assert run.load_checkpoint().state["progress"]["step"] > 0


def test_ema_is_the_average_of_the_weights() -> None:
    torch.manual_seed(0)
    model = small()
    seen = [weights(model)]

    class Optimizer(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            seen.append(weights(model))

    fit(model, loader(), epochs=1, ema=0.7, optimizer=Optimizer(model.parameters(), lr=0.1))
    average = seen[0]
    for raw in seen[1:]:
        average = 0.7 * average + 0.3 * raw
    torch.testing.assert_close(weights(model), average, rtol=1e-5, atol=1e-6)
    assert not torch.equal(weights(model), seen[-1])


def test_clipping_clips() -> None:
    moved = []
    for clip_norm in (None, 1e-3):
        torch.manual_seed(0)
        model = small()
        start = weights(model)
        fit(
            model,
            [(images(8), None)],
            epochs=1,
            clip_norm=clip_norm,
            optimizer=torch.optim.SGD(model.parameters(), 1.0),
        )
        moved.append((weights(model) - start).norm().item())
    assert moved[0] > 0.1
    assert moved[1] == pytest.approx(1e-3, rel=1e-3)


def test_learning_rate_follows_the_schedule() -> None:
    rates = []
    model = small()

    class Optimizer(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    schedule = OneCycle()
    fit(model, loader(), epochs=2, schedule=schedule, optimizer=Optimizer(model.parameters(), lr=0.5))
    assert rates == pytest.approx([0.5 * schedule(i / 8, 2) for i in range(16)])


def test_patience_stops_early_and_keeps_the_best() -> None:
    torch.manual_seed(0)
    model, validation = small(), Batches(images(), batch_size=60)
    # A rate that destroys the weights after a good start.
    wild = torch.optim.SGD(model.parameters(), lr=0.02)
    records = fit(
        model, loader(), validation, epochs=50, patience=2, optimizer=wild, schedule=lambda e, n: 1 + 50 * (e > 3)
    )
    assert len(records) < 50
    scores = [record["validation_neg_elbo"] for record in records]
    assert len(records) == scores.index(min(scores)) + 3
    assert validate(model, validation)["neg_elbo"] == pytest.approx(min(scores), rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_last_good_weights(bad: float, monkeypatch) -> None:
    monkeypatch.setattr("vae.train.LOOK_EVERY", 0.0)
    torch.manual_seed(0)
    model, seen = small(), []

    def objective(draw: Any) -> Tensor:
        seen.append(weights(model))
        return elbo(draw) * (bad if len(seen) == 6 else 1.0)

    with pytest.raises(NumericalError, match=r"epoch 1, step 5;.*learning_rate"):
        fit(model, loader(), epochs=2, objective=objective)
    assert torch.equal(weights(model), seen[5])


def test_a_gradient_that_is_not_finite_is_found_too(monkeypatch) -> None:
    monkeypatch.setattr("vae.train.LOOK_EVERY", 0.0)
    model, calls = small(), []

    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * float("nan")

    def objective(draw: Any) -> Tensor:
        calls.append(1)
        return Spoil.apply(elbo(draw)) if len(calls) == 4 else elbo(draw)

    with pytest.raises(NumericalError, match="step 3"):
        fit(model, loader(), epochs=1, objective=objective)
    assert weights(model).isfinite().all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit(small(), loader(), epochs=0), ConfigError, "at least 1, got 0"),
        (lambda: fit(small(), [], epochs=1), DataError, "no batch"),
        (lambda: fit(small(3), [images(8)], epochs=1), DataError, "gives no labels"),
        (lambda: find_device("cuda:77"), DeviceError, "cuda:77.*available: cpu"),
        (lambda: find_device("gpu"), DeviceError, "'gpu' is not here"),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_validation_leaves_the_random_stream_and_the_mode_alone() -> None:
    model = small().train()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first = validate(model, Batches(images(), batch_size=60))
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert first == validate(model, Batches(images(), batch_size=60))


def test_looking_costs_no_more_than_time_allows() -> None:
    looks = []

    class Count:
        def step(self, *_: Any) -> None:
            looks.append(time.perf_counter())

        def epoch(self, record: Any) -> None:
            pass

    fit(small(), loader(), epochs=20, listener=Count())  # type: ignore[arg-type]
    assert all(b - a >= 0.2 for a, b in pairwise(looks))
