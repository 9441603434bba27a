"""The options that make a config: a preset or a file, with settings on top."""

import functools
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import FILE

if TYPE_CHECKING:
    from ..config import Config


# The keys of a config that have options of their own, by the field of `ConfigOptions`: --test-data sets data.test.
KEYS = {
    "data": "data.name",
    "test_data": "data.test",
    "labelled": "data.labelled",
    "epochs": "train.epochs",
    "device": "train.device",
    "seed": "train.seed",
    "deterministic": "train.deterministic",
}


@dataclass(frozen=True)
class ConfigOptions:
    """The config that the command line asks for.

    Arguments:
        preset: Name of a preset.
        config_file: TOML file instead of a preset.
        settings: Strings "section.key=value".
        data, test_data, labelled, epochs, device, seed, deterministic: Keys that have options of their own; see `KEYS`.
    """

    preset: str | None
    config_file: Path | None
    settings: tuple[str, ...]
    data: str | None
    test_data: str | None
    labelled: int | None
    epochs: int | None
    device: str | None
    seed: int | None
    deterministic: bool

    @property
    def label(self) -> str:
        """Name of the preset, or of the file without its suffix."""
        return self.preset or (self.config_file.stem if self.config_file else self._default_preset())

    def _default_preset(self) -> str:
        """The preset that suits the data."""
        from ..runs.preset import default_preset

        return default_preset(self.data)

    def config(self) -> "Config":
        """The config with every setting applied.

        Raises:
            ConfigError: The file is damaged, or a setting is unknown or out of range.
        """
        from .. import config

        self._check_preset(config.preset_names())
        values = {key: getattr(self, name) for name, key in KEYS.items()}
        given = {key: value for key, value in values.items() if value is not None and value is not False}
        sections: dict[str, dict[str, Any]] = {}
        for key, value in given.items():
            section, _, option = key.partition(".")
            sections.setdefault(section, {})[option] = value
        preset = self._default_preset() if self.preset is None and self.config_file is None else self.preset
        return config.read(preset, self.config_file, self.settings, sections)

    def _check_preset(self, known: Collection[str]) -> None:
        """Refuse a data set or a file in place of the preset, and name the right option.

        Raises:
            UsageError: The preset is the name of data or of a file.
        """
        from ..data import DATASET_NAMES
        from ..data.table.table_files import is_table

        name = self.preset
        if name is None or name in known:
            return
        if name in DATASET_NAMES or is_table(name) or os.path.isdir(name):
            raise click.UsageError(f"{name} is not a preset but data: vae train --data {name}")
        if Path(name).suffix == ".toml":
            raise click.UsageError(f"{name} is not a preset but a config: vae train --config {name}")


_OPTIONS = [
    click.argument("preset", required=False),
    click.option(
        "--config", "config_file", type=FILE, help="TOML file to use instead of a preset, such as a run's config.toml."
    ),
    click.option(
        "--data", help="Data set (`vae data` lists them), or a path: table.csv, images.npy, images.npz or a folder."
    ),
    click.option("--test-data", help="A table to test on, instead of a tenth of the rows of --data."),
    click.option("--labelled", type=int, help="How many training rows keep their label, for presets such as m2."),
    click.option("--epochs", type=int, help="How often to go through the training rows."),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key of the config; may be repeated."
    ),
    click.option("--device", help="cpu, cuda, cuda:1, mps …  [default: the fastest here]"),
    click.option("--seed", type=int, help="Seed of everything random.  [default: 0]"),
    click.option(
        "--deterministic",
        is_flag=True,
        help="Use deterministic algorithms only; then a GPU gives the same bits too.",
    ),
]


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a config, as its argument `options`."""

    @functools.wraps(command)
    def with_options(**arguments: Any) -> Any:
        options = ConfigOptions(**{field.name: arguments.pop(field.name) for field in fields(ConfigOptions)})
        return command(options=options, **arguments)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options


def renamed_option(option: str, verb: str, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A former option that became a verb; its use raises an error that names the verb."""

    def refuse(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value and not context.resilient_parsing:
            raise click.UsageError(f"{option} is a command of its own: `{verb}`")

    return click.option(option, hidden=True, expose_value=False, callback=refuse, **attributes)
