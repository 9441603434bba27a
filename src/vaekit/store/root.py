"""The folder of all runs: list the run folders, claim a name for a new one, remove one.

Not for: the contents of a run folder (`run`).
"""

import os
from itertools import chain, count
from pathlib import Path

from ..errors import RunError
from . import files
from .lock import Lock

_REMAINS = ("metrics.jsonl", "status.json", "checkpoints")


def run_folders(root: Path) -> list[Path]:
    """The run folders in `root`, without symbolic links: each run is listed once and lies in `root`."""
    if not root.is_dir():
        return []
    with files.file_errors("list", root):
        return [
            path
            for path in root.iterdir()
            if files.COMPONENT.fullmatch(path.name)
            and not path.is_symlink()
            and os.path.lexists(path / "environment.json")
        ]


def is_leftover(path: Path) -> bool:
    """Whether a folder is the rest of a run that was removed in part: its files without environment.json."""
    if not path.is_dir() or path.is_symlink() or os.path.lexists(path / "environment.json"):
        return False
    return any(os.path.lexists(path / name) for name in _REMAINS)


def claim(new: Path, root: Path, base: str, *, numbered: bool) -> Path:
    """Rename the folder `new` to `base` in `root`; return its path.

    Arguments:
        new: A whole run folder under a temporary name.
        root: The folder of all runs.
        base: The name.
        numbered: Take the first free name of `base`, `base`-2, `base`-3, …

    Raises:
        RunError: The name is taken.
    """
    for name in chain([base], (f"{base}-{number}" for number in count(2)) if numbered else []):
        path = root / files.component(name)
        if os.path.lexists(path):
            continue
        try:
            os.rename(new, path)
        except OSError:
            if not os.path.lexists(path):  # else another process was faster
                raise
        else:
            return path
    if is_leftover(root / base):
        raise RunError(
            f"{root / base} is the rest of a removed run; choose another name, or remove it", arguments=("name",)
        )
    raise RunError(f"the run {root / base} exists; choose another name, or resume it", arguments=("name",))


def delete(path: Path) -> None:
    """Remove a run folder, damaged or not, with everything in it.

    Raises:
        RunError: A process is writing into it, or it cannot be removed.
    """
    lock = Lock(path / "lock")
    lock.acquire()
    lock.release()
    gone = files.temporary(path)
    with files.file_errors("remove", path):
        os.rename(path, gone)  # at once: a half-removed folder is not a run
        files.remove(gone)
