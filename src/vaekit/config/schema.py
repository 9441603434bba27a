"""The config of a run, as records: sections and parts.

This file knows that there are parts with names and options, and no part itself. It does not import torch, so that the
command line answers at once.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import ConfigError
from ..store.bounded import check_table
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
    """A table of a config: no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class Part(BaseModel):
    """A part by name, "vamp", or by import path, "my_module:MyPrior", and the options that part has."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Every key but the name."""
        return dict(self.model_extra or {})


class ObjectivePart(Part):
    """An objective, K, the number of importance samples of each row, and whether they are drawn in pairs μ ± σε."""

    samples: Annotated[int, Field(ge=1, le=1 << 20)] = 1
    antithetic: bool = False


class Data(Section):
    """Which data, by name, by path, or by the import path of a function; how grey values become binary ones.

    `validation` is how many are held out; `labelled` is how many training rows keep their label; `test`, `size`,
    `memory` and `columns` are those of `vaekit.data.load`.
    """

    name: str = "mnist"
    validation: Annotated[int, Field(ge=0)] | None = None
    test: Positive | str | None = None
    size: Positive | None = None
    memory: Annotated[float, Field(ge=0)] | None = None
    labelled: Positive | None = None
    binarize: Literal["none", "threshold", "per-epoch", "fixed"] = "none"
    columns: dict[str, str | list[str | int | float | bool]] | None = None

    @field_validator("columns", mode="before")
    @classmethod
    def _with_dots(cls, value: object) -> object:
        # "data.columns.sepal.length=positive" is about a column whose name has a dot.
        return flat(value) if isinstance(value, Mapping) else value


class Model(Section):
    """The settings of no single part; or a whole model of yours by import path, "my_module:MyModel"."""

    name: str = "composed"
    latent_size: Positive = 15
    condition: Literal["none", "class"] = "none"
    init: Literal["default", "he", "glorot", "pca"] = "default"
    output_bias: Literal["default", "data"] = "default"
    output_scale: Annotated[float, Field(gt=0)] = 1.0


class Fit(Section):
    """How `vaekit.fit` trains: how long, in epochs or, instead, in steps; how fast; how often it saves."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 10
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
    def known_epochs(self) -> int | None:
        """How many epochs there will be; None where the length is in steps."""
        return self.epochs if self.steps is None else None


class Train(Fit):
    """How a run trains: as `fit` does, and on what, from which seed."""

    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    deterministic: bool = False

    def for_fit(self) -> Fit:
        """The options of `vaekit.fit` among them."""
        return Fit(**self.model_dump(include=set(Fit.model_fields)))


class Config(Section):
    """A whole run."""

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
    """Check a tree of tables.

    Raises:
        ConfigError: A key that does not exist, with the nearest one that does, or a value out of range.
    """
    try:
        check_table(tree)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """The first finding of a pydantic error, in one line: key, limit, value."""
    finding, *others = error.errors()
    loc, messages = finding["loc"], [finding["msg"]]
    if others and others[0]["input"] is finding["input"]:  # one value that fits no type of several
        loc, messages = loc[:-1], [other["msg"] for other in error.errors() if other["input"] is finding["input"]]
    key = ".".join(str(part) for part in loc)[:200]
    if finding["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_field_hint(key)}"
    message = " or ".join(text[0].lower() + text[1:] for text in messages)
    if finding["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {message}, got {finding['input']!r:.200}"


def _field_hint(key: str) -> str:
    *path, last = key.split(".")
    fields: Mapping[str, Any] = Config.model_fields
    for step in path:
        fields = getattr(fields[step].annotation, "model_fields", {}) if step in fields else {}
    other = OTHER_NAMES.get(last, "").removeprefix(".".join([*path, ""]))
    near = [other] if other in fields else get_close_matches(last, fields, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {'.'.join([*path, near[0]])!r}?"
    return f"; known: {', '.join(sorted(fields))}" if fields else ""
