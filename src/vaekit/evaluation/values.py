"""A number with its error, its unit and its kind; means and shares over rows, and numbers of earlier versions.

Not for: all numbers about one model (`evaluation_file`).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from ..errors import DataError, RunError

EstimateKind = Literal["lower bound", "upper bound", "estimate", "not a likelihood"]
Setting = Literal["samples", "annealing", "classifier"]
SMALL_ERROR = 1e-4  # with a smaller error than this, a number would have too many decimals to read
StageListener = Callable[[str, int, int], None]  # stage, batches done, batches in all


@dataclass(frozen=True)
class Value:
    """A number with its error.

    Arguments:
        name: Name of the number.
        value: The number.
        standard_error: How far another test set of the same size would move it; None where that is not known.
        unit: "nats", "bits/dim", "%", "" for a pure number …
        kind: A bound, which holds in expectation; an estimate; or "not a likelihood", such as the Bernoulli
            "log-likelihood" of a grey image.
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
        """The number and its standard error."""
        if not math.isfinite(self.value):
            return "—"
        if not self.standard_error or not math.isfinite(self.standard_error):
            return f"{self.value:.4g}" if abs(self.value) < 1e4 else f"{self.value:.0f}"
        return with_error(self.value, self.standard_error)

    @property
    def shown_unit(self) -> str:
        """The unit, and the maximum unless it is None."""
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
            fields = _with_current_name(table if "depends_on" in table else _completed(table))
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


def with_error(value: float, error: float) -> str:
    """A number and its error, to two digits of the error; an error below 10⁻⁴ as a power of ten.

    >>> with_error(-90.1234, 0.25), with_error(-90.12345, 1e-9), with_error(1e-7, 1e-9)
    ('-90.12 ± 0.25', '-90.12345 ± 1.0e-09', '1e-07 ± 1.0e-09')
    """
    if 0 < error < SMALL_ERROR:
        return f"{value:.7g} ± {error:.1e}"
    decimals = max(0, 1 - math.floor(math.log10(error))) if error else 2
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


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
    **fields: Any,
) -> Value:
    """The mean over rows, with its standard error; one row has no standard error.

    Arguments:
        name: Name of the value.
        per_row: Shape (N,).
        unit: Unit of the numbers.
        kind: Kind of the numbers.
        variance: Monte Carlo variance of each number, shape (N,).
        fields: Other fields of the value.
    """
    n = len(per_row)
    error = per_row.std().item() / math.sqrt(n) if n > 1 else None
    noise = None if variance is None else math.sqrt(max(variance.sum().item(), 0.0)) / n
    if noise is not None and not math.isfinite(noise):
        noise = None
    return Value(name, per_row.mean().item(), error, unit, kind, noise, **fields)


def share_of(name: str, successes: Tensor, **fields: Any) -> Value:
    """The share of trials that succeeded, in percent, with its binomial standard error.

    Arguments:
        name: Name of the value.
        successes: Booleans, shape (N,).
        fields: Other fields of the value.

    Raises:
        DataError: N is 0.
    """
    if not len(successes):
        raise DataError(f"{name!r} is a share of trials, and there are 0 trials; give at least one row")
    share, n = successes.double().mean().item(), len(successes)
    return Value(name, 100 * share, 100 * math.sqrt(share * (1 - share) / n), "%", **fields)


# -- values of an earlier evaluation.json, where only the name tells which settings a value depends on -----------------

# The names of a classifier's values begin with these.
_BY_CLASSIFIER = ("Fréchet", "precision", "recall", "density", "coverage", "class", "recognised", "entropy")


def _completed(table: dict[str, Any]) -> dict[str, Any]:
    """The fields of a value with those that were added later.

    >>> _completed({"name": "class entropy (at most 2.303)", "value": 2.1})
    {'name': 'class entropy', 'value': 2.1, 'depends_on': ('classifier',), 'likelihood': False, 'maximum': 2.303}
    """
    name, maximum = table["name"], None
    if name.startswith("class entropy (at most "):
        name, _, number = name.partition(" (at most ")
        maximum = float(number.removesuffix(")"))
    likelihood = name in ("elbo", "distortion", "nll", "AIS", "bits per dimension") or name.startswith("L_")
    added = {"depends_on": _settings(name), "likelihood": likelihood, "maximum": maximum}
    return {**table, "name": name, **added}


def _with_current_name(table: dict[str, Any]) -> dict[str, Any]:
    """The fields of a value with its name of today.

    >>> _with_current_name({"name": "Fréchet distance of test images", "unit": "squared"})
    {'name': 'squared Fréchet distance of test images', 'unit': ''}
    """
    name, unit = table.get("name"), table.get("unit")
    if isinstance(name, str) and name.startswith("Fréchet distance") and unit == "squared":
        return {**table, "name": f"squared {name}", "unit": ""}
    return table


def _settings(name: str) -> tuple[str, ...]:
    if name in ("nll", "bits per dimension") or name.startswith(("effective", "pareto")):
        return ("samples",)
    if name.startswith(("AIS", "BDMC")):
        return ("samples", "annealing") if "over" in name else ("annealing",)
    return ("classifier",) if name.startswith(_BY_CLASSIFIER) else ()
