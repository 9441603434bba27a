"""`vaekit.fit`: train your own model, with the progress shown and, on request, by the recipe of a preset.

Not for: the loop itself (`training.loop`), or a run folder (`preset`).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..config import Fit, Train, parse, read
from ..config.recipe import Recipe
from ..config.synonyms import OTHER_NAMES
from ..data import Batches, Dataset
from ..data.given_data import RowFormat
from ..data.loader_factory import LoaderFactory
from ..errors import ConfigError, unknown
from ..model import LatentVariableModel, check_model
from ..objectives import Loss, as_loss, elbo
from ..objectives.schedules import LearningRateSchedule
from ..store import Checkpoint, Run
from ..training import Listener, Record, TrainingPlan, train_epochs
from ..training.listener import Listeners
from ..training.optimizers import adam
from ..training.precision import find_precision
from ..training.ranks import joined_ranks
from .lifecycle import ending_recorded
from .terminal import is_watched, training_progress

_ELSEWHERE = {  # what to do instead of setting an option that only runs have
    "device": "move the model first: model.to('cuda')",
    "seed": "call torch.manual_seed(…) first",
    "threads": "call torch.set_num_threads(…) first",
    "deterministic": "call torch.use_deterministic_algorithms(True) first",
}


def fit(
    model: LatentVariableModel,
    train: Any,
    validation: Any = None,
    *,
    preset: str | None = None,
    objective: Callable[..., Any] | None = None,
    optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer] | None = None,
    schedule: LearningRateSchedule | None = None,
    options: Fit | None = None,
    run: Run | None = None,
    resume: Checkpoint | None = None,
    listener: Listener | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> list[Record]:
    """Train a model: minimise the mean of a loss over the rows of every batch.

    Afterwards the model holds the weights of the best validation, or the last ones without validation. Within
    `with vaekit.training.joined():` all ranks that torchrun has started train it together.

    >>> import torch, vaekit
    >>> model = vaekit.build("vae", event_shape=(1, 8, 8), latent_size=2)
    >>> records = vaekit.fit(model, torch.rand(100, 1, 8, 8), epochs=2)
    >>> [record["epoch"] for record in records]
    [1, 2]

    Arguments:
        model: Any latent-variable model, on the device to train on.
        train: The training rows; bytes are pixels, x / 255, unless the likelihood takes counts. One of:
            a tensor or an array (N, *event), or (M, B, *event), which is M batches;
            `(x, labels)`, where labels are None or classes (N,). A conditional model also takes a context (N, C). Two
            tensors of the same number of dimensions are otherwise two batches;
            a `Split`; a `Dataset`, its name or its path, which also give a validation split;
            a frame, or (frame, labels), for the model of a table;
            a data set of torch, or a list, if its first item is a row: x, (x, label) or a mapping;
            anything else to iterate over: a loader, whose items are batches.
        validation: The validation rows, as for `train`. Their loss after every epoch chooses the best weights.
        preset: A preset that gives the objective, the optimizer, the schedule and the section [train]; by default the
            ELBO, Adam and `config.Fit`, in float32. The model and the data stay as they are.
        objective: A function of a `Draw` that returns (B,) nats to be maximised, or any `objectives.Loss`; by default
            the preset's, or the ELBO.
        optimizer: An optimizer, or a function that makes one from the parameters to train, such as
            `partial(torch.optim.SGD, lr=0.1)`; by default the preset's, or Adam.
        schedule: A factor on the optimizer's learning rate; by default the preset's, or none.
        options: A `config.Fit`, instead of a preset.
        run: A folder for metrics and checkpoints, as `Run.create(…)` makes it. Afterwards it is finished, failed or
            interrupted. It has no recipe: its weights load into a model by
            `model.load_state_dict(run.load_checkpoint("best").part("model"))`.
        resume: The last checkpoint of `run`, to continue from.
        listener: A listener to the progress.
        progress: Whether to show the progress on stderr; by default in a terminal and in a notebook, unless there is a
            `listener`.
        settings: Fields of `config.Fit`, which override `options` and the preset: `epochs=3, learning_rate=1e-3`.

    Returns:
        One record for each epoch: means over its rows by name, means over the validation rows, and timings.

    Raises:
        ConfigError: `model` is not a model, the preset or a setting is unknown or out of range, or the arguments do not
            fit together.
        DataError: The data have another shape than the model's, or values without a density under the likelihood.
        NumericalError: The loss, a gradient or a weight is not finite, or the rate explodes; the model then holds the
            state at the last check that passed.
        Interrupted: Ctrl-C, SIGTERM or a closed terminal stopped it; the step was finished.
    """
    check_model(model)
    if not isinstance(run, Run | None):
        raise ConfigError(f"run is a vaekit.Run, as Run.create(…) gives it, got {type(run).__name__}")
    ranks = joined_ranks()
    _check_settings(settings)
    recipe = None
    if preset is not None:
        if options is not None:
            raise ConfigError(
                "preset and options both say how to train; leave one out, or pass fields such as epochs=3"
            )
        recipe = Recipe.resolve(read(preset, sections={"train": settings}))
        options = recipe.config.train.for_fit()
    options = _with_settings(options, settings, model)
    if optimizer is not None:
        _check_learning_rate(optimizer, options, asked=preset is None or "learning_rate" in settings)
    batches, validating = _loaders(model, train, validation, options, own_size="batch_size" in settings)
    if recipe is not None:
        objective = _objective(recipe, model, train, batches) if objective is None else objective
        optimizer = partial(recipe.optimizer, model=model) if optimizer is None else optimizer
        schedule = recipe.schedule() if schedule is None else schedule
    plan = TrainingPlan(
        as_loss(elbo if objective is None else objective),
        partial(adam, learning_rate=options.learning_rate) if optimizer is None else optimizer,
        schedule,
        options,
    )
    visible = listener is None and is_watched() and not ranks.rank if progress is None else progress
    with training_progress(options.known_epochs) if visible else nullcontext() as screen:
        if screen is not None:
            screen.begin(_description(model, number_of_rows(batches), options))
        both = Listeners([screen, listener])
        with nullcontext() if run is None else ending_recorded(run):
            return train_epochs(model, plan, batches, validating, run=run, resume=resume, listener=both, ranks=ranks)


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Check settings, before a preset adds its own.

    Raises:
        ConfigError: A setting is unknown (the nearest one is named) or out of range, or only a run can follow it.
    """
    for name in settings:
        if name in _ELSEWHERE:
            raise ConfigError(f"fit has no {name}; {_ELSEWHERE[name]}")
        if name not in Fit.model_fields:
            section, _, meant = OTHER_NAMES.get(name, "").partition(".")
            if section == "train":
                raise ConfigError(f"unknown argument of fit {name!r}; did you mean {meant!r}?")
            raise ConfigError(unknown("argument of fit", name, [*Fit.model_fields, *(fit.__kwdefaults__ or {})]))
    _parsed(settings)


def _parsed(settings: Mapping[str, Any]) -> Fit:
    """Options of these settings. Errors name the arguments of `fit`, not the keys of a config."""
    try:
        return parse({"train": dict(settings)}, "fit").train.for_fit()
    except ConfigError as error:
        names = "|".join(Fit.model_fields)
        raise error.with_message(re.sub(rf"\btrain\.(?=(?:{names})\b)", "", str(error))) from None


def _with_settings(options: Fit | None, settings: Mapping[str, Any], model: LatentVariableModel) -> Fit:
    """Options with settings on top, checked; the precision "auto" becomes the model's.

    Arguments:
        options: The options; the defaults if None.
        settings: The settings.
        model: The model.

    Raises:
        ConfigError: A setting is out of range, or the options are of another type.
    """
    if not isinstance(options, Fit | None):
        raise ConfigError(
            f"options is a config.Fit, got {type(options).__name__}; or pass its fields, such as epochs=3"
        )
    if isinstance(options, Train):
        raise ConfigError("fit has no seed, device or threads; pass a config.Fit, as Train.for_fit() gives it")
    options = options or Fit()
    merged = {"precision": options.precision} | options.model_dump(exclude_unset=True) | dict(settings)
    valid = _parsed(merged)
    return valid.model_copy(update={"precision": find_precision(valid.precision, model)})


def _check_learning_rate(optimizer: Any, options: Fit, *, asked: bool) -> None:
    """Check that a learning rate in the options is the optimizer's own.

    Arguments:
        optimizer: The caller's optimizer, or a function that makes it.
        options: The options.
        asked: Whether the caller has set the options.

    Raises:
        ConfigError: The optimizer has another learning rate, or is made by a function that does not tell it.
    """
    if not asked or "learning_rate" not in options.model_fields_set:
        return
    if not isinstance(optimizer, Optimizer | partial | type):
        raise ConfigError(
            f"learning_rate = {options.learning_rate} is Adam's, and the optimizer's own cannot be read from this "
            "function; leave learning_rate out"
        )
    groups = optimizer.param_groups if isinstance(optimizer, Optimizer) else [getattr(optimizer, "keywords", {})]
    if all(group.get("lr") != options.learning_rate for group in groups):
        raise ConfigError(
            f"learning_rate = {options.learning_rate} is Adam's, and the optimizer has its own; set it there: "
            "partial(torch.optim.SGD, lr=0.1)"
        )


def _loaders(
    model: LatentVariableModel, train: Any, validation: Any, options: Fit, *, own_size: bool
) -> tuple[Iterable[Any], Iterable[Any] | None]:
    """Loaders of the training and validation data.

    Raises:
        ConfigError: `batch_size` is set for a loader, which makes its own batches.
        DataError: No loader can be made of the data.
    """
    factory = LoaderFactory(RowFormat.of(model), options.batch_size, model.device)
    training, validating = factory.loaders(train, validation)
    if own_size and (training is train or isinstance(training, list)):  # a list of batches out of one tensor
        raise ConfigError(f"batch_size is for rows; this {type(train).__name__} is a loader and makes its own batches")
    return training, validating


def _objective(recipe: Recipe, model: LatentVariableModel, train: Any, batches: Iterable[Any]) -> Loss:
    """The objective of a preset.

    Raises:
        ConfigError: The objective depends on the number of rows, or on further rows, which the loader does not give.
    """
    rows = number_of_rows(batches)
    if recipe.needs_dataset_size and rows is None:
        raise ConfigError(
            f"the objective {recipe.config.objective.name!r} depends on the number of rows, which "
            f"{type(train).__name__} does not tell; pass a tensor, a Split or a Dataset as train"
        )
    seen = batches if isinstance(batches, Batches) else None
    if recipe.needs_batches and seen is None:
        raise ConfigError(
            f"the objective {recipe.config.objective.name!r} looks at further rows in every step, which a "
            f"{type(train).__name__} does not give; pass (x, labels), a Split or a Dataset as train"
        )
    made_of = model.made_of or {}
    classes = train.num_classes if isinstance(train, Dataset) else made_of.get("num_classes", model.context_size)
    return recipe.loss(model, dataset_size=rows or 0, num_classes=classes, batches=seen)


def number_of_rows(loader: Iterable[Any]) -> int | None:
    """The number of rows of a loader; None where only a pass over the loader would tell."""
    if isinstance(loader, Batches):
        return loader.num_rows
    for attribute in ("sampler", "dataset"):  # of a loader of torch
        rows: Any = getattr(loader, attribute, None)
        if hasattr(rows, "__len__"):
            return len(rows)
    return None


def _description(model: LatentVariableModel, rows: int | None, options: Fit) -> list[str]:
    """The model, the number of rows, the device and the precision, a few words each."""
    counted = [] if rows is None else [f"{rows:,} rows"]
    return [
        f"{type(model).__name__}: {model.num_parameters:,} weights",
        *counted,
        f"{model.device} {options.precision}",
    ]
