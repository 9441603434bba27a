"""The config of a run; a config of an earlier version becomes an equivalent config of this version.

Not for: checkpoints (`store.checkpoint`) and evaluations (`evaluation.values`), which are migrated there.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any

from ..config import Config, changed, parse, tables_of
from ..data import DATASET_NAMES
from ..data.by_path import is_path
from ..data.registry import known_as
from ..store import Run

_GONE = ("train.cuda_graph",)  # options that no longer exist, and that changed no number

# Values of later options that reproduce the earlier behaviour, by section and part.
_BEFORE: dict[str, dict[str, dict[str, Any]]] = {
    "likelihood": {
        "poisson": {"log1p": False},
        "negative-binomial": {"log1p": False},
        "normal": {"centre": 0.0, "unit": 1.0},
        "laplace": {"centre": 0.0, "unit": 1.0},
    },
}


def config_of(run: Run) -> Config:
    """The config of a run: its config.toml, with the settings of each time that it was resumed.

    An option of an earlier version that changed no number is ignored, with a warning.

    Raises:
        ConfigError, RunError: The config is damaged.
    """
    config = parse(_migrated(run.config, run), f"{run.path}/config.toml")
    for session in run.sessions:
        config = changed(config, _sections_of(session["settings"]))
    return config


def _sections_of(settings: Mapping[str, Any] | list[str]) -> dict[str, Any]:
    """The sections that a session has changed; see `Run.sessions`."""
    if isinstance(settings, Mapping):
        return {"train": settings}
    return tables_of(setting for setting in settings if setting.partition("=")[0].strip() not in _GONE)


def is_own_data(config: Config, name: str | None) -> bool:
    """Whether a name means the data of a run with this config, as None does; a path may be spelled in several ways.

    Arguments:
        config: The config of the run.
        name: Name or path of a data set.
    """
    own = known_as(config.data.name)
    if name is None or known_as(name) == own:
        return True
    if own in DATASET_NAMES or known_as(name) in DATASET_NAMES or not is_path(name):
        return False
    return os.path.abspath(os.path.expanduser(name)) == os.path.abspath(os.path.expanduser(own))


def _migrated(tree: dict[str, Any], run: Run) -> dict[str, Any]:
    """The tables of a config with the earlier defaults written out. A warning names each option that is passed over.

    Arguments:
        tree: Tables of options by section, as a file has them.
        run: The run of the config; the first runs have the precision only in environment.json.
    """
    train = {"precision": run.environment.get("precision", "fp32"), "ema_warm_up": False}
    new = {**tree, "train": _with_earlier(tree.get("train", {}), train)}
    for section, parts in _BEFORE.items():
        table = new.get(section)
        if isinstance(table, dict) and str(table.get("name")) in parts:
            new[section] = _with_earlier(table, parts[str(table["name"])])
    for key in _GONE:
        section, _, name = key.partition(".")
        if isinstance(new.get(section), dict) and name in new[section]:
            new[section] = {option: value for option, value in new[section].items() if option != name}
            warnings.warn(f"run {run.name}: {key} no longer exists; it is ignored", stacklevel=3)
    return new


def _with_earlier(table: Any, earlier: dict[str, Any]) -> Any:
    """A table with the earlier values of options that it lacks. Anything but a table is left to the parser."""
    return {**earlier, **table} if isinstance(table, dict) else table
