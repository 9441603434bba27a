"""Report what a part or a model lacks, before a training is started.

Not for: the trials themselves (`trial`), options of a config (`parts`) or data (`data`).
"""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import as_tensor
from ..data.batches import as_one_batch
from ..data.given_data import RowFormat
from ..data.value_kinds import value_kind_of
from ..errors import ConfigError, check_count, unknown
from ..likelihoods import Likelihood
from ..model import LatentVariableModel
from ..nets import Decoder, Encoder
from ..posteriors import Posterior
from ..priors import Prior
from ..rng import forked
from . import Config
from .building import build
from .contracts import Shape, as_shape
from .trial import Trial

CONTRACTS = {"posterior": Posterior, "prior": Prior, "likelihood": Likelihood, "encoder": Encoder, "decoder": Decoder}
# The kind of a part without a contract, by a parameter of its constructor; the first match counts.
WIRING = (("posterior", "features"), ("decoder", "out_shape"), ("encoder", "in_shape"), ("likelihood", "net"))


def check(
    part: Any,
    *,
    kind: str | None = None,
    event_shape: Shape = (1, 8, 8),
    latent_size: int = 4,
    latent_shape: Shape | None = None,
    context_size: int = 0,
    x: Tensor | None = None,
    beside: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Try a part, or a whole model, on a few rows, and say in plain words everything that is missing or wrong.

    It does not grade a student's file, as the command `vae check` does.

    A class is made, and started from training rows, as a config would do it, with default parts around it. Random
    numbers are drawn from a stream of their own, and a module is tried as a copy, on the CPU in float32: a later
    training is the same as without the check.

    Arguments:
        part: The class of an encoder, decoder, posterior, prior or likelihood; a module of one of these kinds; a model;
            or a config, or the name of a preset.
        kind: One of the five kinds, if neither base class nor constructor shows it.
        event_shape: Event shape of x.
        latent_size: Width of the latents.
        latent_shape: Event shape of the latents, for a module that takes no vectors; a class gets its posterior's.
        context_size: C; 0 for none.
        x: Rows that the likelihood has a density for, shape (N, *event_shape); by default zeros and ones.
        beside: Names of the posterior or the prior that a class is tried with: `{"posterior": "hierarchical"}`. By
            default they have latents of the same kind as the part.
        options: Options of the class; sections of the preset, as `build` takes them.

    Raises:
        ConfigError: The part lacks something; the message has one finding a line. Or the arguments do not fit together.
        DataError: x has another shape.

    >>> from vaekit.priors import StandardNormal
    >>> check(StandardNormal)
    >>> check(nn.Linear(4, 4), kind="prior")
    Traceback (most recent call last):
    vaekit.errors.ConfigError: Linear is not a prior yet:
    - prior(c) raised TypeError: linear(): argument 'input' (position 1) must be Tensor, not NoneType
    """
    if not isinstance(beside, Mapping | None):
        raise ConfigError(f"beside is a table, such as {{'posterior': 'hierarchical'}}, got {beside!r:.80}")
    check_count("context_size", context_size, 0)
    event_shape = as_shape("event_shape", event_shape)
    shape = as_shape("latent_shape", check_count("latent_size", latent_size) if latent_shape is None else latent_shape)
    trial = Trial(event_shape, shape, context_size, _rows(part, x, event_shape), dict(beside or {}))
    with torch.inference_mode(False), torch.enable_grad(), forked():
        torch.manual_seed(0)
        if isinstance(part, str | Config):
            part, options = build(part, event_shape=event_shape, num_classes=context_size or 10, **options), {}
        _check_part(part, options)
        name = part.__name__ if inspect.isclass(part) else type(part).__name__
        if isinstance(part, LatentVariableModel):
            kind = "model"
            trial.shape = part.latent_shape
            trial.event_shape = part.event_shape or trial.event_shape
            trial.context_size = part.context_size
        else:
            kind = kind or _kind_of(part)
            if kind not in CONTRACTS:
                raise ConfigError(unknown("kind of part", kind, CONTRACTS))
        with trial.reporting("a copy of it on the CPU in float32"):
            tried = copy.deepcopy(part).cpu().float() if isinstance(part, nn.Module) else part
            trial.run(kind, tried, latent_size, options)
    if trial.findings:
        raise ConfigError(
            "\n- ".join([f"{name} is not {'an' if kind == 'encoder' else 'a'} {kind} yet:", *trial.findings])
        )


def _check_part(part: Any, options: Mapping[str, Any]) -> None:
    """Check that something can be tried.

    Raises:
        ConfigError: The part is the class of a model, a module with options, or an object that cannot be called.
    """
    if inspect.isclass(part) and issubclass(part, LatentVariableModel):
        raise ConfigError(f"{part.__name__} is the class of a model; make one, and pass it: check({part.__name__}(…))")
    if isinstance(part, nn.Module) and options:
        raise ConfigError(f"options are for a class, and this {type(part).__name__} is made: {', '.join(options)}")
    if not callable(part):
        raise ConfigError(f"a part is a class, a module, or the name of a preset, got {part!r:.80}")


def _rows(part: Any, x: Any, event_shape: Shape) -> Tensor | None:
    """Rows as the part takes them.

    Raises:
        DataError: The rows have another shape, or there are 0 rows.
    """
    if x is None:
        return None
    kind = value_kind_of(part)
    rows = RowFormat(event_shape, kind).split(as_tensor(x, "x"))
    return as_one_batch(rows, value_kind=kind).x.float()


def _kind_of(part: Any) -> str:
    """The kind of a part by its base class, or by a parameter of its constructor.

    Raises:
        ConfigError: Neither shows the kind.
    """
    part_class: Any = part if inspect.isclass(part) else type(part)
    for kind, contract in CONTRACTS.items():
        if issubclass(part_class, contract):
            return kind
    wiring = set(inspect.signature(part_class).parameters)
    for kind, name in WIRING:
        if name in wiring:
            return kind
    if wiring & {"latent_size", "latent_shape", "posterior"}:
        return "prior"
    raise ConfigError(f"what is {part_class.__name__}? Say kind=, one of: {', '.join(CONTRACTS)}")
