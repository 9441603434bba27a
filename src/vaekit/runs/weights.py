"""Models with stored weights, which take no memory before they are known to fit.

Not for: where the weights are stored (`store.checkpoint`, `hub.folders`).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..config.recipe import Recipe
from ..errors import RunError
from ..model import LatentVariableModel
from ..rng import seeded

SLACK = 64 << 20  # bytes of a checkpoint beside the weights and what is proportional to them


def most_bytes(recipe: Recipe, model: LatentVariableModel) -> int | None:
    """The bytes that a checkpoint of a training may have; None where code of the caller's own may add parts to it."""
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    return None if recipe.has_own_code else SLACK + 16 * weights


def shapes_of(recipe: Recipe, wiring: Mapping[str, Any]) -> dict[str, torch.Size] | None:
    """The shapes of a model's weights by name; None where only building it would tell, as of the caller's own code."""
    return None if recipe.has_own_code else recipe.shapes(**wiring)


def filled(
    recipe: Recipe,
    wiring: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    shapes: Mapping[str, torch.Size] | None,
    misfit: str,
) -> LatentVariableModel:
    """The model that a recipe describes, with stored weights.

    Arguments:
        recipe: The config, resolved.
        wiring: What `DataFacts.wiring` gives.
        weights: The weights by name.
        shapes: What `shapes_of` gives. They are compared with the weights before there is memory for the model.
        misfit: The beginning of the message where the weights do not fit.

    Raises:
        RunError: The weights do not fit the model.
    """
    present = {name: tensor.shape for name, tensor in weights.items()}
    if shapes is not None and shapes != present:
        name = next(name for name in [*shapes, *present] if shapes.get(name) != present.get(name))
        sizes = [tuple(some[name]) if name in some else "nothing" for some in (present, shapes)]
        raise RunError(f"{misfit}: {name} is {sizes[0]} instead of {sizes[1]}")
    with seeded(torch.Generator().manual_seed(0)):
        model = recipe.model(**wiring)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"{misfit}: {str(error).splitlines()[-1].strip()}") from None
    return model
