"""Schedules: the values at the corners, and torch's own one-cycle as a reference."""

import pytest
import torch

from vaekit.errors import ConfigError
from vaekit.objectives.schedules import Constant, Cyclical, Decay, Linear, OneCycle, Stages


def test_linear() -> None:
    schedule = Linear(start=1.0, end=3.0, epochs=4)
    assert [schedule(e) for e in (0, 1, 4, 9, float("inf"))] == [1.0, 1.5, 3.0, 3.0, 3.0]


def test_cyclical() -> None:
    schedule = Cyclical(period=10, ramp=0.5)
    assert [schedule(e) for e in (0, 2.5, 5, 9.9, 10, 12.5, float("inf"))] == [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0]


def test_one_cycle_is_torch_s() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=1001, div_factor=25)
    ours = OneCycle(warm_up=0.3, start=1 / 25, end=1 / 25e4)
    for step in range(1000):
        assert ours(step / 1000, 1) == pytest.approx(optimizer.param_groups[0]["lr"], abs=5e-3)
        optimizer.step()
        reference.step()


def test_constant_and_decay() -> None:
    assert Constant()(3, 10) == 1.0
    assert [Decay(warm_up=0.5)(e, 10) for e in (0, 2.5, 5, 7.5, 10)] == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_stages_are_those_of_burda() -> None:
    rates, epoch = Stages(), 0
    for i in range(8):
        for e in (epoch, epoch + 3**i - 1, epoch + 3**i - 1e-3):
            assert rates(e, 3280) == pytest.approx(10 ** (-i / 7))
        epoch += 3**i
    assert epoch == 3280


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(epochs=0),
        lambda: Cyclical(period=-1),
        lambda: Cyclical(ramp=0),
        lambda: OneCycle(warm_up=1),
        lambda: Decay(warm_up=-0.1),
    ],
)
def test_what_does_not_fit_is_refused(make) -> None:
    with pytest.raises(ConfigError, match="got"):
        make()
