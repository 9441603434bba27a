"""Groups of parameters for an optimizer: parts of a model may want another learning rate, or no weight decay."""

from collections.abc import Sequence
from typing import Any

from torch import nn


def by_part(model: nn.Module, parameters: Sequence[nn.Parameter], learning_rate: float) -> Sequence[Any]:
    """The parameters; in groups if a part of the model wants another learning rate or no weight decay.

    Arguments:
        model: The model; its parts may have `learning_rate_factor` and `decays`.
        parameters: The trained parameters.
        learning_rate: Learning rate of the other parts.
    """
    special = [
        m for m in model.modules() if getattr(m, "learning_rate_factor", 1.0) != 1 or not getattr(m, "decays", True)
    ]
    if not special:
        return parameters
    special_of = {id(p): m for m in special for p in m.parameters(recurse=False)}
    groups: list[dict[str, Any]] = [{"params": [p for p in parameters if id(p) not in special_of]}]
    for m in special:
        group: dict[str, Any] = {"params": [p for p in parameters if special_of.get(id(p)) is m]}
        group["lr"] = learning_rate * float(getattr(m, "learning_rate_factor", 1.0))
        if not getattr(m, "decays", True):
            group["weight_decay"] = 0.0
        groups.append(group)
    return groups
