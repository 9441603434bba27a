"""A table over runs, written as Markdown, LaTeX, CSV and JSON.

Not for: computing its numbers (`comparison`).
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...store.escape import to_csv, to_latex, to_markdown
from ..values import with_error


@dataclass(frozen=True)
class Cell:
    """Numbers of one group in one column.

    Arguments:
        mean: Mean over training seeds.
        sd: Standard deviation over training seeds; None if there is one seed.
        n: Number of training seeds.
    """

    mean: float
    sd: float | None
    n: int

    def __str__(self) -> str:
        if not math.isfinite(self.mean):
            return "—"
        if self.sd is None or not math.isfinite(self.sd):
            return f"{self.mean:.4g}" if abs(self.mean) < 10 else f"{self.mean:.2f}"
        return with_error(self.mean, self.sd)


@dataclass(frozen=True)
class Difference:
    """A group minus the first one, in one column.

    Arguments:
        group: Name of the group.
        column: Name of the column.
        mean: Mean of the paired differences, or difference of the means.
        low: Lower end of the 95 % confidence interval; None if the interval is unknown.
        high: Upper end of the interval.
        n: Number of pairs, or of all runs if unpaired.
        over: "seeds", "seeds, unpaired", or "rows" of one run each.
    """

    group: str
    column: str
    mean: float
    low: float | None
    high: float | None
    n: int
    over: str

    @property
    def interval(self) -> str:
        """The interval, as text."""
        return "—" if self.low is None or self.high is None else f"{self.low:+.4g} to {self.high:+.4g}"

    @property
    def verdict(self) -> str:
        """Whether the interval excludes 0, in words."""
        if self.low is None or self.high is None:
            return "unknown (one seed)"
        if not math.isfinite(self.low) or not math.isfinite(self.high):
            return "unknown (not finite)"
        if self.low == self.high and self.mean != 0:
            return "unknown (no spread)"
        return "within noise" if self.low <= 0 <= self.high else f"beyond noise, over {self.over}"


@dataclass(frozen=True)
class Comparison:
    """A table over groups of runs.

    Arguments:
        columns: Names of the numbers, with unit and kind.
        groups: Names of the runs of each group.
        cells: Cells by group, then by column.
        differences: Differences from the first group.
        protocol: The protocol that all runs share.
        repeats: Names of the runs that are left out, each with the run whose config and seed it repeats.
    """

    columns: dict[str, tuple[str, str]]
    groups: dict[str, list[str]]
    cells: dict[str, dict[str, Cell]]
    differences: list[Difference]
    protocol: dict[str, Any]
    repeats: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.to_markdown()

    @property
    def caution(self) -> str:
        """A sentence on several intervals at once; empty where there are fewer than two."""
        count = sum(difference.low is not None for difference in self.differences)
        if count < 2:
            return ""
        return (
            f"each interval misses the true difference 5 times in 100: of these {count}, expect about {count / 20:.1f} "
            "beyond noise even if no groups differ"
        )

    def to_json(self) -> dict[str, Any]:
        """The comparison as a table."""
        return {
            "protocol": self.protocol,
            "columns": {name: {"unit": unit, "kind": kind} for name, (unit, kind) in self.columns.items()},
            "groups": {
                name: {"runs": runs, "values": {column: asdict(cell) for column, cell in self.cells[name].items()}}
                for name, runs in self.groups.items()
            },
            "differences": [{**asdict(difference), "verdict": difference.verdict} for difference in self.differences],
            "repeats": self.repeats,
        }

    def to_csv(self) -> str:
        """A line for each group and column."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("group", "column", "mean", "sd", "n", "unit", "kind"))
        for group, cells in self.cells.items():
            for column, cell in cells.items():
                texts = [to_csv(text) for text in (group, column, *self.columns[column])]
                writer.writerow((*texts[:2], cell.mean, cell.sd, cell.n, *texts[2:]))
        return text.getvalue()

    def to_markdown(self) -> str:
        """The table, the differences below it, and the protocol."""
        rows = [
            ["", "n", *(self._heading(name) for name in self.columns)],
            ["---", *["---:"] * (len(self.columns) + 1)],
        ]
        rows += [
            [group, str(len(self.groups[group])), *(str(cells[name]) for name in self.columns)]
            for group, cells in self.cells.items()
        ]
        parts = ["\n".join(_line(row) for row in rows)]
        if self.differences:
            first = next(iter(self.groups))
            rows = [
                [f"difference to {first}", "", "mean", "95 % interval", "n", ""],
                ["---", "---", *["---:"] * 3, "---"],
            ]
            rows += [
                [d.group, d.column, f"{d.mean:+.4g}", d.interval, f"{d.n} {d.over}", d.verdict]
                for d in self.differences
            ]
            parts.append("\n".join(_line(row) for row in rows))
        if self.caution:
            parts.append(to_markdown(self.caution))
        if self.repeats:
            repeats = ", ".join(f"{name} repeats {of}" for name, of in self.repeats.items())
            parts.append(to_markdown(f"left out, because config and seed are the same: {repeats}"))
        protocol = "; ".join(f"{key}: {value}" for key, value in self.protocol.items() if key != "checksum" and value)
        parts.append(to_markdown(protocol))
        return "\n\n".join(parts) + "\n"

    def to_latex(self) -> str:
        """The table alone, for the package booktabs."""
        rows = [["", "$n$", *(to_latex(self._heading(name)) for name in self.columns)]]
        rows += [
            [to_latex(group), str(len(self.groups[group])), *(_math(cells[name]) for name in self.columns)]
            for group, cells in self.cells.items()
        ]
        lines = [" & ".join(row) + r" \\" for row in rows]
        begin = rf"\begin{{tabular}}{{lr{'r' * len(self.columns)}}}"
        lines = [begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]
        return "\n".join(lines) + "\n"

    def _heading(self, name: str) -> str:
        unit, kind = self.columns[name]
        details = ", ".join(part for part in (unit, "" if kind == "estimate" else kind) if part)
        return f"{name} ({details})" if details else name


# -- text -------------------------------------------------------------------------------------------------------------


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(to_markdown, cells)) + " |"


def _math(cell: Cell) -> str:
    text = re.sub(r"e([+-]\d+)", lambda power: rf" \times 10^{{{int(power[1])}}}", str(cell))
    return "--" if text == "—" else f"${text.replace('±', chr(92) + 'pm')}$"
