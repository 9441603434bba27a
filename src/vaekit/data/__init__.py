"""Data sets by name, the user's own images by path, and batches.

`available()` lists the data sets. `load(name)` or `load(path)` reads one, and `Batches` serves it. `Stored` holds
images that stay on disk. Only the listing is imported here. The rest needs torch and is imported on first use, so that
the command line starts quickly.

| file | what |
|---|---|
| `registry` | the data sets by name, and the places of their files |
| `loading` | `load`: from a name, a path, a frame, an array or a function to a data set |
| `by_name`, `by_path` | data sets by name; the user's own images and signals by path |
| `sources/` | the formats that they read |
| `table/` | tables: their columns, files and rows |
| `dataset`, `ondisk` | `Dataset` and `Split`; `Stored`, rows that stay on disk |
| `chosen_rows`, `origin` | rows that are held out or keep their labels; the places and the names of rows |
| `labels` | labels as numbers of classes |
| `evaluation_data` | data to validate or evaluate on: all of their rows |
| `value_kinds`, `pixels` | the meaning of numbers in x; bytes to floats, and grey to binary |
| `batch`, `batches` | one batch; minibatches of a split |
| `given_data`, `loader_factory` | what a caller gave: rows, a data set or batches; a loader for each that `fit` takes |
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registry import DATASET_NAMES, Listing, available

if TYPE_CHECKING:
    from .batch import Batch, as_batch
    from .batches import Batches
    from .dataset import Dataset, Split
    from .loading import load
    from .ondisk import Stored
    from .sources.idx import read_idx
    from .table.columns import Column

__all__ = [
    "DATASET_NAMES",
    "Batch",
    "Batches",
    "Column",
    "Dataset",
    "Listing",
    "Split",
    "Stored",
    "as_batch",
    "available",
    "load",
    "read_idx",
]

_HOME = {
    "Batch": "batch",
    "as_batch": "batch",
    "Batches": "batches",
    "Column": "table.columns",
    "Dataset": "dataset",
    "Split": "dataset",
    "Stored": "ondisk",
    "load": "loading",
    "read_idx": "sources.idx",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
