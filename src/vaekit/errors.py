"""The exceptions of this package.

Every error that a user can cause is a `VAEError`. Its message names the value, the limit and the remedy. On the command
line it is one line on stderr and exit status 2.

    VAEError
    ├── ConfigError (ValueError)           an option is unknown, out of range, or does not fit another one
    ├── DataError (ValueError)             data are missing, damaged, or of the wrong shape or range
    ├── RunError                           the path is not a run folder, or the folder is damaged, in use or read-only
    ├── DeviceError                        this machine has no such device
    ├── RankError                          another process of the same training died
    └── NumericalError (ArithmeticError)   a loss or a gradient is not finite
"""

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral
from typing import Self, TypeGuard, TypeVar

MOST_LISTED = 12  # names in a message

Number = TypeVar("Number", int, float)
Word = TypeVar("Word", bound=object)


class VAEError(Exception):
    """The root of this package's errors.

    Arguments:
        message: What is wrong, with the value, the limit and the remedy.
        arguments: Names of the Python arguments that the remedy is about. The command line adds its options of these
            names.
        command: The command that comes next, without `vae`, such as "resume my-run". The command line adds it.
    """

    def __init__(self, message: str = "", *, arguments: Sequence[str] = (), command: str = "") -> None:
        super().__init__(message)
        self.arguments = tuple(arguments)
        self.command = command

    def with_message(self, message: str) -> Self:
        """The same error with another message."""
        return type(self)(message, arguments=self.arguments, command=self.command)


class ConfigError(VAEError, ValueError):
    """An option is unknown, out of range, or does not fit another one."""


class DataError(VAEError, ValueError):
    """Data are missing, damaged, or of the wrong shape or range."""


class RunError(VAEError):
    """The path is not a run folder, or the folder is damaged, in use or cannot be written."""


class DeviceError(VAEError):
    """This machine has no such device."""


class RankError(VAEError):
    """Another process of the same training died or cannot be reached."""


class NumericalError(VAEError, ArithmeticError):
    """A loss or a gradient is not finite."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for an unknown name; it suggests the nearest known one.

    >>> unknown("data set", "mnits", ["mnist", "svhn"])
    "unknown data set 'mnits'; did you mean 'mnist'? Known: mnist, svhn"
    """
    name, names = str(name), sorted(known)
    if not names:
        return f"unknown {kind} {name!r:.120}; no {kind} exists"
    near = get_close_matches(name, names, n=1)
    if near and len(names) > MOST_LISTED:
        return f"unknown {kind} {name!r:.120}; did you mean {near[0]!r}?"
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r:.120};{hint} {'Known' if hint else 'known'}: {', '.join(names)}"


def reason(error: Exception) -> str:
    """The message of another library's error on one line of at most 200 characters; without a message, its type."""
    return f"{' '.join(str(error).split()) or type(error).__name__:.200}"


def one_of(option: str, value: Word, words: Sequence[Word]) -> Word:
    """Check that the value of an option is one of the allowed words, and return it.

    Arguments:
        option: Name of the option.
        value: The value.
        words: The allowed words; None among them is allowed too, but not named in the message.

    Raises:
        ConfigError: The value is not one of the words; the message names the nearest word.

    >>> one_of("gradient", "stl", ("plain", "stl"))
    'stl'
    """
    if value not in words:
        raise ConfigError(unknown(option, value, [str(word) for word in words if word is not None]))
    return value


def is_whole(value: object) -> TypeGuard[int]:
    """Whether this is a whole number, of Python or NumPy."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Whether this is a whole number of at least 1."""
    return is_whole(value) and value >= 1


def check_count(option: str, value: int, least: int = 1, most: float = math.inf, *, hint: str = "") -> int:
    """Check that the value of an option is a whole number from `least` to `most`, and return it.

    Arguments:
        option: Name of the option.
        value: The value.
        least: The smallest number.
        most: The largest number.
        hint: What to do instead, for the message.

    Raises:
        ConfigError: The value is not a whole number in this range.

    >>> check_count("samples", 5)
    5
    """
    if is_whole(value) and least <= value <= most:
        return value
    whole = "" if is_whole(value) else "a whole number, "
    limit = f"at most {most}" if is_whole(value) and value > most else f"at least {least}"
    raise ConfigError(f"{option} must be {whole}{limit}, got {value!r:.60}{hint}")


def check_range(
    option: str, value: Number, low: float, high: float = math.inf, *, ends: str = "[)", hint: str = ""
) -> Number:
    """Check that the value of an option lies in a range, and return it.

    Arguments:
        option: Name of the option.
        value: The value.
        low: The lower end.
        high: The upper end.
        ends: Which ends belong to the range, in brackets as in [low, high). An infinite end belongs to it.
        hint: What to do instead, for the message.

    Raises:
        ConfigError: The value is outside, NaN or not a number.

    >>> check_range("beta", 0.5, 0.0, 1.0, ends="[]")
    0.5
    """
    try:
        above = low <= value if ends[0] == "[" else low < value
    except TypeError:
        raise ConfigError(f"{option} must be a number, got {value!r:.60}") from None
    if not above:
        limit = f"{'at least' if ends[0] == '[' else 'greater than'} {low}"
    elif not (value <= high if ends[1] == "]" or high == math.inf else value < high):
        limit = f"{'at most' if ends[1] == ']' else 'less than'} {high}"
    else:
        return value
    raise ConfigError(f"{option} must be {limit}, got {value}{hint}")
