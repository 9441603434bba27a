"""config.json and preprocessing.json: how a model was made, and how a stored row becomes x.

Not for: the text for people (`card`).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from .. import __version__
from ..config import Config
from ..evaluation.latent_space.aggregate import statistics
from ..evaluation.model_with_data import ModelWithData
from ..model import LatentVariableModel
from ..runs.data_record import DataRecord
from ..store import Run

EXPORT_FORMAT = 1
EXAMPLES = 8


def config_json(run: Run, config: Config, exported: ModelWithData) -> dict[str, Any]:
    """The content of config.json.

    Arguments:
        run: The run.
        config: The config of the run, with every default written out.
        exported: The run's model and test data, for the statistics of the latents.
    """
    model = exported.model
    data = DataRecord.of(run)
    return {
        "format": EXPORT_FORMAT,
        "library_name": "vaekit",
        "vaekit_version": __version__,
        "model_type": "vae",
        "architectures": [type(model).__name__],
        "config": config.model_dump(mode="json", exclude_none=True),
        "event_shape": list(data.event_shape),
        "kind": data.kind,
        "value_range": value_range(model),
        "num_classes": data.num_classes,
        **({} if data.columns is None else {"columns": [column.to_json() for column in data.columns]}),
        **({} if data.columns is None else {"missing": missing(model)}),
        "class_names": list(data.classes),
        "context_size": model.context_size,
        "latent_shape": list(model.latent_shape),
        "aggregate_posterior": statistics(exported),
        "parameters": model.num_parameters,
    }


def value_range(model: LatentVariableModel) -> list[float | None] | None:
    """Least and greatest value of x, None for one without limit; None alone if every number is allowed."""
    if model.value_range is None:
        return None
    return [value if abs(value) < float("inf") else None for value in model.value_range]


def missing(model: LatentVariableModel) -> float | str:
    """The entry of x for a missing value."""
    return "NaN" if model.sees_missing else 0


def preprocessing_of(run: Run, config: Config, exported: ModelWithData) -> dict[str, Any]:
    """The content of preprocessing.json: the steps from a stored row to x.

    Arguments:
        run: The run.
        config: The config of the run.
        exported: The run's model and test data, for the type of the stored rows.
    """
    data = DataRecord.of(run)
    shape = list(data.event_shape)
    steps: list[dict[str, Any]] = []
    if len(shape) == 3:
        if config.data.size is not None:
            steps.append({"do": "crop", "to": "the central square"})
            steps.append({"do": "resize", "to": [config.data.size, config.data.size]})
        steps.append({"do": "channels", "to": {1: "grey", 3: "RGB"}.get(shape[0], shape[0])})
    if exported.stored_dtype == torch.uint8 and data.value_kind != "counts":  # as in `data.pixels.to_floats`
        steps.append({"do": "divide", "by": 255})
    if data.columns is not None:
        steps.append({"do": "encode", "how": "columns of config.json: number of the level, or number less origin"})
        steps.append({"do": "fill", "missing": missing(exported.model)})
    if config.data.binarize == "threshold":
        steps.append({"do": "binarize", "how": "1 where x > 0.5, else 0"})
    elif config.data.binarize != "none":
        steps.append({"do": "binarize", "how": "1 with probability x, else 0", "when": config.data.binarize})
    layout = "NCHW" if len(shape) == 3 else "N" + "D" * len(shape)
    return {"layout": layout, "shape": shape, "dtype": "float32", "steps": steps}


def as_json(table: Mapping[str, Any]) -> bytes:
    """Indented JSON; the same table always gives the same bytes."""
    return (json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def checksum(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
