"""Values from JSON and TOML files of unknown origin: bounded in depth and in their numbers.

A number has at most 64 bits and is finite. Tables and lists are nested a few levels deep. There are no dates. So every
reader can print a value, store it and compute with it. Each error is a `ValueError` of one line that names the key; the
caller adds the file. Not for: files (`files`), or the meaning of a key (`config.schema`).
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

import tomli_w

TOML_LIMIT = 1 << 20  # bytes: two numbers for each of 45,000 channels; tomllib reads them in a second
DEEPEST = 16  # levels of a config
LONGEST_KEY = 1000  # letters of a key with the keys above it, which every value below them repeats
DEEPEST_JSON = 64  # levels of any other file
LOW, HIGH = -(1 << 63), (1 << 63) - 1
_MOST_DIGITS = 20  # in 2^64, the bound of a generator's seed
# A text in quotes, to its end or else to the end of the line or file; a comment; a word. The parts are possessive
# (`*+`), so that the time of a search grows with the length of the text alone.
_WORD = re.compile(
    "|".join(
        (
            r'"{3}(?:(?!"{3})(?:[^\\]|\\.?))*+"{0,5}',  # the end may have two quotes more
            r"'{3}(?:(?!'{3}).)*+'{0,5}",
            r'"(?:[^"\\\n]|\\[^\n])*+"?',
            r"'[^'\n]*+'?",
            r"#[^\n]*+",
            r"[\w-]++",
        )
    ),
    re.DOTALL,
)
_DEEP_KEY = "w" + ".w" * DEEPEST


def json_value(data: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: The text is not JSON (NaN and Infinity are not), nested too deeply, or has a number beyond 64 bits.

    >>> json_value(b'{"epoch": 1e999}')
    Traceback (most recent call last):
    ValueError: 1e999 is not a finite number
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_real, parse_float=_real, parse_int=_whole)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST_JSON} deep") from None
    level = [value]
    for _ in range(DEEPEST_JSON):
        level = [item for parent in level if isinstance(parent, (dict, list)) for item in _items(parent)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {DEEPEST_JSON} deep")


def toml_table(text: str) -> dict[str, Any]:
    """The table of a TOML text.

    Raises:
        ValueError: The text is not TOML, or `check_config_table` refuses it.
    """
    if len(text) > TOML_LIMIT:
        raise ValueError(f"it is longer than the {TOML_LIMIT} bytes that a config may have")
    if _DEEP_KEY in _outline(text):
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from None
    check_config_table(table)
    return table


def _outline(text: str) -> str:
    """A TOML text with "w" for every word, text in quotes and comment, and without blanks.

    The time of tomllib grows with the square of the length of a dotted key, 0.7 s for 16 KiB, so the depth of
    the keys is checked first.

    >>> _outline("[a . 'b.c']  # d.e")
    '[w.w]w'
    """
    return _WORD.sub("w", text).translate({ord(" "): None, ord("\t"): None})


class TomlTable(dict[str, Any]):
    """A table that prints as TOML."""

    def __str__(self) -> str:
        return tomli_w.dumps(self)


def check_config_table(table: Mapping[str, Any]) -> None:
    """Check that a config can hold the values of a table, whether it comes from TOML or from Python.

    Raises:
        ValueError: A number is beyond 64 bits or not finite, there is a date, the table is nested too deeply, or a key
            is too long.

    >>> check_config_table({"train": {"seed": 10**30}})
    Traceback (most recent call last):
    ValueError: train.seed must be a whole number of at most 64 bits
    """
    level: list[tuple[str, Any]] = [("", table)]
    for _ in range(DEEPEST):
        below: list[tuple[str, Any]] = []
        for key, value in level:
            if len(key) > LONGEST_KEY:
                raise ValueError(f"a key is longer than {LONGEST_KEY} letters: {key:.40}…")
            if isinstance(value, Mapping):
                below += [(f"{key}.{name}" if key else str(name), item) for name, item in value.items()]
            elif isinstance(value, (list, tuple)):
                below += [(key, item) for item in value]
            else:
                _check_plain(key[:200], value)
        level = below
        if not level:
            return
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def _check_plain(key: str, value: object) -> None:
    if isinstance(value, int) and not LOW <= value <= HIGH:
        raise ValueError(f"{key} must be a whole number of at most 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number, got {value}")
    if isinstance(value, (date, datetime, time)):
        raise ValueError(f"{key} is a date or a time, got {value}; a config has none")


def _items(value: dict[str, Any] | list[Any]) -> Any:
    return value.values() if isinstance(value, dict) else value


def _whole(digits: str) -> int:
    value = int(digits) if len(digits) <= _MOST_DIGITS else None
    if value is None or not LOW <= value < 1 << 64:
        raise ValueError(f"{digits:.30} is a number of more than 64 bits")
    return value


def _real(digits: str) -> float:
    value = math.nan if digits in ("NaN", "Infinity", "-Infinity") else float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits:.30} is not a finite number")
    return value
