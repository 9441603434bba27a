"""Read values of an earlier evaluation.json. There only a value's name tells which settings it depends on.

Not for: new values, which have fields for this.
"""

from typing import Any

# The names of a classifier's values begin with these.
_BY_CLASSIFIER = ("Fréchet", "precision", "recall", "density", "coverage", "class", "recognised", "entropy")


def completed(table: dict[str, Any]) -> dict[str, Any]:
    """The fields of a value with those that were added later.

    >>> completed({"name": "class entropy (at most 2.303)", "value": 2.1})
    {'name': 'class entropy', 'value': 2.1, 'depends_on': ('classifier',), 'likelihood': False, 'maximum': 2.303}
    """
    name, maximum = table["name"], None
    if name.startswith("class entropy (at most "):
        name, _, number = name.partition(" (at most ")
        maximum = float(number.removesuffix(")"))
    likelihood = name in ("elbo", "distortion", "nll", "AIS", "bits per dimension") or name.startswith("L_")
    added = {"depends_on": _settings(name), "likelihood": likelihood, "maximum": maximum}
    return {**table, "name": name, **added}


def with_current_name(table: dict[str, Any]) -> dict[str, Any]:
    """The fields of a value with its name of today.

    >>> with_current_name({"name": "Fréchet distance of test images", "unit": "squared"})
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
