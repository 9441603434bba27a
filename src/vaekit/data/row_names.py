"""Names of a data set's rows. By its name a row of a split is found in the file that it comes from.

Not for: which rows are held out (`held_out`).
"""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .by_path import is_path
from .chosen_rows import held_out
from .dataset import SPLITS, Dataset
from .ondisk import RowIndices
from .registry import DATASET_NAMES
from .sources.image_folder import image_names
from .table.table_dataset import SHARE
from .table.table_files import split_files

VALIDATION = {"val", "validation", "valid"}


def names_by_number(rows: Sequence[int], kind: str | None) -> list[str]:
    """Names of rows by their indices, which start at 0: in tables they are counted from 1, else from 0."""
    first = 1 if kind == "table" else 0
    return [str(row + first) for row in rows]


def row_names(data: Dataset, split: str, *, separate_test: bool = False) -> list[str]:
    """The name of each row of a split: its file in a folder of images, else its number in the user's own file.

    Rows of a table are counted from 1, all others from 0. Rows of data that are not a file of the user's are counted
    within the split.

    Arguments:
        data: A data set as it was loaded, with all rows of its splits.
        split: "train", "validation" or "test".
        separate_test: Whether the test rows come from a file of their own.
    """
    counts = {name: len(rows) for name, rows in data.splits.items()}
    path = Path(os.path.expanduser(data.name))
    if data.name in DATASET_NAMES or not is_path(data.name) or not path.exists():
        return names_by_number(range(counts[split]), data.kind)
    stems = {file.stem for file in split_files(path)} if data.kind == "table" else set()
    separate_test = separate_test or "test" in stems
    if (split == "test" and separate_test) or (split == "validation" and stems & VALIDATION):
        return names_by_number(range(counts[split]), data.kind)
    own_validation = 0 if stems & VALIDATION else counts["validation"]
    last = _has_test_rows(path)  # then the test rows come after all others
    own_test = 0 if separate_test or last else counts["test"]
    count = counts["train"] + own_validation + own_test
    parts = held_out(data.name, count, own_validation, own_test, elsewhere=separate_test or last, share=SHARE)
    rows: RowIndices = parts[SPLITS.index(split)]
    if last and split == "test":
        rows = np.arange(count, count + counts["test"])
    indices = rows[np.arange(len(rows))].tolist()
    if path.is_dir() and data.kind != "table":
        files = image_names(path)
        return [files[index] for index in indices]
    return names_by_number(indices, data.kind)


def _has_test_rows(path: Path) -> bool:
    """Whether this is a `.npz` with test rows of its own."""
    if path.suffix.lower() != ".npz":
        return False
    with zipfile.ZipFile(path) as archive:
        return {"x_train.npy", "x_test.npy"} <= set(archive.namelist())
