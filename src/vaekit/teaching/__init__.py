"""The assignment as a class does it: files to hand out, and a check that says what is wrong and why.

Nothing else in this package needs this folder.

| file | what |
|---|---|
| `handout`, `files/` | what a class is given |
| `sheet`, `points` | sections and parts of the assignment; what a check found |
| `grading`, `pupil` | a student's file is checked, in a process of its own |
| `draws`, `forward`, `loss`, `networks` | the checks, a file for each part |
"""

from .grading import check
from .handout import teach
from .points import Report, Section

__all__ = ["Report", "Section", "check", "teach"]
