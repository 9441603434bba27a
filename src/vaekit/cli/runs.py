"""`vae info` and `vae runs`: the content of run folders."""

import shlex
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from .common import json_option, open_run, run_argument, runs_option, say, wants_json
from .printing import note, out_json
from .tables import long_option, print_entry, print_table


@click.command(short_help="Show a run's parts and results.")
@run_argument
@runs_option
@json_option
def info(run: str | None, root: Path) -> None:
    """Try `vae info`: show the parts and the results of RUN, the newest by default."""
    from ..store.summaries import SUMMARY, details_of

    details = details_of(open_run(run, root))
    if wants_json():
        out_json(details)
        return
    rest = {key: value for key, value in details.items() if key not in SUMMARY}
    for name, value in {"run": rest.pop("run"), **_cells(details), **rest}.items():
        print_entry(name, _described(name, value), 18)


@click.command(short_help="List the runs, or clean up.")
@click.option(
    "--clean",
    multiple=True,
    metavar="WHAT",
    help="Remove runs by state (failed, interrupted, damaged) or by name; may be repeated.",
)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@long_option
@runs_option
@json_option
def runs(clean: tuple[str, ...], yes: bool, long: bool, root: Path) -> None:
    """Try `vae runs`: list the runs, newest first.

    With --clean, list the runs to remove, ask, and remove them.
    """
    from ..store.summaries import summaries

    listed = summaries(root)
    if clean:
        listed = _clean(root, listed, clean, yes)
    if wants_json():
        out_json(listed)
        return
    for summary in listed:
        if summary["state"] == "damaged":
            say(f"warning: {summary['fault']}")
    print_table([_listed(summary, long) for summary in listed], long=long)
    if not listed and not clean:
        say(f"there is no run in {root} yet; `vae train` makes one")


def _cells(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary for people: its cells in a table."""
    epochs, planned, created = (summary[key] for key in ("epochs", "planned_epochs", "created"))
    scores = {"−ELBO": summary["validation_neg_elbo"], "loss": summary["validation_loss"]}
    return {
        "name": summary["name"],
        "preset": str(summary["preset"] or ""),
        "data": str(summary["data"] or ""),
        "epochs": "" if epochs is None else f"{epochs}/{planned}" if planned else str(epochs),
        "validation": next((f"{name} {score:.2f}" for name, score in scores.items() if score is not None), ""),
        "state": summary["state"],
        "age": "" if created is None else _age(time.time() - datetime.fromisoformat(created).timestamp()),
    }


def _clean(root: Path, listed: list[dict[str, Any]], targets: Sequence[str], yes: bool) -> list[dict[str, Any]]:
    """List the runs with one of these names or states, ask, and remove them; return their summaries."""
    from ..store import delete
    from ..store.summaries import to_remove

    chosen = to_remove(root, targets, listed)
    for summary in chosen:
        size = sum(file.lstat().st_size for file in (root / summary["name"]).rglob("*")) / 1e6
        cells = _cells(summary)
        known = [f"{cells['epochs']} epochs", f"{cells['age']} old"] if summary["created"] is not None else []
        note("  ".join((summary["name"], summary["state"], *known, f"{size:.1f} MB")))
    if not chosen:
        note("there is nothing to remove")
    elif not yes and not click.confirm(f"Remove {len(chosen)} run{'s' * (len(chosen) > 1)} from {root}?", err=True):
        return []
    for summary in chosen:
        delete(root / summary["name"])
    return chosen


def _listed(summary: dict[str, Any], long: bool) -> dict[str, Any]:
    """The cells of a run in the list; without --long only the last part of the data's path."""
    cells = _cells(summary)
    return cells if long else cells | {"data": cells["data"].rstrip("/").rpartition("/")[2]}


def _described(name: str, value: Any) -> str:
    """A value in words; a part begins with its name."""
    if isinstance(value, dict):
        first = [f"{value['name']}:"] if "name" in value and len(value) > 1 else [str(value.get("name", ""))]
        rest = ", ".join(f"{key} {_short(part)}" for key, part in value.items() if key != "name")
        return " ".join([*first, rest]).strip()
    if isinstance(value, list):
        described = ", ".join(_described(name, part) for part in value)
        return shlex.join(map(str, value)) if name == "command" else described
    return f"{value:,}" if name == "parameters" and isinstance(value, int) else _short(value)


def _short(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) and abs(value) >= 1 else f"{value}"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
