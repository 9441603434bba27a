"""From a run folder back to the run's model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from .. import data
from ..config import of_run
from ..config.parts import loading
from ..config.recipe import Recipe
from ..data import Dataset
from ..data.own import is_path
from ..data.values import Values
from ..errors import ConfigError, DataError, RunError
from ..model import LatentVariableModel
from ..rng import seeded
from ..store import Checkpoint, Run
from ..training import find_device


def load(
    run: Run | str | Path | None = None,
    *,
    weights: str = "best",
    device: str = "cpu",
    root: Path | str = "runs",
    trust: bool = False,
) -> LatentVariableModel:
    """The model of a run, in evaluation mode.

    Arguments:
        run: A run, its folder or name; the newest run by default.
        weights: "best" by validation, for which the last stand in until an epoch has ended; or "last".
        device: Where to put it.
        root: Where run folders are.
        trust: Import parts by path.

    Raises:
        RunError: no such run, no weights yet, or weights that do not fit the config.
    """
    run = run if isinstance(run, Run) else Run.open(run, root=root)
    if weights not in ("best", "last"):
        raise ConfigError(f"weights must be 'best' or 'last', got {weights!r}")
    kind: Any = weights if weights == "last" or run.has_checkpoint("best") else "last"
    facts = _data_facts(run)
    tensors = _weights(run.load_checkpoint(kind))
    recipe = Recipe.resolve(of_run(run), trust)
    if not recipe.has_own_code:
        check_shapes(run, recipe, tensors, **facts)
    with seeded(torch.Generator().manual_seed(0)):
        model = recipe.model(**facts)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(
            f"the weights of {run.path} do not fit its config: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.to(find_device(device)).eval()


def data_of(run: Run) -> Dataset:
    """The data set that a run was trained on, in the splits that it was trained with.

    Raises:
        DataError: the files are not there, or are others than those the run was trained on: what is held out would be
            drawn anew, with rows that the run has learned from.
    """
    section = of_run(run).data
    by_path = section.name not in data.NAMES and is_path(section.name)
    try:
        found = data.load(**loading(section, values_of_run(run)))
    except DataError as error:
        raise DataError(f"{error} (run {run.name} was trained on it)" if by_path else str(error)) from error
    if by_path and found.checksum != run.recorded("data", "checksum"):
        before = run.environment.get("data", {}).get("images", {})
        counts = f", {sum(before.values())} rows," if isinstance(before, dict) and before else ""
        now = sum(map(len, found.splits.values()))
        raise DataError(
            f"the files of {section.name} ({now} rows) are not those{counts} that run {run.name} was trained on, and "
            "what it was not trained on cannot be told any more; bring them back, or name data to take all of them",
            mend=("data",),
        )
    return found


def values_of_run(run: Run) -> Values:
    """What the numbers in the data of a run mean; the first runs do not say so, and are of pixels."""
    facts = run.environment.get("data")
    values: Any = facts.get("values") if isinstance(facts, Mapping) else None
    return values if values in get_args(Values) else "pixels"


def check_shapes(run: Run, recipe: Recipe, weights: Mapping[str, Tensor], **data_facts: Any) -> None:
    """Compare the weights of a run with what its config asks for, before there is memory for that.

    Raises:
        RunError: they differ.
    """
    wanted = recipe.shapes(**data_facts)
    present = {name: tensor.shape for name, tensor in weights.items()}
    if wanted is not None and wanted != present:
        name = next(name for name in [*wanted, *present] if wanted.get(name) != present.get(name))
        sizes = [tuple(some[name]) if name in some else "nothing" for some in (present, wanted)]
        raise RunError(f"the weights of {run.path} do not fit its config: {name} is {sizes[0]} instead of {sizes[1]}")


def _data_facts(run: Run) -> dict[str, Any]:
    """The shape of a run's data and the number of their classes.

    Raises:
        RunError: environment.json does not say them.
    """
    shape = run.recorded("data", "shape", kind=list)
    num_classes = run.recorded("data", "num_classes", kind=int)
    if not shape or not all(type(n) is int and n > 0 for n in (*shape, num_classes)):
        raise RunError(f"{run.path}/environment.json is damaged: the shape of its data is {shape!r:.200}")
    return {"event_shape": tuple(shape), "num_classes": num_classes}


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    tensors = checkpoint.tensors.items()
    return {name.removeprefix("model/"): tensor for name, tensor in tensors if name.startswith("model/")}
