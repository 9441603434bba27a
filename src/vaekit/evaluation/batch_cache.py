"""Finished batches of an evaluation, kept in the run folder: an interrupted evaluation continues where it stopped.

Not for: going over the batches (`batchwise`).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ..errors import RunError
from ..model import LatentVariableModel
from ..store import Run, files
from ..store.tensors import pack, sha256, unpack

ESTIMATORS = 4  # version of the numbers per row; numbers of other versions are not used
BATCH_FILE_LIMIT = 1 << 30  # bytes


class BatchCache(Protocol):
    """Finished batches by the name of their stage."""

    def load(self, stage: str) -> dict[str, Tensor] | None:
        """The tensors that were saved for this stage, or None."""

    def save(self, stage: str, tensors: Mapping[str, Tensor]) -> None:
        """Save tensors under the name of this stage."""


CacheOf = Callable[[Mapping[str, Any]], BatchCache]  # from the settings that batches depend on to their cache


class RunCaches:
    """The caches in a run folder, one for each way to evaluate.

    The name of a file has a hash of everything that its numbers depend on.

    Arguments:
        run: The run.
        model: The model, for its weights.
    """

    def __init__(self, run: Run, model: LatentVariableModel) -> None:
        self.run = run
        self.weights = sha256(model.state_dict())
        self.device = model.device.type

    def __call__(self, settings: Mapping[str, Any]) -> BatchCache:
        """The cache for one way to evaluate."""
        everything = {**settings, "weights": self.weights, "device": self.device, "estimators": ESTIMATORS}
        key = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]
        return _RunCache(self.run, key)


@dataclass(frozen=True)
class _RunCache:
    """The batches of one way to evaluate.

    Arguments:
        run: The run.
        key: Hash of the way to evaluate.
    """

    run: Run
    key: str

    def load(self, stage: str) -> dict[str, Tensor] | None:
        try:
            path = files.confine(self.run.path, self._path(stage))
            tensors, metadata = unpack(files.read(path, BATCH_FILE_LIMIT), path)
        except RunError:
            return None  # absent or damaged: computed anew
        return tensors if metadata.get("sha256") == sha256(tensors) else None

    def save(self, stage: str, tensors: Mapping[str, Tensor]) -> None:
        self.run.write_bytes(self._path(stage), pack(tensors, {"sha256": sha256(tensors)}))

    def _path(self, stage: str) -> str:
        return f"evaluation/{stage}-{self.key}.safetensors"
