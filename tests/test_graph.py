"""A step that is recorded and replayed, by a stand-in for CUDA graphs that runs on any device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from test_train import images, loader, small, weights
from vaekit import Objective, elbo, fit
from vaekit.data import Batches
from vaekit.errors import ConfigError, NumericalError
from vaekit.objectives import beta_elbo
from vaekit.objectives.schedules import Linear, OneCycle
from vaekit.training.graph import WARM_UP, Function
from vaekit.training.trainer import Trainer


class Recorder:
    """Plays a function again on the very tensors that it was recorded with, and remembers which they were."""

    def __init__(self) -> None:
        self.warmed = self.played = 0
        self.recorded: list[Tensor] = []

    def warm_up(self, function: Function, x: Tensor, c: Tensor | None) -> None:
        self.warmed += 1
        function(x, c)

    def capture(self, function: Function, x: Tensor, c: Tensor | None) -> Callable[[], None]:
        self.recorded.append(x)

        def replay() -> None:
            self.played += 1
            function(x, c)

        return replay


def trained(graphs: Any, *, context_size: int = 0, epochs: int = 3, **options: Any) -> Trainer:
    torch.manual_seed(0)
    model = small(context_size)
    settings = {"clip_norm": None, "ema": None, "skip": False} | options
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    trainer = Trainer(model, Objective(elbo), optimizer, OneCycle(), epochs, graphs=graphs, **settings)
    batches = loader()
    for epoch in range(epochs):
        for i, batch in enumerate(batches):
            trainer.step(batch, epoch + i / len(batches))
    return trainer


@pytest.mark.parametrize(
    "options",
    [{}, {"context_size": 3}, {"clip_norm": 0.1, "ema": 0.9}, {"skip": True}],
    ids=lambda o: "-".join(o) or "plain",
)
def test_a_replayed_step_is_the_step(options: Any) -> None:
    recorder = Recorder()
    plain, replayed = trained(None, **options), trained(recorder, **options)
    torch.testing.assert_close(
        weights(replayed.model), weights(plain.model), rtol=1e-5, atol=1e-6
    )  # the rate is float32
    assert replayed.look() == pytest.approx(plain.look(), rel=1e-5)
    assert replayed.progress.step == plain.progress.step == int(replayed.counts.steps) == 3 * 8
    assert recorder.warmed == WARM_UP and len(recorder.recorded) == 1
    assert recorder.played == 3 * 7 - WARM_UP  # the last batch of an epoch has four images instead of eight


def test_a_step_that_does_not_read_its_inputs_anew_would_be_found_out() -> None:
    class Stale(Recorder):
        def capture(self, function: Function, x: Tensor, c: Tensor | None) -> Callable[[], None]:
            kept = x.clone()
            return lambda: function(kept, c)

    plain, stale = trained(None), trained(Stale())
    assert not torch.allclose(weights(stale.model), weights(plain.model), rtol=1e-5, atol=1e-6)


def test_nothing_that_a_step_changes_moves() -> None:
    """A graph writes where it wrote when it was recorded."""
    trainer = trained(Recorder(), ema=0.9, clip_norm=1.0, skip=True)

    def places() -> list[int]:
        state = [value for slots in trainer.optimizer.state.values() for value in slots.values()]
        kept = vars(trainer.counts).values()
        groups = [group["lr"] for group in trainer.optimizer.param_groups]
        return [t.data_ptr() for t in (*trainer.parameters, *trainer.averages, *state, *kept, *groups)]

    before = places()
    trainer.step((images(8), None), 0.5)
    assert places() == before


def test_the_first_bad_step_is_told_from_the_device() -> None:
    trainer = trained(Recorder(), epochs=1)
    spoilt = images(8)
    spoilt[0] = torch.nan
    trainer.step((spoilt, None), 0.0)
    trainer.step((images(8), None), 0.0)
    with pytest.raises(NumericalError, match="step 8;"):
        trainer.look()


def test_graphs_that_cannot_be() -> None:
    batches = Batches(images(), batch_size=8)
    with pytest.raises(ConfigError, match="cuda_graph is for CUDA devices, this is 'cpu'"):
        fit(small(), batches, epochs=1, cuda_graph=True)
    assert Objective(beta_elbo, {"beta": Linear(epochs=3)}).is_scheduled
    assert not Objective(beta_elbo, {"beta": 3.0}).is_scheduled
