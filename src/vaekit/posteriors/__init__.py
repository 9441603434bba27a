"""Posteriors q(z | x, c): modules that return a distribution with batch shape (B,) and the latents' event shape.

Flows come with their first use, because they import zuko.

| file | what |
|---|---|
| `base` | the contract |
| `normal`, `deterministic` | normal; no noise |
| `flows` | normal, bent by a flow |
| `hierarchical`, `ladder` | several levels, drawn upwards or downwards |
| `discrete` | bits and one-hot variables |
| `quantized`, `vector_quantized` | grids of codes, fixed or learned |
| `curved_spaces` | the sphere and the Poincaré ball |
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .base import FromFeatures, MeanAndVariance, Posterior
from .curved_spaces import PowerSphericalPosterior, WrappedNormalPosterior
from .deterministic import Deterministic
from .discrete import BernoulliPosterior, CategoricalPosterior, GumbelSoftmaxPosterior
from .hierarchical import HierarchicalPosterior
from .ladder import LadderPosterior, TopDownPosterior
from .normal import DiagonalNormal, FullCovarianceNormal
from .quantized import CodesPosterior, FSQPosterior
from .vector_quantized import VQPosterior

if TYPE_CHECKING:
    from .flows import IAFPosterior, NSFPosterior, PlanarPosterior

__all__ = [
    "BernoulliPosterior",
    "CategoricalPosterior",
    "CodesPosterior",
    "Deterministic",
    "DiagonalNormal",
    "FSQPosterior",
    "FromFeatures",
    "FullCovarianceNormal",
    "GumbelSoftmaxPosterior",
    "HierarchicalPosterior",
    "IAFPosterior",
    "LadderPosterior",
    "MeanAndVariance",
    "NSFPosterior",
    "PlanarPosterior",
    "Posterior",
    "PowerSphericalPosterior",
    "TopDownPosterior",
    "VQPosterior",
    "WrappedNormalPosterior",
]

_FLOW_POSTERIORS = ("IAFPosterior", "NSFPosterior", "PlanarPosterior")


def __getattr__(name: str) -> object:
    if name in _FLOW_POSTERIORS:
        return getattr(import_module(".flows", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
