"""From a run folder back to the run's config, model and data.

Not for: models that other files hold (`hub.folders`).
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .. import data
from ..config import Config, changed, parse
from ..config.recipe import Recipe
from ..data import Dataset
from ..data.columns import Column
from ..data.own import is_path
from ..data.tables import LabelColumn, open_table
from ..errors import ConfigError, DataError, RunError
from ..model import LatentVariableModel
from ..objectives import Loss, module_of
from ..rng import seeded
from ..store import Run
from ..store.checkpoint import CheckpointKind
from ..training import find_device
from .data_facts import DataFacts
from .migration import GONE, migrated
from .weights import SLACK, filled, shapes_of

_BYTES = 8  # of a number


def config_of(run: Run) -> Config:
    """The config that a run goes by: its config.toml, with what was set when it was resumed.

    A warning names an option that this version no longer has and that changed no number; it is passed over.

    Raises:
        ConfigError, RunError: The config is damaged.
    """
    config = parse(migrated(run.config, run), f"{run.path}/config.toml")
    settings = [setting for session in run.sessions for setting in session["settings"]]
    still_there = [setting for setting in settings if setting.partition("=")[0].strip() not in GONE]
    return changed(config, still_there) if still_there else config


def recipe_of(run: Run, trust: bool = False) -> Recipe:
    """The config of a run, resolved. What is done with the run from there on takes this.

    Arguments:
        run: A run.
        trust: Whether it may name code of the caller's own, which is imported.

    Raises:
        ConfigError: The config names code of the caller's own, which is not allowed, or a part that is not there.
    """
    return Recipe.resolve(config_of(run), trust)


def load(
    run: Run | str | Path | None = None,
    *,
    weights: str = "best",
    device: str = "cpu",
    root: Path | str = "runs",
    trust: bool = False,
) -> LatentVariableModel:
    """The model of a run, in evaluation mode.

    Arguments:
        run: A run, its folder or name; the newest run by default.
        weights: "best" by validation, or "last". Before an epoch has ended, "best" gives the last.
        device: Device of the model.
        root: Folder of all runs.
        trust: As for `recipe_of`.

    Raises:
        RunError: No such run, no weights yet, or weights that do not fit the config.
    """
    run = run if isinstance(run, Run) else Run.open(run, root=root)
    return model_of(run, recipe_of(run, trust), weights=weights, device=device)


def model_of(run: Run, recipe: Recipe, *, weights: str = "best", device: str = "cpu") -> LatentVariableModel:
    """The model of a run whose config is resolved; otherwise as `load`."""
    kind = _kind(run, weights)
    facts = DataFacts.of(run)
    shapes = shapes_of(recipe, facts.wiring)
    limit = None if shapes is None else SLACK + _BYTES * sum(shape.numel() for shape in shapes.values())
    tensors = run.load_checkpoint(kind, parts=("model",), limit=limit).part("model")
    model = filled(recipe, facts.wiring, tensors, shapes, f"the weights of {run.path} do not fit its config")
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise RunError(f"the weights of {run.path} are not finite ({name}); train it again, with a lower rate")
    return model.to(find_device(device)).eval()


def _kind(run: Run, weights: str) -> CheckpointKind:
    """The checkpoint that has the best or the last weights of a run."""
    if weights not in ("best", "last"):
        raise ConfigError(f"weights must be 'best' or 'last', got {weights!r}")
    return "best" if weights == "best" and run.has_checkpoint("best") else "last"


def loss_of(run: Run, recipe: Recipe, model: LatentVariableModel, *, weights: str = "best") -> Loss:
    """The loss of a run, with the weights that it has, such as those of a classifier.

    Arguments:
        run: The run.
        recipe: Its config, resolved.
        model: Its model.
        weights: As for `load`. Runs of earlier versions have the last ones of a loss only.

    Raises:
        RunError: The weights do not fit.
    """
    facts = DataFacts.of(run)
    with seeded(torch.Generator().manual_seed(0)):
        loss = recipe.loss(
            model,
            dataset_size=1,  # which matters to a training only
            event_shape=facts.event_shape,
            num_classes=facts.num_classes,
        )
    module = module_of(loss)
    if module is not None:
        stored = run.load_checkpoint(_kind(run, weights), parts=("loss",)).part("loss")
        try:
            module.load_state_dict(stored or run.load_checkpoint("last", parts=("loss",)).part("loss"))
        except RuntimeError as error:
            raise RunError(f"the weights of the loss of {run.path} do not fit: {str(error).splitlines()[-1]}") from None
        module.to(model.device).eval()
    return loss


def dataset_of(run: Run, name: str | None = None, *, recipe: Recipe | None = None) -> Dataset:
    """The data set of a run, as `data_of` gives it, or another one that its model takes.

    Arguments:
        run: A run.
        name: Another data set, by name or path.
        recipe: What `recipe_of` gives; made here by default, without code of the caller's own.

    Raises:
        DataError: No such data set, or one of another shape; or as `data_of`.
    """
    recipe = recipe or recipe_of(run)
    is_own = name is None or is_same_data(name, recipe.config.data.name)
    facts = DataFacts.of(run)
    columns = None if is_own else facts.columns
    if columns is not None:
        return _rows_to_test(str(name), columns, label_of(recipe.config, facts))
    dataset = data_of(run, recipe) if is_own else data.load(str(name), values=facts.values)
    check_event_shape(run, dataset.name, dataset.event_shape)
    return dataset


def label_of(config: Config, facts: DataFacts) -> LabelColumn | None:
    """The column of the classes in tables for a model of each class; None for other models."""
    return LabelColumn.of(config.data.columns, facts.classes) if config.model.condition == "class" else None


def _rows_to_test(name: str, columns: Sequence[Column], label: LabelColumn | None) -> Dataset:
    """A table of columns that a model knows, all of whose rows are to be tested on."""
    table = open_table(name, columns, label)
    nothing = table.split(slice(0))
    checksum = hashlib.sha256(table.x.tobytes()).hexdigest()
    kind: Any = {"kind": "table", "columns": tuple(columns)}
    return Dataset(name, nothing, nothing, table.split(slice(None)), table.classes, checksum, **kind)


def is_same_data(name: str, other: str) -> bool:
    """Whether two names are of the same data; a path may be spelled in several ways."""
    if name == other or name in data.DATASET_NAMES or not is_path(name):
        return name == other
    return os.path.abspath(os.path.expanduser(name)) == os.path.abspath(os.path.expanduser(other))


def check_event_shape(run: Run, name: str, event_shape: Sequence[int]) -> None:
    """Check that the model of a run takes data.

    Raises:
        DataError: The model takes another shape.
    """
    wanted = DataFacts.of(run).event_shape
    if tuple(event_shape) != wanted:
        raise DataError(
            f"run {run.name} takes rows of shape {wanted}, {name!r} has {tuple(event_shape)}; bring them to that "
            "size and number of channels"
        )


def data_of(run: Run, recipe: Recipe) -> Dataset:
    """The data set that a run was trained on, in the splits that it was trained with, and with all of its labels.

    Raises:
        DataError: The files are not there, or are others than those the run was trained on: what is held out would be
            drawn anew, with rows that the run has learned from.
    """
    section = recipe.config.data
    by_path = section.name not in data.DATASET_NAMES and is_path(section.name)
    facts = DataFacts.of(run)
    try:
        meaning = {"values": facts.values} if "values" in recipe.data_arguments else {}
        dataset = data.load(**{**recipe.data_arguments, **meaning, "labelled": None})
    except DataError as error:
        raise DataError(f"{error} (run {run.name} was trained on it)" if by_path else str(error)) from error
    if by_path and dataset.checksum != facts.checksum:
        before, now = sum(facts.counts.values()), sum(map(len, dataset.splits.values()))
        raise DataError(
            f"the files of {section.name} have changed since run {run.name} was trained on them ({before} rows then, "
            f"{now} now), so that its test rows are unknown; bring them back, or name data of which to take all rows",
            arguments=("data",),
        )
    return dataset
