"""The commit of the working directory, read from git's files. No program is run, not even git.

Git itself runs programs that the configuration of a repository names, and the repository may be a stranger's.

Not for: whether files have changed since, which only git can tell.
"""

import re
from pathlib import Path

from ..errors import RunError
from ..store.files import read

_PACKED_REFS_LIMIT = 4 << 20  # bytes of packed-refs
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = re.compile(r"refs(/[\w.+=,@-]+)+")


def commit() -> str | None:
    """The commit that is checked out in the working directory; None outside a repository."""
    try:
        here = Path.cwd()
        for folder in (here, *here.parents):
            git = folder / ".git"
            if git.is_dir():
                return _head(git, git)
            if git.is_file():  # a worktree or a submodule: the file names the folder
                git = folder / _text(git).removeprefix("gitdir:").strip()
                shared = git / "commondir"
                return _head(git, git / _text(shared) if shared.is_file() else git)
    except (OSError, ValueError, RunError):  # the directory is gone, or the files are not git's
        pass
    return None


def _head(git: Path, shared: Path) -> str | None:
    """The commit of HEAD, from HEAD itself, from the file of its branch, or from the file of packed branches."""
    head = _text(git / "HEAD")
    branch = head.removeprefix("ref:").strip()
    if branch == head or not _BRANCH.fullmatch(branch) or ".." in branch:
        return _commit(head)
    if (shared / branch).is_file():
        return _commit(_text(shared / branch))
    lines = read(shared / "packed-refs", _PACKED_REFS_LIMIT).decode(errors="replace").splitlines()
    return next((_commit(line.split(" ")[0]) for line in lines if line.endswith(f" {branch}")), None)


def _commit(text: str) -> str | None:
    return text if _COMMIT.fullmatch(text) else None


def _text(path: Path) -> str:
    return read(path, 4096).decode(errors="replace").strip()
