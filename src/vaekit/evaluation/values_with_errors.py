"""The results of estimators: one number with its error and its kind, and all numbers about one model."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor

from ..errors import ConfigError, DataError, RunError, unknown
from ..store import Run
from ..store.old_names import with_present_names
from . import reading_old
from .evaluated_rows import ALL_TEST_ROWS, EvaluatedRows

EVALUATION_FORMAT = 1  # of evaluation.json
PER_ROW = "per row"  # the detail that names the file with the numbers of each row

EstimateKind = Literal["lower bound", "upper bound", "estimate", "not a likelihood"]
Setting = Literal["samples", "annealing", "classifier"]
StageListener = Callable[[str, int, int], None]  # stage, batches done, batches in all


@dataclass(frozen=True)
class Value:
    """A number with its error.

    Arguments:
        name: Name of the number.
        value: The number.
        standard_error: How far another test set of the same size would move it; None where that is not known.
        unit: "nats", "bits/dim", "%", "" for a pure number …
        kind: A bound holds in expectation. The Bernoulli "log-likelihood" of a grey image is not a likelihood.
        noise: The Monte Carlo standard error: how far another seed would move it, given the same rows; None where
            nothing is sampled or the error is unknown. It is part of `standard_error`.
        depends_on: Settings that change the expectation of the number: the K of the importance samples, the way of
            annealing, the classifier. Numbers are not compared if one of these differs.
        likelihood: Whether it is computed from log p(x | z). Such a number is not a likelihood if x is outside the
            support of p(x | z).
        maximum: The greatest value that the number can have, where a reader needs to know it.
    """

    name: str
    value: float
    standard_error: float | None
    unit: str
    kind: EstimateKind = "estimate"
    noise: float | None = None
    depends_on: tuple[Setting, ...] = ()
    likelihood: bool = False
    maximum: float | None = None

    def __str__(self) -> str:
        """The number and its standard error, to two digits of the error and at most four decimals."""
        if not math.isfinite(self.value):
            return "—"
        if not self.standard_error:
            return f"{self.value:.4g}"
        digits = min(4, max(0, 1 - math.floor(math.log10(self.standard_error))))
        return f"{self.value:.{digits}f} ± {self.standard_error:.{digits}f}"

    @property
    def shown_unit(self) -> str:
        """The unit, and the maximum where there is one."""
        if self.maximum is None:
            return self.unit
        return f"{self.unit}, at most {self.maximum:.4g}".removeprefix(", ")

    def to_json(self) -> dict[str, Any]:
        """The value as a table."""
        return {**asdict(self), "depends_on": list(self.depends_on)}

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> "Value":
        """The value that `to_json` was called on; a number that was not finite comes back as NaN.

        Raises:
            RunError: The table does not hold a value.
        """
        try:
            fields = reading_old.with_current_name(table if "depends_on" in table else reading_old.completed(table))
            number, settings = fields["value"], tuple(fields["depends_on"])
            value = cls(**{**fields, "value": math.nan if number is None else float(number), "depends_on": settings})
            if not all(isinstance(text, str) for text in (value.name, value.unit, value.kind)):
                raise TypeError("name, unit and kind must be texts")
            if not set(settings) <= set(get_args(Setting)):
                raise ValueError(f"depends_on may name {', '.join(get_args(Setting))}")
            return value
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise RunError(
                f"not an evaluated value: {table!r:.80} ({error}); evaluate the run again", command="evaluate"
            ) from None


@dataclass
class Evaluation:
    """All numbers about a model.

    Arguments:
        values: Numbers with their errors.
        protocol: Settings of the measurement; numbers of different protocols cannot be compared.
        warnings: Warnings, one sentence each.
        details: Tables: KL by dimension, classes, the classifier.
        pictures: Pictures by name, not kept in JSON.
        per_row: Numbers of each row, shape (N,), not kept in JSON either.
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
        raise ConfigError(unknown("value", name, (value.name for value in self.values)))

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
    def of_run(cls, run: Run, selection: EvaluatedRows = ALL_TEST_ROWS) -> "Evaluation | None":
        """The evaluation of these rows that `vae evaluate` stored in a run, or None.

        Raises:
            RunError: The stored evaluation is damaged.
        """
        return cls.from_json(run.read_json(selection.file)) if (run.path / selection.file).is_file() else None

    @classmethod
    def from_json(cls, table: Any) -> "Evaluation":
        """The evaluation that `to_json` was called on, without pictures and the numbers of rows.

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
                with_present_names(table["protocol"]),
                list(table["warnings"]),
                with_present_names(table["details"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"this evaluation is damaged ({error}); evaluate the run again", command="evaluate"
            ) from None


def bound_name(samples: int) -> str:
    """The name of L_K, the bound from K importance samples."""
    return f"L_{samples}"


def variance_key(name: str) -> str:
    """The key of the Monte Carlo variance of a number, in tables of numbers per row; stored files have it too."""
    return f"noise {name}"


def mean_over_rows(
    name: str,
    per_row: Tensor,
    unit: str,
    kind: EstimateKind = "estimate",
    variance: Tensor | None = None,
    **facts: Any,
) -> Value:
    """The mean over rows.

    Arguments:
        name: Name of the value.
        per_row: Shape (N,).
        unit: Unit of the numbers.
        kind: Kind of the numbers.
        variance: Monte Carlo variance of each number, shape (N,).
        facts: Other fields of the value.
    """
    n = len(per_row)
    error = per_row.std().item() / math.sqrt(n) if n > 1 else None
    noise = None if variance is None else math.sqrt(max(variance.sum().item(), 0.0)) / n
    if noise is not None and not math.isfinite(noise):
        noise = None
    return Value(name, per_row.mean().item(), error, unit, kind, noise, **facts)


def share_of(name: str, successes: Tensor, **facts: Any) -> Value:
    """The share of trials that succeeded, in percent, with its binomial standard error.

    Arguments:
        name: Name of the value.
        successes: Booleans, shape (N,).
        facts: Other fields of the value.

    Raises:
        DataError: N is 0.
    """
    if not len(successes):
        raise DataError(f"{name!r} is a share of trials, and there are 0 trials; give at least one row")
    share, n = successes.double().mean().item(), len(successes)
    return Value(name, 100 * share, 100 * math.sqrt(share * (1 - share) / n), "%", **facts)
