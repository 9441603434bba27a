"""Measure a run, by name or path, or a model on a data set.

Not for: the measurements themselves (`run_evaluation`, `model_evaluation`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import Dataset, Split
from ..errors import ConfigError, DataError
from ..model import LatentVariableModel, check_model
from ..runs.restore import RestoredRun
from ..runs.terminal import is_watched, stage_progress
from ..store import Run
from ..training import find_device
from .evaluation_file import Evaluation
from .measure_contract import Options
from .model_evaluation import evaluate_model
from .model_with_data import data_for_model
from .run_evaluation import evaluate_run
from .values import StageListener


def evaluate(
    model_or_run: Run | str | os.PathLike[str] | LatentVariableModel | None = None,
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
        model_or_run: A run, its name or folder, the newest run by default; or a model.
        data: The data set, or its name or path; a run's own by default. For a path other than the run's, all rows are
            evaluated, unless the data are split. A model also takes rows, which are all evaluated: a `Split`, a tensor
            or array (N, *event), (x, labels), or a frame of pandas if it is a model of a table.
        options: How to evaluate.
        device: Device, such as "cuda", to which a model is moved; by default the fastest one for a run, and the
            model's own for a model.
        root: Folder of all runs.
        trust: Allow parts by import path; their code is then executed.
        progress: Whether to show the progress on stderr; by default in a terminal and in a notebook, unless there is a
            `listener`.
        listener: Called with the stage, the batches done and the total.
        settings: Fields of `Options`, such as `samples=5000`.

    Raises:
        ConfigError: `model_or_run` is neither a model nor a run; a model gets no data, or data of another type; a run
            gets a data set instead of its name; or an option is unknown or wrong, see `evaluate_model` and
            `evaluate_run`.
        DataError: The rows or the classes do not fit the model.
        RunError: The run does not exist, or cannot be read or written.
        DeviceError: This machine has no such device.
    """
    options = Options.of(options, settings, beside=("data", "options", *(evaluate.__kwdefaults__ or {})))
    if isinstance(model_or_run, LatentVariableModel):
        if data is None:
            raise ConfigError("a model is evaluated on a data set: evaluate(model, vaekit.data.load('mnist'))")
        data = data_for_model(model_or_run, data)
        if not any(map(len, data.splits.values())):
            raise DataError(f"there are 0 rows to evaluate in {data.name!r}")
        model = model_or_run if device is None else model_or_run.to(find_device(device))
        with _progress_listener(progress, listener) as stages:
            return evaluate_model(model, data, options, listener=stages)
    run = _run_of(model_or_run, root)
    if data is not None and not isinstance(data, (str, os.PathLike)):
        raise ConfigError(
            f"a run is evaluated on data by name or path, got {type(data).__name__}; for these: "
            "evaluate(vaekit.load(run), data)"
        )
    name = None if data is None else os.fspath(data)
    restored = RestoredRun.of(run, trust=trust)
    model = restored.model(device=device or "auto")
    with _progress_listener(progress, listener) as stages:
        return evaluate_run(restored, model, options, data_name=name, listener=stages)


@contextmanager
def _progress_listener(progress: bool | None, listener: StageListener | None) -> Iterator[StageListener | None]:
    """The given listener, or one that also shows the progress."""
    if progress is None:
        progress = listener is None and is_watched()
    if not progress:
        yield listener
        return
    with stage_progress() as shown:

        def both(*stage: Any) -> None:
            shown(*stage)
            if listener is not None:
                listener(*stage)

        yield both


def _run_of(model_or_run: Any, root: str | Path) -> Run:
    if isinstance(model_or_run, Run):
        return model_or_run
    if isinstance(model_or_run, os.PathLike):
        return Run.open(Path(model_or_run), root=root)
    if model_or_run is not None and not isinstance(model_or_run, str):
        check_model(model_or_run)
    return Run.open(model_or_run, root=root)
