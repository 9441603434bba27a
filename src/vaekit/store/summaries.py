"""Runs at a glance, without torch: what `vae info` and `vae runs` show, and which runs to remove.

Not for: numbers measured on a run (`evaluation`).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError, VAEError, unknown
from .files import COMPONENT
from .metrics import stored_test
from .root import is_leftover
from .run import Run, find_runs

SCORES = ("validation_neg_elbo", "validation_loss")
SUMMARY = ("name", "preset", "data", "epochs", "planned_epochs", *SCORES, "state", "created")
REMOVABLE_STATES = ("failed", "interrupted", "damaged")


def details_of(run: Run) -> dict[str, Any]:
    """The summary of a run, its parts and its test results."""
    config = run.config
    details: dict[str, Any] = {"run": str(run.path), **_summary(run)}
    sections = ("encoder", "posterior", "prior", "decoder", "likelihood", "objective", "model", "train")
    details |= {section: config.get(section) for section in sections}
    details |= {key: run.environment.get(key) for key in ("parameters", "device", "torch", "command")}
    if changed := [session["settings"] for session in run.sessions if session["settings"]]:
        details["changed"] = changed
    if (test := stored_test(run)) is not None:
        details["test"] = test
    return details


def summaries(root: Path) -> list[dict[str, Any]]:
    """A summary of every run in a folder, the damaged ones last."""
    runs, faults = find_runs(root)
    readable = []
    for run in runs:
        try:
            readable.append(_summary(run))
        except VAEError as error:
            faults[run.path] = str(error)
    return readable + [{**_unread(path.name, "damaged"), "fault": fault} for path, fault in faults.items()]


def _unread(name: str, state: str) -> dict[str, Any]:
    """The summary of a folder that cannot be read."""
    return {**dict.fromkeys(SUMMARY), "name": name, "state": state}


def _summary(run: Run) -> dict[str, Any]:
    config = run.config
    records = list(run.each_metrics())
    planned = _nested(run.environment, "sessions", -1, "epochs") or _nested(config, "train", "epochs")
    steps = _nested(config, "train", "steps")
    return {
        "name": run.name,
        "preset": run.environment.get("preset"),
        "data": _nested(config, "data", "name"),
        "epochs": len(records),
        "planned_epochs": planned if steps is None else None,
        **{name: _least(records, name) for name in SCORES},
        "state": run.status,
        "created": run.created.isoformat(),
    }


def _least(records: Iterable[Mapping[str, Any]], name: str) -> float | None:
    """The least value of a name in the records of the epochs; None where there is no value."""
    return min((record[name] for record in records if isinstance(record.get(name), int | float)), default=None)


def to_remove(root: Path, targets: Sequence[str], listed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The summaries of the runs with one of these names or states, and of the leftovers with one of these names.

    Arguments:
        root: Folder of all runs.
        targets: Names of runs, or states: "failed", "interrupted" or "damaged".
        listed: The summaries of all runs.

    Raises:
        RunError: A target is neither a run nor one of these states, or a run is being trained.
    """
    leftovers = [
        _unread(word, "left over") for word in targets if COMPONENT.fullmatch(word) and is_leftover(root / word)
    ]
    candidates = [*listed, *leftovers]
    names = {summary["name"] for summary in candidates}
    for word in targets:
        if word not in names and word not in REMOVABLE_STATES:
            raise RunError(unknown("run", word, [*names, *REMOVABLE_STATES]))
    chosen = [summary for summary in candidates if summary["name"] in targets or summary["state"] in targets]
    for summary in chosen:
        if summary["state"] == "running":
            raise RunError(f"run {summary['name']} is being trained; stop the training first")
    return chosen


def _nested(value: Any, *steps: str | int) -> Any:
    """The item at a place in a nested value, or None."""
    for step in steps:
        try:
            value = value[step]
        except (IndexError, KeyError, TypeError):
            return None
    return value
