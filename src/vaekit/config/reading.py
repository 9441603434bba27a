"""From a preset or a TOML file, with settings on top, to a config."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from textwrap import fill
from typing import Any

from ..errors import ConfigError, unknown
from ..store.bounded import DEEPEST, TOML_LIMIT, toml_table
from ..store.files import read as read_whole
from .schema import Config, Model, Part, flat, parse
from .spelling import nearest_key


def read(
    preset: str | None = None,
    file: Path | None = None,
    settings: Iterable[str] = (),
    sections: Mapping[str, Any] | None = None,
) -> Config:
    """A config from a preset or a TOML file, with settings on top.

    A part that gets another name loses the options of the old one. Data that get another name keep `binarize`,
    `labelled` and `validation`; a warning names the options of the old data, such as `columns`, which are dropped.

    Arguments:
        preset: Name of a preset; "vae" when neither is given.
        file: TOML file instead of a preset.
        settings: Strings "section.key=value", as on the command line.
        sections: Overriding tables, as in `{"train": {"epochs": 3}}`. A part's name may replace its table, and a key of
            [model] may stand alone: `{"prior": "vamp", "latent_size": 2}`.

    Raises:
        ConfigError: Both a preset and a file are given, the preset is unknown, the file is damaged, or a key or a value
            is wrong.
    """
    if preset is not None and file is not None:
        raise ConfigError(f"a preset ({preset}) and a config file ({file}) exclude each other; leave one out")
    tree = _read_file(file) if file is not None else toml_table(preset_text("vae" if preset is None else preset))
    _override(tree, settings, sections)
    return parse(tree, str(file) if file is not None else f"preset {preset or 'vae'}")


def _override(tree: dict[str, Any], settings: Iterable[str], sections: Mapping[str, Any] | None) -> None:
    overrides = tables_of(settings)
    for section, values in (sections or {}).items():
        _merge(overrides, _section(section, values))
    _merge(tree, overrides)


def tables_of(settings: Iterable[str]) -> dict[str, Any]:
    """The overriding tables of the command line's texts "section.key=value".

    Raises:
        ConfigError: A text has another form.

    >>> tables_of(["train.epochs=3", "train.device=cpu"])
    {'train': {'epochs': 3, 'device': 'cpu'}}
    """
    tables: dict[str, Any] = {}
    for setting in settings:
        _merge(tables, _parse_setting(setting))
    return tables


def _section(name: str, value: Any) -> dict[str, Any]:
    """A table that overrides a section.

    Raises:
        ConfigError: The value is not a table and cannot replace one.
    """
    if isinstance(value, Mapping):
        return {name: dict(value)}
    if name in Config.model_fields and isinstance(value, str):
        return {name: {"name": value}}
    if name in Model.model_fields and name not in Config.model_fields:
        return {"model": {name: value}}
    known = ", ".join(Config.model_fields)
    if name in Config.model_fields:
        raise ConfigError(f"{name}={value!r:.80}: give a table, such as {name}={{...}}, for one of: {known}")
    hint = nearest_setting(name) or ""
    section, _, key = hint.partition(".")
    if hint:
        shown = f"{value!r:.80}"
        right = f"{key}={shown}" if section == "model" else f"{section}={{{key!r}: {shown}}}"
        raise ConfigError(f"there is no option {name!r} here; did you mean {right}?")
    raise ConfigError(
        f"{name}={value!r:.80} is not an option here; give a table, such as prior={{...}}, for one of: {known}, or a "
        "key of model"
    )


def changed(config: Config, sections: Mapping[str, Any]) -> Config:
    """A config with tables on top, as `read` puts them on a preset.

    Arguments:
        config: Any config.
        sections: Overriding tables, as in `{"train": {"epochs": 3, "patience": None}}`.
    """
    tree = config.model_dump(exclude_none=True)
    _override(tree, (), sections)
    return parse(tree)


def data_section(data: Any) -> dict[str, Any]:
    """The section [data] of an argument `data`: a name, a path, or the section itself.

    Raises:
        ConfigError: The argument does not name data.
    """
    section = dict(data) if isinstance(data, Mapping) else {"name": data}
    name = section.get("name", "")
    if not isinstance(name, str | os.PathLike):
        raise ConfigError(
            f"data is given by name or path, or as a table of options, got {type(name).__name__}; pass "
            "data=vaekit.data.load(…), or rows as x=…, to vaekit.build, and train that model with vaekit.fit"
        )
    return {**section, "name": os.fspath(name)} if name else section


def _read_file(file: Path) -> dict[str, Any]:
    if not os.path.lexists(file):
        raise ConfigError(f"config file {file} does not exist")
    content = read_whole(file, TOML_LIMIT, ConfigError)
    try:
        return toml_table(content.decode("utf-8"))
    except ValueError as error:
        raise ConfigError(f"config file {file} cannot be read: {error}") from None


def _parse_setting(setting: str) -> dict[str, Any]:
    key, equals, value = setting.partition("=")
    steps = key.strip().split(".")
    if not equals or not key.strip() or len(steps) > DEEPEST:
        raise ConfigError(f"a setting has the form section.key=value, got {setting!r:.200}{_perhaps(key, value)}")
    try:
        parsed = toml_table(f"value = {value.strip()}")["value"]
    except ValueError:
        parsed = value.strip()
    for step in reversed(steps):
        parsed = {step: parsed}
    if not isinstance(parsed, dict) or not all(isinstance(table, dict) for table in parsed.values()):
        raise ConfigError(f"a setting has the form section.key=value, got {setting!r:.200}{_perhaps(key, value)}")
    return parsed


def _perhaps(word: str, value: str) -> str:
    """A hint at the nearest key, or ""."""
    hint = nearest_setting(word.strip())
    return f"; did you mean {hint}={' '.join(value.split()) or 'VALUE'!s:.80}?" if hint else ""


def nearest_setting(word: str) -> str | None:
    """The key of a config that a word stands for, or None. It is a key of a section or of a part in a preset.

    >>> nearest_setting("size"), nearest_setting("conditional")
    ('data.size', 'model.condition')
    """
    return nearest_key(word, [key for preset in preset_names() for key in flat(toml_table(preset_text(preset)))])


_PARTS = [name for name, field in Config.model_fields.items() if isinstance(field.default, Part)]
_OF_THE_FILE = ("test", "size", "memory", "kind", "columns")  # options of [data] that describe the data of one name


def _merge(tree: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Put the sections `overrides` on top of `tree`; see `read` for those that get another name."""
    for section, values in overrides.items():
        old = tree.get(section)
        if isinstance(old, dict) and isinstance(values, Mapping) and _is_renamed(old, values):
            if section in _PARTS:
                old.clear()
            elif section == "data":
                _forget_file(old, values["name"])
        _merge_tables(tree, {section: values})


def _is_renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "name" in old and "name" in new and old["name"] != new["name"]


def _forget_file(section: dict[str, Any], name: str) -> None:
    """Drop the options of [data] that describe the data of another name, with a warning."""
    old = section["name"]
    if os.path.abspath(str(old)) == os.path.abspath(str(name)):  # a run writes the absolute path
        return
    options = [f"data.{option}" for option in _OF_THE_FILE if section.pop(option, None) is not None]
    if options:
        dropped = ", ".join(options)
        warnings.warn(f"{dropped}: meant for {old!r} and dropped for {name!r}; set again what applies", stacklevel=4)


def _merge_tables(tree: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        old = tree.get(key)
        if isinstance(value, Mapping) and isinstance(old, dict):
            _merge_tables(old, value)
        else:
            tree[key] = value


_PRESETS = files("vaekit.config") / "presets"


def preset_names() -> list[str]:
    """Every preset, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _PRESETS.iterdir() if entry.name.endswith(".toml"))


class Presets(dict[str, str]):
    """One line about each preset, by its name. It prints as a list."""

    def __repr__(self) -> str:
        indent = 2 + max(map(len, self))
        return "\n".join(
            fill(about, 80, initial_indent=name.ljust(indent), subsequent_indent=" " * indent)
            for name, about in self.items()
        )


def presets() -> dict[str, str]:
    """Every preset, with one line about it."""
    return Presets({name: preset_header(name)["about"] for name in preset_names()})


def preset_text(name: str) -> str:
    """The TOML of a preset.

    Raises:
        ConfigError: The preset is unknown; the nearest one is named.
    """
    names = preset_names()
    if name not in names:
        raise ConfigError(unknown("preset", str(name), names))
    return (_PRESETS / f"{name}.toml").read_text(encoding="utf-8")


def preset_header(name: str) -> dict[str, str]:
    """The comment at the top of a preset: `about`, its first line, and `paper` and `differs`, if given."""
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
