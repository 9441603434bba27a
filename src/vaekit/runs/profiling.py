"""Measure where the time of a training step goes: `vae profile`.

Not for: comparing speeds, since profiling slows the steps down; `benchmarks/` compares speeds.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from ..config.recipe import Recipe
from ..training.trainer import Trainer
from .job import Job

WARM_UP, STEPS, OPERATORS = 20, 50, 12


@dataclass(frozen=True)
class Profile:
    """Means over some steps of a training.

    Attributes:
        milliseconds: Wall-clock time of a step without the profiler.
        phases: Shares of the host's time: data, forward_pass, backward_pass and optimizer; they add up to 1. On a GPU
            this is the time to launch the work, which the GPU does meanwhile.
        operators: The slowest operators → their own time in ms and their calls, both per step. On a GPU it is the time
            of the GPU alone.
        setting: Device, threads, precision, batch size.
    """

    milliseconds: float
    phases: dict[str, float]
    operators: dict[str, tuple[float, float]]
    setting: dict[str, Any]


def profile_training(recipe: Recipe, *, steps: int = STEPS) -> Profile:
    """Train for some steps, first without and then with the profiler, and write nothing.

    Arguments:
        recipe: A config, resolved.
        steps: How many steps to time, and how many to profile.

    Raises:
        VAEError: Something in the config does not work.
    """
    with Job.computing(recipe) as job:
        return _profile(job, steps)


def _profile(job: Job, steps: int) -> Profile:
    train, device = job.config.train, job.model.device
    trainer = job.trainer()
    batches = _endless(job.batches(job.data.train, training=True))
    _advance(trainer, batches, WARM_UP)
    trainer.check()
    begun = time.perf_counter()
    _advance(trainer, batches, steps)
    trainer.check()  # waits for the device
    seconds = time.perf_counter() - begun
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as watched:
        _advance(trainer, batches, steps)
        trainer.check()
    setting = {"device": str(device), "threads": torch.get_num_threads(), "precision": train.precision}
    setting |= {"batch_size": train.batch_size, "steps": steps}
    phases = _phases(watched.key_averages())
    operators = _operators(watched.key_averages(), steps, on_gpu=device.type == "cuda")
    return Profile(1e3 * seconds / steps, phases, operators, setting)


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from batches


def _advance(trainer: Trainer, batches: Iterator[Any], steps: int) -> None:
    for _ in range(steps):
        with record_function("data"):
            batch = next(batches)
        with record_function("step"):
            trainer.step(batch, 0.0)


def _phases(averages: Iterable[Any]) -> dict[str, float]:
    totals = dict.fromkeys(("data", "step", "backward_pass", "optimizer"), 0.0)
    for event in averages:
        if event.key in totals:
            totals[event.key] += event.cpu_time_total
        elif event.key.startswith("autograd::engine::evaluate_function"):
            totals["backward_pass"] += event.cpu_time_total
        elif event.key.startswith("Optimizer.step"):
            totals["optimizer"] += event.cpu_time_total
    whole = totals["data"] + totals.pop("step")
    totals["forward_pass"] = whole - sum(totals.values())
    return {name: totals[name] / whole for name in ("data", "forward_pass", "backward_pass", "optimizer")}


def _operators(averages: Iterable[Any], steps: int, *, on_gpu: bool) -> dict[str, tuple[float, float]]:
    operators = {
        event.key.removeprefix("aten::"): (
            (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e3 / steps,
            event.count / steps,
        )
        for event in averages
        if event.key.startswith("aten::")
    }
    slowest = sorted(operators, key=lambda name: -operators[name][0])
    return {name: operators[name] for name in slowest[:OPERATORS]}
