"""The data to show or to evaluate a model on, from whatever a caller has.

Not for: data to train on (`data.loading`), or a run's own data (`runs.restore`).
"""

import os
from typing import Any

from ..data import Dataset, Split
from ..data.batch import as_tensor, is_array
from ..data.columns import check_columns
from ..data.evaluation_data import as_split, load_evaluation_data
from ..data.sources.frames import is_frame
from ..errors import ConfigError
from ..model import LatentVariableModel


def data_for_model(model: LatentVariableModel, data: Any) -> Dataset:
    """A data set for a model: the given one, also by name or path, or a data set that has the given rows as test rows.

    Arguments:
        model: The model.
        data: A `Dataset`, the name or path of one, a frame, a `Split`, a tensor or array (N, *event), or (x, labels).

    Raises:
        ConfigError: The data are of another type.
        DataError: The rows, the columns or the labels do not fit the model.
    """
    if isinstance(data, (str, os.PathLike)) or is_frame(data):
        return load_evaluation_data(
            data, value_kind=model.value_kind, event_shape=model.event_shape, columns=model.columns
        )
    if isinstance(data, Dataset):
        check_columns(model.columns, data.columns)
        return data
    if is_array(data):
        data = (data,)
    if isinstance(data, tuple) and len(data) in (1, 2) and is_array(data[0]):
        x = as_tensor(data[0], "the data")
        data = as_split(
            x,
            *data[1:],
            event_shape=model.event_shape,
            value_kind=model.value_kind,
            conditional=bool(model.context_size),
            sees_missing=model.sees_missing,
        )
    if not isinstance(data, Split):
        raise ConfigError(
            "a model takes a Dataset, the name or path of one, a Split, a tensor (N, …), or (x, labels), got "
            f"{type(data).__name__}"
        )
    kind = "signal" if len(data.event_shape) == 2 else None if model.columns is None else "table"
    last = -1 if data.labels is None or not len(data) else int(data.labels.max())
    classes = tuple(map(str, range(max(last + 1, model.context_size)))) or ("all",)
    return Dataset.of_splits("given rows", {"test": data}, classes=classes, kind=kind, columns=model.columns)
