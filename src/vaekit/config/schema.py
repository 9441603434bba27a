"""The config of a run, as records: sections and parts.

Here a part is a name with options; this file does not know the parts. It does not import torch, so that the command
line answers at once.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import ConfigError
from ..store.bounded import check_config_table
from ..store.journal import MOST_EPOCHS
from .synonyms import OTHER_NAMES

Positive = Annotated[int, Field(ge=1)]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of tables as one table.

    >>> flat({"train": {"seed": 0}})
    {'train.seed': 0}
    """
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return values


class Section(BaseModel):
    """A table of a config; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class Part(BaseModel):
    """A part by name, "vamp", or by import path, "my_module:MyPrior", with its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Every key but the name."""
        return dict(self.model_extra or {})


class ObjectivePart(Part):
    """An objective, with K, the number of importance samples for each row, and whether they are pairs μ ± σε."""

    samples: Annotated[int, Field(ge=1, le=1 << 20)] = 1
    antithetic: bool = False


class Data(Section):
    """The data, by name, path, or import path of a function; and how grey values become binary.

    `validation` is the number of rows held out; `labelled` is the number of training rows that keep their label; for
    `test`, `size`, `memory`, `kind` and `columns` see `vaekit.data.load`.
    """

    name: str = "mnist"
    validation: Annotated[int, Field(ge=0)] | None = None
    test: Positive | str | None = None
    size: Positive | None = None
    memory: Annotated[float, Field(ge=0)] | None = None
    labelled: Positive | None = None
    binarize: Literal["none", "threshold", "per-epoch", "fixed"] = "none"
    kind: Literal["signal"] | None = None
    columns: dict[str, str | list[str | int | float | bool]] | None = None

    @field_validator("columns", mode="before")
    @classmethod
    def _with_dots(cls, value: object) -> object:
        # "data.columns.sepal.length=positive" names a column with a dot in its name.
        return flat(value) if isinstance(value, Mapping) else value


class Model(Section):
    """The settings that belong to no single part; or your own model by import path, "my_module:MyModel".

    Arguments:
        name: "composed" for a model of the config's parts, or an import path.
        latent_size: Width of the latents, for a posterior that does not set it.
        condition: "class" for a class-conditional model.
        init: How the weights start; see `vaekit.nets.initialize`.
        output_bias: "data" starts the decoder's output at the mean of the training rows.
        output_scale: Factor on the weights of the decoder's last layer at the start.
    """

    name: str = "composed"
    latent_size: Positive = 15
    condition: Literal["none", "class"] = "none"
    init: Literal["default", "he", "glorot", "pca"] = "default"
    output_bias: Literal["default", "data"] = "default"
    output_scale: Annotated[float, Field(gt=0)] = 1.0


class Fit(Section):
    """How `vaekit.fit` trains: how long (in epochs or in steps), how fast, and how often it saves.

    Arguments:
        epochs: Number of epochs.
        steps: Number of optimizer steps, in place of the number of epochs.
        batch_size: Rows of a batch.
        learning_rate: Learning rate, which the schedule multiplies.
        clip_norm: Greatest norm of the model's gradient; None does not clip it.
        ema: Decay of the moving averages of the weights, which are validated and kept; None for no averages.
        ema_warm_up: Whether these averages move faster in the first steps.
        patience: Epochs without a better validation loss after which the training ends; None for no limit.
        on_nan: What to do when a loss or a gradient is not finite: "stop" ends the training, "skip" leaves the step
            out.
        precision: Precision of the networks' products; "auto" is the lowest safe one that the hardware has.
        checkpoint_every: Seconds of work that a crash may lose.
    """

    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] = 10
    steps: Annotated[int, Field(ge=1, le=1 << 40)] | None = None
    batch_size: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    ema_warm_up: bool = True
    patience: Positive | None = None
    on_nan: Literal["stop", "skip"] = "stop"
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "fp32"
    checkpoint_every: Annotated[float, Field(gt=0)] = 60.0

    @property
    def skips_bad_steps(self) -> bool:
        """Whether a step whose loss or gradient is not finite is skipped, and not the end of the training."""
        return self.on_nan == "skip"

    @property
    def known_epochs(self) -> int | None:
        """The number of epochs; None if the length is in steps."""
        return self.epochs if self.steps is None else None


class Train(Fit):
    """How a run trains: the options of `Fit`, of which `precision` has another default, and those of the whole process.

    Arguments:
        precision: As in `Fit`, but "auto" by default.
        seed: Seed of everything random.
        device: Name of a device, such as "cuda:1"; "auto" is the fastest one here.
        threads: Number of threads; None chooses, on a CPU, one or all, whichever is faster.
        deterministic: Whether torch uses deterministic algorithms only.
    """

    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    deterministic: bool = False

    def for_fit(self) -> Fit:
        """Only the options of `vaekit.fit`."""
        fields = (self.model_fields_set | {"precision"}) & set(Fit.model_fields)
        return Fit(**{name: getattr(self, name) for name in fields})


class Config(Section):
    """The config of a whole run."""

    data: Data = Data()
    model: Model = Model()
    encoder: Part = Part(name="mlp")
    posterior: Part = Part(name="diagonal-normal")
    prior: Part = Part(name="standard-normal")
    decoder: Part = Part(name="mlp")
    likelihood: Part = Part(name="bernoulli")
    objective: ObjectivePart = ObjectivePart(name="elbo")
    optimizer: Part = Part(name="adam")
    schedule: Part = Part(name="constant")
    train: Train = Train()

    @field_validator(
        "encoder", "posterior", "prior", "decoder", "likelihood", "objective", "optimizer", "schedule", mode="before"
    )
    @classmethod
    def _by_name(cls, value: object, info: Any) -> object:
        # A table without a name keeps the default part: `[encoder] hidden = [200]`.
        if isinstance(value, Mapping) and "name" not in value:
            return {"name": cls.model_fields[info.field_name].default.name, **value}
        return value

    def __str__(self) -> str:
        return self.to_toml()

    def to_toml(self) -> str:
        """The config as TOML; an absent key means "off"."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def parse(tree: Mapping[str, Any], source: str = "config") -> Config:
    """The config in a tree of tables.

    Arguments:
        tree: Tables by section, as in a TOML file.
        source: Where the tables come from, for messages.

    Raises:
        ConfigError: A key is unknown (the nearest one is named), or a value is out of range.
    """
    try:
        check_config_table(tree)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """The first finding of a pydantic error, in one line: key, limit, value."""
    finding, *further = error.errors()
    loc, messages = finding["loc"], [finding["msg"]]
    of_types = [other for other in error.errors() if other["loc"][:-1] == loc[:-1] and other["loc"][-1:] != loc[-1:]]
    if further and _is_type(loc) and of_types:  # one value that fits none of several types
        loc, messages = loc[:-1], [finding["msg"], *(other["msg"] for other in of_types)]
    key = ".".join(str(part) for part in loc)[:200]
    if finding["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_field_hint(key)}"
    message = " or ".join(text[0].lower() + text[1:] for text in messages)
    if finding["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {message}, got {finding['input']!r:.200}"


def _is_type(loc: tuple[int | str, ...]) -> bool:
    """Whether a place in a config ends with one of several types of a value, such as `int` or `list[str]`."""
    fields: Any = Config.model_fields
    for step in loc[:-1]:
        fields = getattr(fields[step].annotation, "model_fields", {}) if step in fields else {}
    return len(loc) > 1 and isinstance(loc[-1], str) and not fields


def _field_hint(key: str) -> str:
    *path, last = key.split(".")
    fields: Mapping[str, Any] = Config.model_fields
    for step in path:
        fields = getattr(fields[step].annotation, "model_fields", {}) if step in fields else {}
    synonym = OTHER_NAMES.get(last, "").removeprefix(".".join([*path, ""]))
    near = [synonym] if synonym in fields else get_close_matches(last, fields, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {'.'.join([*path, near[0]])!r}?"
    return f"; known: {', '.join(sorted(fields))}" if fields else ""
