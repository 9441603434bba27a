"""The assignment as a class does it: files to hand out, and a check that says what is wrong and why.

Nothing else in this package needs this folder.
"""

from .grading import check
from .handout import teach
from .points import Report, Section

__all__ = ["Report", "Section", "check", "teach"]
