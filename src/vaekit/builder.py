"""From a config to objects: parts by name, their options checked against their signatures, wired together.

A part's constructor tells wiring from options: positional parameters are filled in by name from what the builder has
(`latent_size`, `net`, `images` …), keyword-only parameters are options and come from the config. A new part is one
class and one line in a table here, or no line at all and an import path, "my_module:MyPrior".
"""

import inspect
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_type_hints

import tomli_w
import torch
from pydantic import ConfigDict, ValidationError, create_model
from torch import Tensor, nn

from .config import Config, Part, explain, parse, read
from .errors import ConfigError, unknown
from .model import Composed, LatentVariableModel
from .nets import FirstLevel, initialize
from .objectives import Objective, schedules

PARTS: dict[str, dict[str, str]] = {
    "encoder": {
        "conv": "vaekit.nets:ConvEncoder",
        "mlp": "vaekit.nets:MLP",
        "resnet": "vaekit.nets:ResNetEncoder",
    },
    "decoder": {
        "conv": "vaekit.nets:ConvDecoder",
        "mlp": "vaekit.nets:MLP",
        "resnet": "vaekit.nets:ResNetDecoder",
    },
    "posterior": {
        "diagonal-normal": "vaekit.posteriors.normal:DiagonalNormal",
        "full-covariance-normal": "vaekit.posteriors.normal:FullCovarianceNormal",
        "hierarchical": "vaekit.posteriors.hierarchical:HierarchicalPosterior",
        "iaf": "vaekit.posteriors.flows:IAFPosterior",
        "nsf": "vaekit.posteriors.flows:NSFPosterior",
        "planar": "vaekit.posteriors.flows:PlanarPosterior",
    },
    "prior": {
        "hierarchical": "vaekit.priors.hierarchical:HierarchicalPrior",
        "maf": "vaekit.priors.flows:MAFPrior",
        "mixture": "vaekit.priors.mixture:NormalMixture",
        "normal": "vaekit.priors.normal:LearnedNormal",
        "nsf": "vaekit.priors.flows:NSFPrior",
        "standard-normal": "vaekit.priors.normal:StandardNormal",
        "vamp": "vaekit.priors.vamp:VampPrior",
    },
    "likelihood": {
        "bernoulli": "vaekit.likelihoods:Bernoulli",
        "beta-binomial": "vaekit.likelihoods:BetaBinomial",
        "categorical": "vaekit.likelihoods:Categorical",
        "continuous-bernoulli": "vaekit.likelihoods:ContinuousBernoulli",
        "discretized-logistic": "vaekit.likelihoods:DiscretizedLogistic",
        "discretized-logistic-mixture": "vaekit.likelihoods:DiscretizedLogisticMixture",
        "laplace": "vaekit.likelihoods:Laplace",
        "negative-binomial": "vaekit.likelihoods:NegativeBinomial",
        "normal": "vaekit.likelihoods:Normal",
        "poisson": "vaekit.likelihoods:Poisson",
    },
    "objective": {
        "elbo": "vaekit.objectives:elbo",
        "beta": "vaekit.objectives:beta_elbo",
        "beta-tc": "vaekit.objectives:beta_tc",
        "capacity": "vaekit.objectives:capacity_elbo",
        "ciwae": "vaekit.objectives:ciwae",
        "free-bits": "vaekit.objectives:free_bits",
        "iwae": "vaekit.objectives:iwae",
        "miwae": "vaekit.objectives:miwae",
        "mmd": "vaekit.objectives:mmd",
        "piwae": "vaekit.objectives:piwae",
    },
    "optimizer": {
        "adam": "vaekit.optimizers:adam",
        "adamw": "vaekit.optimizers:adamw",
        "sgd": "vaekit.optimizers:sgd",
    },
    "schedule": {
        "constant": "vaekit.objectives.schedules:Constant",
        "decay": "vaekit.objectives.schedules:Decay",
        "one-cycle": "vaekit.objectives.schedules:OneCycle",
        "stages": "vaekit.objectives.schedules:Stages",
    },
}

VALUE_SCHEDULES: dict[str, Callable[..., Callable[[float], float]]] = {
    "linear": schedules.Linear,
    "cyclical": schedules.Cyclical,
}


@dataclass(frozen=True)
class Resolved:
    """A part found: what to call, its options with every default filled in, and the wiring it asks for."""

    make: Callable[..., Any]
    options: dict[str, Any]
    wiring: tuple[str, ...]

    def __call__(self, **available: Any) -> Any:
        """Make the part from those of the available things that it asks for.

        Raises:
            ConfigError: it asks for something that the builder does not have.
        """
        for name in self.wiring:
            if name not in available:
                raise ConfigError(f"{self.make.__name__} asks for {name!r}; available: {', '.join(sorted(available))}")
        return self.make(**{name: available[name] for name in self.wiring}, **self.options)


def find(kind: str, name: str, *, trust: bool = False) -> Callable[..., Any]:
    """The class or function of a part, by name or by import path.

    Raises:
        ConfigError: no such part, or an import path without `trust`.
    """
    known = PARTS.get(kind, {"composed": ""})
    target = known.get(name)
    if target is None:
        if ":" not in name:
            raise ConfigError(unknown(kind, name, known))
        if not trust:
            raise ConfigError(f"{kind} {name!r:.120} is code of your own; allow it with --trust, or trust=True")
        target = name
    module, _, attribute = target.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{kind} {name!r:.120} cannot be imported: {error}") from None
    return found


def resolve(kind: str, part: Part, *, trust: bool = False) -> Resolved:
    """Find a part and check its options.

    Raises:
        ConfigError: no such part, no such option (the nearest one is named), or a value that does not fit.
    """
    make = find(kind, part.name, trust=trust)
    parameters = inspect.signature(make).parameters.values()
    hints = get_type_hints(make.__init__ if inspect.isclass(make) else make)
    options = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    given = part.options
    if kind == "objective":
        given.pop("samples", None)
        hints = {name: hint | dict[str, Any] if hint is float else hint for name, hint in hints.items()}
    for name in given:
        if name not in options:
            raise ConfigError(
                unknown(f"option of {kind} {part.name!r}:", name, options)
                if options
                else f"{kind} {part.name!r} has no options, got {name!r}"
            )
    schema = create_model(
        "Options",
        __config__=ConfigDict(arbitrary_types_allowed=True, protected_namespaces=()),
        **{name: (hints.get(name, Any), p.default) for name, p in options.items()},  # type: ignore[call-overload]
    )
    try:
        checked = schema.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"{kind}.{explain(error)}") from None
    wiring = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return Resolved(make, {name: getattr(checked, name) for name in options}, wiring)


def completed(config: Config, *, trust: bool = False) -> Config:
    """The same config with every option of every part written out, so that it means the same for ever.

    Raises:
        ConfigError: a part or an option that does not exist or does not fit.
    """
    tree = config.model_dump(exclude_none=True)
    for kind in PARTS:
        options = resolve(kind, getattr(config, kind), trust=trust).options
        tree[kind].update({name: value for name, value in options.items() if value is not None})
    return parse(tomllib.loads(tomli_w.dumps(tree)))


def build(
    config: Config | str = "vae",
    *,
    image_shape: tuple[int, ...] = (1, 28, 28),
    num_classes: int = 10,
    images: Tensor | None = None,
    trust: bool = False,
    **sections: Mapping[str, Any],
) -> LatentVariableModel:
    """Make a model from a config or a preset's name.

    Arguments:
        config: A config, or the name of a preset.
        image_shape: Event shape of x.
        num_classes: How many classes a conditional model is told apart by.
        images: Training images in the range of x, shape (N, *image_shape), for parts that start from the data: the
            output bias at their mean, pseudo-inputs. Without them such a part starts at random.
        trust: Import parts by path.
        sections: Overrides, as in `build("vae", prior={"name": "vamp"})`.

    Returns:
        The model, on the CPU, initialized from torch's global random stream: encoder, posterior, decoder, likelihood,
        prior, in this order.

    Raises:
        ConfigError: a part or an option that does not exist, or parts that do not fit.
    """
    if isinstance(config, str):
        config = read(config, sections=sections)
    elif sections:
        raise ConfigError("sections override a preset; a Config is complete, change it with vaekit.config.read")
    latent_size = config.model.latent_size
    if config.model.name != "composed":
        own = resolve("model", Part(name=config.model.name), trust=trust)
        model: LatentVariableModel = own(latent_size=latent_size, num_classes=num_classes, image_shape=image_shape)
        return model
    parts = {kind: resolve(kind, getattr(config, kind), trust=trust) for kind in PARTS}
    context_size = num_classes if config.model.condition == "class" else 0
    shared = {"context_size": context_size, "image_shape": image_shape, "images": images}

    encoder = parts["encoder"](in_shape=image_shape, out_shape=None, **shared)
    posterior = parts["posterior"](net=encoder, features=encoder.out_shape[0], latent_size=latent_size, **shared)
    out_shape = _out_shape(parts["likelihood"], image_shape)
    decoder = parts["decoder"](in_shape=(latent_size,), out_shape=out_shape, **shared)
    # Of several levels the decoder reads the first, which is latent_size wide.
    levels = posterior.latent_size > latent_size
    likelihood = parts["likelihood"](net=FirstLevel(decoder, latent_size) if levels else decoder, **shared)
    prior = parts["prior"](posterior=posterior, latent_size=posterior.latent_size, **shared)
    composed = Composed(
        posterior,
        prior,
        likelihood,
        latent_size=posterior.latent_size,
        context_size=context_size,
        image_shape=image_shape,
    )
    initialize(composed, config.model.init)
    mean = images.mean(0) if images is not None and config.model.output_bias == "data" else None
    decoder.start_output(None if mean is None else likelihood.parameters_at(mean), config.model.output_scale)
    return composed


def _out_shape(likelihood: Resolved, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    shape: tuple[int, ...] = likelihood.make.out_shape(image_shape, **likelihood.options)  # type: ignore[attr-defined]
    return shape


def build_objective(config: Config, *, dataset_size: int, trust: bool = False) -> Objective:
    """Make the objective of a config.

    Arguments:
        config: A config.
        dataset_size: Number of training images, for objectives that couple rows.
        trust: Import an objective by path.
    """
    found = resolve("objective", config.objective, trust=trust)
    options = {name: _scheduled(name, value) for name, value in found.options.items()}
    if "dataset_size" in found.wiring:
        options["dataset_size"] = dataset_size
    return Objective(found.make, options, config.objective.samples)


def _scheduled(option: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    arguments = dict(value)
    name = arguments.pop("schedule", "")
    if name not in VALUE_SCHEDULES:
        raise ConfigError(f"objective.{option}: {unknown('schedule', str(name), VALUE_SCHEDULES)}")
    try:
        return VALUE_SCHEDULES[name](**arguments)
    except TypeError as error:
        raise ConfigError(f"objective.{option}: {error}") from None


def build_optimizer(config: Config, model: nn.Module, *, trust: bool = False) -> torch.optim.Optimizer:
    """Make the optimizer of a config over the parameters of a model."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer = resolve("optimizer", config.optimizer, trust=trust)(
        parameters=parameters, learning_rate=config.train.learning_rate
    )
    return optimizer


def build_schedule(config: Config, *, trust: bool = False) -> schedules.RateSchedule:
    """Make the learning-rate schedule of a config."""
    schedule: schedules.RateSchedule = resolve("schedule", config.schedule, trust=trust)()
    return schedule
