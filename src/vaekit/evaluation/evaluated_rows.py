"""The rows of an evaluation, and the names of its files in the run folder."""

from dataclasses import dataclass

from ..data.dataset import SPLITS
from ..errors import RunError, check_count, one_of
from ..store import Run


@dataclass(frozen=True)
class EvaluatedRows:
    """The rows of an evaluation.

    Only an evaluation of all test rows of the run's own data is evaluation.json; others never replace it.

    >>> EvaluatedRows("validation", 100).file
    'evaluation-validation-100-rows.json'

    Arguments:
        split: "test", "validation" or "train".
        rows: How many evenly spread rows were evaluated; None if all were.
        data: Another data set than the run's, as part of a file name.

    Raises:
        ConfigError: The split is unknown, or `rows` is below 1.
    """

    split: str = "test"
    rows: int | None = None
    data: str = ""

    def __post_init__(self) -> None:
        one_of("split", self.split, SPLITS)
        if self.rows is not None:
            check_count("rows", self.rows)

    def __str__(self) -> str:
        count = "all" if self.rows is None else f"{self.rows} evenly spread"
        return f"{count} {self.split} rows{f' of {self.data}' if self.data else ''}"

    @property
    def suffix(self) -> str:
        """The end of file names; "" for all test rows."""
        parts = (
            self.data,
            "" if self.split == "test" else self.split,
            "" if self.rows is None else f"{self.rows}-rows",
        )
        return "".join(f"-{part}" for part in parts if part)

    @property
    def file(self) -> str:
        """The file with the results."""
        return f"evaluation{self.suffix}.json"


ALL_TEST_ROWS = EvaluatedRows()


def evaluation_files(run: Run) -> list[str]:
    """The names of all evaluations of a run, that of all test rows first."""
    names = {path.name for path in run.path.glob("evaluation*.json") if path.is_file()}
    return sorted(names, key=lambda name: (name != ALL_TEST_ROWS.file, name))


def check_evaluated(run: Run, selection: EvaluatedRows) -> None:
    """Check that a run has an evaluation of these rows.

    Raises:
        RunError: The run has none; the message names the evaluations that it has.
    """
    names = evaluation_files(run)
    if selection.file in names:
        return
    if not names:
        raise RunError(f"run {run.name} has not been evaluated yet", command=f"evaluate {run.name}")
    raise RunError(
        f"run {run.name} has not been evaluated on {selection}, only in {', '.join(names)}",
        command=f"evaluate {run.name}" if selection == ALL_TEST_ROWS else "evaluate",
    )
