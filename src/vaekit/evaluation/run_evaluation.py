"""Evaluate a run: load its data, reuse finished batches, write all results into its folder."""

from dataclasses import replace
from typing import Any

from .. import plot
from ..errors import ConfigError, RunError, is_whole
from ..model import LatentVariableModel
from ..objectives import Loss, module_of
from ..runs.model_weights import checkpoint_of, other_weights, weights_sha256
from ..runs.restore import RestoredRun
from ..store import Run
from ..store.checkpoint import CheckpointKind
from ..store.metrics import ROWS_KEY
from ..store.tensors import pack, sha256
from .batch_cache import RunCaches
from .evaluation_file import PER_ROW, WEIGHTS, Evaluation, RowSelection
from .latent_space.classified import HasClassifier
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

    An evaluation of some rows, of another split, of other data or of other weights than the best has files of its own,
    such as `evaluation-validation-100-rows.json`, `evaluation-on-photos-1a2b3c4d.json`, where 1a2b3c4d are digits of
    the data's checksum, `evaluation-last.json` or, of weights of no checkpoint, `evaluation-weights-1a2b3c4d.json`;
    `details["file"]` names the JSON file. Finished batches of an interrupted evaluation of the same weights, rows,
    samples and seed are reused.

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
    kind = checkpoint_of(run, model)
    checksum = sha256(model.state_dict()) if kind is None else weights_sha256(run, kind)
    loss, loss_warnings = _loss(restored, model, kind)
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
    samples_wanted = options.judge
    options = replace(options, binarize=config.data.binarize, judge=samples_wanted and is_own)
    evaluation = evaluate_model(model, dataset, options, loss=loss, cache_of=RunCaches(run, model), listener=listener)
    evaluation.details[WEIGHTS] = checksum
    evaluation.warnings[:0] = loss_warnings
    rows, evaluated = len(dataset.split(options.split)), evaluation.protocol[ROWS_KEY]
    weights = _name_of_weights(run, kind, checksum)
    selection = RowSelection(options.split, evaluated if evaluated < rows else None, weights=weights)
    if not is_own:
        selection = replace(selection, data=dataset.name, checksum=dataset.checksum)
        evaluation.warnings.insert(0, f"evaluated on {dataset.name}, but the run was trained on {trained_on}")
        if samples_wanted:
            evaluation.details["samples"] = "not judged: samples are compared with the run's own data only"
    elif restored.data_record.checksum not in ("", dataset.checksum):  # earlier versions took data without one
        evaluation.warnings.insert(0, f"the files of {trained_on!r} are not those that the run was trained on")
    evaluation.warnings += _fewer_samples(run, selection.file, options.samples)
    _write(run, evaluation, selection)
    return evaluation


def _loss(
    restored: RestoredRun, model: LatentVariableModel, kind: CheckpointKind | None
) -> tuple[Loss | None, list[str]]:
    """The loss that was saved with the weights of a model; and warnings if no checkpoint has these weights."""
    loss = restored.loss(model, weights=kind or "best")
    if kind is not None:
        return loss, []
    if not isinstance(module_of(loss), HasClassifier):
        return loss, [other_weights(restored.run)]
    unmeasured = "so the error of the classifier that was trained with the run's own weights is not measured"
    return None, [f"{other_weights(restored.run)}, {unmeasured}"]


def _name_of_weights(run: Run, kind: CheckpointKind | None, checksum: str | None) -> str:
    """The name of weights in file names; "" for the best, which are the last where a run has no others."""
    if kind is None:
        return f"weights-{str(checksum)[:8]}"
    return "last" if kind == "last" and run.has_checkpoint("best") else ""


def _fewer_samples(run: Run, file: str, samples: int) -> list[str]:
    """A warning if the stored evaluation in this file has more samples than the new one."""
    try:
        before = run.read_json(file)["protocol"]["samples"]
    except (RunError, LookupError, TypeError):
        return []
    if not is_whole(before) or before <= samples:
        return []
    return [f"{file} was made with {before:,} samples, and now has {samples:,}; samples={before} makes it again"]


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
