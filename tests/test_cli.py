"""The command line as its users meet it: results on stdout, one line and status 2 for their mistakes, files that are whole."""

import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import vaekit
from conftest import Result
from vaekit.runs.restore import RestoredRun

TINY = ["--set", "encoder.hidden=[16]", "--set", "decoder.hidden=[16]", "--set", "data.validation=58000"]


def test_a_profile_of_the_training_writes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = command("profile", "course-vae")
    assert found.status == 0 and found.err == ""
    assert "ms per step (device " in found.out and "backward pass" in found.out and "addmm" in found.out
    assert not any(tmp_path.iterdir())
    with_json = json.loads(command("profile", "course-vae", "--json").out)
    assert sum(with_json["phases"].values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with two tiny trained runs, "plain" and "digits", made by the real command."""
    folder = tmp_path_factory.mktemp("runs")
    for preset, name in (("vae", "plain"), ("cvae", "digits")):
        train(folder, preset, "--name", name, "--epochs", "1", *TINY)
    return folder


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vaekit", "train", *arguments, "--runs", str(folder)],
        text=True,
        capture_output=True,
        check=True,
    )


def assert_refused(result: Result, message: str) -> None:
    assert result.status == 2
    assert re.search(message, result.err), result.err
    assert len(result.err.strip().splitlines()) == 1
    assert "Traceback" not in result.err


def test_a_run_folder_has_what_it_promises(root: Path) -> None:
    run = root / "plain"
    names = {path.name for path in run.iterdir()}
    assert {"config.toml", "environment.json", "metrics.jsonl", "checkpoints", "samples", "test.json"} <= names
    assert load_file(run / "checkpoints" / "best" / "model.safetensors").keys()
    record = json.loads((run / "metrics.jsonl").read_text())
    assert record["loss"] == pytest.approx(record["rate"] + record["distortion"])
    environment = json.loads((run / "environment.json").read_text())
    assert environment["data"]["rows"] == {"train": 2000, "validation": 58000, "test": 10000}
    pictures = {path.name for path in (run / "samples").glob("*.png")}
    expected = {"training", "reconstructions", "samples", "interpolation", "curves", "epoch-001"}
    expected |= {"map", "traversals", "kl", "latents"}
    assert pictures == {f"{name}.png" for name in expected}
    assert {path.name for path in (run / "samples").glob("*.gif")} == {"walk.gif", "epochs.gif"}
    conditional = {path.name for path in (root / "digits" / "samples").glob("*.png")}
    assert conditional == pictures | {"classes.png", "one-of-each.png"}
    with Image.open(run / "samples" / "interpolation.png") as picture:
        assert picture.width > 300 and picture.height > 300


WEIGHTS = Path("checkpoints/last/model.safetensors")


@pytest.mark.filterwarnings("ignore:model.init = 'pca' needs")  # narrow networks start otherwise, and say so
def test_the_same_command_gives_the_same_weights_bit_for_bit(root: Path, tmp_path: Path, command) -> None:
    options = ("train", "vae", "--epochs", 1, *TINY, "--runs", tmp_path)
    again = command(*options, "--name", "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (root / "plain" / WEIGHTS).read_bytes()
    assert re.search(
        r"^epoch 1/1  −ELBO [\d.]+ \(rate [\d.]+, distortion [\d.]+\)  validation [\d.]+", again.err, re.MULTILINE
    )
    lines = again.out.splitlines()
    assert lines[0].startswith("test −ELBO ")
    assert "again" in lines[1]
    assert "samples/samples.png and" in lines[2]
    command(*options, "--name", "other", "--seed", 1)
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != (root / "plain" / WEIGHTS).read_bytes()


def test_a_saved_config_repeats_the_run_in_another_process(root: Path, tmp_path: Path) -> None:
    train(tmp_path, "--config", str(root / "plain" / "config.toml"), "--name", "repeat")
    assert (tmp_path / "repeat" / WEIGHTS).read_bytes() == (root / "plain" / WEIGHTS).read_bytes()


def test_sample(root: Path, tmp_path: Path, command) -> None:
    out = tmp_path / "x.npy"
    result = command("sample", "plain", "-n", 5, "-o", out, "--runs", root)
    assert (result.status, result.out) == (0, f"{out}\n")
    images = np.load(out)
    assert images.shape == (5, 1, 28, 28) and 0 <= images.min() <= images.max() <= 1
    command("sample", "plain", "-n", 5, "-o", tmp_path / "y.npy", "--seed", 1, "--runs", root)
    assert not np.array_equal(images, np.load(tmp_path / "y.npy"))
    command("sample", "plain", "-n", 5, "-o", tmp_path / "z.npy", "--runs", root)
    assert np.array_equal(images, np.load(tmp_path / "z.npy"))
    command("sample", "digits", "-n", 5, "--class", "3", "-o", tmp_path / "c.npz", "--runs", root)
    with np.load(tmp_path / "c.npz") as stored:
        (array,) = stored.values()
    assert array.shape == (5, 1, 28, 28)
    command("sample", "digits", "-n", 12, "-o", tmp_path / "all.npy", "--runs", root)  # each class in turn
    model = vaekit.load(root / "digits")
    expected = model.sample(12, torch.arange(12) % 10, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.load(tmp_path / "all.npy"), expected.numpy(), atol=1e-6)


def test_pictures_go_into_the_run_folder_by_default(root: Path, command) -> None:
    for arguments in (("sample",), ("interpolate",), ("interpolate", "--between", 0, 1), ("reconstruct", "-n", 4)):
        verb, *rest = arguments
        result = command(verb, root / "plain", *rest)
        assert result.status == 0, result.err
        with Image.open(result.out.strip()) as picture:
            assert picture.size > (100, 100)
        assert Path(result.out.strip()).parent == root / "plain" / "samples"


def test_samples_of_a_conditional_model_cycle_through_its_classes(root: Path, tmp_path: Path, command) -> None:
    assert command("sample", "digits", "-n", 12, "-o", tmp_path / "all.npy", "--runs", root).status == 0
    torch.manual_seed(0)
    labels = torch.arange(12) % 10
    expected = vaekit.load(root / "digits").sample(12, labels, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.load(tmp_path / "all.npy"), expected.numpy(), atol=1e-6)
    command("sample", "digits", "--by-class", "-n", 3, "-o", tmp_path / "styles.npy", "--runs", root)
    assert np.load(tmp_path / "styles.npy").shape == (30, 1, 28, 28)


def test_pictures_of_latents_and_films_by_a_verb(root: Path, tmp_path: Path, command) -> None:
    for arguments in (
        ("map", "plain", "--side", 3, "--latents", 2, 1, "-o", tmp_path / "map.png"),
        ("map", "digits", "--side", 3, "--class", 4, "--cmap", "magma", "-o", tmp_path / "class.jpg"),
        ("traverse", "plain", "--latents", 2, "--steps", 3, "--image", 9999, "--invert", "-o", tmp_path / "t.svg"),
        ("latents", "digits", "-o", tmp_path / "latents.svg"),
        ("latents", "plain", "--kl", "-o", tmp_path / "kl.png"),
        ("interpolate", "digits", "--rows", 4, "--steps", 3, "-o", tmp_path / "walk.gif"),
        ("interpolate", "plain", "--between", 3, 18, "-o", tmp_path / "two.gif"),
    ):
        result = command(*arguments, "--runs", root)
        assert result.status == 0, result.err
        assert result.out == f"{arguments[-1]}\n"
    with Image.open(tmp_path / "walk.gif") as film, Image.open(tmp_path / "class.jpg") as picture:
        assert film.is_animated and (picture.format, picture.mode) == ("JPEG", "RGB")
    assert (tmp_path / "t.svg").read_text().count("<text") == 2 + 3 + 1  # rows, columns, a title
    samples = root / "plain" / "samples"
    assert Path(command("map", root / "plain", "--side", 2).out.strip()) == samples / "map.png"


def test_maps_and_traversals_of_a_class_have_names_of_their_own_and_must_fit_in_memory(root: Path, command) -> None:
    samples = root / "digits" / "samples"
    for verb, name, size in (("map", "map", "--side"), ("traverse", "traversals", "--steps")):
        drawn = command(verb, root / "digits", "--class", 4, size, 3)
        assert Path(drawn.out.strip()) == samples / f"{name}-class-4.png"
        assert "are too many at once" in command(verb, root / "digits", size, 10**6).err


def test_the_ending_of_a_picture_is_refused_before_anything_is_fitted_or_drawn(
    root: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RestoredRun, "model", lambda *_, **__: pytest.fail("the work began"))
    for verb in ("sample", "interpolate", "reconstruct", "map"):
        result = command(verb, root / "digits", "-o", "digits.csv")
        assert_refused(result, "cannot write 'digits.csv': what run digits draws is written as .png")


def test_interpolation_between_test_images_starts_and_ends_at_them(root: Path, tmp_path: Path, command) -> None:
    out = tmp_path / "walk.npy"
    assert command("interpolate", "plain", "--between", 3, 18, "--steps", 7, "-o", out, "--runs", root).status == 0
    walk = np.load(out)
    assert walk.shape == (7, 1, 28, 28)
    model = vaekit.load(root / "plain")
    test = vaekit.data.load("mnist").test.x[[3, 18]].float() / 255
    np.testing.assert_allclose(walk[[0, -1]], model.reconstruct(test).numpy(), atol=1e-6)


def test_info_and_runs(root: Path, command) -> None:
    facts = json.loads(command("info", "plain", "--runs", root, "--json").out)
    assert (facts["state"], facts["epochs"], facts["planned_epochs"], facts["preset"]) == ("finished", 1, 1, "vae")
    assert facts["test"]["rows"] == 10_000
    assert "784" not in facts["name"]
    rows = json.loads(command("runs", "--runs", root, "--json").out)
    assert [row["name"] for row in rows] == ["digits", "plain"]
    assert isinstance(rows[0]["validation_neg_elbo"], float) and datetime.fromisoformat(rows[0]["created"])
    assert " 1/1 " in command("runs", "--runs", root).out
    assert command("info", "--runs", root).out.splitlines()[1].split() == ["name", "digits"]
    assert command("runs", "--runs", root).out.splitlines()[0].split()[:2] == ["name", "preset"]


def test_presets_and_data(command) -> None:
    rows = json.loads(command("presets", "--json").out)
    assert {"vae", "cvae", "course-vae", "course-cvae"} <= {row["name"] for row in rows}
    assert (
        command("presets", "vae").out == (Path(vaekit.__file__).parent / "config" / "presets" / "vae.toml").read_text()
    )
    found = {row["name"]: row for row in json.loads(command("data", "--json").out)}
    assert found["mnist"]["present"] is True and found["mnist"]["shape"] == [1, 28, 28]
    assert (found["mnist"]["train"], found["mnist"]["validation"], found["mnist"]["test"]) == (55_000, 5_000, 10_000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "cave"), "unknown preset 'cave'; did you mean 'cvae'"),
        (("train", "--data", "mnits"), "unknown data set 'mnits'; did you mean 'mnist'"),
        (("train", "--set", "train.epoch=3"), "did you mean 'train.epochs'"),
        (("train", "--epochs", "0"), "train.epochs.*greater than or equal to 1, got 0"),
        (("train", "--epochs", "-2"), "got -2"),
        (("train", "--epochs", "two"), "'two' is not a valid integer"),
        (("train", "--device", "cuda:99"), "device 'cuda:99' is not here; available: cpu"),
        (("train", "--set", "data.validation=60000"), "60000"),
        (("train", "--name", "../x"), r"\.\./x"),
        (("train", "--name", "plain"), "plain.*exists"),
        (("train", "--nmae", "x"), "--nmae"),
        (("trian",), "trian"),
        (("sample", "nowhere"), "nowhere"),
        (("sample", "plian"), "did you mean 'plain'"),
        (("sample", "plain", "--class", "3"), "unconditional; leave out --class 3"),
        (("sample", "digits", "--class", "11"), "unknown class '11'"),
        (("sample", "plain", "-n", "0"), "0"),
        (("sample", "plain", "-o", "x.tiff"), r"x\.tiff.* \.gif"),
        (("sample", "plain", "--by-class"), "run plain is unconditional; leave out --by-class"),
        (("sample", "plain", "--invert", "-o", "x.npy"), "--invert is for pictures of images, but x.npy is an array"),
        (("sample", "plain", "--cmap", "magma", "-o", "x.npz"), "--cmap is for pictures"),
        (("impute", "plain", "-n", "20000"), "there are 10000 test images, got -n 20000"),
        (("sample", "digits", "--by-class", "--class", "3"), "leave out --class"),
        (("sample", "plain", "--cmap", "magna"), "try 'magma'"),
        (("map", "plain", "--latents", "1", "16"), "from 1 to 15, got 1 16"),
        (("map", "plain", "--image", "10000"), "0 to 9999, got 10000"),
        (("map", "digits", "--class", "11"), "unknown class '11'"),
        (("traverse", "plain", "--class", "1"), "unconditional"),
        (("interpolate", "plain", "--between", "1", "2", "--class", "1"), "unconditional; leave out --class"),
        (("explore", "plain", "-o", "x.png"), "a page is written as .html"),
        (("latents", "plain", "-o", "x.npy"), r"a figure is written as \.png"),
        (("sample", "plain", "-o", "/nowhere/x.png"), "/nowhere"),
        (("interpolate", "plain", "--between", "1", "10000"), "0 to 9999, got 10000"),
        (("interpolate", "plain", "--steps", "1"), "1"),
        (("reconstruct", "plain", "-n", "20000"), "9999"),
        (("info", "/etc"), "/etc"),
        (("presets", "vea"), "did you mean 'vae'"),
        (("resume", "plain"), "finished"),
        (("resume", "plain", "--set", "train.learning_rate=0.01"), "set train.epochs to 2 or more"),
    ],
)
def test_mistakes_are_one_line_and_status_2(root: Path, command, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(path.name for path in root.iterdir())
    more = ("--runs", root) if arguments[0] not in ("presets", "trian") else ()
    assert_refused(command(*arguments, *more), message)
    assert sorted(path.name for path in root.iterdir()) == before


def test_killed_and_resumed_is_the_same_run(root: Path, tmp_path: Path) -> None:
    options = [*TINY, "--epochs", "2", "--set", "train.checkpoint_every=0.05", "--runs", str(tmp_path)]
    whole = [sys.executable, "-m", "vaekit", "train", "standard-vae", "--name", "whole", *options]
    subprocess.run(whole, check=True, capture_output=True)
    process = subprocess.Popen(
        [*whole[:5], "--name", "killed", *options], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    last = tmp_path / "killed" / "checkpoints" / "last"
    deadline = time.monotonic() + 60
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    resume = [sys.executable, "-m", "vaekit", "resume", "killed", "--runs", str(tmp_path)]
    if process.returncode:
        done = subprocess.run(resume, check=True, capture_output=True, text=True)
        assert "test −ELBO" in done.stdout
    assert (tmp_path / "killed" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    options = [*TINY, "--epochs", "2000", "--runs", str(tmp_path), "--name", "r"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vaekit", "train", "standard-vae", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "weights" in process.stderr.readline()
    while not process.stderr.readline().startswith("epoch"):  # the first one is over
        pass
    process.send_signal(2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("vae: stopped at epoch")
    assert "vae resume" in err
    run = vaekit.Run.open("r", root=tmp_path)
    assert run.status == "interrupted"
    assert vaekit.load(run).sample(2).shape == (2, 1, 28, 28)


LIGHT = """
import sys
import vaekit.cli
from click.testing import CliRunner
assert CliRunner().invoke(vaekit.cli.app, {arguments!r}).exit_code == 0
heavy = {{"torch", "matplotlib", "torchvision", "rich", "pydantic", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["data"], ["runs", "--runs", "/nowhere"]])
def test_help_and_listings_import_nothing_heavy(arguments: list[str]) -> None:
    subprocess.run([sys.executable, "-c", LIGHT.format(arguments=arguments)], check=True)


def test_import_vae_imports_nothing_heavy() -> None:
    code = (
        "import sys, vaekit; assert not {'torch', 'matplotlib', 'torchvision', 'rich', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, vaekit; vaekit.VAE, vaekit.elbo; assert not {'matplotlib', 'torchvision', 'rich', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_closed_pipe_is_no_traceback(root: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m vaekit presets | head -1 >/dev/null",
        shell=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert "Traceback" not in done.stderr
