"""`vaekit.build`: a model from a config or a preset's name, without a training.

Not for: the parts of a model, and the order in which they are made (`recipe`, `assemble`).
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data import Dataset, Split, load
from ..data.batch import as_tensor
from ..data.batches import rows_to_start_from
from ..data.given_data import RowFormat
from ..data.table.columns import Column
from ..data.value_kinds import RANGES, ValueKind, check_values
from ..errors import ConfigError
from ..model import LatentVariableModel
from . import Config, data_section, read
from .contracts import as_shape
from .recipe import Recipe

_EVENT_SHAPE = (1, 28, 28)
_NUM_CLASSES = 10


def build(
    config: Config | str = "vae",
    *,
    event_shape: tuple[int, ...] | int = _EVENT_SHAPE,
    num_classes: int = _NUM_CLASSES,
    x: Tensor | None = None,
    labels: Tensor | None = None,
    columns: Sequence[Column] | None = None,
    data: Dataset | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    trust: bool = False,
    **sections: Any,
) -> LatentVariableModel:
    """Make a model from a config or a preset's name.

    Arguments:
        config: A config, or the name of a preset.
        event_shape: Event shape of x; a number is the size of a vector.
        num_classes: Number of classes of a conditional model.
        x: Training rows, shape (N, *event_shape), for parts that start from the data: the output bias at the mean of x,
            pseudo-inputs. Without x they start at random. Bytes are pixels, unless the likelihood takes counts.
        labels: Classes of these rows, shape (N,), for a conditional model.
        columns: Columns of a table: `data.columns` of `data = vaekit.data.load("table.csv")`; they give the shape too.
        data: A data set from `vaekit.data.load`, its name or path, or options of the section [data] as a mapping, in
            place of the five arguments above: the model fits it and starts from it, as with `vae train`.
        trust: Import parts by path.
        sections: Overrides, as in `build("vae", prior={"name": "vamp"}, likelihood="normal", latent_size=2)`.

    Returns:
        The model, on the CPU, initialized from torch's global random stream: encoder, posterior, decoder, likelihood,
        prior, in this order.

    Raises:
        ConfigError: A part or an option is unknown, the parts do not fit together, or an argument is in conflict with
            `data`.
        DataError: The data set does not exist or cannot be read; or x has another shape, or values that are not finite.
    """
    if not isinstance(data, Dataset | None):
        sections["data"] = data_section(data)
    if isinstance(config, str):
        config = read(config, sections=sections)
    elif not isinstance(config, Config):
        raise ConfigError(
            f"the config is the name of a preset or a vaekit.config.Config, got {type(config).__name__}; options go "
            "beside the name: build('vae', prior='vamp')"
        )
    elif "data" in sections:
        raise ConfigError(
            f"a Config names its data already; pass a data set, data=vaekit.data.load({config.data.name!r}), or the "
            "name of a preset"
        )
    elif sections:
        raise ConfigError(
            "sections override a preset, and a Config is complete; change it first: "
            "vaekit.config.changed(config, {'latent_size': 2})"
        )
    recipe = Recipe.resolve(config, trust=trust)
    beside = {"event_shape": event_shape, "num_classes": num_classes, "x": x, "labels": labels, "columns": columns}
    is_named = bool(sections.get("data", {}).keys() - {"binarize"})  # binarize changes no part of a model
    if is_named or isinstance(data, Dataset):
        _refuse_beside_data(beside)
    if is_named:
        data = load(**recipe.data_arguments)
    rows: Split | None
    class_names = None
    if isinstance(data, Dataset):
        shape, num_classes, columns, rows = data.event_shape, data.num_classes, data.columns, data.train
        class_names = data.classes
    else:
        shape = as_shape("event_shape", event_shape if columns is None else len(columns))
        rows = _rows_of(x, labels, shape, recipe.value_kind)
    start, classes = (None, None) if rows is None else rows_to_start_from(rows, value_kind=recipe.value_kind)
    return recipe.model(
        event_shape=shape, num_classes=num_classes, x=start, labels=classes, columns=columns, class_names=class_names
    )


def _refuse_beside_data(beside: Mapping[str, Any]) -> None:
    """Refuse arguments that `data` already gives. An argument that equals its default counts as not given."""
    defaults = {"event_shape": _EVENT_SHAPE, "num_classes": _NUM_CLASSES}
    names = [
        name
        for name, value in beside.items()
        if value is not None and not (name in defaults and value == defaults[name])
    ]
    if names:
        it = "it" if len(names) == 1 else "them"
        raise ConfigError(f"{', '.join(names)}: the data give {it} already; leave out {it}, or data")


def _rows_of(x: Any, labels: Any, event_shape: tuple[int, ...], value_kind: ValueKind) -> Split | None:
    """The rows to start from that `build` was given; None without x."""
    if x is None:
        if labels is not None:
            raise ConfigError("labels are the classes of x, which is missing; pass both, or data")
        return None
    rows = RowFormat(event_shape, value_kind, sees_missing=True).split(as_tensor(x, "x"), labels)
    check_values(rows.x[:], None if rows.x.dtype == torch.uint8 else RANGES[value_kind])
    return rows
