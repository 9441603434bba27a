"""Variational autoencoders: networks × posterior × prior × likelihood × objective.

Names are imported on first use, so `import vaekit` and `vae --help` cost nothing.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import data, distributions, errors, likelihoods, nets, objectives, plot, posteriors, priors
    from .config import presets
    from .config.building import build
    from .config.inspection import check
    from .course import CVAE, VAE, hello_vae, loss_function, reparametrize
    from .errors import VAEError
    from .evaluation import evaluate
    from .explorer import explore
    from .hub import export, load
    from .model import Composed, Draw, LatentLevel, LatentVariableModel, one_hot
    from .objectives import OfDraw, elbo, iwae, schedules
    from .runs.own_model import fit
    from .runs.preset import resume, train
    from .store import Run, list_runs

__version__ = "0.1.0"

__all__ = [
    "CVAE",
    "VAE",
    "Composed",
    "Draw",
    "LatentLevel",
    "LatentVariableModel",
    "OfDraw",
    "Run",
    "VAEError",
    "build",
    "check",
    "data",
    "distributions",
    "elbo",
    "errors",
    "evaluate",
    "explore",
    "export",
    "fit",
    "hello_vae",
    "iwae",
    "likelihoods",
    "list_runs",
    "load",
    "loss_function",
    "nets",
    "objectives",
    "one_hot",
    "plot",
    "posteriors",
    "presets",
    "priors",
    "reparametrize",
    "resume",
    "schedules",
    "train",
]

_MODULE_OF = {
    "config": ("presets",),
    "config.inspection": ("check",),
    "config.building": ("build",),
    "course": ("CVAE", "VAE", "hello_vae", "loss_function", "reparametrize"),
    "errors": ("VAEError",),
    "evaluation": ("evaluate",),
    "explorer": ("explore",),
    "hub": ("export", "load"),
    "model": ("Composed", "Draw", "LatentVariableModel", "LatentLevel", "one_hot"),
    "objectives": ("OfDraw", "elbo", "iwae", "schedules"),
    "runs.own_model": ("fit",),
    "runs.preset": ("resume", "train"),
    "store": ("Run", "list_runs"),
}
_HOME = {name: module for module, names in _MODULE_OF.items() for name in names}


def __getattr__(name: str) -> object:
    """A public name, or a folder such as `vaekit.config`, which messages and documents name."""
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if not name.startswith("_") and find_spec(f".{name}", __name__) is not None:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
