"""Where the time of a step goes."""

from typing import Any

import pytest
import torch

from tiny import dataset, tiny
from vaekit.config.recipe import Recipe
from vaekit.runs import job
from vaekit.runs.profiling import profile_training
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
