"""The folder of all runs: list the run folders, find one, make a new one, remove one.

Not for: the contents of a run folder (`run`).
"""

import os
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path

from ..errors import RunError, unknown
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


def find_folder(ref: str | Path, root: Path) -> Path:
    """The folder of a run.

    Arguments:
        ref: The name of a run in `root`, or the path of a folder.
        root: The folder of all runs.

    Raises:
        RunError: The folder does not exist (the message suggests the nearest name), or a link leads out of `root`.
    """
    name = str(ref)
    path = root / name
    if (isinstance(ref, str) or not os.path.isdir(name)) and files.COMPONENT.fullmatch(name) and path.is_dir():
        if path.resolve().parent != root.resolve():
            raise RunError(f"{path} is a symbolic link that leads out of {root}; give the path of the run itself")
        return path
    if os.path.isfile(name):
        raise RunError(f"{name!r} is a file, not a run; if model.save wrote it, pass vaekit.load({name!r})")
    if os.path.isdir(name):
        return Path(name).resolve()
    names = [path.name for path in run_folders(root)]
    none = f"there is no run {name!r:.120}, and no run at all in the folder {str(root)!r}"
    raise RunError(unknown("run", name, names) if names else none)


def make_folder(root: Path, base: str, contents: Mapping[str, bytes], *, numbered: bool) -> Path:
    """Make a run folder, whole or not at all; return its path.

    Arguments:
        root: The folder of all runs; made if missing.
        base: The name.
        contents: The files in it, by name.
        numbered: Take the first free name of `base`, `base`-2, `base`-3, …

    Raises:
        RunError: The name is taken, or the folder cannot be written.
    """
    new = files.temporary(root / base)
    with files.file_errors("create a run in", root):
        root.mkdir(parents=True, exist_ok=True)
        files.sweep(root)
        try:
            (new / "checkpoints").mkdir(parents=True)
            for name, content in contents.items():
                files.write_new(new / name, content)
            files.sync(new)
            path = _claim(new, root, base, numbered=numbered)
            files.sync(root)
        finally:
            files.remove(new)
    return path


def _claim(new: Path, root: Path, base: str, *, numbered: bool) -> Path:
    """Rename the folder `new` to `base` in `root`; return its path.

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
