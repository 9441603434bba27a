"""Where the time of a step goes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tiny import dataset, tiny
from vaekit.config.recipe import Recipe
from vaekit.runs import job
from vaekit.runs.profiling import _operators, profile_training
from vaekit.training.cpu import flushes


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_profile_accounts_for_the_whole_step(monkeypatch: Any, ema: float | None) -> None:
    monkeypatch.setattr(job, "load_data", dataset)
    found = profile_training(Recipe.resolve(tiny(precision="fp32", ema=ema)), steps=4)
    assert found.milliseconds > 0
    assert sum(found.phases.values()) == pytest.approx(1)
    assert all(share > 0 for share in found.phases.values())
    assert found.setting["precision"] == "fp32" and found.setting["batch_size"] == 8
    milliseconds, calls = found.operators["addmm"]
    assert milliseconds > 0 and calls == 5  # a hidden layer, two heads; a hidden layer, the output
    assert list(found.operators.values()) == sorted(found.operators.values(), reverse=True)


def test_the_operators_have_the_time_of_one_device() -> None:
    """An operator that launches nothing on the GPU has no time there, however long the host takes."""
    times = {"aten::addmm": (6e3, 2e3), "aten::view": (0.0, 8e3), "cudaLaunchKernel": (0.0, 9e3)}
    events = [
        SimpleNamespace(key=key, self_device_time_total=gpu, self_cpu_time_total=host, count=4)
        for key, (gpu, host) in times.items()
    ]
    assert _operators(events, 2, on_gpu=True) == {"addmm": (3.0, 2.0), "view": (0.0, 2.0)}
    assert list(_operators(events, 2, on_gpu=False).items()) == [("view", (4.0, 2.0)), ("addmm", (1.0, 2.0))]


def test_a_profile_computes_as_the_training_does(monkeypatch: Any) -> None:
    monkeypatch.setattr(job, "load_data", dataset)
    settings = []

    def trainer(self: job.Job) -> Any:
        settings.append((flushes(), torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()))
        return whole(self)

    whole = job.Job.trainer
    monkeypatch.setattr(job.Job, "trainer", trainer)
    before = torch.get_num_threads()
    found = profile_training(Recipe.resolve(tiny(precision="fp32", deterministic=True, threads=1)), steps=1)
    assert settings == [(True, True, 1)] and found.setting["threads"] == 1
    assert torch.get_num_threads() == before and not torch.are_deterministic_algorithms_enabled()
