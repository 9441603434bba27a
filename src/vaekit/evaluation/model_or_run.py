"""Measure a run, by name or path, or a model on a data set.

Not for: the measurements themselves (`run_evaluation`, `model_evaluation`).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import Dataset, Split
from ..errors import ConfigError, DataError, unknown
from ..model import LatentVariableModel, check_model
from ..runs.restore import RestoredRun
from ..runs.terminal import is_watched, shown_stages
from ..store import Run
from ..training import find_device
from .evaluation_file import Evaluation
from .measure_contract import Options
from .model_evaluation import evaluate_model
from .model_with_data import data_for_model
from .run_evaluation import evaluate_run
from .values import StageListener


def evaluate(
    subject: Run | str | os.PathLike[str] | LatentVariableModel | None = None,
    data: Dataset | Split | Tensor | tuple[Tensor, Tensor] | str | os.PathLike[str] | None = None,
    options: Options | None = None,
    *,
    device: str | None = None,
    root: str | Path = "runs",
    trust: bool = False,
    progress: bool | None = None,
    listener: StageListener | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure a run, as `vae evaluate` does, or a model on a data set.

    Arguments:
        subject: A run, its name or folder, the newest run by default; or a model.
        data: The data set, or its name or path; a run's own by default. For a path other than the run's, all rows are
            evaluated, unless the path is split. A model also takes rows, which are all evaluated: a `Split`, a tensor
            or array (N, *event), (x, labels), or a frame of pandas if it is a model of a table.
        options: How to evaluate.
        device: Device, such as "cuda", to which a model is moved; by default the fastest one for a run, and the
            model's own for a model.
        root: Folder of all runs.
        trust: Import parts by path.
        progress: Whether to show the progress on stderr; by default in a terminal and in a notebook, unless there is a
            `listener`.
        listener: Hears about the progress.
        settings: Fields of `Options`, such as `samples=5000`.

    Raises:
        ConfigError: The subject is neither a model nor a run; a model gets no data, or data of another type; a run
            gets a data set instead of its name; or an option is unknown or wrong, see `evaluate_model` and
            `evaluate_run`.
        DataError: The rows or the classes do not fit the model.
        RunError: The run does not exist, or cannot be read or written.
        DeviceError: This machine has no such device.
    """
    _check_names(settings)
    if isinstance(subject, LatentVariableModel):
        if data is None:
            raise ConfigError("a model is evaluated on a data set: evaluate(model, vaekit.data.load('mnist'))")
        data = data_for_model(subject, data)
        if not any(map(len, data.splits.values())):
            raise DataError(f"there are 0 rows to evaluate in {data.name!r}")
        model = subject if device is None else subject.to(find_device(device))
        with _hearing(progress, listener) as hearing:
            return evaluate_model(model, data, options, listener=hearing, **settings)
    run = _run_of(subject, root)
    if data is not None and not isinstance(data, (str, os.PathLike)):
        raise ConfigError(
            f"a run is evaluated on data by name, got {type(data).__name__} {getattr(data, 'name', '')!r}; for these: "
            "evaluate(vaekit.load(run), data)"
        )
    name = None if data is None else os.fspath(data)
    restored = RestoredRun.of(run, trust=trust)
    model = restored.model(device=device or "auto")
    with _hearing(progress, listener) as hearing:
        return evaluate_run(restored, model, options, data_name=name, listener=hearing, **settings)


def _check_names(settings: Mapping[str, Any]) -> None:
    """Refuse a setting that is not a field of `Options`.

    Raises:
        ConfigError: There is such a setting; the nearest name is given.
    """
    names = {field.name for field in fields(Options)}
    for name in settings:
        if name not in names:
            own = evaluate.__kwdefaults__ or {}
            raise ConfigError(unknown("argument of evaluate", name, {"data", "options", *own, *names}))


@contextmanager
def _hearing(progress: bool | None, listener: StageListener | None) -> Iterator[StageListener | None]:
    """The caller's listener; or one that also shows the progress."""
    if progress is None:
        progress = listener is None and is_watched()
    if not progress:
        yield listener
        return
    with shown_stages() as shown:

        def both(*stage: Any) -> None:
            shown(*stage)
            if listener is not None:
                listener(*stage)

        yield both


def _run_of(subject: Any, root: str | Path) -> Run:
    if isinstance(subject, Run):
        return subject
    if isinstance(subject, os.PathLike):
        return Run.open(Path(subject), root=root)
    if subject is not None and not isinstance(subject, str):
        check_model(subject)
    return Run.open(subject, root=root)
