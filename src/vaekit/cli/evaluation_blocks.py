"""The output of `vae evaluate`: a short block for each measure that has one."""

from collections.abc import Iterator

from ..evaluation import Evaluation, Value
from ..evaluation.measure_contract import PrintedLine
from ..evaluation.model_evaluation import MEASURES
from .printing import out


def print_blocks(evaluation: Evaluation) -> None:
    """Print the numbers that most people want, at most 80 columns wide."""
    for measure in MEASURES:
        lines = list(_shown_lines(evaluation.values, measure.lines))
        if lines:
            out(f"{measure.title}: {measure.caption}")
            for line in lines:
                out(line)
            out()


def _shown_lines(values: list[Value], lines: tuple[PrintedLine, ...]) -> Iterator[str]:
    for line in lines:
        value = next((value for value in values if line.is_of(value)), None)
        if value is not None:
            number = f"{value} {value.unit}".strip()
            yield f"  {line.label:<25}{number:<24}{line.meaning}".rstrip()
