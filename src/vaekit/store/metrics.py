"""The record of an epoch: means that the loss logged, under its own names, and figures about the epoch itself."""

from typing import TYPE_CHECKING, Any

from .old_names import OLD_NAMES, with_current_names

if TYPE_CHECKING:
    from .run import Run

ROWS_KEY, SPEED_KEY = "rows", "rows_per_second"
BOOKKEEPING = frozenset({"epoch", ROWS_KEY, "skipped", "seconds", SPEED_KEY, "learning_rate", *OLD_NAMES})


def stored_test(run: "Run") -> dict[str, Any] | None:
    """The means on the test rows at the end of training, or None."""
    if not (run.path / "test.json").is_file():
        return None
    table = run.read_json("test.json")
    return with_current_names(table) if isinstance(table, dict) else None
