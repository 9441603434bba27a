"""`load`: a model from a run, an exported folder, a file of `model.save`, or the assignment's weights."""

import json
from pathlib import Path
from typing import Any

import torch

from ..config import parse
from ..config.recipe import Recipe
from ..course import CVAE, VAE
from ..errors import ConfigError, DataError, RunError, one_of
from ..model import LatentVariableModel
from ..model.weight_files import MADE_OF
from ..runs.data_record import columns_from
from ..runs.model_weights import build_with_weights, shapes_of
from ..runs.restore import RestoredRun
from ..store import Run, files, tensors
from ..store.checkpoint import CheckpointKind
from ..training import find_device
from .program_files import EXPORT_FORMAT, checksum

WEIGHTS = {".pt", ".pth", ".ckpt", ".bin"}


def load(
    source: Run | str | Path | None = None,
    *,
    weights: CheckpointKind = "best",
    device: str = "cpu",
    root: Path | str = "runs",
    trust: bool = False,
) -> LatentVariableModel:
    """A trained model, in evaluation mode.

    Arguments:
        source: A run, its folder or name, the newest run by default; a folder that `vae export` wrote; a file that
            `model.save` wrote; or a file of weights (.pt, .pth) of the assignment's `VAE` or `CVAE` in one of their
            usual layouts.
        weights: "best" by validation, or "last"; only a run has both. Before an epoch has ended, "best" gives the last.
        device: Device of the model.
        root: Folder of all runs.
        trust: Allow parts by import path. Without it no code of the run, folder or file is executed.

    Raises:
        RunError: The run is unknown or has no weights yet, or the folder is damaged or was changed.
        DataError: The file holds no weights of the assignment.
        ConfigError: A part is given by import path, and `trust` is False; or `weights` is another word, or "last" for a
            folder or file, which has one set of weights.
    """
    one_of("weights", weights, ("best", "last"))
    path = Path(source) if isinstance(source, str | Path) else None
    is_export = path is not None and (path / "config.json").is_file() and not (path / "environment.json").exists()
    if path is not None and weights == "last" and (path.is_file() or is_export):
        raise ConfigError(f"weights = 'last' is for runs, but {path} has one set of weights; leave weights out")
    if path is not None and path.is_file():
        is_course = path.suffix.lower() in WEIGHTS and not tensors.is_safetensors(path)
        return (_course_model(path) if is_course else _saved(path, trust)).to(find_device(device)).eval()
    if path is not None and is_export:
        return _exported(path, trust).to(find_device(device)).eval()
    return RestoredRun.of(source, root=root, trust=trust).model(weights=weights, device=device)


def _course_model(path: Path) -> LatentVariableModel:
    try:
        return VAE.from_checkpoint(path)
    except DataError as error:
        if "CVAE.from_checkpoint" not in str(error):
            raise
    return CVAE.from_checkpoint(path)


def _exported(folder: Path, trust: bool) -> LatentVariableModel:
    """The model of an exported folder. Its weights record the checksum of their config.json."""
    where = files.confine(folder, "config.json")
    content = files.read(where, files.JSON_LIMIT)
    table = files.parse_json(content, where)
    place = files.confine(folder, "model.safetensors")
    state, metadata = tensors.unpack(files.read(place, tensors.WEIGHTS_LIMIT), place)
    if metadata.get("vaekit.config_sha256") != checksum(content):
        raise RunError(f"{where} is not the one that its weights were exported with; export the run again")
    misfit = f"the weights of {folder} do not fit {where.name}; export the run again"
    return _built(table, state, where, misfit, trust)


def _saved(path: Path, trust: bool) -> LatentVariableModel:
    """The model that `model.save` wrote into a file."""
    state, metadata = tensors.unpack(files.read(path, tensors.WEIGHTS_LIMIT), path)
    if MADE_OF not in metadata:
        raise RunError(f"{path} does not record the model of its weights; `model.save` writes files that do")
    table = files.table(files.parse_json(metadata[MADE_OF].encode(), path), path)
    misfit = f"the weights of {path} do not fit the model that it records; save the model again"
    return _built({"library_name": "vaekit", "format": EXPORT_FORMAT, **table}, state, path, misfit, trust)


def _built(table: Any, state: dict[str, torch.Tensor], where: Path, misfit: str, trust: bool) -> LatentVariableModel:
    """The model that a table describes, with its weights.

    Arguments:
        table: Config of the model, and the wiring of its parts.
        state: Weights by name.
        where: File of the table, for messages.
        misfit: Beginning of the message if the weights do not fit.
        trust: Allow parts by import path.

    Raises:
        RunError: The table is damaged, or the weights do not fit.
    """
    recipe = Recipe.resolve(parse(_config_of(table, where), str(where)), trust=trust)
    wiring: dict[str, Any] = {"event_shape": tuple(table["event_shape"]), "num_classes": table["num_classes"]}
    wiring["columns"] = columns_from(table.get("columns"), table["event_shape"], where)
    wiring["class_names"] = table.get("class_names")
    return build_with_weights(recipe, wiring, state, shapes_of(recipe, wiring), misfit)


def _config_of(table: Any, where: Path) -> dict[str, Any]:
    """The config in a table that `vae export` or `model.save` wrote.

    Raises:
        RunError: The table is damaged, comes from elsewhere, or has another format.
    """
    if not isinstance(table, dict) or table.get("library_name") != "vaekit":
        raise RunError(f"{where} was not written by `vae export`")
    if table.get("format") != EXPORT_FORMAT:
        raise RunError(
            f"{where} has format {table.get('format')!r:.20}, this version reads {EXPORT_FORMAT}; update vaekit"
        )
    shape, classes, names = (table.get(key) for key in ("event_shape", "num_classes", "class_names"))
    valid_shape = isinstance(shape, list) and shape and all(type(n) is int and 0 < n < 1 << 24 for n in shape)
    if not valid_shape or type(classes) is not int or classes < 0 or not isinstance(table.get("config"), dict):
        values = f"{json.dumps(shape)[:80]} and {classes!r:.20}"
        raise RunError(f"{where} is damaged: {values} are not a shape and a number of classes")
    named = isinstance(names, list) and len(names) == classes and all(isinstance(name, str) for name in names)
    if names is not None and not named:
        raise RunError(f"{where} is damaged: {json.dumps(names)[:80]} are not the names of {classes} classes")
    return table["config"]
