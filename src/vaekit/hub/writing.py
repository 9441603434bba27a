"""`export`: write the folder of a model for its next user, all of it or nothing.

A folder cannot be replaced in one step. A kill between the two renames leaves the earlier export as `.NAME-previous`
beside the folder NAME; the next export removes it once the new one is in place.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

import torch

from .. import __version__, plot
from ..data.dataset import evenly_spread
from ..distributions import centre
from ..errors import ConfigError, RunError
from ..evaluation.evaluation_file import Evaluation
from ..evaluation.latent_space.aggregate import STATISTICS_ROWS
from ..evaluation.model_with_data import ModelWithData
from ..model import LatentVariableModel
from ..plot.decoding import SHOWN_SAMPLES
from ..runs.restore import RestoredRun
from ..store import Run, files, tensors
from ..store.metrics import stored_test
from . import interchange, program_files
from .card import card


def export(
    run: Run | RestoredRun | str | Path | None = None,
    folder: str | Path | None = None,
    *,
    onnx: bool = False,
    torch_export: bool = False,
    root: str | Path = "runs",
    trust: bool = False,
) -> Path:
    """Write the model of a run into a folder for its next user: weights, config, card, preprocessing, examples.

    Arguments:
        run: A run, its folder or name, the newest run by default.
        folder: Where to write; "export" in the run folder by default. An earlier export there is replaced.
        onnx: Also write encoder.onnx and decoder.onnx. Needs the extra `onnx`.
        torch_export: Also write encoder.pt2 and decoder.pt2.
        root: Folder of all runs.
        trust: Allow parts by import path; their code is then executed.

    Returns:
        The folder.

    Raises:
        RunError: The run is unknown, or the folder has other content or cannot be written.
        ConfigError: The model cannot be exported to ONNX or as a program, or there are no test rows to compare on.
    """
    restored = RestoredRun.of(run, root=root, trust=trust)
    target = restored.run.path / "export" if folder is None else Path(folder)
    _check_replaceable(target)
    exported = ModelWithData.of_run(restored, restored.model(), STATISTICS_ROWS)
    if (onnx or torch_export) and not len(exported):
        raise ConfigError(
            f"the data of run {restored.run.name} have no test rows, on which the encoder and the decoder in other "
            "formats are compared with PyTorch; leave these formats out",
            arguments=("onnx", "torch_export"),
        )
    new = files.temporary(target)
    with files.file_errors("write", target):
        new.mkdir(parents=True)
        try:
            _fill(new, restored, exported, onnx=onnx, torch_export=torch_export)
            _put(new, target)
        finally:
            files.remove(new)
    return target


def _fill(new: Path, restored: RestoredRun, exported: ModelWithData, *, onnx: bool, torch_export: bool) -> None:
    run, config = restored.run, restored.recipe.config
    table = program_files.config_json(run, config, exported)
    content = program_files.as_json(table)
    files.write_new(new / "config.json", content)
    preprocessing = program_files.preprocessing_of(run, config, exported)
    files.write_new(new / "preprocessing.json", program_files.as_json(preprocessing))
    files.write_new(new / "model.safetensors", _weights(exported.model, restored, program_files.checksum(content)))
    _examples(new, exported)
    pictures = _pictures(new, exported)
    parity: dict[str, interchange.Parity] = {}
    rows = slice(0, interchange.PARITY_ROWS)
    if onnx or torch_export:
        x, c = exported.posterior_input(rows), exported.context(rows)
        if onnx:
            parity |= interchange.to_onnx(exported.model, x, c, new)
        if torch_export:
            parity |= interchange.to_exported_program(exported.model, x, c, new)
    text = card(run, config, table, Evaluation.of_present_weights(run), stored_test(run), parity, pictures=pictures)
    files.write_new(new / "README.md", text.encode())


def _weights(model: LatentVariableModel, restored: RestoredRun, config_sha256: str) -> bytes:
    """The weights with the keys of the modelspec, which are strings: https://github.com/Stability-AI/ModelSpec."""
    run, config, state = restored.run, restored.recipe.config, model.state_dict()
    parts = "/".join(getattr(config, kind).name for kind in ("encoder", "posterior", "prior", "decoder", "likelihood"))
    return tensors.pack(
        state,
        {
            "format": "pt",
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.architecture": f"vae/{parts}",
            "modelspec.implementation": "vaekit",
            "modelspec.title": run.name,
            "modelspec.description": f"{run.environment.get('preset')}, trained on {restored.data_record.name}",
            "modelspec.date": run.created.isoformat(),
            "modelspec.hash_sha256": f"0x{tensors.sha256(state)}",
            "vaekit.version": __version__,
            "vaekit.config_sha256": config_sha256,
            "vaekit.exported": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


@torch.no_grad()
def _examples(new: Path, exported: ModelWithData) -> None:
    rows = evenly_spread(len(exported), program_files.EXAMPLES)
    x, c, model = exported.posterior_input(rows), exported.context(rows), exported.model
    if not len(x):
        return
    z = centre(model.posterior(model.as_rows(x), c))  # a model that does not see missing values has 0 there
    example = {"x": x, "z": z, "x_hat": model.decode(z, c)}
    files.write_new(new / "example.safetensors", tensors.pack(example if c is None else example | {"c": c}))


def _pictures(new: Path, exported: ModelWithData) -> list[str]:
    """Write pictures of samples and reconstructions, if the data are images; return the names of the files."""
    if not exported.shows_images or not len(exported):
        return []
    model = exported.model
    c = None if exported.c is None else exported.context(evenly_spread(len(exported), SHOWN_SAMPLES))
    drawn = plot.samples(model, None if c is None else len(c), c=c, generator=torch.Generator().manual_seed(0))
    plot.save(drawn, new / "samples.png")
    rows = evenly_spread(len(exported), program_files.EXAMPLES)
    plot.save(plot.reconstructions(model, exported.x[rows], exported.context(rows)), new / "reconstructions.png")
    return ["samples.png", "reconstructions.png"]


def _check_replaceable(target: Path) -> None:
    """Refuse a folder with any other content than an earlier export.

    Raises:
        RunError: The folder has other content.
    """
    if not os.path.lexists(target):
        return
    if target.is_dir() and not target.is_symlink():
        names = set(os.listdir(target))
        if not names or {"config.json", "model.safetensors", "preprocessing.json"} <= names:
            return
    raise RunError(f"{target} exists and is not an earlier export; name another folder")


def _put(new: Path, target: Path) -> None:
    """Rename `new` to `target`; the earlier export has another name until then, which `files.sweep` leaves alone."""
    previous = target.with_name(f".{target.name}-previous")
    if target.exists():
        files.remove(previous)
        os.rename(target, previous)
    os.rename(new, target)
    files.sync(target.parent)
    files.remove(previous)
