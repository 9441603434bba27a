"""What a run is made of, as data: sections ⇄ TOML, presets, and `--set key=value`.

This file knows that there are parts with names and options, and no part itself: `build` resolves the names. It does not
import torch, so that the command line answers at once.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import ConfigError, unknown

Positive = Annotated[int, Field(ge=1)]
_LONGEST = 16 << 10  # bytes: tomllib takes 0.7 s for one dotted key of this length, and its square for longer ones
_DEEPEST = 16  # levels of nesting


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
    """An objective and K, the number of importance samples that it is given for each image."""

    samples: Positive = 1


class Data(Section):
    """Which images, by name or by path, how many are held out, and how grey values become binary ones.

    `test`, `size` and `memory` are those of `vaekit.data.load`, for images by path.
    """

    name: str = "mnist"
    validation: Annotated[int, Field(ge=0)] | None = None
    test: Positive | None = None
    size: Positive | None = None
    memory: Annotated[float, Field(ge=0)] | None = None
    binarize: Literal["none", "threshold", "per-epoch", "fixed"] = "none"

    @property
    def loading(self) -> dict[str, Any]:
        """The arguments of `vaekit.data.load`."""
        return self.model_dump(exclude={"binarize"})


class Model(Section):
    """What belongs to no single part; or a whole model of one's own by import path, "my_module:MyModel"."""

    name: str = "composed"
    latent_size: Positive = 15
    condition: Literal["none", "class"] = "none"
    init: Literal["default", "he", "glorot"] = "default"
    output_bias: Literal["default", "data"] = "default"
    output_scale: Annotated[float, Field(gt=0)] = 1.0


class Train(Section):
    """How long, how fast, on what."""

    epochs: Positive = 10
    batch_size: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    patience: Positive | None = None
    on_nan: Literal["stop", "skip"] = "stop"
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    cuda_graph: bool = False
    checkpoint_every: Annotated[float, Field(gt=0)] = 60.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    deterministic: bool = False


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

    @field_validator("encoder", "posterior", "prior", "decoder", "likelihood", "optimizer", "schedule", mode="before")
    @classmethod
    def _by_name(cls, value: object, info: Any) -> object:
        # A table without a name keeps the default part: `[encoder] hidden = [200]`.
        if isinstance(value, Mapping) and "name" not in value:
            return {"name": cls.model_fields[info.field_name].default.name, **value}
        return value

    @field_validator("objective", mode="before")
    @classmethod
    def _elbo_by_default(cls, value: object) -> object:
        return {"name": "elbo", **value} if isinstance(value, Mapping) and "name" not in value else value

    def to_toml(self) -> str:
        """The config as TOML; an absent key means "off"."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def parse(tree: Mapping[str, Any], source: str = "config") -> Config:
    """Check a tree of tables.

    Raises:
        ConfigError: a key that does not exist, with the nearest one that does, or a value out of range.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """The first finding of a pydantic error, in one line: key, limit, value."""
    finding, *others = error.errors()
    loc, messages = finding["loc"], [finding["msg"]]
    if others and others[0]["input"] is finding["input"]:  # one value that fits no type of several
        loc, messages = loc[:-1], [found["msg"] for found in error.errors() if found["input"] is finding["input"]]
    key = ".".join(str(part) for part in loc)[:200]
    if finding["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest_key(key)}"
    message = " or ".join(text[0].lower() + text[1:] for text in messages)
    if finding["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {message}, got {finding['input']!r:.200}"


def _nearest_key(key: str) -> str:
    *path, last = key.split(".")
    fields: Mapping[str, Any] = Config.model_fields
    for step in path:
        fields = getattr(fields[step].annotation, "model_fields", {}) if step in fields else {}
    near = get_close_matches(last, fields, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {'.'.join([*path, near[0]])!r}?"
    return f"; known: {', '.join(sorted(fields))}" if fields else ""


def read(
    preset: str | None = None,
    file: Path | None = None,
    settings: Iterable[str] = (),
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """A config from a preset or a TOML file, with settings on top.

    Arguments:
        preset: Name of a preset; "vae" when neither is given.
        file: TOML file instead of a preset.
        settings: Strings "section.key=value", as on the command line.
        sections: Tables that override, as in `{"train": {"epochs": 3}}`.
    """
    if preset is not None and file is not None:
        raise ConfigError(f"a preset ({preset}) and a config file ({file}) exclude each other; leave one out")
    tree = _read_file(file) if file is not None else tomllib.loads(preset_text(preset or "vae"))
    overrides: dict[str, Any] = {}
    for setting in settings:
        _merge(overrides, _parse_setting(setting))
    for section, values in (sections or {}).items():
        _merge(overrides, {section: dict(values)})
    _merge(tree, overrides)
    return parse(tree, str(file) if file is not None else preset or "vae")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of tables as one table.

    >>> flat({"train": {"seed": 0}})
    {'train.seed': 0}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def changed(config: Config, settings: Iterable[str]) -> Config:
    """A config with settings on top, as `read` puts them on a preset.

    Arguments:
        config: Any config.
        settings: Strings "section.key=value".
    """
    tree = config.model_dump(exclude_none=True)
    for setting in settings:
        _merge(tree, _parse_setting(setting))
    return parse(tree)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            content = stream.read(_LONGEST + 1)
        return _parse_toml(content.decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {file} does not exist") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"config file {file} cannot be read: {error}") from None


def _parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML that may have been written to do harm.

    Raises:
        ValueError: it is none, or it is longer or nested more deeply than any config.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"it is longer than the {_LONGEST} bytes that a config may have")
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {_DEEPEST} deep") from None
    level: list[Any] = [tree]
    for _ in range(_DEEPEST):
        level = [
            item
            for value in level
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")
    return tree


def _parse_setting(setting: str) -> dict[str, Any]:
    key, equals, value = setting.partition("=")
    steps = key.strip().split(".")
    if not equals or not key.strip() or len(steps) > _DEEPEST:
        raise ConfigError(f"a setting has the form section.key=value, got {setting!r:.200}")
    try:
        parsed = _parse_toml(f"value = {value.strip()}")["value"]
    except ValueError:
        parsed = value.strip()
    for step in reversed(steps):
        parsed = {step: parsed}
    if not isinstance(parsed, dict) or not all(isinstance(table, dict) for table in parsed.values()):
        raise ConfigError(f"a setting has the form section.key=value, got {setting!r:.200}")
    return parsed


def _merge(tree: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Put `overrides` on top of `tree`; a part that gets another name loses the options of the old one."""
    for key, value in overrides.items():
        old = tree.get(key)
        if isinstance(value, Mapping) and isinstance(old, dict):
            if "name" in value and "name" in old and value["name"] != old["name"]:
                tree[key] = dict(value)
            else:
                _merge(old, value)
        else:
            tree[key] = value


_PRESETS = files("vaekit") / "presets"


def preset_names() -> list[str]:
    """Every preset, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _PRESETS.iterdir() if entry.name.endswith(".toml"))


def preset_text(name: str) -> str:
    """The TOML of a preset.

    Raises:
        ConfigError: no preset of that name; the nearest one is named.
    """
    names = preset_names()
    if name not in names:
        raise ConfigError(unknown("preset", name, names))
    return (_PRESETS / f"{name}.toml").read_text(encoding="utf-8")


def preset_header(name: str) -> dict[str, str]:
    """What the comment at the top of a preset says: `about`, its first line, and where given `paper` and `differs`."""
    about, *rest = [line[1:].strip() for line in _leading_comments(preset_text(name).splitlines())]
    header = {"about": about}
    for line in rest:
        key, colon, value = line.partition(": ")
        if colon and key in ("Paper", "Differs"):
            header[key.lower()] = value
    return header


def _leading_comments(lines: Sequence[str]) -> list[str]:
    comments = []
    for line in lines:
        if not line.startswith("#"):
            break
        comments.append(line)
    return comments
