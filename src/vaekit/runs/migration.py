"""Translate the config of an earlier version's run into an equivalent config of this version.

Not for: checkpoints (`store.checkpoint`) and evaluations (`evaluation.values`), which migrate on their own.
"""

import warnings
from typing import Any

from ..store import Run

GONE = ("train.cuda_graph",)  # options that no longer exist, and that changed no number

# The behaviour before these options existed, as their values, by section and part.
_BEFORE: dict[str, dict[str, dict[str, Any]]] = {
    "likelihood": {
        "poisson": {"log1p": False},
        "negative-binomial": {"log1p": False},
        "normal": {"centre": 0.0, "unit": 1.0},
        "laplace": {"centre": 0.0, "unit": 1.0},
    },
}


def migrated(tree: dict[str, Any], run: Run) -> dict[str, Any]:
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
    for key in GONE:
        section, _, name = key.partition(".")
        if isinstance(new.get(section), dict) and name in new[section]:
            new[section] = {option: value for option, value in new[section].items() if option != name}
            warnings.warn(f"run {run.name}: {key} no longer exists; it is ignored", stacklevel=3)
    return new


def _with_earlier(table: Any, earlier: dict[str, Any]) -> Any:
    """A table with the earlier values of options that it lacks. Anything but a table is left to the parser."""
    return {**earlier, **table} if isinstance(table, dict) else table
