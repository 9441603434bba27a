"""What can go wrong, as exceptions.

Every error that a user can cause is a `VAEError`; its message names the value, the limit and the remedy. On the command
line it is one line on stderr and exit status 2.

    VAEError
    ├── ConfigError (ValueError)     an option that does not exist, is out of range or does not fit another one
    ├── DataError (ValueError)       a data set that is missing or damaged, values of the wrong shape or range
    ├── RunError                     a run folder that is none, is damaged, in use or cannot be written
    ├── DeviceError                  a device that is not there
    ├── RankError                    another process of the same training that died
    └── NumericalError (ArithmeticError)   a loss or a gradient that is not finite
"""

from collections.abc import Iterable
from difflib import get_close_matches


class VAEError(Exception):
    """The root of this package's errors."""


class ConfigError(VAEError, ValueError):
    """An option that does not exist, is out of range or does not fit another one."""


class DataError(VAEError, ValueError):
    """A data set that is missing or damaged, or values of the wrong shape or range."""


class RunError(VAEError):
    """A run folder that is none, is damaged, is in use or cannot be written."""


class DeviceError(VAEError):
    """A device that is not there."""


class RankError(VAEError):
    """Another process of the same training that died or cannot be reached."""


class NumericalError(VAEError, ArithmeticError):
    """A loss or a gradient that is not finite."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that does not exist, suggesting the nearest one that does.

    >>> unknown("data set", "mnits", ["mnist", "svhn"])
    "unknown data set 'mnits'; did you mean 'mnist'? Known: mnist, svhn"
    """
    names = sorted(known)
    if not names:
        return f"unknown {kind} {name!r:.120}; there is none"
    near = get_close_matches(name, names, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r:.120};{hint} {'Known' if hint else 'known'}: {', '.join(names)}"


def at_least(minimum: int, option: str, value: int) -> int:
    """The value of an option, checked.

    Raises:
        ConfigError: it is below the minimum.
    """
    if value < minimum:
        raise ConfigError(f"{option} must be at least {minimum}, got {value}")
    return value
