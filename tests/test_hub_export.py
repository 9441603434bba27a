"""An exported folder has what its next user needs, reads back to the same model, and executes nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import vaekit
from conftest import one_line
from vaekit import config
from vaekit.data import Dataset, Split
from vaekit.errors import ConfigError, DataError, RunError
from vaekit.evaluation.model_with_data import ModelWithData
from vaekit.hub import card, interchange, program_files
from vaekit.model.exportable import Decoding, PosteriorMoments
from vaekit.runs.data_record import DataRecord
from vaekit.runs.restore import RestoredRun
from vaekit.store import Run, files

SMALL = ["--set", "encoder.hidden=[8]", "--set", "decoder.hidden=[8]", "--set", "data.validation=59000"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for preset, more in (("standard-cvae", []), ("standard-vae", ["--set", "model.latent_size=3"])):
        command = [
            sys.executable,
            "-m",
            "vaekit",
            "train",
            preset,
            "--epochs",
            "1",
            *SMALL,
            *more,
            "--name",
            preset.removeprefix("standard-"),
        ]
        subprocess.run([*command, "--runs", str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vaekit.export(root / "cvae", tmp_path_factory.mktemp("export") / "my-vae")


def test_it_reads_back_to_the_same_model(root: Path, folder: Path) -> None:
    original, back = vaekit.load(root / "cvae"), vaekit.load(folder)
    z = torch.randn(5, 15)
    assert torch.equal(original.decode(z, 3), back.decode(z, 3)) and not back.training
    assert all(
        torch.equal(a, b) for a, b in zip(original.state_dict().values(), back.state_dict().values(), strict=True)
    )


def test_the_newest_run_is_the_default_of_export_and_explore(root: Path, tmp_path: Path) -> None:
    newest = Run.open(root=root)
    exported = vaekit.export(folder=tmp_path / "e", root=root)
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert newest.name in card
    assert newest.name in vaekit.explore(root=root, images=0).html


def test_the_examples_verify_a_port(folder: Path) -> None:
    model, given = vaekit.load(folder), load_file(folder / "example.safetensors")
    assert {name: len(value) for name, value in given.items()} == {"x": 8, "z": 8, "x_hat": 8, "c": 8}
    assert torch.allclose(model.encode(given["x"], given["c"]), given["z"], atol=1e-6)
    assert torch.allclose(model.decode(given["z"], given["c"]), given["x_hat"], atol=1e-6)


def test_config_says_what_ports_miss(folder: Path) -> None:
    table = json.loads((folder / "config.json").read_text())
    assert table["event_shape"] == [1, 28, 28] and table["value_range"] == [0.0, 1.0]
    assert table["class_names"] == [str(i) for i in range(10)] and table["context_size"] == 10
    latent = table["aggregate_posterior"]
    assert len(latent["mean"]) == len(latent["sd"]) == len(latent["information"]) == 15 and latent["over"] == 1000
    assert table["config"]["decoder"]["hidden"] == [8] and "name" in table["config"]["likelihood"]
    steps = json.loads((folder / "preprocessing.json").read_text())
    assert steps["layout"] == "NCHW" and {"do": "divide", "by": 255} in steps["steps"]


def test_the_weights_are_for_anyone(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt" and metadata["modelspec.sai_model_spec"] == "1.0.0"
    assert {"modelspec.architecture", "modelspec.implementation", "modelspec.title"} <= metadata.keys()
    assert all(isinstance(value, str) for value in metadata.values())
    assert metadata["vaekit.config_sha256"] == program_files.checksum((folder / "config.json").read_bytes())


def test_the_card_leaves_nothing_to_fill_in(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: vaekit\n") and 'datasets:\n- "mnist"\n---' in text
    assert (
        "More Information Needed" not in text and "None" not in text.replace("None: the run", "") and "nan" not in text
    )
    for said in (
        "## Use it",
        "## Figures",
        "## Latents",
        "## Training",
        "## Limits",
        "neg_elbo",
        "seed",
        "vae train standard-cvae",
    ):
        assert said in text
    assert "![samples](samples.png)" in text and (folder / "samples.png").read_bytes().startswith(b"\x89PNG")
    for name in re.findall(r"^- `([\w.]+)`", text, re.MULTILINE):
        assert (folder / name).is_file()


def test_the_three_lines_of_the_card_run(folder: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    names: dict[str, Any] = {}
    exec(code.replace("this/folder", str(folder)), names)
    assert names["images"].shape == (16, 1, 28, 28) and len(code.strip().splitlines()) == 3


def test_evaluated_figures_have_their_errors(root: Path, tmp_path: Path, command) -> None:
    shutil.copytree(root / "vae", tmp_path / "runs" / "vae")
    run = Run.open(tmp_path / "runs" / "vae")
    values = [
        {"name": "elbo", "value": -100.25, "standard_error": 0.5, "unit": "nats", "kind": "lower bound", "noise": None}
    ]
    protocol = {"data": "mnist", "split": "test", "rows": 10000, "samples": 100, "seed": 0}
    found = {
        "format": 1,
        "protocol": protocol,
        "values": values,
        "warnings": ["<b>beware</b> | of [this]"],
        "details": {},
    }
    (run.path / "evaluation.json").write_text(json.dumps(found))
    result = command("export", "vae", "--runs", tmp_path / "runs")
    assert result.status == 0, result.err
    text = (run.path / "export" / "README.md").read_text()
    assert "| elbo | -100.25 ± 0.50 | nats | lower bound |" in text and "10000 images of mnist test" in text
    assert "&lt;b" in text and "<b>" not in text


def test_only_a_card_of_images_speaks_of_grey_values() -> None:
    grey = config.read("vae")
    assert card._grey(grey, {"kind": "image"}) == "as they are" and card._grey(grey, {"kind": "row"}) is None
    binary = config.read("vae", settings=["data.binarize=threshold"])
    assert card._grey(binary, {"kind": "image"}) == "binarized: threshold"


def test_another_export_is_replaced_and_nothing_else(root: Path, tmp_path: Path) -> None:
    there = vaekit.export(root / "vae", tmp_path / "out")
    (there / "stale").write_text("")
    assert vaekit.export(root / "vae", there) == there and not (there / "stale").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(RunError, match="not an earlier export"):
        vaekit.export(root / "vae", tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


@pytest.mark.parametrize(
    ("likelihood", "shape", "dtype", "divides"),
    [
        ("bernoulli", (1, 8, 8), torch.uint8, True),
        ("normal", (1, 8, 8), torch.uint8, True),
        ("bernoulli", (64,), torch.uint8, True),
        ("poisson", (64,), torch.uint8, False),
        ("normal", (1, 8, 8), torch.float32, False),
    ],
)
def test_only_bytes_that_the_model_sees_divided_are_to_be_divided(
    likelihood: str, shape: tuple[int, ...], dtype: torch.dtype, divides: bool, tmp_path: Path
) -> None:
    bytes_ = torch.randint(256, (20, *shape), dtype=torch.uint8)
    x = bytes_ if dtype == torch.uint8 else bytes_ / 255
    data = Dataset.of_splits("d", {"train": Split(x, None), "test": Split(x, None)})
    small: dict[str, Any] = {
        "latent_size": 2,
        "encoder": {"hidden": [4]},
        "decoder": {"hidden": [4]},
        "likelihood": likelihood,
    }
    model = vaekit.build("vae", data=data, **small)
    read = config.read("vae", sections=small)
    recorded = DataRecord.of_dataset(data, model.value_kind).to_json()
    run = Run.create("r", preset="vae", config=read.to_toml(), environment={"data": recorded}, root=tmp_path)
    exported = ModelWithData.of_model(model, data, 8)
    steps = program_files.preprocessing_of(run, read, exported)["steps"]
    assert ({"do": "divide", "by": 255} in steps) == divides
    assert torch.equal(x[exported.indices] / (255 if divides else 1), exported.x)


NUMBERS_AS_CONTEXT = """
import torch
from vaekit.data import Dataset, Split

def load():
    generator = torch.Generator().manual_seed(0)
    c = torch.rand(60, 2, generator=generator)
    x = c[:, :1, None, None] * torch.rand(60, 1, 8, 8, generator=generator)
    return Dataset("lit", *(Split(x[part], c=c[part]) for part in (slice(20), slice(20, 40), slice(40, 60))), ("a", "b"))
"""


def test_a_model_conditional_on_numbers_is_exported_and_has_no_page(
    tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lit.py").write_text(NUMBERS_AS_CONTEXT)
    small = ["--set", "encoder.hidden=[4]", "--set", "decoder.hidden=[4]", "--set", "model.latent_size=2"]
    data = ["--set", "data.name=lit:load", "--set", "model.condition=class"]
    trained = command(
        "train", "standard-vae", "--trust", "--epochs", 1, "--name", "r", "--device", "cpu", *small, *data
    )
    assert trained.status == 0, trained.err
    folder = vaekit.export("r", "out", trust=True)
    model, example = vaekit.load(folder, trust=True), load_file(folder / "example.safetensors")
    assert torch.allclose(model.decode(example["z"], example["c"]), example["x_hat"], atol=1e-6)
    assert not torch.equal(example["c"], example["c"].round())
    assert {"samples.png", "reconstructions.png"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "config.json").read_text())["kind"] == "image"
    with pytest.raises(DataError, match="the page offers a choice of classes, but this model is conditional on rows"):
        vaekit.explore("r", trust=True)


def test_a_kill_while_an_export_is_replaced_leaves_the_earlier_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = vaekit.export(root / "vae", tmp_path / "mine")
    before = (folder / "model.safetensors").read_bytes()
    rename = os.rename

    def killed(source: Path, target: Path) -> None:
        if Path(target) == folder:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rename", killed)
        vaekit.export(root / "vae", folder)
    left = [path.name for path in tmp_path.iterdir()]
    assert left == [".mine-previous"]
    files.sweep(tmp_path)
    assert (tmp_path / ".mine-previous" / "model.safetensors").read_bytes() == before
    vaekit.export(root / "vae", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# -- what is read is not believed ---------------------------------------------------------------------------------------


def forged(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """The folder with a changed config.json, whose checksum is made to fit."""
    copy = shutil.copytree(folder, tmp_path / "forged")
    table = {**json.loads((copy / "config.json").read_text()), **changes}
    (copy / "config.json").write_text(json.dumps(table))
    state = load_file(copy / "model.safetensors")
    save_file(
        state,
        copy / "model.safetensors",
        {"vaekit.config_sha256": program_files.checksum((copy / "config.json").read_bytes())},
    )
    return copy


def test_a_changed_config_is_noticed(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "config.json").write_text(
        (copy / "config.json").read_text().replace('"num_classes": 10', '"num_classes": 11')
    )
    with pytest.raises(RunError, match="not the one that its weights were exported with"):
        vaekit.load(copy)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"library_name": "other"}, "was not written by `vae export`"),
        ({"format": 99}, "update vaekit"),
        ({"event_shape": [1 << 40]}, "damaged"),
        ({"event_shape": [True]}, "damaged"),
        ({"event_shape": [1, 32, 32]}, "do not fit"),
        ({"config": [1]}, "damaged"),
    ],
)
def test_a_forged_config_is_refused(folder: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RunError, match=says):
        vaekit.load(forged(folder, tmp_path, **changes))


def test_nothing_in_it_is_executed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile.py").write_text("raise SystemExit('executed')\nclass Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = json.loads((folder / "config.json").read_text())["config"]
    with pytest.raises(ConfigError, match="trust"):
        vaekit.load(forged(folder, tmp_path, config={**config, "encoder": {"name": "hostile:Net"}}))


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(RunError, match="symbolic link"):
        vaekit.load(copy)


# -- other programs -----------------------------------------------------------------------------------------------------


def test_onnx_takes_any_batch_and_comes_near(root: Path, tmp_path: Path, command) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    result = command("export", "cvae", "--onnx", "-o", tmp_path / "out", "--runs", root)
    assert result.status == 0, result.err
    assert re.search(
        r"`decoder.onnx`: any batch size; greatest deviation from PyTorch x \d",
        (tmp_path / "out/README.md").read_text(),
    )
    model = vaekit.load(tmp_path / "out")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "decoder.onnx"))
    for rows in (1, 3, 100):
        z, c = torch.randn(rows, 15), torch.eye(10)[torch.arange(rows) % 10]
        (x,) = session.run(None, {"z": z.numpy(), "c": c.numpy()})
        assert (torch.from_numpy(x) - model.decode(z, c)).abs().max() <= 1e-5
    encoder = onnxruntime.InferenceSession(str(tmp_path / "out" / "encoder.onnx"))
    assert [output.name for output in encoder.get_outputs()] == ["mean", "scale"]


@pytest.mark.parametrize("preset", ["vae", "conv-cvae", "iwae-2l", "iaf-vae"])
def test_torch_exports_take_any_batch(preset: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = vaekit.build(preset, event_shape=(1, 28, 28), num_classes=4).eval()
    x, c = torch.rand(5, 1, 28, 28), torch.eye(4)[torch.arange(5) % 4] if model.context_size else None
    found = interchange.to_exported_program(model, x, c, tmp_path)
    assert (
        set(found) == {"encoder.pt2", "decoder.pt2"} and max(v for one in found.values() for v in one.values()) <= 1e-5
    )
    whole = sum(4 * parameter.numel() for parameter in model.parameters())
    assert (tmp_path / "decoder.pt2").stat().st_size < 0.8 * whole  # it does not carry the encoder
    args, _ = torch.export.load(tmp_path / "encoder.pt2").example_inputs
    assert not any(value.any() for value in args)  # nor images
    z = torch.randn(9, model.latent_size)
    given = (z,) if c is None else (z, torch.eye(4)[torch.arange(9) % 4])
    port = torch.export.load(tmp_path / "decoder.pt2").module()
    with torch.no_grad():
        assert torch.allclose(port(*given), model.decode(*given), atol=1e-5)


def test_a_run_without_test_rows_is_exported_but_not_in_formats_that_are_compared_on_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    whole = RestoredRun.of(root / "vae").dataset()
    monkeypatch.setattr(RestoredRun, "dataset", lambda *_: replace(whole, test=whole.test.rows(slice(0))))
    result = command("export", "vae", "--onnx", "-o", tmp_path / "out", "--runs", root)
    assert "no test rows" in one_line(result) and "--onnx" in result.err and not (tmp_path / "out").exists()
    assert command("export", "vae", "-o", tmp_path / "out", "--runs", root).status == 0


def test_a_port_that_deviates_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"deviates from PyTorch by 1\.0e-02"):
        interchange._near("decoder.onnx", {"x": 0.01})
    with pytest.raises(ConfigError, match="deviates"):
        interchange._near("decoder.onnx", {"x": float("nan")})


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = vaekit.build("vae", event_shape=(1, 8, 8))
    with pytest.raises(ConfigError, match=r"pip install 'vaekit\[onnx\]'"):
        interchange.to_onnx(model, torch.rand(2, 1, 8, 8), None, tmp_path)


def test_the_unchecked_paths_are_the_checked_ones_without_the_checks() -> None:
    torch.manual_seed(0)
    model = vaekit.build("vae", event_shape=(1, 8, 8)).eval()
    x, z = torch.rand(3, 1, 8, 8), torch.randn(3, 15)
    with torch.no_grad():
        assert torch.equal(Decoding(model)(z), model.decode(z))
        mean, scale = PosteriorMoments(model)(x)
        assert torch.equal(mean, model.encode(x)) and torch.equal(scale, model.posterior(x).stddev)


@pytest.mark.parametrize("kind", ["VAE", "CVAE"])
def test_the_assignments_weights_load(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = getattr(vaekit, kind)(784)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    back = vaekit.load(tmp_path / "weights.pt")
    assert type(back) is getattr(vaekit, kind) and not back.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), back.state_dict().values(), strict=True))
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="does not hold the weights"):
        vaekit.load(tmp_path / "other.pt")


def test_the_rate_without_a_closed_form_is_exact_where_the_prior_is_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    from vaekit.model import exportable

    torch.manual_seed(0)
    model = vaekit.build("course-vae", event_shape=(1, 8, 8)).double().eval()
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        _, exact, distortion = exportable.Encoding(model)(x)

        def unknown(q: object, p: object) -> None:
            """Know no closed form of any two distributions."""

        monkeypatch.setattr(exportable, "closed_form_kl", unknown)
        _, found, same = exportable.Encoding(model)(x)
    assert torch.allclose(found, exact, atol=1e-10) and torch.equal(distortion, same)


@torch.no_grad()
def test_the_rate_of_a_full_covariance_under_a_correlated_prior_is_exact() -> None:
    from vaekit.model.exportable import Encoding

    torch.manual_seed(0)
    prior = {"name": "full-covariance-mixture", "components": 1}
    model = vaekit.build(
        "vae", event_shape=(1, 4, 4), latent_size=3, posterior={"name": "full-covariance-normal"}, prior=prior
    )
    model = model.double().eval()
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.rand(4, 1, 4, 4, dtype=torch.float64)
    q, p = model.posterior(x), model.prior()
    root = torch.linalg.inv(p.precision_tril[0])
    plain = torch.distributions.MultivariateNormal
    exact = torch.distributions.kl_divergence(
        plain(q.mean, scale_tril=q.scale_tril), plain(p.loc[0], covariance_matrix=root @ root.T)
    )
    _, rate, _ = Encoding(model)(x)
    torch.testing.assert_close(rate, exact, rtol=1e-9, atol=1e-9)
