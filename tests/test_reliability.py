"""Runs that are never lost and never lie: killed, stopped, damaged, received from strangers, out of room, years old."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import disks
import fuzz
import tiny
import vaekit
from test_run import LIES, Calls, Killed, edit_manifest
from vaekit import cli
from vaekit.config import read
from vaekit.errors import ConfigError, RunError
from vaekit.runs import job, lifecycle
from vaekit.runs.run_config import config_of
from vaekit.store import RUN_FORMAT, Checkpoint, Run, checkpoint, files, list_runs
from vaekit.store.old_names import with_current_names
from vaekit.store.summaries import summaries
from vaekit.training import Interrupted, Listener, validate

TESTS = Path(__file__).parent
STORED = TESTS / "stored"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny data, a look at every step, and no fsync, which takes most of the time; its calls are tested elsewhere."""
    monkeypatch.setattr(job, "load_data", tiny.dataset)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    monkeypatch.setattr("vaekit.training.loop.CHECK_EVERY", 0.0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def script(name: str, *arguments: object, before: tuple[str, ...] = ()) -> str:
    """What a script of this folder prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [*before, sys.executable, str(TESTS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- killed, stopped, killed again ------------------------------------------------------------------------------------


def died(root: Path, deaths: int, seed: int) -> None:
    found = json.loads(script("kills.py", root, deaths, seed).splitlines()[-1])
    assert found["deaths"] >= deaths
    assert found["runs"] > 0  # each compared with the run that nothing happened to
    assert found["ways"]["killed at a call"] > 0
    assert deaths < 50 or min(found["ways"].values()) > 0


def test_trainings_that_are_killed_and_stopped_end_in_the_very_same_weights(tmp_path: Path) -> None:
    died(tmp_path, 8, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2])
def test_many_trainings_that_are_killed_and_stopped_end_in_the_very_same_weights(tmp_path: Path, seed: int) -> None:
    died(tmp_path, 100, seed)


class Once(Listener):
    """A listener that asks the training to stop at a step of its own."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)

    def epoch(self, record: Any) -> None:
        pass


@cache
def undisturbed(patience: int | None, ema: float | None, seed: int) -> dict[str, Any]:
    with TemporaryDirectory() as root:
        config = tiny.tiny(epochs=4, patience=patience, ema=ema, seed=seed, checkpoint_every=0.01)
        return tiny.outcome(lifecycle.train_run(config, name="whole", root=root))


class Life(RuleBasedStateMachine):
    """A run that is trained, stopped, killed, resumed, damaged, sampled from, evaluated and listed in any order.

    Without preconditions: what has been saved depends on the clock, and Hypothesis wants to draw the same again.
    """

    @initialize(patience=st.sampled_from([None, 1]), ema=st.sampled_from([None, 0.9]), seed=st.integers(0, 1))
    def begin(self, patience: int | None, ema: float | None, seed: int) -> None:
        self.stack = ExitStack()
        self.patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        self.root = Path(self.stack.enter_context(TemporaryDirectory()))
        self.expected = undisturbed(patience, ema, seed)
        self.config = tiny.tiny(epochs=4, patience=patience, ema=ema, seed=seed, checkpoint_every=0.01)
        self.deaths = 0

    @property
    def run(self) -> Run | None:
        return next((run for run in list_runs(self.root) if run.name == "r"), None)

    def train(self, listener: Any = None) -> None:
        """Go on with what there is, or begin; all that a run tells must be true of the weights that it has then."""
        run = self.run
        with quietly():
            if run is None:
                lifecycle.train_run(self.config, name="r", root=self.root, listener=listener)
            elif run.status != "finished":
                lifecycle.resume_run(run, listener=listener)

    @rule(calls=st.integers(1, 400))
    def is_killed(self, calls: int) -> None:
        with Calls(self.patch, Killed, calls), suppress(Killed):
            self.train()
        self.deaths += 1
        self.patch.setattr(files, "_PROCESS", f"{self.deaths:08x}")  # from here on we are another process
        torch.rand(3)

    @rule(steps=st.integers(1, 40))
    def is_stopped(self, steps: int) -> None:
        with suppress(Interrupted):
            self.train(Once(steps))

    @rule(name=st.sampled_from(["model.safetensors", "state.json", "manifest.json"]), at=st.floats(0, 0.99))
    def is_damaged(self, name: str, at: float) -> None:
        """One bit of the newest checkpoint; two in a row are more than is promised."""
        if self.run is None or self.run.status == "finished":
            return
        last = self.run.path / "checkpoints" / "last"
        both = [folder / "manifest.json" for folder in (last, last.with_name("last-previous"))]
        if not all(path.exists() for path in both):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                self.run.load_checkpoint()
            except UserWarning:
                return
        path = last / name
        data = bytearray(path.read_bytes())
        data[int(at * len(data))] ^= 2
        path.write_bytes(data)

    @rule()
    def is_sampled_from_and_evaluated(self) -> None:
        if self.run is None or not self.run.has_checkpoint():
            return
        with quietly():
            model = vaekit.load(self.run)
        assert model.sample(2).isfinite().all()
        figures = validate(model, [tiny.dataset().test.x / 255])
        assert figures["neg_elbo"] == pytest.approx(figures["rate"] + figures["distortion"])

    @invariant()
    def tells_the_truth(self) -> None:
        if not hasattr(self, "root"):
            return
        rows = summaries(self.root)
        assert len(rows) <= 1
        for row in rows:
            assert row["state"] in ("interrupted", "finished")
        if self.run is not None:
            epochs = [record["epoch"] for record in self.run.metrics()]
            assert epochs == list(range(1, len(epochs) + 1))
            if self.run.has_checkpoint():
                with quietly():
                    progress = self.run.load_checkpoint().state["progress"]
                assert len(epochs) >= progress["epoch"] >= progress["best_epoch"]

    def teardown(self) -> None:
        if not hasattr(self, "root"):
            return
        with self.stack:
            self.train()
            assert self.run is not None
            assert tiny.outcome(self.run) == self.expected
            assert not tiny.litter(self.run.path)


class TestLife(Life.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(max_examples=6, stateful_step_count=6, deadline=None, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestLongLife(Life.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(max_examples=100, stateful_step_count=12, deadline=None)


# -- out of room ------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_or_read_only_stops_a_training_that_goes_on_when_there_is_room(tmp_path: Path) -> None:
    for name in ("disk", "elsewhere"):
        (tmp_path / name).mkdir()
    namespace = ("unshare", "--mount", "--map-root-user")
    mount = f"mount -t tmpfs -o size=8m none {tmp_path / 'disk'}"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*namespace, "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("a disk of one's own may not be mounted here")
    before = (*namespace, "sh", "-c", f'{mount} && exec "$@"', "sh")
    said = script("disks.py", tmp_path / "disk", tmp_path / "elsewhere", before=before).splitlines()
    assert len(said) == len(disks.FAULTS)


@pytest.mark.parametrize(
    ("code", "remedy"), [(errno.ENOSPC, "free some space, then resume the run"), (errno.EROFS, "remount it writable")]
)
def test_a_write_that_fails_stops_a_training_that_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    config = tiny.tiny(checkpoint_every=1e-6)
    expected = tiny.outcome(lifecycle.train_run(config, name="whole", root=tmp_path))

    def refuse() -> None:
        def fails(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(files, "write_new", fails)
        monkeypatch.setattr(checkpoint, "write_new", fails)

    with pytest.raises(RunError, match=remedy) as error, monkeypatch.context() as monkeypatch:
        lifecycle.train_run(config, name="r", root=tmp_path, listener=disks.AfterEpochs(2, refuse))
    assert "\n" not in str(error.value) and str(tmp_path / "r") in str(error.value)
    run = Run.open("r", root=tmp_path)
    assert run.status == "interrupted"
    assert run.load_checkpoint().state["progress"]["epoch"] == 2  # without a warning, which is an error here
    assert tiny.outcome(lifecycle.resume_run(run)) == expected


def test_a_finished_run_whose_validation_was_not_finite_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([math.inf, 3.0, math.nan, 2.0, math.nan])
    monkeypatch.setattr("vaekit.training.trainer.validate", lambda *_, **__: {"loss": next(scores)})
    run = lifecycle.train_run(tiny.tiny(epochs=2), name="r", root=tmp_path)
    assert [record["validation_loss"] for record in run.metrics()] == [None, 3.0]
    lifecycle.resume_run(run, sections={"train": {"epochs": 4, "patience": 2}})
    assert [record["validation_loss"] for record in run.metrics()] == [None, 3.0, None, 2.0]
    assert run.load_checkpoint().state["progress"]["best_epoch"] == 4
    lifecycle.resume_run(run, sections={"train": {"epochs": 5}})
    with pytest.raises(RunError, match=r"best after epoch 4, train\.patience = 1"):
        lifecycle.resume_run(run, sections={"train": {"epochs": 6, "patience": 1}})


def test_a_run_without_a_finite_validation_does_not_run_out_of_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaekit.training.trainer.validate", lambda *_, **__: {"loss": math.nan})
    run = lifecycle.train_run(tiny.tiny(epochs=3, on_nan="skip"), name="r", root=tmp_path)
    assert len(run.metrics()) == 3  # patience is 1
    assert len(lifecycle.resume_run(run, sections={"train": {"epochs": 4}}).metrics()) == 4


# -- years old --------------------------------------------------------------------------------------------------------


def test_a_run_of_every_released_format_is_stored() -> None:
    assert {path.name for path in STORED.glob("format-*")} == {f"format-{n + 1}" for n in range(RUN_FORMAT)}


@pytest.fixture(params=[path.name for path in sorted(STORED.glob("format-*"))])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    shutil.copytree(STORED / request.param, tmp_path / "old")
    return Run.open("old", root=tmp_path)


def assert_goes_on_as_it_did(run: Run) -> None:
    """To the same figures as when it was stored; other processors round the last digits differently."""
    with quietly():  # that it began on another machine
        lifecycle.resume_run(run)
    expected = run.read_json("expected.json")
    metrics = [{key: value for key, value in record.items() if key not in tiny.TIMES} for record in run.metrics()]
    assert metrics == [pytest.approx(record, rel=1e-3) for record in map(with_current_names, expected["metrics"])]
    found = run.read_json("test.json")
    assert found.pop("unit") == expected["test"].pop("unit")
    assert with_current_names(found) == pytest.approx(with_current_names(expected["test"]), rel=1e-3)


def test_a_stored_run_is_listed_sampled_from_and_resumed(stored: Run) -> None:
    assert [row["state"] for row in summaries(stored.path.parent)] == ["interrupted"]
    samples = vaekit.load(stored).sample(2, generator=torch.Generator().manual_seed(0))
    expected = torch.tensor(stored.read_json("expected.json")["samples"]).view_as(samples)
    torch.testing.assert_close(samples, expected, rtol=0, atol=1e-4)
    assert_goes_on_as_it_did(stored)


def test_a_stored_run_is_migrated_on_its_way(stored: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the next format called the model's tensors by another name, and this version were of that format."""

    def rename(old: Checkpoint) -> Checkpoint:
        return Checkpoint({name.replace("model/", "net/"): tensor for name, tensor in old.tensors.items()}, old.state)

    def back(new: Checkpoint) -> Checkpoint:
        return Checkpoint({name.replace("net/", "model/"): tensor for name, tensor in new.tensors.items()}, new.state)

    found = json.loads((stored.path / "checkpoints/last/manifest.json").read_text())["format"]
    monkeypatch.setattr(checkpoint, "RUN_FORMAT", RUN_FORMAT + 2)
    monkeypatch.setattr(checkpoint, "_MIGRATIONS", checkpoint._MIGRATIONS | {RUN_FORMAT: rename, RUN_FORMAT + 1: back})
    assert_goes_on_as_it_did(stored)
    now = json.loads((stored.path / "checkpoints/last/manifest.json").read_text())["format"]
    assert (found, now) == (RUN_FORMAT, RUN_FORMAT + 2)


@pytest.mark.parametrize("name", ["environment.json", "checkpoints/last/manifest.json"])
def test_a_run_of_a_newer_version_is_refused_by_its_format(stored: Run, name: str) -> None:
    path = stored.path / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": RUN_FORMAT + 1}))
    message = f"{name} has format {RUN_FORMAT + 1}, this version reads up to {RUN_FORMAT}; pip install -U vaekit"
    with pytest.raises(RunError, match=re.escape(message)):
        lifecycle.resume_run(Run.open("old", root=stored.path.parent))


# -- received from a stranger -----------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command in this process: its status, and what it says on stderr."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["vae", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop, warnings.catch_warnings():
            warnings.simplefilter("default")  # a line on stderr, as for a user
            cli.main()
        return int(stop.value.code or 0), capfd.readouterr().err

    return run


def test_an_option_that_has_gone_since_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    shutil.copytree(STORED / f"format-{RUN_FORMAT}", tmp_path / "r")
    text = (tmp_path / "r/config.toml").read_text()
    (tmp_path / "r/config.toml").write_text(text + "cuda_graph = false\n")
    run = Run.open("r", root=tmp_path)
    with pytest.warns(UserWarning, match="run r: train.cuda_graph no longer exists; it is ignored"):
        assert config_of(run) == config_of(Run.open(STORED / f"format-{RUN_FORMAT}"))
    with run.lock():
        session = {"began": "", "epoch": 0, "settings": ["train.cuda_graph=true", "train.epochs=7"], "epochs": 7}
        run.record(sessions=[session])
    with pytest.warns(UserWarning, match="cuda_graph"):
        assert config_of(run).train.epochs == 7
    (tmp_path / "r/config.toml").write_text(text + "epoch = 3\n")
    with pytest.raises(ConfigError, match=r"did you mean .train\.epochs."):
        config_of(run)
    with pytest.raises(ConfigError, match=r"unknown key .train\.cuda_graph."):
        read(settings=["train.cuda_graph=false"])


VERBS = (("info",), ("sample", "-o", "x.png"), ("evaluate", "--samples", "2"), ("resume",), ("repeat",), ("runs",))


def content(path: Path) -> dict[str, bytes]:
    """The content of a file, or of all files in a folder."""
    return {str(file): file.read_bytes() for file in [path, *path.rglob("*")] if file.is_file()}


@pytest.mark.parametrize("kind", ["model", "encoder", "posterior", "prior", "decoder", "likelihood", "objective",
                                  "optimizer", "schedule"])  # fmt: skip
def test_code_beside_a_stranger_s_run_is_not_executed_without_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., tuple[int, str]], kind: str
) -> None:
    shutil.copytree(STORED / f"format-{RUN_FORMAT}", tmp_path / "runs" / "r")
    text = (tmp_path / "runs/r/config.toml").read_text()
    text = re.sub(rf'(\[{kind}\]\nname = ").*', r'\1evil:Evil"', text)
    assert "evil:Evil" in text
    (tmp_path / "runs/r/config.toml").write_text(text)
    for folder in (tmp_path, tmp_path / "runs", tmp_path / "runs/r"):
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    refused = []
    for verb in VERBS:
        status, said = command(*verb, *([] if verb == ("runs",) else ["r"]))
        assert status in (0, 2) and "Traceback" not in said
        refused.append("allow it with trust=True (--trust)" in said)
    assert refused[3]  # to resume needs every part; to show and to sample, only some
    assert not (tmp_path / "executed").exists()
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    command("resume", "r", "--trust")
    assert (tmp_path / "executed").exists()  # the control


def link_outside(run: Path, name: str) -> None:
    outside = run.parents[1] / "outside"
    os.rename(run / name, outside)
    (run / name).symlink_to(outside)


def lie(run: Path, data: bytes) -> None:
    (run / "checkpoints/best/model.safetensors").write_bytes(data)
    digest = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(run / "checkpoints/best", lambda entries: entries.update({"model.safetensors": digest}))


def listed(run: Path, name: str) -> None:
    entry = {"size": 1, "sha256": ""}
    edit_manifest(run / "checkpoints/best", lambda entries: entries.update({name: entry}))


def told(run: Path, old: str, new: str) -> None:
    text = (run / "config.toml").read_text()
    assert old in text
    (run / "config.toml").write_text(text.replace(old, new))


TRICKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a linked config": (lambda run: link_outside(run, "config.toml"), "is a symbolic link"),
    "a linked environment": (lambda run: link_outside(run, "environment.json"), "is a symbolic link"),
    "a linked checkpoint": (lambda run: link_outside(run, "checkpoints/best"), "is a symbolic link"),
    "linked weights": (lambda run: link_outside(run, "checkpoints/best/model.safetensors"), "is a symbolic link"),
    "a file above": (lambda run: listed(run, "../../../../outside"), "it lists"),
    "a file elsewhere": (lambda run: listed(run, "/etc/passwd"), "it lists"),
    "a lying header": (lambda run: lie(run, LIES["offsets beyond file"]), "model.safetensors is damaged"),
    "a header of 2^63 bytes": (lambda run: lie(run, LIES["header of 2^63 bytes"]), "model.safetensors is damaged"),
    "a data set above": (lambda run: told(run, '"mnist"', '"../../outside"'), "no such file"),
    "a million million samples": (
        lambda run: told(run, "samples = 1", f"samples = {10**12}"),
        "objective.samples: input should be",
    ),
    "a layer of a million million": (lambda run: told(run, "    4,\n", f"    {10**12},\n"), "config"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_stranger_s_run_reads_and_writes_nothing_outside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., tuple[int, str]], trick: str
) -> None:
    run = tmp_path / "runs" / "r"
    shutil.copytree(STORED / f"format-{RUN_FORMAT}", run)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    harm, message = TRICKS[trick]
    harm(run)
    before = content(tmp_path / "outside")
    said = []
    for verb in VERBS:
        status, text = command(*verb, *([] if verb == ("runs",) else ["r"]), "--runs", tmp_path / "runs")
        assert status in (0, 2) and "Traceback" not in text, text
        said.append(text)
    assert any(message in text for text in said), said
    assert content(tmp_path / "outside") == before


# -- fuzzed -----------------------------------------------------------------------------------------------------------


def fuzzed(inputs: int, seed: int) -> dict[str, dict[str, int]]:
    found = json.loads(script("fuzz.py", inputs, seed))
    assert all(sum(outcomes.values()) == inputs for outcomes in found["readers"].values())
    return found["readers"]


def test_every_reader_reads_or_refuses_damaged_input() -> None:
    readers = fuzzed(40, seed=0)
    assert sum(outcomes["refused"] for outcomes in readers.values()) > 10 * len(readers)  # it is damaged indeed
    assert sum(outcomes["read"] > 0 for outcomes in readers.values()) > len(readers) / 2  # not beyond recognition


PAST = {  # what once ended in another error, or in a message of several screens
    "--set, a key of 4000 digits": ("--set", b"en" + b"9" * 4000 + b"coder.hidden=[3, 4]"),
    "evaluation.json, a name that is a table": ("evaluation.json", ["values", 0, "name", {}]),
    "evaluation.json, a name that is a list": ("evaluation.json", ["values", 1, "name", [None]]),
    "evaluation.json, a unit that is a number": ("evaluation.json", ["values", 0, "unit", 3]),
    "environment.json, images without a shape": ("environment.json", ["data", "shape", []]),
    "evaluation.json, a kind that is true": ("evaluation.json", ["values", 0, "kind", True]),
}


@pytest.mark.parametrize("name", PAST)
def test_past_failures_are_refused(tmp_path: Path, name: str) -> None:
    reader, what = PAST[name]
    good, read = fuzz.readers(fuzz.Place(tmp_path))[reader]
    if isinstance(what, list):
        table = place = json.loads(good[0])
        *steps, last, value = what
        for step in steps:
            place = place[step]
        place[last] = value
        what = json.dumps(table).encode()
    assert fuzz.tried(read, what, name) == "refused"


def test_damaged_batches_of_an_evaluation_are_computed_anew(tmp_path: Path) -> None:
    good, read = fuzz.readers(fuzz.Place(tmp_path))["finished batches of an evaluation"]
    for bit in range(8 * len(good[0])):
        read(good[0][: bit // 8] + bytes([good[0][bit // 8] ^ 1 << bit % 8]) + good[0][bit // 8 + 1 :])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_reader_reads_or_refuses_ten_thousand_damaged_inputs() -> None:
    readers = fuzzed(1000, seed=1)
    assert sum(sum(outcomes.values()) for outcomes in readers.values()) >= 10_000
