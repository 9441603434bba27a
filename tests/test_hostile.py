"""Runs and arguments that a stranger made: each verb succeeds or says one line, at once and without much memory."""

import hashlib
import json
import os
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from conftest import SMALL, Result, one_line
from vaekit.errors import DeviceError, RunError
from vaekit.runs import lifecycle
from vaekit.store import Run, bounded, files
from vaekit.store.summaries import summaries
from vaekit.training import Listener, find_device

Command = Callable[..., Result]


def write(name: str, change: Callable[[str], str]) -> None:
    path = Path("runs/a", name)
    path.write_text(change(path.read_text()))


def table(name: str, change: Callable[[Any], object]) -> None:
    value = json.loads(Path("runs/a", name).read_text())
    change(value)
    Path("runs/a", name).write_text(json.dumps(value))


def tensors(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    path = Path("runs/a", name)
    path.write_bytes(save({key: change(value) for key, value in load_file(path).items()}))
    if path.with_name("manifest.json").exists():
        listed({path.name: path.read_bytes()})


def listed(files: dict[str, bytes], folder: str = "runs/a/checkpoints/best") -> None:
    """Put files into a checkpoint, with their checksums in its manifest."""
    manifest = json.loads(Path(folder, "manifest.json").read_text())
    for name, data in files.items():
        Path(folder, name).write_bytes(data)
        manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    Path(folder, "manifest.json").write_text(json.dumps(manifest))


def linked(size: int, count: int) -> None:
    """Put one file under many names into a checkpoint."""
    names = [f"p{i}.safetensors" for i in range(count)]
    content = save({"x": torch.zeros(size // 4)})
    listed({name: content if name == names[0] else b"" for name in names})
    first, *rest = [Path("runs/a/checkpoints/best", name) for name in names]
    for other in rest:
        other.unlink()
        os.link(first, other)
    manifest = json.loads(first.with_name("manifest.json").read_text())
    manifest["files"] |= dict.fromkeys(names, manifest["files"][names[0]])
    first.with_name("manifest.json").write_text(json.dumps(manifest))


DIGITS = 400 * "9"
HARM: dict[str, tuple[Callable[[], None], tuple[str, ...], str | None]] = {
    "a lone surrogate": (lambda: table("environment.json", lambda t: t.update(preset="\ud800")), ("runs",), None),
    "a metric of 400 digits": (
        lambda: write("metrics.jsonl", lambda _: f'{{"epoch": 1, "validation_neg_elbo": {DIGITS}}}\n'),
        ("info", "a"),
        "metrics.jsonl, line 1 is damaged: 9+ is a number of more than 64 bits",
    ),
    "an epoch of 4000 digits": (
        lambda: write("config.toml", lambda _: "[train]\nepochs = 0x" + 4000 * "f"),
        ("info", "a"),
        "config.toml is damaged: train.epochs must be a whole number of at most 64 bits",
    ),
    "keys 3000 deep": (
        lambda: write("config.toml", lambda s: s + "\n[encoder." + 3000 * "a." + "b]\nx = 1\n"),
        ("info", "a"),
        "config.toml is damaged: it is nested more than 16 deep",
    ),
    "a date": (
        lambda: write("config.toml", lambda _: "[train]\nepochs = 1979-05-27\n"),
        ("info", "a", "--json"),
        "config.toml is damaged: train.epochs is a date or a time",
    ),
    "infinity": (
        lambda: write("config.toml", lambda _: "[objective]\nbeta = inf\n"),
        ("info", "a"),
        "config.toml is damaged: objective.beta must be a finite number",
    ),
    "lists 600 deep": (
        lambda: write("environment.json", lambda s: s.rstrip()[:-1] + ', "z": ' + 600 * "[" + 600 * "]" + "}"),
        ("resume", "a", "--set", "train.epochs=2"),
        "environment.json is damaged: it is nested more than 64 deep",
    ),
    "a record without an epoch": (
        lambda: write("metrics.jsonl", lambda _: "{}\n"),
        ("resume", "a", "--set", "train.epochs=2"),
        "metrics.jsonl is damaged: its epochs are not 1 to 1",
    ),
    "a value of 400 digits": (
        lambda: table("evaluation.json", lambda t: t["values"][0].update(value=10**400)),
        ("compare", "a", "b"),
        "evaluation.json is damaged",
    ),
    "values per image in float8": (
        lambda: tensors("evaluation/per-row.safetensors", lambda v: v.to(torch.float8_e4m3fn)),
        ("compare", "a", "b"),
        None,  # as if they had not been kept
    ),
    "weights that are NaN": (
        lambda: tensors("checkpoints/best/model.safetensors", lambda v: v * float("nan")),
        ("encode", "a"),
        "the weights of .* are not finite",
    ),
    "an unknown file of 1 TiB": (
        lambda: (listed({"z.bin": b""}), os.truncate("runs/a/checkpoints/best/z.bin", 1 << 40)),
        ("sample", "a"),
        None,  # it is not read
    ),
    "60 hard links to a file of 20 MiB": (
        lambda: linked(20 << 20, 60),
        ("sample", "a"),
        None,  # no tensor of the model: they are not read
    ),
    "weights of 1 TiB": (
        lambda: os.truncate("runs/a/checkpoints/best/model.safetensors", 1 << 40),
        ("sample", "a"),
        "lists 1099511[0-9]+ bytes, more than",
    ),
    "a training's state of 1 TiB": (
        lambda: os.truncate("runs/a/checkpoints/last/rng.safetensors", 1 << 40),
        ("resume", "a", "--set", "train.epochs=2"),
        "lists 1099511[0-9]+ bytes, more than",
    ),
    "a line of metrics of 1 MiB": (
        lambda: write("metrics.jsonl", lambda _: '{"epoch": 1, "x": "' + (1 << 20) * "x" + '"}\n'),
        ("info", "a"),
        "metrics.jsonl, line 1 is damaged: it has",
    ),
    "metrics of 5 MiB": (
        lambda: write("metrics.jsonl", lambda _: "{}\n" * ((5 << 20) // 3)),
        ("info", "a"),
        "metrics.jsonl has more than 100000 lines",
    ),
    "a pipe for a config": (
        lambda: (os.remove("runs/a/config.toml"), os.mkfifo("runs/a/config.toml")),
        ("info", "a"),
        "a device, a folder or",
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_hostile_run_is_refused_in_one_line_that_names_the_file(here: Path, command: Command, harm: str) -> None:
    shutil.copytree("runs/a", "runs/b")
    write("config.toml", lambda s: re.sub(r"learning_rate = .*", "learning_rate = 0.5", s))
    harming, verb, message = HARM[harm]
    harming()
    result = command(*verb)
    if message is None:
        assert result.status == 0, result.err
        return

    assert re.search(message, one_line(result)), result.err


def test_a_run_s_folder_takes_little_memory_to_list(here: Path) -> None:
    record = json.dumps({"epoch": 1, "validation_neg_elbo": 80.0, **{f"x{i}": 1.5 for i in range(20)}})
    write("metrics.jsonl", lambda _: f"{record}\n" * 20_000)
    tracemalloc.start()
    (row,) = summaries(Path("runs"))
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert (row["epochs"], row["planned_epochs"], row["validation_neg_elbo"]) == (20_000, 1, 80.0)


def test_values_are_bounded_where_they_are_read() -> None:
    assert bounded.json_value(b'[18446744073709551615, -9223372036854775808, 1e308, null, "x"]')[0] == 2**64 - 1
    for text in (b"1e999", b"-1e999", b"NaN", b"18446744073709551616", DIGITS.encode(), b"[" * 100 + b"]" * 100):
        with pytest.raises(ValueError, match=r"number|nested"):
            bounded.json_value(text)
    with pytest.raises(RunError, match="cannot be written as JSON"):  # what could not be read again
        files.dump_json({"seed": 10**30}, "state.json")


# -- arguments --------------------------------------------------------------------------------------------------------

BIG = "9" * 23
TRAIN = ("train", "--data", "x.npy", "--epochs", "1", *SMALL, "--name", "n")
MISTAKES: dict[tuple[str, ...], str] = {
    (*TRAIN, "--set", "optimizer.name=adam", "--set", "optimizer.weight_decay=-1"): "weight_decay",
    (*TRAIN, "--set", "optimizer.weight_decay=-1"): "weight_decay",
    (*TRAIN, "--set", "optimizer.name=adam", "--set", "optimizer.betas=[1, 2]"): "beta",
    (*TRAIN, "--set", "optimizer.eps=nan"): "eps",
    (*TRAIN, "--set", "optimizer.name=sgd", "--set", "optimizer.nesterov=true"): "[Nn]esterov",
    (*TRAIN, "--seed", BIG): "train.seed",
    (*TRAIN, "--epochs", BIG): "train.epochs",
    (*TRAIN, "--epochs", "1000001"): "train.epochs",
    (*TRAIN, "--seeds", "2000000"): "--seeds",
    (*TRAIN, "--name", "a" * 300): "at most 100 letters",
    ("sample", "a", "--seed", BIG): "--seed",
    ("sample", "a", "-n", BIG): "-n",
    ("interpolate", "a", "--walks", BIG): "--walks",
    ("interpolate", "a", "--walks", "100000", "--steps", "100000"): "images of shape",
    ("reconstruct", "a", "-n", BIG): "-n",
    ("evaluate", "a", "--samples", BIG): "--samples",
    ("score", "a", "--samples", BIG): "--samples",
    ("sample", "a", "--device", "meta"): "device 'meta' is not here",
    ("sample", "a", "--device", "hpu"): "device 'hpu' is not here",
    ("sample", "a", "--device", "cuda:99999999999999"): "is not here",
    ("runs", "--runs", "a" * 300): "File name too long",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=lambda a: " ".join(a)[-60:])
def test_arguments_that_only_torch_would_refuse_are_refused_before_anything_is_made(
    here: Path, command: Command, arguments: tuple[str, ...]
) -> None:

    assert re.search(MISTAKES[arguments], one_line(command(*arguments)))
    assert not Path("runs/n").exists()


@pytest.mark.parametrize(("name", "value"), [("RANK", "x"), ("WORLD_SIZE", "-1"), ("WORLD_SIZE", BIG), ("RANK", "²")])
def test_ranks_that_are_no_numbers_are_refused(
    here: Path, command: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    given = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "0", name: value}
    for key, text in given.items():
        monkeypatch.setenv(key, text)
    assert f"{name} must be a whole number" in one_line(command(*TRAIN))


# -- a folder that goes -----------------------------------------------------------------------------------------------


class After(Listener):
    """A listener that does something after an epoch."""

    def __init__(self, harm: Callable[[Path], object]) -> None:
        self.harm = harm

    def step(self, *_: Any) -> None:
        pass

    def epoch(self, record: Any) -> None:
        if record["epoch"] == 2:
            self.harm(Path("runs/r").resolve())


def trained_while(harm: Callable[[Path], object]) -> str:
    from vaekit.config import read

    sections = {
        "data": {"name": "x.npy"},
        "model": {"init": "default"},
        "encoder": {"hidden": [4]},
        "decoder": {"hidden": [4]},
    }
    config = read("vae", sections=sections | {"train": {"epochs": 4, "device": "cpu", "checkpoint_every": 1e-6}})
    with pytest.raises(RunError) as error:
        lifecycle.train_run(config, name="r", listener=After(harm))
    return str(error.value)


def removed(run: Path) -> None:
    """As `rm -rf`, typed again where a picture was just being written."""
    for _ in range(100):
        shutil.rmtree(run, ignore_errors=True)
        if not run.exists():
            return


def test_a_training_whose_folder_is_renamed_or_removed_stops_and_makes_nothing_anew(here: Path) -> None:
    assert "was removed or renamed" in trained_while(lambda run: run.rename("runs/other"))
    assert not Path("runs/r").exists()
    assert Run.open("other").status == "interrupted"
    assert "was removed or renamed" in trained_while(removed)
    assert not Path("runs/r").exists()


def test_what_is_left_of_a_run_can_be_removed_and_nothing_else(here: Path, command: Command) -> None:
    def half(run: Path) -> None:
        for name in ("environment.json", "config.toml", "lock"):
            (run / name).unlink()

    assert "was removed or renamed" in trained_while(half)
    assert "no environment.json" in one_line(command("info", "r"))
    assert "the rest of a removed run" in one_line(command(*TRAIN[:-1], "r"))
    Path("runs/mine").mkdir()
    assert "unknown run 'mine'" in one_line(command("runs", "--clean", "mine", "--yes"))
    assert command("runs", "--clean", "damaged", "--yes").status == 0
    assert Path("runs/r").exists()  # only by its name
    removed = command("runs", "--clean", "r", "--yes")
    assert removed.status == 0 and re.match(r"r  (damaged|left over)  \d+\.\d MB\n", removed.err)
    assert not Path("runs/r").exists() and Path("runs/a").exists()


def test_a_working_folder_that_was_removed_is_no_error(here: Path, command: Command) -> None:
    runs = str(here / "runs")
    Path("gone").mkdir()
    os.chdir("gone")
    os.rmdir("../gone")
    try:
        assert command("info", "a", "--runs", runs).status == 0
        train = (*TRAIN[:1], "--data", str(here / "x.npy"), *TRAIN[3:], "--runs", runs)
        result = command(*train)
        assert result.status == 0, result.err
    finally:
        os.chdir(here)


# -- numbers that explode ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validation", ["10", "0"])
def test_a_last_step_that_explodes_fails_and_the_last_good_state_is_kept(
    here: Path, command: Command, validation: str
) -> None:
    np.save("few.npy", np.load("x.npy")[:80])
    exploding = (
        "optimizer.name=sgd",
        "optimizer.momentum=1e30",
        "train.batch_size=40",
        f"data.validation={validation}",
    )
    train = (*TRAIN[:1], "--data", "few.npy", *TRAIN[3:], *(part for one in exploding for part in ("--set", one)))
    assert "the last state that was good" in one_line(command(*train))
    run = Run.open("n")
    assert run.status == "failed" and not (run.path / "test.json").exists()
    weights = run.load_checkpoint().tensors
    assert max(float(v.abs().max()) for name, v in weights.items() if name.startswith("model/")) < 100


def test_nothing_is_written_in_place_of_a_pipe_or_a_device(here: Path, command: Command) -> None:
    for name in ("o.html", "o.png", "class/vae.py"):
        Path(name).parent.mkdir(exist_ok=True)
        os.mkfifo(name)
    for arguments in (("report", "a", "-o", "o.html"), ("sample", "a", "-n", "1", "-o", "o.png"), ("teach", "class")):
        assert "pipe" in one_line(command(*arguments))
    assert all(Path(name).is_fifo() for name in ("o.html", "o.png", "class/vae.py"))


def test_a_device_without_values_is_not_here() -> None:
    for name in ("meta", "cuda:99999999999999", "no such"):
        with pytest.raises(DeviceError, match="is not here"):
            find_device(name)
