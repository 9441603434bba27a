"""A model's weights and config in one file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import RunError
from ..store import files, tensors

MADE_OF = "vaekit.model"  # the key of the config in a file


def write(path: Path, weights: Mapping[str, Tensor], made_of: Mapping[str, Any]) -> None:
    """Write weights, and the config that the model was made of.

    Raises:
        RunError: The file cannot be written.
    """
    content = tensors.pack(weights, {MADE_OF: json.dumps(dict(made_of))})
    with files.file_errors("write", path):
        files.write(path, content)


def read(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read weights, which must have the names and the shapes of a model's.

    Raises:
        RunError: The file cannot be read, or holds the weights of another model.
    """
    weights, _ = tensors.unpack(files.read(path, tensors.WEIGHTS_LIMIT), path)
    if {name: tensor.shape for name, tensor in weights.items()} != {n: tensor.shape for n, tensor in expected.items()}:
        raise RunError(f"{path} holds the weights of another model; vaekit.load({str(path)!r}) makes that model")
    return weights
