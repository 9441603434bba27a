"""Check the demands of a config on the data and the machine, before memory is taken or a file is written.

Not for: whether parts fit one another (`config`), or whether rows fit the likelihood (`training.data_checks`).
"""

import math
import warnings
from typing import Any

import torch

from ..config import Config
from ..config.parts import find_part
from ..config.recipe import Recipe
from ..data import Dataset
from ..data.value_kinds import value_kind_of
from ..errors import ConfigError, DataError
from ..training.devices import memory_of

MOST_NUMBERS = 1 << 34  # 64 GiB of them
# Copies of the weights that a training holds at least: weights, gradients, two moments; the last good weights and
# moments; the best weights.
COPIES = 8
LARGE = 10_000_000  # weights; a smaller model gets no warning


def check_data_for(config: Config, data: Dataset) -> None:
    """Check that the data have what the config needs.

    Raises:
        DataError: There are no training or no test rows, or no classes where the model is conditional on them.
        ConfigError: `train.patience` is set without validation rows, or the likelihood takes no table.
    """
    for name, remedy in (
        ("train", "bring more rows"),
        ("test", "set data.test, or bring separate rows to test on"),
    ):
        if not len(data.splits[name]):
            raise DataError(f"{data.name} has 0 rows to {name} on; a training needs at least 1: {remedy}")
    if config.model.condition == "class" and data.num_classes < 2:
        raise DataError(
            f'model.condition = "class" needs rows of several classes, but {data.name} has no labels; leave it '
            "out, or bring labels: a file images-labels.npy, a key labels, or one subfolder for each class"
        )
    name = config.likelihood.name
    built_in = config.model.name == "composed" and ":" not in name
    if data.columns is not None and built_in and value_kind_of(find_part("likelihood", name)) != "table":
        raise ConfigError(
            f"{data.name} is a table, which the likelihood {name!r} does not take; train the preset table-vae, or "
            "choose likelihood.name = 'columns'"
        )
    if config.train.patience is not None and not len(data.validation):
        raise ConfigError("train.patience needs validation rows; set data.validation to how many to hold out")


def check_fits_in_memory(recipe: Recipe, data: Dataset, device: torch.device) -> None:
    """Refuse a model that the device cannot train, or that the machine cannot hold: models are built there first.

    A config that names parts by import path is not checked.

    Raises:
        ConfigError: The model has more than 2^34 numbers, or more than there is memory for.
    """
    if recipe.has_own_code:
        return
    wiring: dict[str, Any] = {"num_classes": data.num_classes, "columns": data.columns}
    shapes = recipe.shapes(event_shape=data.event_shape, **wiring) or {}
    numbers = sum(shape.numel() for shape in shapes.values())
    if numbers > MOST_NUMBERS:
        raise ConfigError(f"the config asks for a model of {numbers:,} numbers, more than the {MOST_NUMBERS:,} allowed")
    for place, copies in {torch.device("cpu"): 1, device: COPIES}.items():  # if the device is the CPU, `COPIES` counts
        memory, needed = memory_of(place), copies * 4 * numbers
        if needed > memory:
            where = "this machine" if place.type == "cpu" else str(place)
            raise ConfigError(
                f"the config asks for a model of {numbers:,} numbers, which takes {needed / 2**30:.0f} GiB "
                f"to train, but {where} has {memory / 2**30:.0f}; {_smaller(data)}"
            )
    if numbers > max(LARGE, len(data.train) * math.prod(data.event_shape)):
        warnings.warn(
            f"for rows of shape {data.event_shape} the model has {numbers / 1e6:.0f} million weights, but the "
            f"{len(data.train)} training rows have only {len(data.train) * math.prod(data.event_shape):,} values; "
            f"{_smaller(data)}",
            stacklevel=2,
        )


def _smaller(data: Dataset) -> str:
    return f"try {'data.size = 64, or ' if data.kind == 'image' else ''}smaller layers"
