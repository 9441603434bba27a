"""Models: any `LatentVariableModel`, the composed one, and the draw that they hand to objectives."""

from .base import Context, LatentVariableModel, check_model
from .composed import Composed
from .conditions import one_hot
from .dimensions import kl_by_dimension
from .draw import KL, Draw, Level, levels_of, no_bound
from .exchanged import WithPrior

__all__ = [
    "KL",
    "Composed",
    "Context",
    "Draw",
    "LatentVariableModel",
    "Level",
    "WithPrior",
    "check_model",
    "kl_by_dimension",
    "levels_of",
    "no_bound",
    "one_hot",
]
