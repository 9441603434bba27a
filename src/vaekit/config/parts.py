"""The table of parts, and how a name becomes a constructor with checked options.

A part's constructor tells wiring from options: the builder fills in positional parameters by name
(`latent_size`, `net`, `x` …), keyword-only parameters are options and come from the config. A new part is one
class and one line in a table here, or no line at all and an import path, "my_module:MyPrior".
"""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_args, get_origin, get_type_hints

import torch
from pydantic import ConfigDict, ValidationError, create_model

from ..data.by_path import is_path
from ..data.registry import DATASET_NAMES, known_as
from ..data.value_kinds import ValueKind
from ..errors import ConfigError, VAEError, unknown
from ..objectives import schedules
from . import Config, Data, Part, explain

PART_TABLE: dict[str, dict[str, str]] = {
    "encoder": {
        "conv": "vaekit.nets:ConvEncoder",
        "mlp": "vaekit.nets:MLP",
        "resnet": "vaekit.nets:ResNetEncoder",
        "table": "vaekit.nets:TableEncoder",
    },
    "decoder": {
        "conv": "vaekit.nets:ConvDecoder",
        "mlp": "vaekit.nets:MLP",
        "resnet": "vaekit.nets:ResNetDecoder",
    },
    "posterior": {
        "bernoulli": "vaekit.posteriors:BernoulliPosterior",
        "categorical": "vaekit.posteriors:CategoricalPosterior",
        "deterministic": "vaekit.posteriors:Deterministic",
        "diagonal-normal": "vaekit.posteriors.normal:DiagonalNormal",
        "full-covariance-normal": "vaekit.posteriors.normal:FullCovarianceNormal",
        "fsq": "vaekit.posteriors:FSQPosterior",
        "gumbel-softmax": "vaekit.posteriors:GumbelSoftmaxPosterior",
        "hierarchical": "vaekit.posteriors.hierarchical:HierarchicalPosterior",
        "iaf": "vaekit.posteriors.flows:IAFPosterior",
        "ladder": "vaekit.posteriors:LadderPosterior",
        "nsf": "vaekit.posteriors.flows:NSFPosterior",
        "planar": "vaekit.posteriors.flows:PlanarPosterior",
        "power-spherical": "vaekit.posteriors:PowerSphericalPosterior",
        "top-down": "vaekit.posteriors:TopDownPosterior",
        "wrapped-normal": "vaekit.posteriors:WrappedNormalPosterior",
        "vq": "vaekit.posteriors:VQPosterior",
    },
    "prior": {
        "autoregressive-codes": "vaekit.priors:AutoregressiveCodesPrior",
        "bernoulli": "vaekit.priors:BernoulliPrior",
        "categorical": "vaekit.priors:CategoricalPrior",
        "full-covariance-mixture": "vaekit.priors:FullCovarianceNormalMixture",
        "hierarchical": "vaekit.priors.hierarchical:HierarchicalPrior",
        "ladder": "vaekit.priors:LadderPrior",
        "maf": "vaekit.priors.flows:MAFPrior",
        "mixture": "vaekit.priors.mixture:NormalMixture",
        "normal": "vaekit.priors.normal:LearnedNormal",
        "nsf": "vaekit.priors.flows:NSFPrior",
        "standard-normal": "vaekit.priors.normal:StandardNormal",
        "top-down": "vaekit.priors:TopDownPrior",
        "uniform-sphere": "vaekit.priors:UniformSpherePrior",
        "uniform-codes": "vaekit.priors:UniformCodesPrior",
        "vamp": "vaekit.priors.vamp:VampPrior",
        "wrapped-normal": "vaekit.priors:WrappedNormalPrior",
    },
    "likelihood": {
        "bernoulli": "vaekit.likelihoods:Bernoulli",
        "beta-binomial": "vaekit.likelihoods:BetaBinomial",
        "categorical": "vaekit.likelihoods:Categorical",
        "columns": "vaekit.likelihoods:Columns",
        "continuous-bernoulli": "vaekit.likelihoods:ContinuousBernoulli",
        "discretized-logistic": "vaekit.likelihoods:DiscretizedLogistic",
        "discretized-logistic-mixture": "vaekit.likelihoods:DiscretizedLogisticMixture",
        "laplace": "vaekit.likelihoods:Laplace",
        "negative-binomial": "vaekit.likelihoods:NegativeBinomial",
        "normal": "vaekit.likelihoods:Normal",
        "poisson": "vaekit.likelihoods:Poisson",
    },
    "objective": {
        "aae": "vaekit.objectives:AAE",
        "elbo": "vaekit.objectives:elbo",
        "beta": "vaekit.objectives:beta_elbo",
        "beta-tc": "vaekit.objectives:beta_tc",
        "capacity": "vaekit.objectives:capacity_elbo",
        "ciwae": "vaekit.objectives:ciwae",
        "dip": "vaekit.objectives:dip",
        "disarm": "vaekit.objectives:disarm",
        "factor": "vaekit.objectives:FactorVAE",
        "free-bits": "vaekit.objectives:free_bits",
        "iwae": "vaekit.objectives:iwae",
        "miwae": "vaekit.objectives:miwae",
        "m2": "vaekit.objectives:M2",
        "mmd": "vaekit.objectives:mmd",
        "piwae": "vaekit.objectives:piwae",
        "rloo": "vaekit.objectives:rloo",
        "rae": "vaekit.objectives:RegularizedAutoencoder",
    },
    "optimizer": {
        "adam": "vaekit.training.optimizers:adam",
        "adamw": "vaekit.training.optimizers:adamw",
        "rmsprop": "vaekit.training.optimizers:rmsprop",
        "schedule-free-adamw": "vaekit.training.schedule_free:ScheduleFreeAdamW",
        "sgd": "vaekit.training.optimizers:sgd",
    },
    "schedule": {
        "constant": "vaekit.objectives.schedules:Constant",
        "decay": "vaekit.objectives.schedules:Decay",
        "exponential": "vaekit.objectives.schedules:Exponential",
        "one-cycle": "vaekit.objectives.schedules:OneCycle",
        "plateau": "vaekit.objectives.schedules:Plateau",
        "stages": "vaekit.objectives.schedules:Stages",
        "step": "vaekit.objectives.schedules:StepDecay",
    },
}


VALUE_SCHEDULES: dict[str, Callable[..., Callable[[float], float]]] = {
    "linear": schedules.Linear,
    "cyclical": schedules.Cyclical,
}


@dataclass(frozen=True)
class Resolved:
    """A part with its name resolved: its constructor, the values of all options, and the wiring that it asks for."""

    make: Callable[..., Any]
    options: dict[str, Any]
    wiring: tuple[str, ...]

    def __call__(self, **available: Any) -> Any:
        """Make the part, with the available arguments that it asks for.

        Raises:
            ConfigError: The part asks for something that the builder does not have, or refuses the value of an option.
        """
        parameters = inspect.signature(self.make).parameters
        required = {name for name in self.wiring if parameters[name].default is inspect.Parameter.empty}
        wired = [name for name in self.wiring if name in available or name in required]
        for name in wired:
            if name not in available:
                raise ConfigError(
                    f"{self.make.__name__} asks for {name!r}; available: {', '.join(sorted(available))}; an option "
                    f"comes after a star: (…, *, {name}=1)"
                )
        try:
            return self.make(**{name: available[name] for name in wired}, **self.options)
        except VAEError:
            raise
        except (ValueError, OverflowError) as error:  # torch's, about the range of an option
            options = ", ".join(f"{name} = {value!r:.60}" for name, value in self.options.items())
            raise ConfigError(f"{self.make.__name__} refuses its options ({options}): {error}") from error


def find_part(kind: str, name: str, trust: bool = False) -> Callable[..., Any]:
    """The class or function of a part, by name or by import path.

    Arguments:
        kind: A key of `PART_TABLE`, or another word, for messages.
        name: Name in the table, or "module:Name".
        trust: Whether an import path is allowed.

    Raises:
        ConfigError: The part is unknown, or its import path is not allowed or leads nowhere.
    """
    table = PART_TABLE.get(kind, {})
    target = table.get(name)
    if target is None:
        if ":" not in name and not table:
            raise ConfigError(f"{kind} {name!r:.120} is not an import path; write 'my_module:Name'")
        if ":" not in name:
            raise ConfigError(unknown(kind, name, table))
        if not trust:
            raise ConfigError(
                f"{kind} {name!r:.120} is code of your own; allow it with trust=True", arguments=("trust",)
            )
        target = name
    module, _, attribute = target.partition(":")
    try:
        part: Callable[..., Any] = getattr(import_module(module), attribute)
    except Exception as error:  # the imported code may raise any type
        raise ConfigError(f"{kind} {name!r:.120} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(part):
        raise ConfigError(f"{kind} {name!r:.120} is a {type(part).__name__}; it must be a class or a function")
    return part


def with_absolute_paths(config: Config) -> Config:
    """The same config with data by their registered name, or by absolute path, which holds from every folder."""
    name = known_as(config.data.name)
    is_known = name in DATASET_NAMES
    if not is_known and not is_path(name):
        return config
    located: dict[str, Any] = {"name": name if is_known else _absolute(name)}
    if isinstance(config.data.test, str):
        located["test"] = _absolute(config.data.test)
    return config.model_copy(update={"data": config.data.model_copy(update=located)})


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def resolve_data(section: Data, value_kind: ValueKind = "pixels", trust: bool = False) -> dict[str, Any]:
    """The arguments of `vaekit.data.load` that a config asks for; a function named by import path is imported.

    Arguments:
        section: The section `data`.
        value_kind: Meaning of the numbers in an array by path.
        trust: Whether an import path is allowed.

    Raises:
        ConfigError: The import path is not allowed or leads nowhere.
    """
    arguments = section.model_dump(exclude={"binarize"})
    if ":" in section.name and not is_path(section.name):
        arguments |= {"name": find_part("data set", section.name, trust), "value_kind": value_kind}
    elif section.name not in DATASET_NAMES and is_path(section.name):
        arguments["value_kind"] = value_kind
    return arguments


def by_torch_convention(optimizer: Callable[..., torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Adapt an optimizer (params, lr, options …), the form of torch and most packages, to a part of a config."""
    named = [
        p for p in inspect.signature(optimizer).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    options = [p.replace(kind=p.KEYWORD_ONLY) for p in named if p.name not in ("params", "lr")]

    def make(parameters: Any, learning_rate: float, **settings: Any) -> torch.optim.Optimizer:
        return optimizer(parameters, lr=learning_rate, **settings)

    wiring = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("parameters", "learning_rate")
    ]
    annotated: Any = make
    annotated.__signature__ = inspect.Signature([*wiring, *options])
    annotated.__name__ = optimizer.__name__
    kinds: dict[type, Any] = {bool: bool, int: int | float, float: float, str: str}  # a default of 0 may mean 0.0
    annotated.hints = {p.name: kinds.get(type(p.default), Any) for p in options}
    constructor: Callable[..., torch.optim.Optimizer] = annotated
    return constructor


def _takes_schedule(hint: Any, is_class: bool) -> bool:
    """Whether an option of an objective may follow a schedule.

    A float option of a function may, because each step calls the function with the schedule's value. An option of a
    class may if its type hint has a callable.
    """
    return any(get_origin(member) is Callable for member in get_args(hint)) if is_class else hint is float


def resolve(kind: str, part: Part, trust: bool = False) -> Resolved:
    """Find a part and check its options.

    Arguments:
        kind: A key of `PART_TABLE`, or "model".
        part: The part's section of a config.
        trust: Whether the part may be named by import path.

    Raises:
        ConfigError: The part or an option is unknown (the nearest one is named), or a value does not fit.
    """
    return with_options(kind, part.name, find_part(kind, part.name, trust), part.options)


def with_options(kind: str, name: str, make: Any, given: Mapping[str, Any]) -> Resolved:
    """Check the options of a part.

    Arguments:
        kind: A key of `PART_TABLE`, or "model".
        name: Name of the part in messages.
        make: Class or function of the part.
        given: Options that are set; the others have their defaults.

    Raises:
        ConfigError: An option is unknown (the nearest one is named) or has no value, or a value does not fit.
    """
    if kind == "optimizer" and "params" in inspect.signature(make).parameters:
        make = by_torch_convention(make)
    parameters = inspect.signature(make).parameters.values()
    hints = _hints(make)
    options = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    if kind == "objective":
        is_class = inspect.isclass(make)
        hints = {
            name: hint | dict[str, Any] if _takes_schedule(hint, is_class) else hint for name, hint in hints.items()
        }
    for option in given:
        if option not in options:
            raise ConfigError(
                unknown(f"option of {kind} {name!r}:", option, options)
                if options
                else f"{kind} {name!r} has no options, got {option!r}"
            )
    for option, parameter in options.items():
        if option not in given and parameter.default is parameter.empty:
            raise ConfigError(f"the option {option!r} of {kind} {name!r} needs a value; give it a default")
    schema = create_model(
        "Options",
        __config__=ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False),
        **{option: (hints.get(option, Any), p.default) for option, p in options.items()},  # type: ignore[call-overload]
    )
    try:
        values = schema.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"{kind}.{explain(error)}") from None
    wiring = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return Resolved(make, {option: getattr(values, option) for option in options}, wiring)


def _hints(make: Any) -> Mapping[str, Any]:
    """The types of a part's parameters; empty if one of the types is imported for type checkers only."""
    try:
        return getattr(make, "hints", None) or get_type_hints(make.__init__ if inspect.isclass(make) else make)
    except NameError:
        return {}
