"""Data sets by name, images of one's own by path, and batches.

`available()` lists what there is, `load(name)` or `load(path)` reads one, `Batches` serves it; `Stored` are images that
stay on disk. Only the listing is imported here; the rest, which needs torch, comes with its first use, so that the
command line starts quickly.
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

__all__ = [
    "DATASET_NAMES",
    "Batch",
    "Batches",
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
