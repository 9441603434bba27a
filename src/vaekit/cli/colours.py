"""What the verbs that draw share: colours, and the names of classes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from ..store import Run


def colour_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options --invert and --cmap."""
    invert = click.option("--invert", is_flag=True, help="Show black as white and white as black.")
    cmap = click.option("--cmap", metavar="NAME", help="A colour map of matplotlib for grey images, such as magma.")
    return invert(cmap(command))


def class_names(run: "Run") -> list[str]:
    """Names of the classes of a run's data."""
    return [str(name) for name in run.recorded("data", "classes", kind=list)]


def from_default(option: str) -> bool:
    """Whether an option was left out."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.DEFAULT
