"""The run folder: nothing half-written is read as whole, nothing finished is lost, nothing in a file is believed."""

import errno
import fcntl
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import warnings
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fuzz import mutated
from vaekit.errors import RunError, VAEError
from vaekit.store import RUN_FORMAT, Checkpoint, Run, checkpoint, delete, files, find_runs, list_runs
from vaekit.store import run as folder
from vaekit.store.tensors import unpack

CONFIG = 'preset = "vae"\n\n[train]\nepochs = 3\n'


def make(root, name="a", **changes) -> Run:
    return Run.create(name, **{"preset": "vae", "config": CONFIG, "environment": {"seed": 7}, "root": root} | changes)


def tensors(value: float) -> dict[str, torch.Tensor]:
    """A checkpoint's worth of tensors that tells by every element which one it is."""
    return {
        "model/weight": torch.full((2, 3), value),
        "ema/weight": torch.full((2, 3), value + 0.5),
        "rng/torch": torch.full((5,), int(value), dtype=torch.uint8),
    }


def save(run: Run, value: int) -> None:
    run.save_checkpoint(tensors(value), {"epoch": value})


def which(found: Checkpoint) -> int:
    """The number of a checkpoint, after every tensor and the state were seen to agree on it."""
    value = found.state["epoch"]
    expected = tensors(value)
    assert found.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found.tensors[name], tensor), name
    return value


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Tests survive no power failure, and fsync takes most of the time; which calls are made is tested below."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@contextmanager
def quietly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def litter(path: Path) -> list[str]:
    return [str(p.relative_to(path)) for p in path.rglob("*") if p.name.endswith(".tmp") or p.name.endswith("-older")]


def python(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def ended(process: subprocess.Popen):
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def refusal(action) -> str | None:
    """The message of the error that the package raises for people; None if there is none."""
    try:
        action()
    except VAEError as error:
        return str(error)
    return None


def read_all(path: Path) -> None:
    """Read everything in the stored run; what is behind a checksum must be what was stored."""
    run = Run.open(path)
    assert run.status
    assert isinstance(run.config, dict)
    assert all(isinstance(record, dict) for record in run.metrics())
    found = run.load_checkpoint()
    assert found.state == {"epoch": 1}
    assert found.tensors["model/weight"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert found.tensors["rng/torch"].tolist() == [0, 1, 2, 3]
    with run.lock():
        pass


# -- creating, finding, listing ---------------------------------------------------------------------------------------


def test_importing_and_listing_needs_no_torch():
    code = """
        import sys
        from vaekit.store import list_runs
        list_runs("nowhere")
        sys.exit(", ".join({"torch", "pydantic", "matplotlib", "rich", "numpy"} & set(sys.modules)) or 0)
    """
    with ended(python(code)) as process:
        assert process.wait(60) == 0


def test_create_writes_what_it_was_given_and_is_locked(tmp_path):
    run = make(tmp_path)
    assert run.path == tmp_path / "a"
    assert run.name == "a"
    assert (run.path / "config.toml").read_text() == CONFIG
    assert run.config == {"preset": "vae", "train": {"epochs": 3}}
    assert {"seed": 7, "preset": "vae", "format": RUN_FORMAT}.items() <= run.environment.items()
    assert abs(time.time() - run.created.timestamp()) < 60
    assert run.status == "running"
    assert run.metrics() == []
    assert litter(tmp_path) == []
    assert Run.open("a", root=tmp_path).environment == run.environment


def test_default_names_are_numbered(tmp_path, monkeypatch):
    monkeypatch.setattr(folder.time, "strftime", lambda form: "20260131-120000")
    names = [make(tmp_path, None).name for _ in range(3)]
    assert names == ["vae-20260131-120000", "vae-20260131-120000-2", "vae-20260131-120000-3"]


def test_default_name_taken_meanwhile_by_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(folder.time, "strftime", lambda form: "20260131-120000")
    taken, rename = [], os.rename

    def slow_rename(old, new):
        if not taken:
            taken.append(new)
            Path(new).mkdir()
            Path(new, "x").touch()
        rename(old, new)

    monkeypatch.setattr(os, "rename", slow_rename)
    assert make(tmp_path, None).name == "vae-20260131-120000-2"


def test_taken_name_is_refused_with_the_remedy(tmp_path):
    make(tmp_path, environment={"seed": 1})
    with pytest.raises(RunError, match=r"exists; choose another name, or resume it"):
        make(tmp_path, environment={"seed": 2})
    assert Run.open("a", root=tmp_path).environment["seed"] == 1
    assert litter(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/a", "../a", "a\\b", "C:a", "-a", ".a", "a\0", "a\n", "a b", "a" * 101, "語" * 100]
)
def test_unsafe_names_are_refused(tmp_path, name):
    root = tmp_path / "runs"
    with pytest.raises(RunError):
        make(root, name)
    assert list(tmp_path.rglob("*")) in ([], [root])


@pytest.mark.parametrize(
    "changes",
    [
        {"config": "a = "},
        {"config": "a = 1\n" * 10_000},
        {"config": "\ud800"},
        {"environment": {"x": float("nan")}},
        {"environment": {"x": object()}},
    ],
)
def test_what_could_not_be_read_back_makes_no_run(tmp_path, changes):
    with pytest.raises(RunError):
        make(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


def test_open_by_name_path_and_newest(tmp_path):
    for name in ("one", "two", "three"):
        make(tmp_path, name).release()
    assert [run.name for run in list_runs(tmp_path)] == ["three", "two", "one"]
    assert Run.open(root=tmp_path).name == "three"
    assert Run.open("two", root=tmp_path).path == tmp_path / "two"
    assert Run.open(str(tmp_path / "two")).name == "two"
    assert Run.open(tmp_path / "two").name == "two"


def test_open_what_is_not_there(tmp_path):
    with pytest.raises(RunError, match="there is no run in"):
        Run.open(root=tmp_path / "runs")
    assert list_runs(tmp_path / "runs") == []
    with pytest.raises(RunError, match=r"^there is no run 'foo', and no run at all in the folder '.*none'$"):
        Run.open("foo", root=tmp_path / "none")
    make(tmp_path, "mnist")
    (tmp_path / "m.safetensors").touch()
    with pytest.raises(
        RunError, match=r"m\.safetensors' is a file, not a run; .* pass vaekit\.load\('.*m\.safetensors'\)"
    ):
        Run.open(str(tmp_path / "m.safetensors"))
    with pytest.raises(RunError, match="unknown run 'mnits'; did you mean 'mnist'"):
        Run.open("mnits", root=tmp_path)
    for ref in ("", "a\0b", "a" * 5000, "../no-such-run"):
        with pytest.raises(RunError, match="unknown run"):
            Run.open(ref, root=tmp_path)
    (tmp_path / "empty").mkdir()
    for ref in ("empty", tmp_path / "empty"):
        with pytest.raises(RunError, match=r"not a run folder: it has no environment\.json"):
            Run.open(ref, root=tmp_path)


def test_newer_format_is_refused_and_left_out_of_lists(tmp_path):
    make(tmp_path, "old")
    run = make(tmp_path, "new")
    run.write_json("environment.json", run.environment | {"format": RUN_FORMAT + 1})
    with pytest.raises(
        RunError, match=rf"has format {RUN_FORMAT + 1}, this version reads up to {RUN_FORMAT}; pip install -U"
    ):
        Run.open("new", root=tmp_path)
    with pytest.warns(UserWarning, match=r"new/environment.json has format"):
        assert [run.name for run in list_runs(tmp_path)] == ["old"]
    runs, damaged = find_runs(tmp_path)
    assert [run.name for run in runs] == ["old"]
    assert list(damaged) == [tmp_path / "new"]


def test_links_are_not_listed_and_do_not_lead_out_of_the_root(tmp_path):
    root = tmp_path / "runs"
    make(root, "a").release()
    make(tmp_path / "elsewhere", "b").release()
    (root / "out").symlink_to(tmp_path / "elsewhere" / "b")
    (root / "in").symlink_to("a")
    assert [run.name for run in list_runs(root)] == ["a"]
    assert Run.open("in", root=root).environment == Run.open("a", root=root).environment
    with pytest.raises(RunError, match="leads out of"):
        Run.open("out", root=root)


def test_delete_removes_only_a_run_nobody_writes(tmp_path):
    run, other = make(tmp_path, "a"), make(tmp_path, "b")
    with pytest.raises(RunError, match="in use"):
        delete(run.path)
    assert run.path.exists()
    run.release()
    delete(run.path)
    assert list(tmp_path.iterdir()) == [other.path]


def test_a_damaged_run_can_be_deleted_and_nothing_outside_it(tmp_path):
    (tmp_path / "precious").mkdir()
    run = make(tmp_path / "runs")
    run.release()
    (run.path / "environment.json").write_bytes(b"{")
    (run.path / "checkpoints").rmdir()
    (run.path / "checkpoints").symlink_to(tmp_path / "precious")
    (run.path / "samples").symlink_to("/etc")
    assert refusal(lambda: Run(run.path))
    delete(run.path)
    assert list((tmp_path / "runs").iterdir()) == []
    assert (tmp_path / "precious").is_dir() and Path("/etc").is_dir()


def test_facts_of_the_environment(tmp_path):
    run = make(tmp_path, environment={"data": {"name": "mnist", "classes": ["0"], "none": None}})
    assert run.recorded("data", "classes", kind=list) == ["0"]
    for keys, kind in ((("data", "shape"), object), (("data", "name", "x"), object), (("data", "name"), list),
                       (("data", "none"), object), (("nothing",), object)):  # fmt: skip
        with pytest.raises(RunError, match=rf"environment\.json is damaged: it does not say {'.'.join(keys)}"):
            run.recorded(*keys, kind=kind)
    run.record(seed=3, data="other")
    assert {"seed": 3, "data": "other", "format": RUN_FORMAT}.items() <= Run.open(
        "a", root=tmp_path
    ).environment.items()
    run.release()
    with pytest.raises(RunError, match="open for reading"):
        run.record(seed=4)


def test_sessions_are_tables_with_settings(tmp_path):
    run = make(tmp_path)
    assert run.sessions == []
    good = [
        {"settings": ["train.epochs=4"], "epoch": 2},
        {"settings": []},
        {"settings": {"epochs": 5, "patience": None}},
    ]
    run.record(sessions=good)
    assert run.sessions == good
    for bad in (None, True, {}, "x", [None], [{}], [{"settings": "x"}], [{"settings": [1]}], [*good, 3]):
        run.record(sessions=bad)
        with pytest.raises(RunError, match=r"environment\.json is damaged: its sessions are "):
            _ = run.sessions


def test_sha256_is_that_of_the_file(tmp_path):
    run = make(tmp_path)
    run.write_bytes("samples/x", b"abc")
    assert run.sha256("samples/x") == hashlib.sha256(b"abc").hexdigest()
    for name in ("samples/y", "../x", "samples"):
        with pytest.raises(RunError):
            run.sha256(name)


# -- files in a run ---------------------------------------------------------------------------------------------------


def test_metrics(tmp_path):
    run = make(tmp_path)
    run.append_metrics({"epoch": 1, "loss": 104.25, "best": True})
    run.append_metrics({"epoch": 2, "loss": float("nan"), "rate": [float("inf"), 1.0]})
    expected = [{"epoch": 1, "loss": 104.25, "best": True}, {"epoch": 2, "loss": None, "rate": [None, 1.0]}]
    assert run.metrics() == expected
    run.truncate_metrics(1)
    assert run.metrics() == expected[:1]
    run.truncate_metrics(5)
    assert run.metrics() == expected[:1]
    with pytest.raises(RunError, match="JSON"):
        run.append_metrics({"epoch": object()})
    assert run.metrics() == expected[:1]


def test_a_torn_last_line_is_ignored_and_dropped_at_every_length(tmp_path):
    run = make(tmp_path)
    path = run.path / "metrics.jsonl"
    run.append_metrics({"epoch": 1, "text": "x" * 5000})
    run.append_metrics({"epoch": 2})
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in (*range(first, len(whole)), 4500, 1):
        path.write_bytes(whole[:cut])
        kept = 1 if cut >= first else 0
        assert len(run.metrics()) == kept
        run.append_metrics({"epoch": 3})
        assert [record["epoch"] for record in run.metrics()] == [1, 3][-1 - kept :]
        assert path.read_bytes().endswith(b'{"epoch": 3}\n')


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    run = make(tmp_path)
    for line in (b'{"epoch": 2', b"[1]", b"", b'{"epoch": NaN}', b"\xff"):
        (run.path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n' + line + b'\n{"epoch": 3}\n')
        with pytest.raises(RunError, match=r"metrics\.jsonl, line 2 is damaged"):
            run.metrics()


def test_other_files(tmp_path):
    run = make(tmp_path)
    run.write_json("evaluation.json", {"elbo": [-104.5, 0.5], "kl": float("inf")})
    assert run.read_json("evaluation.json") == {"elbo": [-104.5, 0.5], "kl": None}
    run.write_bytes("samples/epoch-1.png", b"png")
    assert run.picture_to_write("epoch-1.png").read_bytes() == b"png"
    with pytest.raises(RunError, match=r"cannot read .*nothing\.json: No such file"):
        run.read_json("nothing.json")
    assert litter(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "", ".", "..", "a//b", "a/", "a\0b", "C:\\x", "samples/../../x", "~/x"]
)
def test_names_that_could_lead_outside_are_refused(tmp_path, name):
    run = make(tmp_path / "runs")
    before = sorted(tmp_path.rglob("*"))
    for action in (
        run.read_json,
        run.picture_to_write,
        lambda n: run.write_json(n, 1),
        lambda n: run.write_bytes(n, b""),
    ):
        with pytest.raises(RunError):
            action(name)
    assert [p for p in sorted(tmp_path.rglob("*")) if p.name != "samples"] == before


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_checkpoint_returns_every_dtype_and_shape(tmp_path):
    run = make(tmp_path)
    torch.manual_seed(0)
    dtypes = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8"]
    given = {f"model/{dtype}": torch.randn(3, 4).to(getattr(torch, dtype)) for dtype in dtypes}
    given |= {"model/bool": torch.tensor([True, False]), "model/scalar": torch.tensor(3.5), "x/none": torch.empty(0, 4)}
    given |= {"model/grad": torch.randn(3, requires_grad=True), "model/T": torch.randn(4, 5).T}
    state = {"epoch": 3, "best": 0.1 + 0.2, "list": [1, None, "é\ud800"], "nested": {"x": True}}
    run.save_checkpoint(given, state)
    found = run.load_checkpoint()
    assert found.state == state
    assert found.tensors.keys() == given.keys()
    for name, tensor in given.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor.detach()), name
        found.tensors[name].add_(1) if tensor.dtype.is_floating_point else None  # writable, not a view of a file


def test_weights_are_a_plain_safetensors_file(tmp_path):
    run = make(tmp_path)
    save(run, 2)
    weights = load_file(run.path / "checkpoints" / "last" / "model.safetensors")
    assert weights.keys() == {"weight"}
    assert torch.equal(weights["weight"], torch.full((2, 3), 2.0))


def test_shared_tensors_are_stored_once_and_overlapping_ones_apart(tmp_path):
    run = make(tmp_path)
    big, base = torch.randn(1000), torch.arange(10.0)
    given = {"model/out": big, "model/in": big, "model/third": torch.nn.Parameter(big)}
    given |= {"model/left": base[:6], "model/right": base[4:], "model/all": base, "model/rev": base[::2]}
    run.save_checkpoint(given, {})
    found = run.load_checkpoint().tensors
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())
    path = run.path / "checkpoints" / "last" / "model.safetensors"
    assert 4000 < path.stat().st_size < 6000  # three times would be 12000
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    run.save_checkpoint(dict(reversed(given.items())), {})
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({"weight": torch.zeros(1)}, {}),
        ({"model/": torch.zeros(1)}, {}),
        ({"../model/x": torch.zeros(1)}, {}),
        ({"model/x": torch.zeros(3).to_sparse()}, {}),
        ({"model/x": 3}, {}),
        ({f"model/{'x' * 1000}{i}": torch.zeros(1) for i in range(1000)}, {}),
        ({}, {"loss": float("nan")}),
        ({}, {"x": torch.zeros(1)}),
        ({}, {"x": "x" * (files.JSON_LIMIT + 1)}),
    ],
)
def test_what_cannot_be_stored_is_refused_and_changes_nothing(tmp_path, given, state):
    run = make(tmp_path)
    save(run, 1)
    with pytest.raises(RunError):
        run.save_checkpoint(given, state)
    assert which(run.load_checkpoint()) == 1
    assert litter(tmp_path) == []


def test_last_and_best_are_apart_and_no_checkpoint_is_said(tmp_path):
    run = make(tmp_path)
    with pytest.raises(RunError, match="has no checkpoint 'last': none was written yet"):
        run.load_checkpoint()
    run.save_checkpoint(tensors(1), {"epoch": 1}, kind="best")
    save(run, 2)
    save(run, 3)
    assert which(run.load_checkpoint("best")) == 1
    assert which(run.load_checkpoint()) == 3
    assert sorted(os.listdir(run.path / "checkpoints")) == ["best", "last", "last-previous"]


def test_saving_is_fast_enough_to_be_done_often(tmp_path):
    run = make(tmp_path)
    given = {f"model/{i}": torch.randn(1000, 1000) for i in range(4)}  # 16 MB
    took = []
    for _ in range(5):
        start = time.perf_counter()
        run.save_checkpoint(given, {})
        took.append(time.perf_counter() - start)
    assert min(took) < 1  # 0.08 s where it was measured; here only that nothing is done many times over


# -- kills ------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What a SIGKILL is to the code under test: nothing after it has an effect."""


class Calls:
    """Counts the system calls that change files; the n-th fails (and, with `forever`, each one after it).

    A failing write leaves half of its data, as a full disk or a kill would.
    """

    names = ("mkdir", "rename", "replace", "fsync", "unlink", "rmdir", "open")

    def __init__(self, monkeypatch, error, at=None, *, forever=True):
        self.monkeypatch, self.error, self.at, self.forever = monkeypatch, error, at, forever
        self.trace: list[tuple[str, object]] = []

    def failing(self, name: str, subject: object) -> bool:
        self.trace.append((name, subject))
        return self.at is not None and (len(self.trace) == self.at or (self.forever and len(self.trace) > self.at))

    def __enter__(self):
        self.patches = self.monkeypatch.context()
        patch = self.patches.__enter__()
        for name in self.names:
            patch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        patch.setattr(files, "open", self.opened, raising=False)
        return self

    def __exit__(self, *exc):
        self.patches.__exit__(*exc)

    def wrapped(self, name, real):
        def call(*args, **kwargs):
            subject = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else os.fspath(args[0])
            if self.failing(name, subject):
                raise self.error()
            return real(*args, **kwargs)

        return call

    def opened(self, file, mode="r", **kwargs):
        calls = self

        class File(io.FileIO):
            def write(self, data):
                if calls.failing("write", self.name):
                    super().write(memoryview(data)[: len(data) // 2])
                    raise calls.error()
                return super().write(data)

        return File(file, mode.replace("b", "").replace("xb", "x"))


def calls_of(monkeypatch, action) -> int:
    with Calls(monkeypatch, Killed) as calls:
        action()
    return len(calls.trace)


def killed_at_every_call(tmp_path, monkeypatch, prepare, action):
    """Runs `action(run)` on fresh runs, killed at every one of its system calls in turn; yields each reopened run."""
    run = prepare(make(tmp_path, "count"))
    total = calls_of(monkeypatch, lambda: action(run))
    assert total > 5
    for at in range(1, total + 1):
        run = prepare(make(tmp_path, f"at-{at}"))
        with Calls(monkeypatch, Killed, at), pytest.raises(Killed):
            action(run)
        run.release()  # as the system does for the dead
        monkeypatch.setattr(files, "_PROCESS", f"{at:08x}")  # from here on we are another one
        yield Run.open(run.path)


@pytest.mark.parametrize("earlier", [0, 1, 3])
def test_a_kill_at_any_call_of_a_save_leaves_the_old_or_the_new(tmp_path, monkeypatch, earlier):
    def prepare(run):
        for value in range(1, earlier + 1):
            save(run, value)
        return run

    seen = set()
    for run in killed_at_every_call(tmp_path, monkeypatch, prepare, lambda run: save(run, earlier + 1)):
        with quietly():
            if refusal(run.load_checkpoint):
                assert earlier == 0
                assert "none was written yet" in refusal(run.load_checkpoint)
                seen.add(0)
            else:
                seen.add(which(run.load_checkpoint()))
        with run.lock():
            save(run, earlier + 2)
            assert which(run.load_checkpoint()) == earlier + 2
            assert litter(run.path) == []
    assert seen == {earlier, earlier + 1}


def test_a_kill_while_a_damaged_last_is_replaced_leaves_one_that_is_whole(tmp_path, monkeypatch):
    def prepare(run):
        for value in (1, 2):
            save(run, value)
        (run.path / "checkpoints" / "last" / "state.json").write_bytes(b"")
        return run

    seen = set()
    for run in killed_at_every_call(tmp_path, monkeypatch, prepare, lambda run: save(run, 3)):
        with quietly():
            seen.add(which(run.load_checkpoint()))
        # … and also when the next save is killed before it has done anything
        with run.lock(), quietly():
            with Calls(monkeypatch, Killed, 1), pytest.raises(Killed):
                save(run, 4)
            assert which(run.load_checkpoint()) in (1, 3)
            save(run, 5)
            assert which(run.load_checkpoint()) == 5
    assert seen == {1, 3}


def test_a_kill_at_any_call_of_create_leaves_no_half_run(tmp_path, monkeypatch):
    total = calls_of(monkeypatch, lambda: make(tmp_path / "count"))
    seen = set()
    for at in range(1, total + 1):
        root = tmp_path / f"at-{at}"
        with Calls(monkeypatch, Killed, at), suppress(Killed):
            make(root)
        monkeypatch.setattr(files, "_PROCESS", f"{at:08x}")
        runs = list_runs(root)
        for run in runs:
            assert (run.path / "config.toml").read_text() == CONFIG
            assert run.status == "interrupted"
        seen.add(len(runs))
        make(root, "next").release()
        assert litter(root) == []
    assert seen == {0, 1}


def test_a_kill_at_any_call_leaves_single_files_whole(tmp_path, monkeypatch):
    def prepare(run):
        run.append_metrics({"epoch": 1})
        run.append_metrics({"epoch": 2})
        run.write_json("evaluation.json", "old")
        return run

    def action(run):
        run.write_json("evaluation.json", "new")
        run.append_metrics({"epoch": 3})
        run.truncate_metrics(1)

    for run in killed_at_every_call(tmp_path, monkeypatch, prepare, action):
        assert run.read_json("evaluation.json") in ("old", "new")
        assert [record["epoch"] for record in run.metrics()] in ([1, 2], [1, 2, 3], [1])
        with run.lock():
            assert litter(run.path) == []


def test_data_are_on_the_disk_before_they_are_named(tmp_path, monkeypatch):
    run = make(tmp_path)
    save(run, 1)
    with Calls(monkeypatch, Killed) as calls:
        save(run, 2)
    kinds = [name for name, _ in calls.trace]
    rename, done = kinds.index("rename"), len(kinds) - kinds[::-1].index("rename")
    synced = [Path(path).name for name, path in calls.trace[:rename] if name == "fsync"]
    expected = {"state.json", "model.safetensors", "ema.safetensors", "rng.safetensors", "manifest.json"}
    assert set(synced[:-1]) == expected
    assert synced[-1].startswith(".last.")  # the folder, after the names of all files are in it
    assert ("fsync", str(run.path / "checkpoints")) in calls.trace[done:]


KILL_LOOP = """
    import os, random, signal, sys, time, warnings
    import torch
    from vaekit.store import Run

    os.fsync = lambda descriptor: None  # as above
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    root, kills = sys.argv[1], int(sys.argv[2])
    run = Run.create("a", preset="vae", config="", environment={}, root=root)
    run.save_checkpoint({"model/w": torch.zeros(50_000)}, {"i": 0})
    run.release()
    seen, pick = [0], random.Random(0)
    for _ in range(kills):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            with run.lock():
                i = run.load_checkpoint().state["i"]
                while True:
                    i += 1
                    run.append_metrics({"i": i})
                    run.save_checkpoint({"model/w": torch.full((50_000,), float(i))}, {"i": i})
                    os.write(write, b".")
        os.close(write)
        said = sum(len(os.read(read, 1)) for _ in range(pick.randrange(4)))
        time.sleep(pick.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        said += len(os.read(read, 1 << 16))
        os.close(read)
        found = run.load_checkpoint()
        i = found.state["i"]
        assert i in (seen[-1] + said, seen[-1] + said + 1), (i, seen[-1], said)
        assert torch.equal(found.tensors["model/w"], torch.full((50_000,), float(i)))
        with run.lock():
            run.truncate_metrics(i)
            assert [record["i"] for record in run.metrics()] == list(range(1, i + 1))
        seen.append(i)
    assert not [p for p in run.path.rglob("*") if p.name.endswith(".tmp")]
    print(len(seen) - 1, seen[-1])
"""


def test_real_kills_in_a_loop_of_saves_lose_nothing_that_was_said_to_be_saved(tmp_path):
    with ended(python(KILL_LOOP, tmp_path, 25)) as process:
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    kills, saves = map(int, out.split())
    assert kills == 25
    assert saves > 25  # the loop was killed while it worked


def test_a_reader_sees_only_whole_checkpoints_while_another_thread_writes(tmp_path):
    run = make(tmp_path)
    save(run, 1)
    stop, failures = threading.Event(), []

    def write():
        try:
            for value in range(2, 80):
                save(run, value)
        except BaseException as error:
            failures.append(error)
        finally:
            stop.set()

    writer = threading.Thread(target=write)
    seen = []
    with warnings.catch_warnings():
        # between two renames there is no `last` for some microseconds; damage is never seen
        warnings.filterwarnings("ignore", message="cannot read .*No such file")
        writer.start()
        while not stop.is_set():
            seen.append(which(run.load_checkpoint()))
    writer.join()
    assert failures == []
    assert len(set(seen)) > 3
    assert all(later >= earlier - 1 for earlier, later in pairwise(seen))


# -- damage -----------------------------------------------------------------------------------------------------------


def edit_manifest(path: Path, change) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest["files"])
    (path / "manifest.json").write_text(json.dumps(manifest))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 4
    path.write_bytes(data)


DAMAGE = {
    "truncated": (lambda p: os.truncate(p / "model.safetensors", 50), "50 bytes instead of"),
    "emptied": (lambda p: os.truncate(p / "model.safetensors", 0), "0 bytes instead of"),
    "longer": (lambda p: os.truncate(p / "model.safetensors", 10**6), "1000000 bytes, more than"),
    "bit": (lambda p: flip(p / "model.safetensors"), r"model\.safetensors is damaged: its SHA-256"),
    "state bit": (lambda p: flip(p / "state.json"), r"state\.json is damaged: its SHA-256"),
    "missing": (lambda p: (p / "rng.safetensors").unlink(), r"rng\.safetensors: No such file"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), r"manifest\.json: No such file"),
    "empty manifest": (lambda p: os.truncate(p / "manifest.json", 0), r"manifest\.json is damaged"),
    "no state": (lambda p: edit_manifest(p, lambda f: f.pop("state.json")), r"no state\.json"),
    "lying size": (lambda p: edit_manifest(p, lambda f: f["state.json"].update(size=10**15)), "instead of 10000000000"),
    "odd size": (lambda p: edit_manifest(p, lambda f: f["state.json"].update(size="9")), "no size"),
    "negative size": (lambda p: edit_manifest(p, lambda f: f["state.json"].update(size=-1)), "more than the -1"),
    "outside": (
        lambda p: edit_manifest(p, lambda f: f.update({"../x": f["state.json"]})),
        "json is damaged: it lists '../x'",
    ),
    "absolute": (
        lambda p: edit_manifest(p, lambda f: f.update({"/etc/passwd": {}})),
        "json is damaged: it lists '/etc/passwd'",
    ),
    "all missing": (shutil.rmtree, "No such file"),
    "a file": (lambda p: (shutil.rmtree(p), p.write_text("")), "Not a directory"),
    "a pipe": (lambda p: ((p / "state.json").unlink(), os.mkfifo(p / "state.json")), "a device, a folder or"),
    "a folder": (lambda p: ((p / "state.json").unlink(), (p / "state.json").mkdir()), "a device, a folder or"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_with_a_warning(tmp_path, kind):
    damage, message = DAMAGE[kind]
    run = make(tmp_path)
    for value in (1, 2, 3):
        save(run, value)
    assert which(run.load_checkpoint()) == 3  # and no warning: they are errors here
    damage(run.path / "checkpoints" / "last")
    with pytest.warns(UserWarning, match=message) as record:
        assert which(run.load_checkpoint()) == 2
    assert "last-previous, is used" in str(record[0].message)
    assert record[0].filename == __file__
    (run.path / "checkpoints" / "last-previous" / "state.json").write_bytes(b"{}")
    with pytest.raises(RunError, match=f"no checkpoint of .* is whole: .*{message}.*; .*last-previous/state.json"):
        run.load_checkpoint()
    save(run, 4)
    assert which(run.load_checkpoint()) == 4


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_does_not_take_the_place_of_the_one_before(tmp_path, kind):
    damage, message = DAMAGE[kind]
    run = make(tmp_path)
    for value in (1, 2):
        save(run, value)
    time.sleep(0.02)  # file systems date changes by the tick of a clock
    damage(run.path / "checkpoints" / "last")
    save(run, 3)
    damage(run.path / "checkpoints" / "last")
    with pytest.warns(UserWarning, match=message):
        assert which(run.load_checkpoint()) == 1


def test_a_save_reads_only_checkpoints_that_the_run_has_not_written_itself(tmp_path, monkeypatch):
    run = make(tmp_path)
    read = []
    monkeypatch.setattr(checkpoint, "read", lambda path, limit: read.append(path.name) or files.read(path, limit))
    for value in (1, 2, 3):
        save(run, value)
    assert read == []
    run.release()
    again = Run.open(run.path)
    with again.lock():
        save(again, 4)
        assert sorted(read) == sorted(os.listdir(again.path / "checkpoints" / "last"))
        read.clear()
        save(again, 5)
        assert read == []
    monkeypatch.undo()
    assert which(again.load_checkpoint()) == 5


def test_every_single_bit_of_a_checkpoint_counts(tmp_path):
    run = make(tmp_path)
    save(run, 1)
    save(run, 2)
    last = run.path / "checkpoints" / "last"
    pick = random.Random(0)
    for path in sorted(last.iterdir()):
        whole = path.read_bytes()
        for bit in pick.sample(range(8 * len(whole)), 40):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                value = which(run.load_checkpoint())
            assert value == (1 if caught else 2)
            assert caught or path.name == "manifest.json"  # where a blank may become another one
        path.write_bytes(whole)
    assert which(run.load_checkpoint()) == 2


def test_an_older_format_is_migrated_step_by_step(tmp_path, monkeypatch):
    run = make(tmp_path)
    save(run, 1)
    monkeypatch.setattr(checkpoint, "RUN_FORMAT", RUN_FORMAT + 2)
    steps = {RUN_FORMAT + n: lambda c, n=n: Checkpoint(c.tensors, c.state | {"steps": [*c.state.get("steps", []), n]})
             for n in (0, 1)}  # fmt: skip
    monkeypatch.setattr(checkpoint, "_MIGRATIONS", steps)
    assert run.load_checkpoint().state == {"epoch": 1, "steps": [0, 1]}
    monkeypatch.undo()
    assert run.load_checkpoint().state == {"epoch": 1}


# What version 0.1.0 wrote: a run of format 1 must load for ever.
FORMAT_1 = {
    "config.toml": b'preset = "vae"\n[train]\nepochs = 1\n',
    "environment.json": b'{"seed": 0, "format": 1, "preset": "vae", "created": "2026-01-31T12:00:00+00:00"}',
    "metrics.jsonl": b'{"epoch": 1, "loss": 104.5}\n',
    "status.json": b'{\n  "state": "finished",\n  "message": ""\n}',
    "lock": b'{\n  "pid": 8458,\n  "host": "vm",\n  "since": "2026-01-31 12:00:00"\n}',
    "checkpoints/last/state.json": b'{\n  "epoch": 1\n}',
    "checkpoints/last/model.safetensors": b'x\0\0\0\0\0\0\0{"tied":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"weight":{"dtype":"F32","shape":[2,2],"data_offsets":[4,20]}}  '
    b"\0\0\xc0?\0\0\x80?\0\0\0@\0\0@@\0\0\x80@",
    "checkpoints/last/rng.safetensors": b'@\0\0\0\0\0\0\0{"torch":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    b"       \0\1\2\3",
    "checkpoints/last/manifest.json": b"""{"format": 1, "files": {
        "state.json": {
            "size": 16, "sha256": "ce9d04fc65fa8874f1d4ee218dc2b88aed04b701ad2e7fac1906f2c34c97d001"},
        "model.safetensors": {
            "size": 148, "sha256": "4b4a5a919ed91886906d4015ffa07f2014118b86a9e2c9aad2659561130bd063"},
        "rng.safetensors": {
            "size": 76, "sha256": "3347f830ea32abc49747a8ab95e08859e1cf0a887fd963c65ee61b0fc5e97e17"}}}""",
}


def stored(root: Path) -> Run:
    for name, data in FORMAT_1.items():
        path = root / "old" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Run.open("old", root=root)


def test_a_stored_run_of_format_1_loads(tmp_path):
    run = stored(tmp_path)
    assert run.status == "finished"
    assert run.config["train"] == {"epochs": 1}
    assert run.metrics() == [{"epoch": 1, "loss": 104.5}]
    assert run.created.year == 2026
    found = run.load_checkpoint()
    assert found.state == {"epoch": 1}
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        "model/weight": [[1.0, 2.0], [3.0, 4.0]],
        "model/tied": [1.5],
        "rng/torch": [0, 1, 2, 3],
    }


# -- one writer -------------------------------------------------------------------------------------------------------

HOLD = """
    import sys, time
    from vaekit.store import Run
    run = Run.open("a", root=sys.argv[1])
    run.acquire()
    run.set_status("running")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_by_whom_and_a_dead_one_holds_nothing(tmp_path):
    make(tmp_path).release()
    run = Run.open("a", root=tmp_path)
    assert run.status == "interrupted"
    with ended(python(HOLD, tmp_path)) as process:
        assert process.stdout.readline() == "held\n"
        assert run.status == "running"
        start = time.perf_counter()
        with pytest.raises(RunError, match=rf"a is in use by process {process.pid} on .*; wait until it ends or stop"):
            run.acquire()
        assert time.perf_counter() - start < 1
        with pytest.raises(RunError, match="in use"):
            delete(run.path)
        process.kill()
        process.wait()
        assert run.status == "interrupted"  # status.json still says "running"
        with run.lock():
            assert run.status == "running"
    assert run.status == "interrupted"


def test_a_forked_worker_does_not_hold_the_lock_of_its_dead_parent(tmp_path):
    make(tmp_path).release()
    code = """
        import os, sys, time
        from vaekit.store import Run
        run = Run.open("a", root=sys.argv[1])
        run.acquire()
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.1)
        print(child, Run.open("a", root=sys.argv[1]).status, flush=True)
        sys.stdin.read()
    """
    with ended(python(code, tmp_path)) as process:
        child, status = process.stdout.readline().split()
        try:
            assert status == "running"  # that the child closed its copy did not unlock the parent's
            process.kill()
            process.wait()
            os.kill(int(child), 0)  # still there
            Run.open("a", root=tmp_path).acquire()
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_two_objects_of_one_process_exclude_each_other(tmp_path):
    first, second = make(tmp_path), Run.open("a", root=tmp_path)
    with pytest.raises(RunError, match=f"in use by process {os.getpid()} "):
        second.acquire()
    first.acquire()  # again: it holds it already
    first.release()
    second.acquire()
    del second
    first.acquire()  # a dropped object lets go


def test_looking_at_the_status_does_not_disturb_a_writer_that_comes_meanwhile(tmp_path):
    run = make(tmp_path)
    run.release()
    with open(run.path / "lock") as looking:
        for action in (lambda: Run.open("a", root=tmp_path).status, run.acquire):
            fcntl.flock(looking, fcntl.LOCK_EX)  # as `status` does for a moment
            threading.Timer(0.005, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
            assert action() in ("interrupted", None)
    assert run.status == "running"


def test_writing_needs_the_lock(tmp_path):
    run = make(tmp_path)
    save(run, 1)
    run.append_metrics({"epoch": 1})
    run.release()
    for action in (
        lambda: save(run, 2),
        lambda: run.append_metrics({}),
        lambda: run.truncate_metrics(0),
        lambda: run.set_status("finished"),
    ):
        with pytest.raises(RunError, match="open for reading"):
            action()
    assert which(run.load_checkpoint()) == 1
    assert len(run.metrics()) == 1


@pytest.mark.parametrize("state", ["finished", "failed", "interrupted", "running"])
def test_status(tmp_path, state):
    run = make(tmp_path)
    run.set_status(state, "why")
    assert run.status == "running"
    run.release()
    assert run.status == {"running": "interrupted"}.get(state, state)
    assert run.read_json("status.json")["message"] == "why"


def test_cleaning_takes_only_what_dead_processes_left(tmp_path):
    run = make(tmp_path)
    with ended(python("input()")) as alive:
        with ended(python("")) as dead:
            dead.wait()
        (run.path / "samples").mkdir()
        mine = [
            run.path / f".a.json.{dead.pid}-0123abcd-4.tmp",
            run.path / "checkpoints" / f".last.{dead.pid}-0123abcd-0.tmp",
            run.path / "samples" / f".x.png.{os.getpid()}-0123abcd-12.tmp",  # of one who had our number
        ]
        others = [
            files.temporary(run.path / "a.json"),
            run.path / f".a.json.{alive.pid}-0123abcd-4.tmp",
            run.path / f"a.json.{dead.pid}-0123abcd-4.tmp",
            run.path / ".a.tmp",
            run.path / "checkpoints" / "mine",
        ]
        for path in (*mine, *others):
            path.mkdir()
            (path / "x").touch()
        run.release()
        run.acquire()
        assert [path.exists() for path in mine] == [False] * 3
        assert [path.exists() for path in others] == [True] * 5


def test_a_run_that_another_host_is_making_is_left_alone(tmp_path):
    with ended(python("")) as dead:
        dead.wait()
    root = tmp_path / "runs"
    now, before = (root / f".{name}.{dead.pid}-0123abcd-89abcdef-0.tmp" for name in ("now", "before"))
    for path in (now, before):
        path.mkdir(parents=True)
    os.utime(before, (0, 0))
    with Run.create("a", preset="p", config="", environment={}, root=root).lock():
        assert now.is_dir() and not before.exists()
    assert Run(str(root / "a")).name == Run.open(Path("a"), root=root).name == "a"
    with pytest.raises(RunError, match="unknown run '3'; known: a"):
        Run.open(3, root=root)


# -- disks that are full, read-only or failing ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, "free some space, then resume"), (errno.EROFS, "remount it writable")],
)
def test_an_error_at_any_call_is_explained_and_loses_nothing(tmp_path, monkeypatch, code, remedy):
    def action(run):
        save(run, 3)
        run.append_metrics({"epoch": 2})
        run.write_json("evaluation.json", "new")

    def prepared(name):
        run = make(tmp_path, name)
        save(run, 1)
        save(run, 2)
        run.append_metrics({"epoch": 1})
        return run

    def error():
        return OSError(code, os.strerror(code))

    run = prepared("count")
    total = calls_of(monkeypatch, lambda: action(run))
    refused = 0
    for at in range(1, total + 1):
        run = prepared(f"at-{at}")
        with Calls(monkeypatch, error, at, forever=False):
            message = refusal(lambda run=run: action(run))
        if message is not None:
            refused += 1
            assert str(run.path) in message
            assert remedy in message
            assert "\n" not in message
        assert [p for p in litter(run.path) if not p.endswith("-older")] == []
        with quietly():
            assert which(run.load_checkpoint()) in (2, 3)
        assert [record["epoch"] for record in run.metrics()] in ([1], [1, 2])
        action(run)  # when there is room again
        assert which(run.load_checkpoint()) == 3
        assert litter(run.path) == []
    assert refused > total // 2  # the rest are removals of what is not needed, which may fail


def test_a_line_that_was_refused_is_not_there(tmp_path, monkeypatch):
    run = make(tmp_path)
    run.append_metrics({"epoch": 1})
    before = (run.path / "metrics.jsonl").read_bytes()
    for at in range(1, calls_of(monkeypatch, lambda: run.append_metrics({"epoch": 2})) + 1):
        (run.path / "metrics.jsonl").write_bytes(before)
        with Calls(monkeypatch, lambda: OSError(errno.ENOSPC, "full"), at, forever=False):
            assert "full" in refusal(lambda: run.append_metrics({"epoch": 2}))
        assert (run.path / "metrics.jsonl").read_bytes() == before


def test_no_permission_is_explained_by_create_acquire_and_open(tmp_path, monkeypatch):
    run = make(tmp_path)
    run.release()

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        with pytest.raises(RunError, match=r"cannot create a run in .*: Permission denied; change its permissions"):
            make(tmp_path, "b")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(RunError, match=r"cannot lock .*lock: Permission denied"):
            run.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        with pytest.raises(RunError, match=r"cannot open .*a: Permission denied"):
            Run.open("a", root=tmp_path)


def test_a_real_limit_on_file_sizes(tmp_path):
    run = make(tmp_path)
    save(run, 1)
    large = tensors(2) | {"model/large": torch.zeros(100_000)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        message = refusal(lambda: run.save_checkpoint(large, {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "checkpoints/last: File too large; raise the limit" in message
    assert which(run.load_checkpoint()) == 1
    assert litter(tmp_path) == []
    run.save_checkpoint(large, {})
    assert run.load_checkpoint().tensors.keys() == large.keys()


FULL_DISK = """
    import os, sys, torch
    from pathlib import Path
    from vaekit.errors import RunError
    from vaekit.store import Run
    disk = Path(sys.argv[1])
    run = Run.create("a", preset="vae", config="", environment={}, root=disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    run.append_metrics({"epoch": 1})
    run.save_checkpoint({"model/w": torch.ones(50_000)}, {"epoch": 1})
    run.save_checkpoint({"model/w": torch.ones(50_000)}, {"epoch": 2})
    for attempt in range(3):
        try:
            run.save_checkpoint({"model/w": torch.zeros(100_000)}, {"epoch": 3})
            sys.exit("it fitted")
        except RunError as error:
            print(error)
        assert run.load_checkpoint().state == {"epoch": 2}
        assert not [p for p in run.path.rglob("*") if p.name.endswith(".tmp")]
    refused = 0
    with open(disk / "rest", "wb", buffering=0) as rest:
        try:
            while True:
                rest.write(bytes(4096))
        except OSError:
            pass
    for epoch in range(2, 2000):
        try:
            run.append_metrics({"epoch": epoch})
        except RunError as error:
            refused += 1
            break
    assert refused and [r["epoch"] for r in run.metrics()] == list(range(1, epoch))
    try:
        Run.create("b", preset="vae", config="", environment={}, root=disk)
    except RunError as error:
        print(error)
    os.remove(disk / "rest")
    os.remove(ballast)
    run.save_checkpoint({"model/w": torch.zeros(50_000)}, {"epoch": 3})
    run.append_metrics({"epoch": epoch})
    assert run.load_checkpoint().state == {"epoch": 3}
"""


def test_a_real_full_disk(tmp_path):
    prefix = ["unshare", "--mount", "--map-root-user"]
    mount = f"mount -t tmpfs -o size=1m none {tmp_path}"
    if shutil.which("unshare") is None or subprocess.run([*prefix, "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("a small disk of one's own may not be mounted here")
    command = [*prefix, "sh", "-c", f'{mount} && exec "$@"', "sh"]
    script = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)]
    done = subprocess.run([*command, *script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all("No space left on device; free some space, then resume the run" in line for line in lines)


# -- what strangers send ----------------------------------------------------------------------------------------------

LINKED = ["config.toml", "environment.json", "metrics.jsonl", "status.json", "lock", "samples", "checkpoints",
          "checkpoints/last", "checkpoints/last/manifest.json", "checkpoints/last/model.safetensors"]  # fmt: skip


def use(run: Run) -> None:
    """Everything that reads or writes a file in a run, each on its own."""
    actions = [
        lambda: run.config,
        run.metrics,
        lambda: run.status,
        lambda: run.load_checkpoint(),
        run.acquire,
        lambda: run.append_metrics({"epoch": 9}),
        lambda: run.truncate_metrics(0),
        lambda: run.set_status("failed"),
        lambda: save(run, 9),
        lambda: run.write_bytes("samples/x.png", b"png"),
        lambda: run.picture_to_write("y.png").write_bytes(b"png"),
        run.release,
    ]
    refused = 0
    for action in actions:
        try:
            action()
        except RunError as error:
            refused += "symbolic link" in str(error) or "hard link" in str(error)
    assert refused


def content(path: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in path.rglob("*")}


@pytest.mark.parametrize("name", LINKED)
def test_symbolic_links_are_neither_read_nor_written_through(tmp_path, name):
    run = stored(tmp_path)
    (run.path / "samples").mkdir()
    outside = tmp_path / "outside"
    os.rename(run.path / name, outside)
    before = content(outside) if outside.is_dir() else outside.read_bytes()
    (run.path / name).symlink_to(outside)
    if name == "environment.json":
        with pytest.raises(RunError, match="symbolic link"):
            Run.open("old", root=tmp_path)
        return
    use(Run.open("old", root=tmp_path))
    assert before == (content(outside) if outside.is_dir() else outside.read_bytes())


@pytest.mark.parametrize("name", ["metrics.jsonl", "lock"])
def test_hard_links_are_not_written_through(tmp_path, name):
    run = stored(tmp_path)
    outside = tmp_path / "outside"
    os.link(run.path / name, outside)
    with pytest.raises(RunError, match="hard link"):
        (run.acquire if name == "lock" else lambda: (run.acquire(), run.append_metrics({})))()
    assert outside.read_bytes() == FORMAT_1[name]


@pytest.mark.parametrize("name", ["config.toml", "environment.json", "metrics.jsonl", "status.json", "lock"])
def test_pipes_and_folders_are_refused_without_waiting(tmp_path, name):
    for make_it in (os.mkfifo, os.mkdir):
        run = stored(tmp_path / make_it.__name__)
        (run.path / name).unlink()
        make_it(run.path / name)
        start = time.perf_counter()
        assert "a device, a folder or a hard link" in refusal(lambda path=run.path: read_all(path))
        assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("environment.json", b"[" * 100_000),
        ("environment.json", b'{"a":' * 100_000),
        ("environment.json", b"1" * 10_000),
        ("environment.json", b"[]"),
        ("environment.json", b'{"format": true}'),
        ("environment.json", b'{"format": 1.0, "created": "2026-01-01"}'),
        ("environment.json", b'{"format": 1}'),
        ("environment.json", b'{"format": 1, "created": "0001-01-01T00:00:00+23:59"}'),
        ("environment.json", b'{"format": 1, "created": 5, "x": NaN}'),
        ("config.toml", b"a = " + b"[" * 10_000),
        ("config.toml", b"a = 1\na = 2"),
        ("config.toml", b".".join([b"a"] * 500_000) + b" = 1"),
        ("config.toml", b"\xff"),
        ("metrics.jsonl", b"[" * 100_000 + b"\n"),
        ("status.json", b"[" * 100_000),
        ("status.json", b"[]"),
        ("checkpoints/last/manifest.json", b"[" * 100_000),
        ("checkpoints/last/manifest.json", b'{"format": 1, "files": []}'),
        ("checkpoints/last/manifest.json", b'{"format": 2, "files": {}}'),
        ("checkpoints/last/manifest.json", b'{"format": 1, "files": {"state.json": []}}'),
    ],
)
def test_bombs_and_nonsense_are_damage(tmp_path, name, text):
    path = stored(tmp_path).path
    (path / name).write_bytes(text)
    start = time.perf_counter()
    assert name in refusal(lambda: read_all(path))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("name", ["config.toml", "environment.json", "metrics.jsonl", "status.json", "lock",
                                  "checkpoints/last/manifest.json"])  # fmt: skip
def test_a_huge_file_is_not_read(tmp_path, name):
    run = stored(tmp_path)
    os.truncate(run.path / name, 10**12)  # sparse: costs nothing on the disk
    if name == "lock":
        run.acquire()
        os.truncate(run.path / name, 10**12)
    tracemalloc.start()
    try:
        message = refusal(Run.open(run.path).acquire if name == "lock" else lambda: read_all(run.path))
        assert "1000000000000 bytes, more than" in message or "in use by another process" in message
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def header(table: object, data: bytes = b"", size: int | None = None) -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


LIES = {
    "empty": b"",
    "short": b"\1\0",
    "header longer than file": header({}, size=10**6),
    "header of 2^63 bytes": header({}, size=2**63),
    "header over the limit": header({"a": "x" * (1 << 20)}),
    "many empty tensors": header({f"{i}": entry([0], [0, 0]) for i in range(30_000)}),
    "not JSON": header(b"{nope}"),
    "nested": header(b"[" * 100_000),
    "a list": header([]),
    "shape beyond data": header({"a": entry([2**40], [0, 4])}, bytes(4)),
    "overflowing shape": header({"a": entry([2**62, 2**62], [0, 4])}, bytes(4)),
    "negative shape": header({"a": entry([-1], [0, 4])}, bytes(4)),
    "offsets beyond file": header({"a": entry([2**38], [0, 2**40])}, bytes(4)),
    "offsets reversed": header({"a": entry([1], [4, 0])}, bytes(4)),
    "overlap": header({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, bytes(12)),
    "same data twice": header({"a": entry([1], [0, 4]), "b": entry([1], [0, 4])}, bytes(4)),
    "hole": header({"a": entry([1], [0, 4]), "b": entry([1], [8, 12])}, bytes(12)),
    "data left over": header({"a": entry([1], [0, 4])}, bytes(8)),
    "unknown dtype": header({"a": entry([1], [0, 4], "PICKLE")}, bytes(4)),
    "wrong dtype": header({"a": entry([1], [0, 4], "F64")}, bytes(4)),
    "half a byte": header({"a": entry([1], [0, 1], "F4")}, bytes(1)),
    "metadata not text": header({"__metadata__": {"aliases": {}}}),
    "aliases not JSON": header({"__metadata__": {"aliases": "nope"}}),
    "aliases a list": header({"__metadata__": {"aliases": "[1]"}}),
    "alias of nothing": header({"__metadata__": {"aliases": '{"a": "b"}'}}),
    "alias of a list": header({"__metadata__": {"aliases": '{"a": []}'}}),
    "aliases nested": header({"__metadata__": {"aliases": "[" * 100_000}}),
}


@pytest.mark.parametrize("kind", LIES)
def test_lying_safetensors_are_damage(tmp_path, kind):
    """With a manifest that fits them, so that the SHA-256 does not stand in front."""
    run, data = stored(tmp_path), LIES[kind]
    last = run.path / "checkpoints" / "last"
    (last / "model.safetensors").write_bytes(data)
    lie = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(last, lambda entries: entries.update({"model.safetensors": lie}))
    tracemalloc.start()
    try:
        with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
            run.load_checkpoint()
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data) + 500_000
    finally:
        tracemalloc.stop()


def test_the_control_of_the_lies_is_read(tmp_path):
    data = header({"a": entry([2], [0, 8]), "b": entry([1], [8, 12])}, struct.pack("<3f", 1, 2, 3))
    found = unpack(data, tmp_path)[0]
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"a": [1.0, 2.0], "b": [3.0]}


def test_what_is_loaded_needs_at_most_twice_the_file(tmp_path):
    def memory(kind):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(kind))

    run = make(tmp_path)
    run.save_checkpoint({"model/w": torch.ones(10_000_000)}, {})
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        pytest.skip("this system does not tell the peak of the memory in use")
    before = memory("VmRSS")
    found = run.load_checkpoint()
    assert memory("VmHWM") - before < 2.1 * 40e6
    assert found.tensors["model/w"].sum() == 10_000_000


@pytest.mark.parametrize("name", FORMAT_1)
def test_mutated_files_end_in_success_or_a_vae_error(tmp_path, name):
    path = stored(tmp_path).path
    pick = random.Random(name)
    refused = 0
    for _ in range(200):
        data = mutated(FORMAT_1[name], pick)
        while data == FORMAT_1[name]:
            data = mutated(data, pick)
        (path / name).write_bytes(data)
        start = time.perf_counter()
        message = refusal(lambda: read_all(path))
        if message is not None:
            refused += 1
            assert name.partition("/")[0] in message
            assert "\n" not in message
        assert time.perf_counter() - start < 5
    if name.startswith("checkpoints") and not name.endswith("manifest.json"):
        assert refused == 200
    else:
        assert 100 < refused < 200 or name == "lock"


@pytest.mark.parametrize(
    "read",
    [
        lambda data: unpack(data, Path("x")),
        lambda data: files.parse_json(data, "x"),
        lambda data: files.parse_toml(data, "x"),
    ],
    ids=["safetensors", "json", "toml"],
)
def test_mutated_bytes_behind_the_checksum(read):
    seeds = [*LIES.values(), *FORMAT_1.values(), header({"a": entry([2], [0, 8]), "b": entry([2, 0], [8, 8], "BF16")},
                                                        bytes(8))]  # fmt: skip
    seeds = [seed for seed in seeds if len(seed) < 2000]
    pick = random.Random(0)
    for _ in range(3000):
        data = mutated(pick.choice(seeds), pick)
        start = time.perf_counter()
        with suppress(RunError):
            read(data)
        assert time.perf_counter() - start < 5
