"""`vaekit.fit`: train your own model, with the progress shown and, on request, by the recipe of a preset.

Not for: the loop itself (`training.loop`), or a run folder (`preset`).
"""

import inspect
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

from ..config import Fit, read
from ..config.recipe import Recipe
from ..data import Batches, Dataset
from ..errors import ConfigError
from ..model import LatentVariableModel, check_model
from ..training import Listener, Record, loop
from ..training.listener import Listeners
from .terminal import is_watched, shown

OF_THE_LOOP = {p.name for p in inspect.signature(loop.fit).parameters.values() if p.kind is p.KEYWORD_ONLY}


def fit(
    model: LatentVariableModel,
    train: Any,
    validation: Any = None,
    *,
    preset: str | None = None,
    progress: bool | None = None,
    trust: bool = False,
    **arguments: Any,
) -> list[Record]:
    """Train a model: minimise the mean of a loss over the rows of every batch.

    Afterwards the model holds the weights of the best validation, or the last ones without validation.

    >>> import torch, vaekit
    >>> model = vaekit.build("vae", event_shape=(1, 8, 8), latent_size=2)
    >>> records = vaekit.fit(model, torch.rand(100, 1, 8, 8), epochs=2)
    >>> [record["epoch"] for record in records]
    [1, 2]

    Arguments:
        model: Any latent-variable model, on the device to train on.
        train: The training rows: a tensor or array (N, *event); `(x, labels)` with classes (N,) or context rows (N, C)
            as labels; a `Split`; a `Dataset` or its name, which also give a validation split; a data set of
            torch; or a loader of batches. Bytes are pixels, x / 255, unless the likelihood takes counts.
        validation: The validation rows, as for `train`. Their loss after every epoch chooses the best weights.
        preset: A preset that gives the objective, the optimizer, the schedule and the section [train]; by default the
            ELBO, Adam and `config.Fit`, in float32. The model and the data stay as they are.
        progress: Whether to show the progress on stderr; by default in a terminal and in a notebook, unless there is a
            `listener`.
        trust: Whether to import parts by path.
        arguments: Fields of `config.Fit`, which take precedence: `epochs=3, batch_size=64, learning_rate=1e-3`. And
            arguments of `vaekit.training.fit`: `objective`, a function of a `Draw` or any `objectives.Loss`;
            `optimizer`, or a function that makes one, such as `partial(torch.optim.SGD, lr=0.1)`; `schedule`;
            `options`; `run`, a folder for metrics and checkpoints, with `resume`; `listener`; `ranks`.

    Returns:
        One record for each epoch: means over its rows by name, the same of the validation, and timings.

    Raises:
        ConfigError: `model` is not a model, the preset or a setting is unknown or out of range, or the arguments do not
            fit together.
        DataError: The data have another shape than the model's, or values without a density under the likelihood.
        NumericalError: The loss, a gradient or a weight is not finite, or the rate explodes; the model then holds the
            last state that was seen to be good.
        Interrupted: Ctrl-C, SIGTERM or a closed terminal stopped it; the step was finished.
    """
    check_model(model)
    loop_arguments = {name: arguments.pop(name) for name in OF_THE_LOOP & set(arguments)}
    recipe = None
    if preset is not None:
        if loop_arguments.get("options") is not None:
            raise ConfigError(
                "preset and options both say how to train; leave one out, or pass fields such as epochs=3"
            )
        recipe = Recipe.resolve(read(preset, sections={"train": arguments}), trust)
        loop_arguments["options"] = recipe.config.train.for_fit()
    options = loop_arguments["options"] = loop.with_settings(loop_arguments.get("options"), arguments, model)
    batches, validating = loop.loaders(model, train, validation, options, own_size="batch_size" in arguments)
    if recipe is not None:
        loop_arguments = _recipe_arguments(recipe, model, train, batches) | loop_arguments
    own_listener: Listener | None = loop_arguments.pop("listener", None)
    visible = own_listener is None and is_watched() if progress is None else progress
    with shown(options.known_epochs) if visible else nullcontext() as listener:
        if listener is not None:
            listener.begin(_facts(model, number_of_rows(batches), options))
        return loop.fit(model, batches, validating, **loop_arguments, listener=Listeners([listener, own_listener]))


def _recipe_arguments(recipe: Recipe, model: LatentVariableModel, train: Any, batches: Iterable[Any]) -> dict[str, Any]:
    """The loop's arguments from a preset, except for the options.

    Raises:
        ConfigError: The objective depends on the number of rows, which is unknown.
    """
    wiring, rows = recipe.parts["objective"].wiring, number_of_rows(batches)
    if "dataset_size" in wiring and rows is None:
        raise ConfigError(
            f"the objective {recipe.config.objective.name!r} depends on the number of rows, which "
            f"{type(train).__name__} does not tell; pass a tensor, a Split or a Dataset as train"
        )
    seen = batches if isinstance(batches, Batches) else None
    made_of = model.made_of or {}
    classes = train.num_classes if isinstance(train, Dataset) else made_of.get("num_classes", model.context_size)
    return {
        "objective": recipe.loss(model, dataset_size=rows or 0, num_classes=classes, batches=seen),
        "optimizer": partial(recipe.optimizer, model=model),
        "schedule": recipe.schedule(),
    }


def number_of_rows(loader: Iterable[Any]) -> int | None:
    """How many rows a loader has; None where only a pass over it would tell."""
    if isinstance(loader, Batches):
        return loader.num_rows
    rows: Any = getattr(loader, "dataset", None)  # of a loader of torch
    return len(rows) if hasattr(rows, "__len__") else None


def _facts(model: LatentVariableModel, rows: int | None, options: Fit) -> list[str]:
    """The model, the number of rows, the device and the precision, a few words each."""
    counted = [] if rows is None else [f"{rows:,} rows"]
    return [
        f"{type(model).__name__}: {model.num_parameters:,} weights",
        *counted,
        f"{model.device} {options.precision}",
    ]
