"""From a config to objects: resolve every name and check every option once, then make the parts."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..data import Batches
from ..data.table.columns import Column
from ..data.value_kinds import ValueKind, value_kind_of
from ..errors import ConfigError, check_count, unknown
from ..model import LatentVariableModel, one_hot
from ..objectives import Loss, OfBatch, OfDraw, schedules
from ..rng import seeded
from . import Config, Part
from .assemble import assemble
from .contracts import attribute_or_default
from .groups import by_part
from .parts import PART_TABLE, VALUE_SCHEDULES, Resolved, resolve, resolve_data, with_absolute_paths


@dataclass(frozen=True)
class Recipe:
    """A config with all names resolved and all options checked. It makes the objects of a training.

    Attributes:
        config: The config with every option of every part written out, so that it means the same for ever.
        parts: One of each kind; also the user's model, under "model", if the config names one.
        data_arguments: Arguments of `vaekit.data.load`, with the function itself where the config names one.
    """

    config: Config
    parts: Mapping[str, Resolved]
    data_arguments: Mapping[str, Any]

    @classmethod
    def resolve(cls, config: Config, *, trust: bool = False) -> "Recipe":
        """Find every part of a config and check its options.

        Arguments:
            config: A whole config.
            trust: Import parts by path.

        Raises:
            ConfigError: A part or an option is unknown or does not fit.
        """
        config = with_absolute_paths(config)
        parts = {kind: resolve(kind, getattr(config, kind), trust) for kind in PART_TABLE}
        if config.model.name != "composed":
            parts["model"] = resolve("model", Part(name=config.model.name), trust)
        data_arguments = resolve_data(config.data, _value_kind(parts), trust)
        sections = {kind: _completed(kind, getattr(config, kind), parts[kind].options) for kind in PART_TABLE}
        scheduled = {name: _scheduled(name, value) for name, value in parts["objective"].options.items()}
        parts["objective"] = replace(parts["objective"], options=scheduled)
        return cls(config.model_copy(update=sections), parts, data_arguments)

    @property
    def has_own_code(self) -> bool:
        """Whether a part or the data set was imported by path, which the caller has allowed."""
        names = [self.config.model.name, *(getattr(self.config, kind).name for kind in PART_TABLE)]
        return callable(self.data_arguments["name"]) or any(":" in name for name in names)

    @property
    def value_kind(self) -> ValueKind:
        """What the numbers in x mean to the model."""
        return _value_kind(self.parts)

    @property
    def needs_batches(self) -> bool:
        """Whether the objective looks at further rows, so that it takes the training batches."""
        return "batches" in self.parts["objective"].wiring

    @property
    def needs_dataset_size(self) -> bool:
        """Whether the objective depends on the number of training rows."""
        return "dataset_size" in self.parts["objective"].wiring

    def with_train(self, **settings: Any) -> "Recipe":
        """The same recipe with other values in the section `train`, which are not checked again."""
        train = self.config.train.model_copy(update=settings)
        return replace(self, config=self.config.model_copy(update={"train": train}))

    def with_options_from_data(self, x: Tensor | None) -> "Recipe":
        """The same recipe after the likelihood has set its options by the training rows x, shape (N, *event)."""
        part = self.parts["likelihood"]
        if x is None or "model" in self.parts:
            return self
        options = attribute_or_default("likelihood", part.make, "options_from_data")(x, **part.options)
        if not options:
            return self
        parts = {**self.parts, "likelihood": replace(part, options=part.options | options)}
        section = self.config.likelihood.model_copy(update=options)
        return replace(self, parts=parts, config=self.config.model_copy(update={"likelihood": section}))

    def model(
        self,
        *,
        event_shape: tuple[int, ...],
        num_classes: int,
        x: Tensor | None = None,
        labels: Tensor | None = None,
        columns: Sequence[Column] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> LatentVariableModel:
        """Make the model, on the CPU, from torch's global random stream.

        Arguments:
            event_shape: Event shape of x.
            num_classes: Number of classes of a conditional model.
            x: Training rows, shape (N, *event_shape), for parts that start from the data.
            labels: Classes of these rows, shape (N,), for the same parts of a conditional model.
            columns: The columns of a table.
            class_names: Names of the classes of a conditional model.

        Raises:
            ConfigError: The parts do not fit together.
        """
        recipe = self.with_options_from_data(x)
        model = recipe._model(event_shape, num_classes, x, labels, columns)
        made_of: dict[str, Any] = {"event_shape": list(event_shape), "num_classes": num_classes}
        if columns is not None:
            made_of["columns"] = [column.to_json() for column in columns]
        if class_names is not None and model.context_size == len(class_names):
            model.class_names = tuple(class_names)
            made_of["class_names"] = list(class_names)
        model.column_kinds = recipe.config.data.columns
        model.made_of = {"config": recipe.config.model_dump(exclude_none=True), **made_of}
        return model

    def _model(
        self,
        event_shape: tuple[int, ...],
        num_classes: int,
        x: Tensor | None,
        labels: Tensor | None,
        columns: Sequence[Column] | None,
    ) -> LatentVariableModel:
        section = self.config.model
        if "model" in self.parts:
            sizes = {"latent_size": section.latent_size, "num_classes": num_classes}
            model: LatentVariableModel = self.parts["model"](event_shape=event_shape, **sizes)
            return model
        context_size = int(check_count("num_classes", num_classes)) if section.condition == "class" else 0
        x = x if x is None else x.to(torch.get_default_dtype())
        all_known = labels is not None and bool((labels >= 0).all())
        c = one_hot(labels, context_size) if labels is not None and all_known and context_size else None
        wiring: dict[str, Any] = {"event_shape": event_shape, "context_size": context_size, "columns": columns}
        return assemble(self.parts, section, x=x, c=c, **wiring)

    def loss(
        self,
        model: LatentVariableModel,
        *,
        dataset_size: int,
        num_classes: int = 0,
        event_shape: tuple[int, ...] | None = None,
        batches: Batches | None = None,
    ) -> Loss:
        """Make the loss: from a function of a draw, or from a class, which may be one by import path.

        Arguments:
            model: The model to train.
            dataset_size: Number of training rows, for objectives that couple rows.
            num_classes: Number of classes in the data.
            event_shape: Event shape of x.
            batches: Training batches, for losses that look at further rows in every step.

        Raises:
            ConfigError: The class asks for an argument that is not available.
        """
        part = self.parts["objective"]
        samples = self.config.objective.samples
        if inspect.isclass(part.make):
            wiring: dict[str, Any] = {"num_classes": num_classes, "event_shape": event_shape or model.event_shape}
            wiring |= {"latent_size": model.latent_size, "latent_shape": model.latent_shape}
            wiring |= {"context_size": model.context_size, "dataset_size": dataset_size}
            if "event_shape" in part.wiring and wiring["event_shape"] is None:
                name = self.config.objective.name
                raise ConfigError(f"objective {name!r} needs the shape of a row; give the model an event_shape")
            self._check_samples(part)
            loss = part(samples=samples, batches=batches, **wiring)
            return loss if isinstance(loss, Loss) else OfBatch(loss)
        options = dict(part.options)
        if self.needs_dataset_size:
            options["dataset_size"] = dataset_size
        return OfDraw(part.make, options, samples, self.config.objective.antithetic)

    def _check_samples(self, part: Resolved) -> None:
        """Refuse the options `samples` and `antithetic` for a loss that draws its own samples.

        Raises:
            ConfigError: One of these options is set.
        """
        objective = self.config.objective
        for option, default in (("samples", 1), ("antithetic", False)):
            value = getattr(objective, option)
            if option not in part.wiring and value != default:
                raise ConfigError(
                    f"objective.{option} = {json.dumps(value)} is for functions of a draw, and {objective.name!r} "
                    f"draws its own samples; set objective.{option} = {json.dumps(default)}"
                )

    def optimizer(
        self, trained: nn.Module | Sequence[nn.Parameter], model: nn.Module | None = None
    ) -> torch.optim.Optimizer:
        """Make the optimizer.

        Arguments:
            trained: The parameters to train, or a model, for all of its parameters.
            model: The model, whose parts may want another learning rate or no weight decay; by default `trained`, and
                always if that is a model.
        """
        learning_rate = self.config.train.learning_rate
        if isinstance(trained, nn.Module):
            model, trained = trained, [p for p in trained.parameters() if p.requires_grad]
        groups = trained if model is None else by_part(model, trained, learning_rate)
        optimizer: torch.optim.Optimizer = self.parts["optimizer"](parameters=groups, learning_rate=learning_rate)
        return optimizer

    def schedule(self) -> schedules.LearningRateSchedule:
        """Make the learning-rate schedule."""
        schedule: schedules.LearningRateSchedule = self.parts["schedule"]()
        return schedule

    def to_toml(self) -> str:
        """The completed config as TOML."""
        return self.config.to_toml()

    def shapes(self, **wiring: Any) -> dict[str, torch.Size] | None:
        """The shapes of the model's weights and buffers by name, computed on the meta device, without memory.

        None if a part looks at values while it is made, as zuko's masked networks do.

        Arguments:
            wiring: Arguments of `model`.

        Raises:
            ConfigError: The parts do not fit together, or no tensor can have these sizes.
        """
        try:
            with torch.device("meta"), _Undrawn(), seeded(torch.Generator("cpu").manual_seed(0)):
                model = self.model(**wiring)
        except NotImplementedError:
            return None
        except (MemoryError, OverflowError, RuntimeError, TypeError) as error:  # from sizes beyond 64 bits
            reason = str(error).splitlines()[0]
            raise ConfigError(f"the config asks for a model that cannot be: {reason}") from error
        return {name: tensor.shape for name, tensor in model.state_dict().items()}


class _Undrawn(TorchFunctionMode):
    """Within the block nothing is drawn: the meta device has no values, and drawing there imports sympy."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs or {})


def _value_kind(parts: Mapping[str, Resolved]) -> ValueKind:
    return value_kind_of(parts.get("model", parts["likelihood"]).make)


def _completed(kind: str, part: Part, options: Mapping[str, Any]) -> Part:
    """A part of a config with all its options written out."""
    written = {name: _plain(f"{kind}.{name}", value) for name, value in options.items() if value is not None}
    return part.model_copy(update=written)


def _plain(key: str, value: Any) -> Any:
    """The value of an option as TOML gives it back.

    Raises:
        ConfigError: TOML cannot hold it.
    """
    if isinstance(value, Mapping):
        return {name: _plain(f"{key}.{name}", inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(key, inner) for inner in value]
    if isinstance(value, (str, int, float)):
        return value
    raise ConfigError(f"{key} must be a text, a number, a list or a table, as TOML has them, got {value!r:.200}")


def _scheduled(option: str, value: Any) -> Any:
    """The value of an option of the objective, or the schedule that it describes."""
    if not isinstance(value, dict):
        return value
    arguments = dict(value)
    name = str(arguments.pop("schedule", ""))
    if name not in VALUE_SCHEDULES:
        raise ConfigError(f"objective.{option}: {unknown('schedule', name, VALUE_SCHEDULES)}")
    try:
        return VALUE_SCHEDULES[name](**arguments)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"objective.{option}: {error}") from None
