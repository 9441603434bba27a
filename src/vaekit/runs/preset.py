"""Train a preset in one call, as the command does.

Not for: training your own model (`vaekit.fit`).
"""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..config import Train, read
from ..config.recipe import Recipe
from ..data.tables import is_table
from ..errors import ConfigError
from ..store import Run
from . import lifecycle
from .terminal import is_watched, shown


def default_preset(data: str | None) -> str:
    """The preset that suits data of this name or path: `table-vae` for tables, else `vae`."""
    return "table-vae" if data and is_table(data, "pixels") else "vae"


def train(
    preset: str | None = None,
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
        preset: Name of a preset, which `vaekit.presets()` lists; by default `table-vae` for a table, else `vae`.
        data: Name or path of a data set; the preset's own by default.
        name: Name of the run; the preset's name and the time by default.
        root: Folder of all runs.
        progress: Whether to show the progress on stderr; by default in a terminal and in a notebook.
        trust: Whether to import parts and data by path.
        settings: The changes: a field of the section [train] (`epochs=3`), of [model] (`latent_size=2`), or a
            section (`prior="vamp"`, `objective={"name": "iwae", "samples": 8}`).

    Returns:
        The finished run; its folder is `run.path`, its model `vaekit.load(run)`.

    Raises:
        ConfigError, DataError: A part, an option or the data do not exist or do not fit; nothing was written.
        NumericalError: The loss is not finite; the run keeps its last good state.
    """
    fields = {key: settings.pop(key) for key in list(settings) if key in Train.model_fields}
    sections = settings | ({"train": {**settings.get("train", {}), **fields}} if fields else {})
    if data is not None:
        if not isinstance(data, str | os.PathLike):
            raise ConfigError(
                f"a run is trained on data by name or path, got {type(data).__name__}; for these: "
                "data = vaekit.data.load(…); vaekit.fit(vaekit.build('vae', data=data), data)"
            )
        sections["data"] = {**sections.get("data", {}), "name": os.fspath(data)}
    preset = preset or default_preset(None if data is None else os.fspath(data))
    recipe = Recipe.resolve(read(preset, sections=sections), trust)
    visible = is_watched() if progress is None else progress
    with shown(recipe.config.train.known_epochs) if visible else nullcontext() as listener:
        return lifecycle.train(recipe, name=name, preset=preset, root=root, listener=listener)
