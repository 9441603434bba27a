"""What the command `vae` does, as functions: `train`, `evaluate`, `presets`, `list_runs`.

Not for: training a model of one's own in one's own loop, which is `vaekit.fit`.
"""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from . import data as data_sets
from .config import Train, preset_header, preset_names, read
from .config.recipe import Recipe
from .data import Dataset
from .errors import ConfigError
from .evaluation import Evaluation
from .evaluation import evaluate as evaluate_model
from .evaluation.stored import evaluate_run
from .model import LatentVariableModel
from .runs import lifecycle
from .runs.restore import model_of, recipe_of
from .store import Run
from .store import list_runs as stored_runs

SAMPLES = 100  # of an evaluation: enough to look at, where papers take 5,000


def train(
    preset: str = "vae",
    *,
    data: str | os.PathLike[str] | None = None,
    name: str | None = None,
    root: str | Path = "runs",
    progress: bool | None = None,
    trust: bool = False,
    **settings: Any,
) -> Run:
    """Train a preset, as `vae train` does, in a new run folder.

    Arguments:
        preset: Name of a preset; `vaekit.presets()` lists them.
        data: Name or path of a data set; the preset's own by default.
        name: Name of the run; the preset's name and the time by default.
        root: Folder of all runs.
        progress: Whether to show the progress on stderr; by default in a terminal and in a notebook.
        trust: Import parts and data by path.
        settings: What to change: a field of the section [train] (`epochs=3`), of [model] (`latent_size=2`), or a
            section (`prior="vamp"`, `objective={"name": "iwae", "samples": 8}`).

    Returns:
        The finished run; its folder is `run.path`, its model `vaekit.load(run)`.

    Raises:
        ConfigError, DataError: Something does not exist or does not fit; nothing was written.
        NumericalError: The loss is not finite; the run keeps its last good state.
    """
    fields = {key: settings.pop(key) for key in list(settings) if key in Train.model_fields}
    sections = settings | ({"train": {**settings.get("train", {}), **fields}} if fields else {})
    if data is not None:
        sections["data"] = {**sections.get("data", {}), "name": os.fspath(data)}
    recipe = Recipe.resolve(read(preset, sections=sections), trust)
    with _shown(recipe.config.train.epochs, progress) as listener:
        return lifecycle.train(recipe, name=name, preset=preset, root=root, listener=listener)


def evaluate(
    subject: Run | str | Path | LatentVariableModel | None = None,
    data: Dataset | str | None = None,
    *,
    samples: int = SAMPLES,
    root: str | Path = "runs",
    trust: bool = False,
    **settings: Any,
) -> Evaluation:
    """Measure a run, as `vae evaluate` does, or a model on a data set.

    Arguments:
        subject: A run, its name or folder, the newest run by default; or a model.
        data: The data set, or its name; a run's own by default.
        samples: Importance samples of each image; papers take 5,000.
        root: Folder of all runs.
        trust: Import parts by path.
        settings: Fields of `vaekit.evaluation.Options`.

    Raises:
        ConfigError: A model without data.
    """
    if isinstance(subject, LatentVariableModel):
        if data is None:
            raise ConfigError("a model is evaluated on a data set: evaluate(model, vaekit.data.load('mnist'))")
        data = data_sets.load(data, values=subject.values) if isinstance(data, str) else data
        return evaluate_model(subject, data, samples=samples, **settings)
    run = subject if isinstance(subject, Run) else Run.open(subject, root=root)
    if isinstance(data, Dataset):
        raise ConfigError(
            f"a run is evaluated on data by name; for this {data.name!r}: evaluate(vaekit.load(run), data)"
        )
    recipe = recipe_of(run, trust)
    return evaluate_run(run, model_of(run, recipe), recipe=recipe, data_name=data, samples=samples, **settings)


def presets() -> dict[str, str]:
    """Every preset, with a line on what it is."""
    return {name: preset_header(name)["about"] for name in preset_names()}


def list_runs(root: str | Path = "runs") -> list[Run]:
    """All runs in a folder, the newest first."""
    return stored_runs(root)


def _shown(epochs: int, progress: bool | None) -> Any:
    """A listener that shows the progress, or none."""
    from .cli.progress import is_watched, shown

    return shown(epochs) if (is_watched() if progress is None else progress) else nullcontext()
