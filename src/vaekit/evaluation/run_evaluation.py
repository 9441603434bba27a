"""Evaluate a run: load its data, reuse finished batches, write all results into its folder."""

from dataclasses import replace
from typing import Any

from .. import plot
from ..errors import ConfigError, RunError, is_whole
from ..model import LatentVariableModel
from ..runs.model_weights import checkpoint_of, other_weights, weights_sha256
from ..runs.restore import RestoredRun
from ..store import Run
from ..store.metrics import ROWS_KEY
from ..store.tensors import pack, sha256
from .batch_cache import RunCaches
from .evaluation_file import PER_ROW, WEIGHTS, Evaluation, RowSelection
from .measure_contract import Options
from .model_evaluation import evaluate_model
from .values import StageListener


def evaluate_run(
    run: Run | RestoredRun,
    model: LatentVariableModel,
    options: Options | None = None,
    *,
    data_name: str | None = None,
    listener: StageListener | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate the model of a run; write `evaluation.json`, numbers of each row and pictures into the run folder.

    An evaluation of some rows, of another split or of other data has files of its own, such as
    `evaluation-validation-100-rows.json` or `evaluation-on-photos-1a2b3c4d.json`, where 1a2b3c4d are digits of the
    data's checksum; `details["file"]` names the JSON file. Finished batches of an interrupted evaluation
    of the same weights, rows, samples and seed are reused.

    Arguments:
        run: The run; a `RestoredRun` if its config names parts by import path.
        model: The model of the run, as `vaekit.load(run)` gives it.
        options: How to evaluate; rows become binary as in the run.
        data_name: Name or path of other data; None for the run's own.
        listener: Called with the stage, the batches done and the total.
        settings: Fields of `Options`, in place of those in `options`: `samples=5000`.

    Raises:
        ConfigError, DataError: An option is wrong, the model is that of another run, or the rows do not fit the model;
            see `evaluate_model`.
        RunError: The folder cannot be written.
    """
    restored = RestoredRun.of(run)
    run, config = restored.run, restored.recipe.config
    weights, weight_warnings = _weights(run, model)
    trained_on = config.data.name
    is_own = restored.is_own(data_name)
    dataset = restored.dataset(data_name)
    options = Options.of(options, settings)
    if options.binarize not in (None, config.data.binarize):
        raise ConfigError(
            f"binarize = {options.binarize!r}, but run {run.name} was trained with data.binarize = "
            f"{config.data.binarize!r}, and is evaluated as it was trained; leave it out, or evaluate the model: "
            "evaluate(vaekit.load(run), data, binarize=…)"
        )
    options = replace(options, binarize=config.data.binarize, judge=options.judge and is_own)
    evaluation = evaluate_model(
        model,
        dataset,
        options,
        loss=restored.loss(model),
        cache_of=RunCaches(run, model),
        listener=listener,
    )
    evaluation.details[WEIGHTS] = weights
    evaluation.warnings[:0] = weight_warnings
    rows, evaluated = len(dataset.split(options.split)), evaluation.protocol[ROWS_KEY]
    selection = RowSelection(options.split, evaluated if evaluated < rows else None)
    if not is_own:
        selection = replace(selection, data=dataset.name, checksum=dataset.checksum)
    if not is_own:
        evaluation.warnings.insert(0, f"evaluated on {dataset.name}, but the run was trained on {trained_on}")
    elif restored.data_record.checksum not in ("", dataset.checksum):  # earlier versions took data without one
        evaluation.warnings.insert(0, f"the files of {trained_on!r} are not those that the run was trained on")
    before = _stored_samples(run, selection.file)
    if before > options.samples:
        evaluation.warnings.append(
            f"{selection.file} was made with {before:,} samples, and now has {options.samples:,}; samples={before} "
            "makes it again"
        )
    _write(run, evaluation, selection)
    return evaluation


def _weights(run: Run, model: LatentVariableModel) -> tuple[str | None, list[str]]:
    """The SHA-256 of a model's weights as a checkpoint has it; and a warning if they are not those of the run."""
    kind = checkpoint_of(run, model)
    return (sha256(model.state_dict()), [other_weights(run)]) if kind is None else (weights_sha256(run, kind), [])


def _stored_samples(run: Run, file: str) -> int:
    """The number of samples of a stored evaluation; 0 where none can be read."""
    try:
        samples = run.read_json(file)["protocol"]["samples"]
    except (RunError, LookupError, TypeError):
        return 0
    return samples if is_whole(samples) else 0


def _write(run: Run, evaluation: Evaluation, selection: RowSelection) -> None:
    """Write an evaluation, its numbers of each row and its pictures; name these files in its details."""
    per_row = f"evaluation/per-row{selection.suffix}.safetensors"
    run.write_bytes(per_row, pack(evaluation.per_row))
    evaluation.details[PER_ROW] = per_row
    evaluation.details["pictures"] = [
        f"samples/evaluation-{name}{selection.suffix}.png" for name in evaluation.pictures
    ]
    for name, picture in evaluation.pictures.items():
        plot.save(picture, run.picture_to_write(f"evaluation-{name}{selection.suffix}.png"))
    evaluation.details["file"] = selection.file
    run.write_json(selection.file, evaluation.to_json())
