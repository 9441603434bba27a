"""The assignment in class: files to hand out, and a check that names each mistake and its reason.

In this package only `vae teach` and `vae check` need this folder.

| file | what |
|---|---|
| `handout`, `files/` | the files for a class |
| `sheet`, `points` | sections and parts of the assignment; the result of a check |
| `grading`, `pupil` | the check of a student's file, in a process of its own |
| `draws`, `forward`, `loss`, `networks` | the checks, a file for each part |
"""

from .grading import check
from .handout import teach
from .points import GradedSection, Report

__all__ = ["GradedSection", "Report", "check", "teach"]
