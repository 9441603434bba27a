"""Copy out the files for a class: starter and notebook for students, solution and rubric for the teacher."""

from importlib.resources import files
from pathlib import Path

from ..errors import DataError
from ..store.files import write

STUDENT = {"vae.py.txt": "vae.py", "assignment.ipynb": "assignment.ipynb"}
TEACHER = {
    "solution.ipynb": "teacher/solution.ipynb",
    "solution.py.txt": "teacher/solution.py",
    "rubric.md": "teacher/rubric.md",
}


def source(name: str) -> bytes:
    """The content of one of the files in `teaching/files`.

    The solution is the notebook of the repository's folder `notebooks`; a wheel carries a copy of it here.
    """
    packed = files(__package__).joinpath("files", name)
    if name == "solution.ipynb" and not packed.is_file():
        return (Path(__file__).parents[3] / "notebooks" / "vae.ipynb").read_bytes()
    return packed.read_bytes()


def teach(folder: str | Path, *, teacher: bool = True, overwrite: bool = False) -> list[Path]:
    """Copy the assignment into a folder.

    Arguments:
        folder: Target folder; it is made if it does not exist.
        teacher: Also copy the solved notebook, a solution and the rubric, into its folder `teacher`.
        overwrite: Replace existing files with other content.

    Returns:
        The written files; an existing file with the same content is not written.

    Raises:
        DataError: A file exists with other content, and nothing was changed; or the folder cannot be written.
    """
    root = Path(folder)
    wanted = {root / target: source(name) for name, target in (STUDENT | (TEACHER if teacher else {})).items()}
    odd = [str(path) for path in wanted if path.exists() and not path.is_file()]
    if odd:
        raise DataError(f"{', '.join(odd)}: not a file but a device, a pipe or a folder; choose another folder")
    try:
        new = [path for path, content in wanted.items() if not path.exists() or path.read_bytes() != content]
        kept = [str(path) for path in new if path.exists()]
        if kept and not overwrite:
            raise DataError(
                f"{', '.join(kept)}: there already, with other content; nothing was changed. Choose another "
                "folder, or pass overwrite=True to replace that content",
                arguments=("overwrite",),
            )
        for path in new:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, wanted[path])
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}") from error
    return new
