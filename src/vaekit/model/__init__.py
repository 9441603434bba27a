"""Models: any `LatentVariableModel`, the composed one, and the draw that they hand to objectives.

| file | what |
|---|---|
| `base` | `LatentVariableModel`: three methods, and what follows from them |
| `inputs` | a caller's rows and context, as a model takes them |
| `weight_files` | weights and config in one file |
| `composed` | a model of a posterior, a prior and a likelihood |
| `with_prior` | a trained model with another prior |
| `draw` | one pass of data through a model, as a record |
| `dimensions` | the rate by latent dimension |
| `elbo_terms` | the terms of the ELBO in a record of an epoch |
| `conditions` | contexts, from classes, labels or numbers |
| `exportable` | encoder and decoder as modules to export |
| `modes` | evaluation mode for the length of a block |
"""

from .base import LatentVariableModel, check_model
from .composed import Composed
from .conditions import one_hot
from .dimensions import kl_by_dimension
from .draw import KL, Draw, LatentLevel, levels_of
from .inputs import Context
from .with_prior import WithPrior

__all__ = [
    "KL",
    "Composed",
    "Context",
    "Draw",
    "LatentLevel",
    "LatentVariableModel",
    "WithPrior",
    "check_model",
    "kl_by_dimension",
    "levels_of",
    "one_hot",
]
