"""From a config to objects: parts by name, wired together."""

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import tomli_w
import torch
from torch import Tensor, nn

from ..errors import ConfigError, unknown
from ..model import LatentVariableModel
from ..objectives import Loss, OfDraw, schedules
from ..rng import seeded
from . import Config, Part, parse, read
from .assemble import assemble
from .parts import PARTS, VALUE_SCHEDULES, resolve


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
    return assemble(parts, config.model, event_shape=image_shape, context_size=context_size, images=images)


def build_objective(config: Config, *, dataset_size: int, trust: bool = False, **facts: Any) -> Loss:
    """Make the loss of a config: of an objective, a function of a draw; or of one's own, a class by import path.

    Arguments:
        config: A config.
        dataset_size: Number of training images, for objectives that couple rows.
        trust: Import an objective by path.
        facts: What else a loss may ask for: `latent_size`, `context_size`, `num_classes`, `event_shape` …

    Raises:
        ConfigError: an option that does not exist or does not fit, or a loss that asks for something else.
    """
    found = resolve("objective", config.objective, trust=trust)
    options = {name: _scheduled(name, value) for name, value in found.options.items()}
    if inspect.isclass(found.make):
        loss: Loss = replace(found, options=options)(
            dataset_size=dataset_size, samples=config.objective.samples, **facts
        )
        return loss
    if "dataset_size" in found.wiring:
        options["dataset_size"] = dataset_size
    return OfDraw(found.make, options, config.objective.samples)


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


def build_optimizer(
    config: Config, trained: nn.Module | Sequence[nn.Parameter], *, trust: bool = False
) -> torch.optim.Optimizer:
    """Make the optimizer of a config over the parameters of a model, or over those given."""
    parameters = [p for p in trained.parameters() if p.requires_grad] if isinstance(trained, nn.Module) else trained
    optimizer: torch.optim.Optimizer = resolve("optimizer", config.optimizer, trust=trust)(
        parameters=parameters, learning_rate=config.train.learning_rate
    )
    return optimizer


def build_schedule(config: Config, *, trust: bool = False) -> schedules.RateSchedule:
    """Make the learning-rate schedule of a config."""
    schedule: schedules.RateSchedule = resolve("schedule", config.schedule, trust=trust)()
    return schedule


def shapes(
    config: Config, *, image_shape: tuple[int, ...], num_classes: int, trust: bool = False
) -> dict[str, torch.Size] | None:
    """The shapes of a model's weights and buffers by name, found without the memory for them, on the meta device.

    None where a part is built by looking at values, as zuko's masked networks are.

    Raises:
        ConfigError: a part or an option that does not exist, parts that do not fit, or sizes that no tensor can have.
    """
    try:
        with torch.device("meta"), seeded(torch.Generator("cpu").manual_seed(0)):
            model = build(config, image_shape=image_shape, num_classes=num_classes, trust=trust)
    except NotImplementedError:
        return None
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:  # of sizes beyond 64 bits
        raise ConfigError(f"the config asks for a model that cannot be: {str(error).splitlines()[0]}") from error
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
