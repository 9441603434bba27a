"""Priors p(z | c): modules that return a distribution with event shape (Z,) and batch shape () or (B,).

Flows come with their first use, because they import zuko.

| file | what |
|---|---|
| `base` | the contract |
| `normal`, `mixture`, `full_covariance`, `fitting` | normals, mixtures of them, and how one is fitted |
| `vamp` | the VampPrior |
| `flows` | flows |
| `hierarchical`, `ladder_priors` | several levels |
| `categorical`, `code_priors` | discrete latents; grids of codes |
| `on_curved_spaces` | the sphere and the Poincaré ball |
| `second_stage` | a second VAE over the latents |
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .base import Prior
from .categorical import BernoulliPrior, CategoricalPrior
from .code_priors import AutoregressiveCodesPrior, UniformCodesPrior
from .fitting import fit_mixture
from .full_covariance import FullCovarianceNormalMixture
from .hierarchical import HierarchicalPrior
from .ladder_priors import LadderPrior, TopDownPrior
from .mixture import NormalMixture
from .normal import LearnedNormal, StandardNormal
from .on_curved_spaces import UniformSpherePrior, WrappedNormalPrior
from .second_stage import SecondStagePrior
from .vamp import VampPrior

if TYPE_CHECKING:
    from .flows import MAFPrior, NSFPrior

__all__ = [
    "AutoregressiveCodesPrior",
    "BernoulliPrior",
    "CategoricalPrior",
    "FullCovarianceNormalMixture",
    "HierarchicalPrior",
    "LadderPrior",
    "LearnedNormal",
    "MAFPrior",
    "NSFPrior",
    "NormalMixture",
    "Prior",
    "SecondStagePrior",
    "StandardNormal",
    "TopDownPrior",
    "UniformCodesPrior",
    "UniformSpherePrior",
    "VampPrior",
    "WrappedNormalPrior",
    "fit_mixture",
]

_FLOW_PRIORS = ("MAFPrior", "NSFPrior")


def __getattr__(name: str) -> object:
    if name in _FLOW_PRIORS:
        return getattr(import_module(".flows", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
