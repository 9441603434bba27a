"""Models and their stored weights; a model takes no memory before its weights are known to fit.

Not for: where the weights are stored (`store.checkpoint`, `hub.folders`).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..config.recipe import Recipe
from ..errors import ConfigError, RunError
from ..model import LatentVariableModel
from ..rng import seeded
from ..store import Run, checkpoint
from ..store.checkpoint import CheckpointKind

SLACK = 64 << 20  # bytes of a checkpoint that do not grow with the weights


def most_bytes(recipe: Recipe, model: LatentVariableModel) -> int | None:
    """The most bytes of a training's checkpoint; None if the config names parts by import path, which may add parts."""
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    return None if recipe.has_own_code else SLACK + 16 * weights


def shapes_of(recipe: Recipe, wiring: Mapping[str, Any]) -> dict[str, torch.Size] | None:
    """The shapes of a model's weights by name; None if the config names parts by import path."""
    return None if recipe.has_own_code else recipe.shapes(**wiring)


def build_with_weights(
    recipe: Recipe,
    wiring: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    shapes: Mapping[str, torch.Size] | None,
    misfit: str,
) -> LatentVariableModel:
    """The model that a recipe describes, with stored weights.

    Arguments:
        recipe: The config, resolved.
        wiring: The wiring of the parts, `DataRecord.wiring`.
        weights: The weights by name.
        shapes: The result of `shapes_of`; it is compared with the weights before there is memory for the model.
        misfit: The beginning of the message where the weights do not fit.

    Raises:
        RunError: The weights do not fit the model.
    """
    present = {name: tensor.shape for name, tensor in weights.items()}
    if shapes is not None and shapes != present:
        name = next(name for name in [*shapes, *present] if shapes.get(name) != present.get(name))
        sizes = [tuple(by_name[name]) if name in by_name else "nothing" for by_name in (present, shapes)]
        raise RunError(f"{misfit}: {name} is {sizes[0]} instead of {sizes[1]}")
    with seeded(torch.Generator().manual_seed(0)):
        model = recipe.model(**wiring)
    if {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.float64}:
        model.double()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"{misfit}: {str(error).splitlines()[-1].strip()}") from None
    return model


def weights_sha256(run: Run, kind: CheckpointKind = "best") -> str | None:
    """SHA-256 of the file with the weights of a checkpoint, as its manifest has it; None if no manifest can be read.

    Arguments:
        run: The run.
        kind: "last", or "best" (the last where there is no best).
    """
    return checkpoint.sha256_of(run.path / "checkpoints", kind if run.has_checkpoint(kind) else "last", "model")


def check_weights(run: Run, model: LatentVariableModel) -> list[str]:
    """Check that a model is that of a run.

    Returns:
        A warning if its weights are neither the best nor the last of the run: they may be so on purpose.

    Raises:
        ConfigError: The model is another one.
    """
    return [] if checkpoint_of(run, model) else [other_weights(run)]


def other_weights(run: Run) -> str:
    """The warning about a model that has neither the best nor the last weights of a run."""
    return f"the weights of this model are not those of run {run.name}"


def checkpoint_of(run: Run, model: LatentVariableModel) -> CheckpointKind | None:
    """The checkpoint of a run that has the weights of a model, "best" or "last"; None if neither has.

    Arguments:
        run: The run.
        model: The model, as `load` gives it.

    Raises:
        ConfigError: The model is another one.
    """
    tensors = model.state_dict()
    kinds: tuple[CheckpointKind, ...] = ("best", "last")
    for kind in kinds:
        if not run.has_checkpoint(kind):
            continue
        stored = run.load_checkpoint(kind, parts=("model",)).part("model")
        if {name: tensor.shape for name, tensor in tensors.items()} != {
            name: tensor.shape for name, tensor in stored.items()
        }:
            raise ConfigError(
                f"this is not the model of run {run.name}, whose weights have other names or shapes; pass "
                f"vaekit.load({str(run.path)!r}), or evaluate a model on its own: evaluate(model, data)"
            )
        if all(torch.equal(tensor.cpu(), stored[name].to(tensor.dtype)) for name, tensor in tensors.items()):
            return kind
    return None
