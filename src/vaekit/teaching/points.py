"""The result of a check, as an object that prints itself."""

from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any


@dataclass(frozen=True)
class GradedSection:
    """A section of the assignment.

    Arguments:
        name: Heading of the section.
        points: Points that were given.
        maximum: Points of a solution without mistakes.
        diagnosis: The mistakes, or a remark on an accepted solution; may be empty.
    """

    name: str
    points: int
    maximum: int
    diagnosis: str


@dataclass(frozen=True)
class Report:
    """Points and diagnoses of one file.

    Arguments:
        file: Name of the file.
        sections: All sections, in the order of the assignment.
    """

    file: str
    sections: tuple[GradedSection, ...]

    @property
    def points(self) -> int:
        """Points that were given."""
        return sum(section.points for section in self.sections)

    @property
    def maximum(self) -> int:
        """Points of a solution without mistakes."""
        return sum(section.maximum for section in self.sections)

    def to_dict(self) -> dict[str, Any]:
        """`file`, `points`, `maximum` and `sections`, as JSON has them."""
        sections = [asdict(section) for section in self.sections]
        return {"file": self.file, "points": self.points, "maximum": self.maximum, "sections": sections}

    def __str__(self) -> str:
        width = max(len(section.name) for section in self.sections)
        lines = [self.file, ""]
        for section in self.sections:
            lines.append(f"  {section.name:{width}}  {section.points} of {section.maximum}")
            lines += [f"      {line}" for line in wrap(section.diagnosis, 72, break_long_words=False)]
        return "\n".join([*lines, "", f"  {self.points} of {self.maximum}"])

    __repr__ = __str__
