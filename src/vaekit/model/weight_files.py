"""A model's weights and config in one file."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, RunError
from ..store import files, tensors

if TYPE_CHECKING:
    from .base import LatentVariableModel

MADE_OF = "vaekit.model"  # the key of the config in a file


def save(model: "LatentVariableModel", path: str | os.PathLike[str]) -> None:
    """Write a model; see `LatentVariableModel.save`."""
    if model.made_of is None:
        raise ConfigError(
            f"save needs a model that build, train or load made from a config, and {type(model).__name__} is made "
            "by hand; torch.save(model.state_dict(), path) keeps its weights"
        )
    content = tensors.pack(model.state_dict(), {MADE_OF: json.dumps(dict(model.made_of))})
    with files.file_errors("write", Path(path)):
        files.write(Path(path), content)


def load(model: "LatentVariableModel", path: str | os.PathLike[str]) -> None:
    """Load weights into a model; see `LatentVariableModel.load`."""
    path = Path(path)
    weights, _ = tensors.unpack(files.read(path, tensors.WEIGHTS_LIMIT), path)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != expected:
        raise RunError(f"{path} holds the weights of another model; vaekit.load({str(path)!r}) makes that model")
    model.load_state_dict(weights)
