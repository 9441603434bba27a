"""Train a preset in one call, and resume its run, as the commands do.

Not for: training your own model (`vaekit.fit`).
"""

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..config import Train, changed, data_section, read
from ..config.recipe import Recipe
from ..data.table.table_files import is_table
from ..errors import ConfigError
from ..store import Run
from . import lifecycle
from .restore import RestoredRun
from .terminal import is_watched, training_progress


def default_preset(data: str | None) -> str:
    """The preset that suits data of this name or path: `table-vae` for tables, else `vae`."""
    return "table-vae" if data and is_table(data, "pixels") else "vae"


def train(
    preset: str | None = None,
    *,
    data: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    name: str | None = None,
    root: str | Path = "runs",
    progress: bool | None = None,
    trust: bool = False,
    **settings: Any,
) -> Run:
    """Train a preset, as `vae train` does, in a new run folder.

    Arguments:
        preset: Name of a preset, which `vaekit.presets()` lists; by default `table-vae` for a table, else `vae`.
        data: Name or path of a data set; the preset's own by default. Or the section [data], as a mapping:
            `{"name": "fashion-mnist", "labelled": 100, "binarize": "fixed"}`.
        name: Name of the run; the preset's name and the time by default.
        root: Folder of all runs.
        progress: Whether to show the progress on stderr; by default in a terminal and in a notebook.
        trust: Allow parts and data by import path; their code is then executed.
        settings: The changes: a field of the section [train] (`epochs=3`), of [model] (`latent_size=2`), or a
            section (`prior="vamp"`, `objective={"name": "iwae", "samples": 8}`).

    Returns:
        The finished run; its folder is `run.path`, its model `vaekit.load(run)`.

    Raises:
        ConfigError, DataError: A part, an option or the data do not exist or do not fit; nothing was written.
        NumericalError: The loss is not finite; the run keeps its last good state.
    """
    fields = {key: settings.pop(key) for key in list(settings) if key in Train.model_fields}
    table = settings.get("train", {})
    sections = settings | ({"train": {**table, **fields}} if fields and isinstance(table, Mapping) else {})
    section = {} if data is None else data_section(data)
    if section:
        sections["data"] = section
    preset = preset or default_preset(section.get("name"))
    recipe = Recipe.resolve(read(preset, sections=sections), trust=trust)
    visible = is_watched() if progress is None else progress
    with training_progress(recipe.config.train.known_epochs) if visible else nullcontext() as listener:
        return lifecycle.train_run(recipe, name=name, preset=preset, root=root, listener=listener)


def resume(
    run: Run | str | Path | None = None,
    *,
    root: str | Path = "runs",
    progress: bool | None = None,
    trust: bool = False,
    **settings: Any,
) -> Run:
    """Continue an interrupted run, as `vae resume` does: to exactly the weights of an uninterrupted one.

    A finished run continues with more epochs: `vaekit.resume("my-run", epochs=20)`.

    Arguments:
        run: A run, its folder or name; the newest run by default.
        root: Folder of all runs.
        progress: Whether to show the progress on stderr; by default in a terminal and in a notebook.
        trust: Allow parts by import path; their code is then executed.
        settings: Fields of the section [train] to change, of those that `runs.lifecycle.CHANGEABLE` names.

    Returns:
        The finished run.

    Raises:
        RunError: The run does not exist, is finished or in use, or its data have changed.
        ConfigError: A setting cannot be changed, or the config names parts by import path without `trust`.
        NumericalError: The loss is not finite; the run keeps its last good state.
    """
    for setting in settings:
        if setting not in lifecycle.CHANGEABLE:
            names = ", ".join(lifecycle.CHANGEABLE)
            raise ConfigError(f"resuming can change {names} only, not {setting}; for any other change, train a new run")
    restored = RestoredRun.of(run, root=root, trust=trust)
    sections = {"train": settings} if settings else {}
    visible = is_watched() if progress is None else progress
    epochs = changed(restored.recipe.config, sections).train.known_epochs
    with training_progress(epochs) if visible else nullcontext() as listener:
        return lifecycle.resume_run(restored, sections=sections, listener=listener)
