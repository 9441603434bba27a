"""From a preset, a TOML file and settings, or from a run folder, to a config."""

import tomllib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, unknown
from .schema import Config, Model, parse

if TYPE_CHECKING:
    from ..store import Run

GONE = ("train.cuda_graph",)  # options that older runs have in their config, and that changed no number

_LONGEST = 16 << 10  # bytes: tomllib takes 0.7 s for one dotted key of this length, and its square for longer ones


_DEEPEST = 16  # levels of nesting


def read(
    preset: str | None = None,
    file: Path | None = None,
    settings: Iterable[str] = (),
    sections: Mapping[str, Any] | None = None,
) -> Config:
    """A config from a preset or a TOML file, with settings on top.

    Arguments:
        preset: Name of a preset; "vae" when neither is given.
        file: TOML file instead of a preset.
        settings: Strings "section.key=value", as on the command line.
        sections: Tables that override, as in `{"train": {"epochs": 3}}`; the name of a part will do for its table, and
            a key of [model] is one here, too: `{"prior": "vamp", "latent_size": 2}`.
    """
    if preset is not None and file is not None:
        raise ConfigError(f"a preset ({preset}) and a config file ({file}) exclude each other; leave one out")
    tree = _read_file(file) if file is not None else tomllib.loads(preset_text(preset or "vae"))
    overrides: dict[str, Any] = {}
    for setting in settings:
        _merge(overrides, _parse_setting(setting))
    for section, values in (sections or {}).items():
        _merge(overrides, _section(section, values))
    _merge(tree, overrides)
    return parse(tree, str(file) if file is not None else preset or "vae")


def of_run(run: "Run") -> Config:
    """The config that a run goes by: its config.toml, with what was set when it was resumed.

    A warning names an option that this version no longer has and that changed no number; it is passed over.

    Raises:
        ConfigError, RunError: it is damaged.
    """
    tree = run.config
    train = tree.setdefault("train", {})
    if isinstance(train, dict):  # the first runs have it in environment.json only
        train.setdefault("precision", run.environment.get("precision", "fp32"))
    likelihood = tree.get("likelihood")
    if isinstance(likelihood, dict) and likelihood.get("name") in ("poisson", "negative-binomial"):
        likelihood.setdefault("log1p", False)  # what the encoders of the first runs saw
    for key in GONE:
        section, _, name = key.partition(".")
        if isinstance(tree.get(section), dict) and name in tree[section]:
            del tree[section][name]
            warnings.warn(f"run {run.name}: {key} no longer exists; it is passed over", stacklevel=2)
    config = parse(tree, f"{run.path}/config.toml")
    settings = [setting for session in run.sessions for setting in session["settings"]]
    kept = [setting for setting in settings if setting.partition("=")[0].strip() not in GONE]
    return changed(config, kept) if kept else config


def _section(name: str, value: Any) -> dict[str, Any]:
    """A table that overrides a section.

    Raises:
        ConfigError: the value is no table, nor what may stand for one.
    """
    if isinstance(value, Mapping):
        return {name: dict(value)}
    if name in Config.model_fields and isinstance(value, str):
        return {name: {"name": value}}
    if name in Model.model_fields and name not in Config.model_fields:
        return {"model": {name: value}}
    known = ", ".join(Config.model_fields)
    raise ConfigError(f"{name}={value!r:.80}: give a table, such as {name}={{...}}, for one of: {known}")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of tables as one table.

    >>> flat({"train": {"seed": 0}})
    {'train.seed': 0}
    """
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return values


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
        ValueError: it is not TOML, or it is longer or nested more deeply than any config.
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


_PRESETS = files("vaekit.config") / "presets"


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
