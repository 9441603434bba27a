"""Run notebooks in place and store their outputs: `python notebooks/execute.py [NOTEBOOK ...]`."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> None:
    """Run every cell in a fresh kernel; the file is written only if none fails."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=None, record_timing=False, coalesce_streams=True).execute()
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(HERE.glob("*.ipynb"))):
        execute(path)
