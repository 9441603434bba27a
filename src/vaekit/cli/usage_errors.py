"""The message for a wrong command line, with the right spelling where it is known.

Not for: unknown keys and names, which `config` and `errors.unknown` answer.
"""

import click

VALUE = "VALUE"


def usage_message(error: click.ClickException, arguments: list[str]) -> str:
    """The message for a mistake on the command line, with the right spelling where it is known.

    Arguments:
        error: The error of click.
        arguments: The typed words.
    """
    message = " ".join(error.format_message().split())
    if isinstance(error, click.NoSuchOption):
        right_option = _option(error, arguments)
        if right_option:
            return f"there is no option {error.option_name}; type {right_option}"
    elif isinstance(error, click.UsageError) and message.startswith("No such command") and error.ctx is not None:
        right_command = _command(arguments)
        if right_command:
            return f"there is no command {arguments[0]!r}; type `{right_command}`"
    return message


def _option(error: click.NoSuchOption, arguments: list[str]) -> str | None:
    """The option or setting that an unknown option stands for."""
    command = error.ctx.command if error.ctx is not None else None
    if command is None or not any("--set" in parameter.opts for parameter in command.params):
        return None
    from ..config import nearest_setting
    from .config_options import KEYS

    key = nearest_setting(error.option_name.lstrip("-"))
    if key is None:
        return None
    value = _value(error.option_name, arguments)
    options = {option for p in command.params if not getattr(p, "is_flag", False) for option in p.opts}
    own_option = next((f"--{name.replace('_', '-')}" for name, own_key in KEYS.items() if own_key == key), None)
    return f"{own_option} {value}" if own_option in options else f"--set {key}={value}"


def _value(option: str, arguments: list[str]) -> str:
    """The word typed after an option, or behind its =."""
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name == option:
            value = value if equals else after
            return value if value and not value.startswith("--") and value.isprintable() else VALUE
    return VALUE


def _command(arguments: list[str]) -> str | None:
    """The right command if the typed command is the name of a preset or of data."""
    from ..config import preset_names
    from ..data import DATASET_NAMES
    from ..data.table.table_files import is_table

    name = arguments[0] if arguments else ""
    if name in preset_names():
        return f"vae train {name}"
    return f"vae train --data {name}" if name in DATASET_NAMES or is_table(name) else None
