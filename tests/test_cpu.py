"""What the processor does with tiny numbers, and on how many threads."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from conftest import SMALL
from vaekit.cli.command import SPIN_COUNT, spin_less
from vaekit.config import read
from vaekit.config.parts import PART_TABLE
from vaekit.config.recipe import Recipe
from vaekit.runs import environment, job, lifecycle
from vaekit.runs.picture_writer import PictureWriter
from vaekit.store import Run
from vaekit.training import cpu, eager
from vaekit.training.cpu import Pace, find_threads, flushed, flushes, threads

TINY = torch.full((1000,), 1e-30)


def test_within_the_block_tiny_numbers_are_zero_and_afterwards_as_before() -> None:
    assert (TINY * 1e-10).count_nonzero() == 1000
    with flushed():
        assert flushes() and (TINY * 1e-10).count_nonzero() == 0
        with flushed(False):
            assert not flushes()
            with flushed():  # what the outer block says holds
                assert not flushes()
        assert flushes()
    assert not flushes()


def test_moments_that_decay_become_zero_instead_of_denormal() -> None:
    def tiny_moments() -> float:
        weight = torch.nn.Parameter(torch.ones(100))
        adam = torch.optim.Adam([weight], betas=(0.5, 0.5))
        for step in range(140):
            weight.grad = torch.ones(100) if step == 0 else torch.zeros(100)
            adam.step()
        moments = torch.cat([adam.state[weight][key] for key in ("exp_avg", "exp_avg_sq")])
        return ((moments != 0) & (moments.abs() < 2.0**-126)).double().mean().item()

    assert tiny_moments() == 1
    with flushed():
        assert tiny_moments() == 0


def test_a_run_says_so_and_an_older_one_goes_on_without(here: Path, command) -> None:
    run = Run.open("a")
    assert run.environment["flush_denormal"] is True
    with environment.computing_as(run), flushed():
        assert flushes()
    run.environment.pop("flush_denormal")
    with environment.computing_as(run), flushed():
        assert not flushes()


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in cpu.CHOSEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: 4)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Clock:
    """The time, which passes in steps alone: whatever else the machine does, a trial sees the same."""

    def __init__(self) -> None:
        self.now = 0.0

    def step(self, on_one: float, on_all: float) -> Callable[[], None]:
        """A step that takes so many seconds on one thread, and so many on more."""

        def take() -> None:
            self.now += on_one if torch.get_num_threads() == 1 else on_all

        return take


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cpu.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.mark.usefixtures("four_threads")
def test_one_thread_where_the_others_are_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = clock.step(on_one=0.001, on_all=0.02)
    assert find_threads(busy) == 1
    assert find_threads(clock.step(on_one=0.002, on_all=0.001)) == 4
    assert find_threads(clock.step(on_one=0.002, on_all=0.002)) == 4  # it must be far slower: the bits depend on it
    assert torch.get_num_threads() == 4
    with threads(3):
        assert find_threads(busy) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert find_threads(busy) == 4


@pytest.mark.usefixtures("four_threads")
def test_a_trial_is_short_even_if_a_step_is_not(clock: Clock) -> None:
    assert find_threads(clock.step(on_one=0.05, on_all=0.6)) == 1
    assert clock.now < 2


@pytest.mark.usefixtures("four_threads")
def test_the_config_says_how_many_and_more_than_there_are_is_not_followed(here: Path, command) -> None:
    result = command("train", "--data", "x.npy", "--epochs", "1", *SMALL, "--set", "train.threads=2", "--name", "b")
    assert result.status == 0, result.err
    assert Run.open("b").environment["threads"] == 2
    assert torch.get_num_threads() == 4
    assert command("train", "--data", "x.npy", "--set", "train.threads=0").status == 2


def test_steps_that_become_slower_are_told_once() -> None:
    pace = Pace(limit=5, lasting=3)
    told = [pace.slowdown(seconds) for seconds in (0.01, 0.012, 0.1, 0.01, 0.1, 0.1, 0.2, 0.2, 0.2)]
    assert told == [None] * 6 + [20.0, None, None]


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("preset", ["standard-vae", "standard-cvae"])
def test_a_model_of_any_kind_is_tried(monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    """Batches reach the model as the training's do, with a context where it is conditional."""
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    torch.set_num_threads(2)
    config = read(preset, sections={**tiny.SECTIONS, "model": {"latent_size": 2}, "prior": {"name": "standard-normal"}})
    assert job.Job.prepare(Recipe.resolve(config)).threads() in (1, 2)


@pytest.mark.parametrize("name", PART_TABLE["optimizer"])
def test_optimizers_do_not_import_the_compiler_of_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Recipe.resolve(read("vae", sections={"optimizer": name})).optimizer
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = made([weight])
    (weight**2).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert (weight < 1).all() and not optimizer.param_groups[0]["params"][0].grad_fn
    with pytest.raises(ImportError):
        torch.optim.Adam([weight], fused=True).step()


def test_an_optimizer_without_the_compiler_takes_the_steps_of_that_of_torch() -> None:
    ends = []
    for kind in (torch.optim.Adam, eager.Adam):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 50))
        optimizer = kind([weight], 0.1, fused=True)
        for _ in range(5):
            optimizer.zero_grad()
            weight.cos().sum().backward()
            optimizer.step()
        ends.append(weight.detach())
    assert torch.equal(*ends)


def test_shapes_of_a_model_do_not_import_symbolic_mathematics(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.resolve(read("vae"))
    facts: dict[str, Any] = {"event_shape": (1, 8, 8), "num_classes": 10}
    shapes = {name: tensor.shape for name, tensor in recipe.model(**facts).state_dict().items()}
    monkeypatch.setitem(sys.modules, "torch.fx.experimental.symbolic_shapes", None)
    assert recipe.shapes(**facts) == shapes


def test_threads_that_wait_sleep_soon_unless_the_user_says_otherwise() -> None:
    environments: list[dict[str, str]] = [{}, {"GOMP_SPINCOUNT": "9"}, {"OMP_WAIT_POLICY": "ACTIVE"}]
    for environment_ in environments:
        spin_less(environment_)
    assert environments == [{"GOMP_SPINCOUNT": SPIN_COUNT}, {"GOMP_SPINCOUNT": "9"}, {"OMP_WAIT_POLICY": "ACTIVE"}]


def test_work_beside_a_training_is_done_in_order_and_its_errors_are_raised() -> None:
    done: list[int] = []

    def later(number: int) -> None:
        time.sleep(0.01 / number)
        done.append(number)

    with PictureWriter() as writer:
        for number in (1, 2, 3):
            writer.do(lambda number=number: later(number))
    assert done == [1, 2, 3]
    with pytest.raises(ZeroDivisionError), PictureWriter() as writer:
        writer.do(lambda: later(0))
    with pytest.raises(KeyError), PictureWriter() as writer:  # the first error is the one that counts
        writer.do(lambda: later(0))
        raise KeyError


class WithoutTorch(TorchDispatchMode):
    """Within the block torch computes nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.ops.aten.detach.default:
            raise AssertionError(f"{func} is computed where pictures are written")
        return func(*args, **kwargs or {})


def test_pictures_are_written_without_torch_whose_threads_would_slow_down_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do, written = PictureWriter.do, []

    def watched(self: PictureWriter, work: Callable[[], object]) -> None:
        def alone() -> None:
            with WithoutTorch():
                work()
            written.append(work)

        do(self, alone)

    monkeypatch.setattr(PictureWriter, "do", watched)
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    run = lifecycle.train_run(tiny.tiny(), root=tmp_path)
    assert (
        len(written) >= 8 and run.picture_to_write("samples.png").exists() and run.picture_to_write("walk.gif").exists()
    )
    with WithoutTorch(), pytest.raises(AssertionError, match="is computed where pictures are written"):
        torch.ones(2).add(1)
