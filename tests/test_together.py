"""Replicates whose steps are done at once come to what each comes to alone, whatever happens to one of them."""

import copy
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import vmap

import tiny
from vaekit import config, experiment, replicates
from vaekit.config import Config
from vaekit.data import Dataset, Split
from vaekit.errors import ConfigError, NumericalError
from vaekit.nets import MLP
from vaekit.rng import Streams
from vaekit.store import Run
from vaekit.training import Interrupted, Steps, agrees, can_stack, noise, stack, together

LAYER = {"encoder": {"norm": "layer"}}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "load_data", tiny.dataset)
    monkeypatch.setattr(experiment, "draw_pictures", lambda *_, **__: [])
    monkeypatch.setattr("vaekit.plot.save", lambda *_: None)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch):
    """Everything in float64."""

    def doubled(name: str = "mnist", **_: object) -> Dataset:
        data = tiny.dataset(name)
        parts = (Split(part.images.double() / 255, part.labels) for part in (data.train, data.validation, data.test))
        return Dataset(data.name, *parts, classes=data.classes, checksum=data.checksum)

    monkeypatch.setattr(experiment, "load_data", doubled)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def configured(sections: dict[str, dict[str, Any]] | None = None, **train: object) -> Config:
    """The tiny config, with other sections, three epochs long."""
    tree = {key: dict(value) for key, value in tiny.SECTIONS.items()}
    for key, value in (sections or {}).items():
        tree[key] = value if "name" in value else tree.get(key, {}) | value
    tree["train"] |= {"epochs": 3, "patience": None, "learning_rate": 0.01, "precision": "fp32"} | train
    tree["train"] = {key: value for key, value in tree["train"].items() if value is not None}
    return config.read("vae", sections=tree)


def state(run: Run) -> dict[str, Tensor]:
    """All tensors of the last checkpoint."""
    files = (run.path / "checkpoints" / "last").glob("*.safetensors")
    return {f"{file.stem.split('-')[0]}/{name}": value for file in files for name, value in load_file(file).items()}


def distance(run: Run, other: Run) -> float:
    """Greatest difference of a number in the last checkpoints of two runs; random streams must be the same."""
    one, two = state(run), state(other)
    assert one.keys() == two.keys()
    streams = [name for name in one if "rng" in name.split("/")[0] or name.split("/")[0] == "loader"]
    assert all(torch.equal(one[name], two[name]) for name in streams)
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one if one[name].numel())


def both_ways(given: Config, root: Path, seeds: int = 3) -> tuple[list[Run], list[Run]]:
    train = partial(replicates.train_replicates, given, seeds, root=root)
    return train(name="at-once", together=True), train(name="one-by-one", together=False)


CASES: dict[str, tuple[dict[str, dict[str, Any]], dict[str, Any]]] = {
    "everything": ({}, {"patience": 2}),  # batch norm, ema, clipping, schedules, beta, fresh noise in the data
    "elbo": (LAYER | {"objective": {"name": "elbo"}}, {"ema": None, "clip_norm": None}),
    "iwae": (LAYER | {"objective": {"name": "iwae", "samples": 3}}, {"clip_norm": 0.1}),
    "conditional": (LAYER | {"model": {"condition": "class"}, "optimizer": {"name": "sgd", "momentum": 0.9}}, {}),
    "sgd": (LAYER | {"optimizer": {"name": "sgd"}}, {}),
    "coupled": (LAYER | {"objective": {"name": "mmd"}}, {"ema": None}),
    "covariance": (LAYER | {"posterior": {"name": "full-covariance-normal"}, "optimizer": {"name": "adamw"}}, {}),
    "vamp": (LAYER | {"prior": {"name": "vamp", "components": 3}}, {}),
}


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("case", CASES)
def test_each_is_its_own_single_run(case: str, tmp_path: Path) -> None:
    sections, train = CASES[case]
    at_once, one_by_one = both_ways(configured(sections, **train), tmp_path)
    for run, alone in zip(at_once, one_by_one, strict=True):
        assert distance(run, alone) < 1e-8
        assert (run.environment["together"], alone.environment["together"]) == (3, 1)
        for record, other in zip(run.metrics(), alone.metrics(), strict=True):
            figures = [key for key in record if key not in tiny.TIMES]
            assert [record[key] for key in figures] == pytest.approx([other[key] for key in figures], rel=1e-9)
        assert run.read_json("test.json")["neg_elbo"] == pytest.approx(
            alone.read_json("test.json")["neg_elbo"], rel=1e-9
        )
    assert distance_of_weights(at_once[0], at_once[1]) > 1e-3


def distance_of_weights(run: Run, other: Run) -> float:
    name = "checkpoints/last/model.safetensors"
    one, two = load_file(run.path / name), load_file(other.path / name)
    return max(float((one[key] - two[key]).abs().max()) for key in one)


def test_in_single_precision_they_are_the_same_up_to_rounding(tmp_path: Path) -> None:
    given = configured(LAYER | {"optimizer": {"name": "sgd"}})
    at_once, one_by_one = both_ways(given, tmp_path, seeds=2)
    assert all(distance_of_weights(*pair) < 1e-5 for pair in zip(at_once, one_by_one, strict=True))


@pytest.mark.filterwarnings("ignore:this processor has no bfloat16")
def test_products_in_bfloat16(tmp_path: Path) -> None:
    given = configured(LAYER | {"optimizer": {"name": "sgd"}}, precision="bf16")
    at_once, one_by_one = both_ways(given, tmp_path, seeds=2)
    exact = replicates.train_replicates(configured(LAYER | {"optimizer": {"name": "sgd"}}), 1, name="e", root=tmp_path)
    rounding = distance_of_weights(one_by_one[0], exact[0])
    assert 1e-5 < rounding < 1e-4
    assert all(distance_of_weights(*pair) < 10 * rounding for pair in zip(at_once, one_by_one, strict=True))


@pytest.mark.usefixtures("exact")
def test_without_their_own_noise_they_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = configured(LAYER)
    monkeypatch.setattr(replicates, "agrees", lambda *_: True)
    monkeypatch.setattr(noise.NoiseOfReplicates, "_drawn", lambda self, func, args, kwargs: func(*args, **kwargs))
    whole = torch.func.vmap
    monkeypatch.setattr(stack, "vmap", partial(whole, randomness="same"))
    at_once, one_by_one = both_ways(given, tmp_path, seeds=2)
    assert distance_of_weights(at_once[1], one_by_one[1]) > 1e-3


def scratch(sections: dict[str, dict[str, Any]], **train: object):
    job = experiment.Job.prepare(configured(sections, **train), trust=True)
    batch = next(iter(job.batches(job.data.train, training=True)))
    return (lambda: replace(job, model=copy.deepcopy(job.model).double()).trainer()), batch


class Dropping(MLP):
    """An encoder with dropout."""

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        return nn.functional.dropout(super().rows(x, c), 0.3, self.training)


class Careless(MLP):
    """An encoder whose noise is from a stream that is not torch's."""

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        return super().rows(x, c) + np.random.rand() + random.random()


class Looking(MLP):
    """An encoder that asks what its values are."""

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        return super().rows(x, c) if x.sum() > 0 else x


@pytest.mark.parametrize(("encoder", "fits"), [(Dropping, True), (Careless, False), (Looking, False)])
def test_a_trial_finds_what_cannot_be_done_at_once(encoder: type, fits: bool) -> None:
    make, batch = scratch({"encoder": {"name": f"test_together:{encoder.__name__}", "hidden": [4]}})
    assert agrees(make, batch) is fits


def test_what_is_never_tried() -> None:
    assert can_stack(scratch(LAYER)[0]())
    assert not can_stack(scratch(LAYER, on_nan="skip")[0]())
    trainer = scratch(LAYER)[0]()
    trainer.optimizer = torch.optim.LBFGS(trainer.parameters)
    assert not can_stack(trainer)


def test_replicates_that_cannot_are_trained_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicates, "is_faster", lambda *_: True)
    given = configured(LAYER | {"objective": {"name": "iwae", "samples": 2, "gradient": "dreg"}}, epochs=1)
    with pytest.raises(ConfigError, match=r"cannot do their steps at once.*leave out together"):
        replicates.train_replicates(given, 2, name="s", root=tmp_path, together=True)
    assert not list(tmp_path.iterdir())
    runs = replicates.train_replicates(given, 2, name="s", root=tmp_path)
    assert [run.environment["together"] for run in runs] == [1, 1]
    exactly = configured(LAYER, epochs=1, deterministic=True)
    runs = replicates.train_replicates(exactly, 2, name="d", root=tmp_path)
    assert [run.environment["together"] for run in runs] == [1, 1]
    runs = replicates.train_replicates(configured(LAYER, epochs=1), 2, name="e", root=tmp_path)
    assert [run.environment["together"] for run in runs] == [2, 2]


def test_the_trial_leaves_the_streams_and_the_series_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state(), random.getstate()
    data = replicates._data_to_share(configured(LAYER), 2, None, False)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert data is None or data.name == "mnist"


DRAWS = {
    "randn": lambda x: torch.randn(2, 3),
    "rand": lambda x: torch.rand((3,)),
    "randint": lambda x: torch.randint(0, 100, (4,)),
    "normal": lambda x: torch.normal(x, 1 + x**2),
    "like": torch.randn_like,
    "in place": lambda x: torch.empty(3).normal_(),
    "in place of its own": lambda x: torch.empty_like(x).exponential_(2.0),
    "bernoulli": lambda x: torch.bernoulli(x.sigmoid()),
    "multinomial": lambda x: torch.multinomial(x.exp(), 5, replacement=True),
    "dropout": lambda x: nn.functional.dropout(x, 0.5),
    "one after another": lambda x: torch.rand(2) * torch.randn(2) + x[:2],
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_noise_is_drawn_from_the_streams_of_each(draw) -> None:
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    alone, streams = [], stack.trial_streams(3)
    for row, own in zip(x, stack.trial_streams(3), strict=True):
        with own:
            alone.append(draw(row))

    def one(row: Tensor, value: Tensor) -> Tensor:
        with noise.NoiseOfReplicates(streams, row, torch.device("cpu")):
            return draw(value)

    found = vmap(one)(torch.arange(3), x)
    assert torch.equal(found, torch.stack(alone))
    assert not torch.equal(found[0] - x[0].mean(), found[1] - x[1].mean())


def test_noise_that_its_values_decide_is_refused() -> None:
    def one(row: Tensor, value: Tensor) -> Tensor:
        with noise.NoiseOfReplicates(stack.trial_streams(2), row, torch.device("cpu")):
            return torch._standard_gamma(value)

    with pytest.raises(RuntimeError):
        vmap(one)(torch.arange(2), torch.ones(2, 3))


class Stopping:
    """Ask to stop, or break, in the middle."""

    def __init__(self, at: int, action) -> None:
        self.at, self.action = at, action

    def step(self, *_: object) -> None: ...

    def epoch(self, record: dict[str, Any]) -> None:
        if record["epoch"] == self.at:
            self.action()


def listening(which: int, listener: object):
    return lambda i, *_: replicates.nullcontext(listener if i == which else None)


@pytest.mark.usefixtures("exact")
def test_an_interrupted_series_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    given = configured(LAYER, epochs=5)
    whole = replicates.train_replicates(given, 3, name="whole", root=tmp_path, together=False)
    interrupt = listening(1, Stopping(2, partial(os.kill, os.getpid(), signal.SIGINT)))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped at epoch"):
        replicates.train_replicates(given, 3, name="s", root=tmp_path, together=True, announce=interrupt)
    assert signal.getsignal(signal.SIGINT) is handler
    runs = [Run.open(f"s-seed{i}", root=tmp_path) for i in range(3)]
    assert [run.status for run in runs] == ["interrupted"] * 3
    experiment.resume(runs[2])  # alone
    again = replicates.train_replicates(given, 3, name="s", root=tmp_path, together=True)
    assert max(map(distance, again, whole)) < 1e-8


@pytest.mark.usefixtures("exact")
def test_what_was_begun_alone_goes_on_with_the_others(tmp_path: Path) -> None:
    given = configured(LAYER, epochs=4)
    whole = replicates.train_replicates(given, 3, name="whole", root=tmp_path, together=False)

    def stop() -> None:
        raise Interrupted("here")

    for seed, at in ((1, 2), (2, 3)):
        own = config.changed(given, [f"train.seed={seed}"])
        with pytest.raises(Interrupted):
            experiment.train(own, name=f"s-seed{seed}", root=tmp_path, listener=Stopping(at, stop))
    runs = replicates.train_replicates(given, 3, name="s", root=tmp_path, together=True)
    assert max(map(distance, runs, whole)) < 1e-8


def test_one_that_fails_leaves_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = configured(LAYER, epochs=4)
    whole = replicates.train_replicates(given, 3, name="whole", root=tmp_path, together=True)
    trainers = []
    monkeypatch.setattr(together.Peer, "put", watched(together.Peer.put, trainers))

    def spoil() -> None:
        with torch.no_grad():
            trainers[1].parameters[0].fill_(torch.nan)

    with pytest.raises(NumericalError, match=r"not finite.*the last state that was good.*vae resume s-seed1"):
        replicates.train_replicates(
            given, 3, name="s", root=tmp_path, together=True, announce=listening(1, Stopping(2, spoil))
        )
    runs = [Run.open(f"s-seed{i}", root=tmp_path) for i in range(3)]
    assert [run.status for run in runs] == ["finished", "failed", "finished"]
    assert all(value.isfinite().all() for value in state(runs[1]).values())
    assert [distance_of_weights(runs[i], whole[i]) < 1e-3 for i in (0, 2)] == [True, True]
    again = replicates.train_replicates(given, 3, name="s", root=tmp_path)
    assert distance_of_weights(again[1], whole[1]) < 1e-3


def watched(put, trainers: list):
    def noting(self, work) -> None:
        if work.trainer not in trainers:
            trainers.append(work.trainer)
        put(self, work)

    return noting


@pytest.mark.usefixtures("exact")
def test_each_stops_when_it_is_out_of_patience(tmp_path: Path) -> None:
    at_once, one_by_one = both_ways(configured(LAYER, epochs=12, patience=1, learning_rate=0.25), tmp_path, seeds=4)
    lengths = [len(run.metrics()) for run in one_by_one]
    assert len(set(lengths)) > 1
    assert [len(run.metrics()) for run in at_once] == lengths
    assert max(map(distance, at_once, one_by_one)) < 1e-6


def test_a_step_that_goes_wrong_ends_all_with_what_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = stack.Stack.step, []

    def failing(self, *arguments) -> None:
        calls.append(0)
        if len(calls) == 15:
            raise RuntimeError("out of memory")
        step(self, *arguments)

    monkeypatch.setattr(replicates, "agrees", lambda *_: True)
    monkeypatch.setattr(stack.Stack, "step", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        replicates.train_replicates(configured(LAYER), 2, name="s", root=tmp_path, together=True)
    assert [Run.open(f"s-seed{i}", root=tmp_path).status for i in range(2)] == ["interrupted"] * 2


def test_the_command_says_that_they_go_on_at_once(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicates, "is_faster", lambda *_: True)
    file = tmp_path / "small.toml"
    file.write_text(configured(LAYER, epochs=2).to_toml())
    found = command("train", "--config", file, "--seeds", 2, "--name", "s", "--runs", tmp_path)
    assert found.status == 0, found.err
    said = found.err.splitlines()
    assert said[:2] == [
        "replicate 1 of 2: seed 0, run s-seed0",
        "replicate 2 of 2: seed 1, run s-seed1, in the same steps",
    ]
    last = [Run.open(f"s-seed{i}", root=tmp_path).metrics()[-1]["validation_neg_elbo"] for i in range(2)]
    mean, sd, _ = replicates.spread(last).values()
    assert len(said) == 4
    assert said[3].startswith("epoch 2/2  −ELBO ")
    assert f"validation −ELBO {mean:.2f} ± {sd:.2f}  (mean of 2)" in said[3]


def test_a_second_ctrl_c_acts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replicates, "agrees", lambda *_: True)
    monkeypatch.setattr(stack.Stack, "step", twice)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        replicates.train_replicates(configured(LAYER), 3, name="s", root=tmp_path, together=True)
    assert [Run.open(f"s-seed{i}", root=tmp_path).status for i in range(3)] == ["interrupted"] * 3
    assert threading.active_count() == threads


COMMAND = """
import sys
sys.path.insert(0, {tests!r})
import tiny
tiny.install()
from vaekit import experiment, cli, replicates
replicates.is_faster = lambda *_: True
sys.argv = ["vae", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_every_run_to_be_gone_on_with(tmp_path: Path, number: int) -> None:
    file = tmp_path / "small.toml"
    given = configured(LAYER | {"optimizer": {"name": "sgd"}}, epochs=30)
    file.write_text(given.to_toml())
    arguments = ["train", "--config", file, "--seeds", 3, "--name", "s", "--runs", tmp_path / "runs"]
    command = [sys.executable, "-c", COMMAND.format(tests=str(Path(__file__).parent)), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while "epoch" not in process.stderr.readline():
            pass
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(60) == 130, said
    assert said.endswith("goes on with the series\n")
    assert "Traceback" not in said
    runs = [Run.open(f"s-seed{i}", root=tmp_path / "runs") for i in range(3)]
    assert [run.status for run in runs] == ["interrupted"] * 3
    again = replicates.train_replicates(given, 3, name="s", root=tmp_path / "runs", together=True)
    alone = experiment.train(config.changed(given, ["train.seed=1"]), name="alone", root=tmp_path)
    assert [len(run.metrics()) for run in again] == [30] * 3
    assert distance_of_weights(again[1], alone) < 1e-4


def test_streams_take_turns() -> None:
    def draw() -> tuple[float, float, float]:
        return torch.rand(()).item(), np.random.rand(), random.random()

    mine = Streams()
    expected = [draw(), draw()]
    with mine:
        found = [draw()]
    draw()
    with mine:
        found.append(draw())
    assert found == expected


def test_steps_are_done_by_the_one_that_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until both stand at the same step; then at once."""
    make, batch = scratch(LAYER)
    done = []
    monkeypatch.setattr(together.Work, "alone", lambda self: done.append(self.step))
    monkeypatch.setattr(stack.Stack, "step", lambda self, works, streams: done.append([work.step for work in works]))

    class Waiting:
        def __init__(self, *steps: int) -> None:
            work, self.streams = stack.trial_work(make(), batch), Streams()
            self.queue = together.deque(work._replace(step=step) for step in steps)

    Steps()([Waiting(4, 5), Waiting(2, 3, 4)])
    assert done == [2, 3, [4, 4]]
