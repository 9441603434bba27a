"""All numbers about one model on some rows, and the files of a run folder that hold them.

Not for: measuring them (`model_evaluation`, `run_evaluation`).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from ..data.dataset import SPLITS
from ..errors import ConfigError, RunError, check_count, one_of, unknown
from ..runs.model_weights import weights_sha256
from ..store import Run, files
from ..store.checkpoint import CheckpointKind
from ..store.old_names import with_current_names
from .values import Value

EVALUATION_FORMAT = 1  # of evaluation.json
PER_ROW = "per row"  # the detail that names the file with the numbers of each row
WEIGHTS = "weights"  # the detail with the SHA-256 of the checkpoint's weights, or of the tensors of other weights
_OF_NO_CHECKPOINT = re.compile(r"-weights-[0-9a-f]{8}\.json")


@dataclass(frozen=True)
class RowSelection:
    """The rows of an evaluation, and the weights.

    Only an evaluation of all test rows of the run's own data by its best weights is evaluation.json; others never
    replace it.

    >>> RowSelection("validation", 100).file
    'evaluation-validation-100-rows.json'
    >>> RowSelection("validation", None, "new/photos", "1a2b3c4d5e6f").file
    'evaluation-on-new-photos-1a2b3c4d-validation.json'
    >>> RowSelection(weights="last").file
    'evaluation-last.json'

    Arguments:
        split: "test", "validation" or "train".
        rows: How many evenly spread rows were evaluated; None if all were.
        data: The name or path of a data set other than the run's; "" for the run's own data.
        checksum: Checksum of that data set; its first digits keep data sets of one name apart.
        weights: Name of weights other than the best; "" for the best.

    Raises:
        ConfigError: The split is unknown, or `rows` is below 1.
    """

    split: str = "test"
    rows: int | None = None
    data: str = ""
    checksum: str = ""
    weights: str = ""

    def __post_init__(self) -> None:
        one_of("split", self.split, SPLITS)
        if self.rows is not None:
            check_count("rows", self.rows)

    def __str__(self) -> str:
        count = "all" if self.rows is None else f"{self.rows} evenly spread"
        return f"{count} {self.split} rows{f' of {self.data}' if self.data else ''}"

    @property
    def suffix(self) -> str:
        """The end of file names; "" for all test rows of the run's own data and the best weights."""
        return (f"-on-{self._slug}-{self.checksum[:8]}" if self.data else "") + self._end

    @property
    def _slug(self) -> str:
        return files.slug(self.data)[-32:] or "data"  # the name of a picture has at most 100 characters

    @property
    def _end(self) -> str:
        """The part of the names that all data sets share."""
        split, rows = "" if self.split == "test" else self.split, "" if self.rows is None else f"{self.rows}-rows"
        return "".join(f"-{part}" for part in (split, rows, self.weights) if part)

    @property
    def file(self) -> str:
        """The file with the results."""
        return f"evaluation{self.suffix}.json"

    def file_in(self, run: Run) -> str | None:
        """The file of a run with the newest evaluation of these rows, whatever the checksum of the data; None if none.

        Earlier versions wrote the name of the data without "on-" and without a checksum.

        Raises:
            RunError: An evaluation that may be of these rows is damaged.
        """
        if not self.data:
            return self.file if (run.path / self.file).is_file() else None
        slug, earlier = re.escape(self._slug), re.escape(files.slug(self.data))
        pattern = re.compile(rf"evaluation-(on-{slug}-[0-9a-f]{{0,8}}|{earlier}){self._end}\.json")
        names = [
            name
            for name in evaluation_files(run)
            if pattern.fullmatch(name)
            and os.path.normpath(str(Evaluation.from_json(run.read_json(name)).protocol.get("data")))
            == os.path.normpath(self.data)
        ]
        return max(names, key=lambda name: os.stat(run.path / name).st_mtime, default=None)


ALL_TEST_ROWS = RowSelection()


def evaluation_files(run: Run) -> list[str]:
    """The names of all evaluations of a run, that of all test rows first."""
    names = {path.name for path in run.path.glob("evaluation*.json") if path.is_file()}
    return sorted(names, key=lambda name: (name != ALL_TEST_ROWS.file, name))


def check_evaluated(run: Run, selection: RowSelection) -> str:
    """Check that a run has an evaluation of these rows by its present weights, and return the name of its file.

    Raises:
        RunError: The run has no such evaluation, and the message names those that it has; or this one is outdated.
    """
    file = selection.file_in(run)
    command = f"evaluate {run.name}" if selection == ALL_TEST_ROWS else "evaluate"
    if file is not None:
        if is_outdated(run, file):
            raise RunError(f"run {run.name}: {outdated(file)}; evaluate it again", command=command)
        return file
    names = evaluation_files(run)
    if not names:
        raise RunError(f"run {run.name} has not been evaluated yet", command=f"evaluate {run.name}")
    raise RunError(
        f"run {run.name} has not been evaluated on {selection}, only in {', '.join(names)}",
        command=command,
    )


def is_outdated(run: Run, file: str = ALL_TEST_ROWS.file) -> bool:
    """Whether a stored evaluation is of a checkpoint that the run no longer has.

    Weights that were never a checkpoint of the run are not outdated, nor is a file that does not exist. An evaluation
    of an earlier version does not name its weights; it is outdated if the run was resumed after its file was written.

    Raises:
        RunError: The stored evaluation is damaged.
    """
    path = files.confine(run.path, file)
    if not path.is_file():
        return False
    evaluated = Evaluation.from_json(run.read_json(file)).details.get(WEIGHTS)
    if evaluated is not None:
        kind: CheckpointKind = "last" if file.endswith("-last.json") else "best"
        return not _OF_NO_CHECKPOINT.search(file) and weights_sha256(run, kind) not in (None, evaluated)
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
    return any(str(session.get("began", "")) > written for session in run.sessions)


def outdated(file: str) -> str:
    """The sentence about an outdated evaluation."""
    return f"{file} is of other weights than the run has now"


@dataclass
class Evaluation:
    """All numbers about a model, by name: `"nll" in evaluation`, `evaluation["nll"]`.

    Arguments:
        values: Numbers with their errors.
        protocol: Settings of the measurement; numbers of different protocols cannot be compared.
        warnings: Warnings, one sentence each.
        details: Tables: KL by dimension, classes, the classifier.
        pictures: Pictures by name, not kept in JSON.
        per_row: Numbers of each row by name, each of shape (N,); not kept in JSON either.
    """

    values: list[Value]
    protocol: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)
    per_row: dict[str, Tensor] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(f"{value.name:<40}{value} {value.unit}  {value.kind}" for value in self.values)

    def __repr__(self) -> str:
        return f"Evaluation({len(self.values)} values on {self.protocol.get('data')} {self.protocol.get('split')})"

    def __getitem__(self, name: str) -> Value:
        """The value with this name.

        Raises:
            ConfigError: There is no value of this name.
        """
        for value in self.values:
            if value.name == name:
                return value
        raise ConfigError(unknown("value", name, self))

    def __iter__(self) -> Iterator[str]:
        """The names of the values."""
        return (value.name for value in self.values)

    def to_json(self) -> dict[str, Any]:
        """The evaluation as a table."""
        return {
            "format": EVALUATION_FORMAT,
            "protocol": self.protocol,
            "values": [value.to_json() for value in self.values],
            "warnings": self.warnings,
            "details": self.details,
        }

    @classmethod
    def of_run(cls, run: Run, selection: RowSelection = ALL_TEST_ROWS) -> "Evaluation | None":
        """The evaluation of these rows that `vae evaluate` stored in a run, or None.

        Raises:
            RunError: The stored evaluation is damaged.
        """
        file = selection.file_in(run)
        return None if file is None else cls.from_json(run.read_json(file))

    @classmethod
    def of_present_weights(cls, run: Run) -> "Evaluation | None":
        """The stored evaluation of all test rows, or None if it is absent or outdated: see `is_outdated`.

        Raises:
            RunError: The stored evaluation is damaged.
        """
        return None if is_outdated(run) else cls.of_run(run)

    @classmethod
    def from_json(cls, table: Any) -> "Evaluation":
        """The evaluation that `to_json` was called on, without its pictures and its numbers of each row.

        Raises:
            RunError: The table is not an evaluation, or has another format.
        """
        if not isinstance(table, dict) or table.get("format") != EVALUATION_FORMAT:
            raise RunError(
                "this evaluation is damaged or of another version; evaluate the run again", command="evaluate"
            )
        try:
            values = [Value.from_json(value) for value in table["values"]]
            return cls(
                values,
                with_current_names(table["protocol"]),
                list(table["warnings"]),
                with_current_names(table["details"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"this evaluation is damaged ({error}); evaluate the run again", command="evaluate"
            ) from None
