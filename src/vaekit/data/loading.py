"""Load a data set from a name, a path, a frame, an array or a function.

Not for: reading the data (`by_name`, `by_path`, `table`).
"""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from ..errors import ConfigError, DataError, check_range, is_whole, one_of, unknown
from .batch import is_array
from .by_name import load_by_name
from .by_path import is_path, load_by_path
from .chosen_rows import keep_labels
from .dataset import Dataset
from .registry import SOURCES, known_as
from .table.column_kinds import ColumnKinds
from .table.frames import is_frame
from .table.table_dataset import load_table
from .table.table_files import is_table
from .value_kinds import VALUE_KINDS, ValueKind


def load(
    name: Any,
    *,
    validation: int | None = None,
    test: int | str | os.PathLike[str] | None = None,
    size: int | None = None,
    memory: float | None = None,
    root: str | os.PathLike[str] | None = None,
    value_kind: ValueKind = "pixels",
    columns: ColumnKinds | None = None,
    labelled: int | None = None,
    kind: Literal["signal"] | None = None,
) -> Dataset:
    """A data set: by name, by path, from a frame or an array, or by a function.

    | source | what it is | options |
    |---|---|---|
    | a name | one of `vaekit.data.DATASET_NAMES`, unpacked or downloaded on first use | validation, root |
    | a folder, `.npy`, `.npz` | images, vectors or signals, see `by_path` | validation, test, size, memory, kind |
    | `.csv`, `.tsv`, `.parquet`, frame, array (N, D) | a table, see `table` | validation, test, memory, columns |
    | a function | it returns a `Dataset` | those that it has as parameters |

    Held-out rows of a path or a table are drawn at random, the same rows for the same counts; data that are split
    already keep their splits. A function gets the options that are not None, and `value_kind` if it has this parameter.

    Arguments:
        name: The source; or a `Dataset`, which is returned.
        validation: Number of training rows to hold out. By default a named data set's own number (MNIST: 5,000), one
            row in 20 of a path, and one in ten of a table, at most 5,000.
        test: Number of rows to test on, by default one in ten, at most 10,000; or the path of a table to test on.
        size: Side in pixels to which the central square of each image in a folder is resized.
        memory: GiB up to which rows are read into memory; 1 by default, 0 leaves them all on disk.
        root: Folder of the data sets by name, laid out as torchvision's; by default the user's cache.
        value_kind: Meaning of the numbers in an array by path: "pixels", "counts", "real", or "table", whose columns
            have kinds of their own. In a training the likelihood decides.
        columns: Kinds of a table's columns by name, by default from their types: "real", "positive", "count",
            "ordinal", "categorical", "bernoulli", "size-factor", "label" or "ignore"; or the levels of an ordinal one
            in order. "*" stands for all other columns.
        labelled: Number of training rows that keep their label, equally many of each class; the others get −1,
            unknown. By default all rows keep theirs.
        kind: "signal" if the rows of an array by path are signals, (N, L) or (N, C, L).

    Raises:
        DataError: The name is unknown, files are damaged, missing files cannot be fetched, or images differ in kind or
            size.
        ConfigError: An option is out of range, or does not apply to the source.
    """
    test = os.fspath(test) if isinstance(test, os.PathLike) else test
    counts = {"validation": validation, "test": None if isinstance(test, str) else test, "size": size}
    for option, count in {**counts, "labelled": labelled}.items():
        _check_whole(option, count)
    if not isinstance(memory, Real | None):
        raise ConfigError(f"memory is a number of GiB, got {memory!r:.60}; pass memory=1")
    check_range("memory", memory or 0, 0)
    one_of("value_kind", value_kind, VALUE_KINDS)
    if kind is not None:
        one_of("kind", kind, ("signal",))
    if not isinstance(columns, Mapping | None):
        raise ConfigError(f'columns must name kinds, such as {{"age": "count"}}, got {columns!r:.60}')
    options: dict[str, Any] = {"validation": validation, "test": test, "size": size, "memory": memory, "root": root}
    options |= {"columns": columns, "kind": kind}
    source, opener = _opener_of(name, value_kind)
    data = opener.open(source, value_kind=value_kind, **opener.applicable(source, options))
    return data if labelled is None else keep_labels(data, labelled)


def _check_whole(option: str, count: Any) -> None:
    """Refuse a count of rows or pixels that is not a whole number, such as a share of the rows.

    Raises:
        ConfigError: The count is not a whole number.
    """
    if count is None or is_whole(count):
        return
    share = isinstance(count, float) and 0 < count < 1 and option in ("validation", "test")
    remedy = f"; for a share of {count} pass round({count} * number of rows)" if share else ""
    raise ConfigError(f"{option} must be a whole number, got {count!r:.60}{remedy}")


@dataclass(frozen=True)
class _Opener:
    """One way to load.

    Arguments:
        open: Function (source, meaning of its numbers, options) → data set.
        options: Names of the options that apply; any other is refused.
    """

    open: Callable[..., Dataset]
    options: tuple[str, ...]

    def applicable(self, source: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are not None.

        Raises:
            ConfigError: One of these options does not apply to the source.
        """
        chosen = {option: value for option, value in options.items() if value is not None}
        label = repr(source) if isinstance(source, str) else _kind_of(source)
        for option in chosen:
            if option not in self.options:
                raise ConfigError(f"{option} is for {_PURPOSES[option]}; leave it out with {label}")
        if isinstance(chosen.get("test"), str) and "columns" not in self.options:
            raise ConfigError(
                f"test is the path of a table ({chosen['test']}), but {label} is not a table; give a number"
            )
        return chosen


_PURPOSES = {
    "validation": "data that are not split yet",
    "test": "rows of your own that are not split yet",
    "size": "images of your own, by path",
    "memory": "rows of your own, by path",
    "root": "data sets by name",
    "kind": "arrays of your own, such as signals.npy",
    "columns": "tables, such as table.csv",
}


def _opener_of(source: Any, value_kind: ValueKind) -> tuple[Any, _Opener]:
    """The source, with names spelled as in `DATASET_NAMES`, and its opener.

    Raises:
        DataError: No opener fits the source.
    """
    if isinstance(source, Dataset):
        return source, _DATASET
    if is_frame(source) or (is_array(source) and len(source.shape) == 2):
        return source, _TABLE
    if callable(source):
        return source, _FUNCTION
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"load takes the name or the path of a data set, a frame or an array (N, D), got {type(source).__name__}; "
            "other arrays and tensors go to fit as they are, or into Split(x, labels)"
        )
    name = os.fspath(source)
    name = known_as(name)
    if name in SOURCES:
        return name, _NAMED
    if is_table(name, value_kind):
        return name, _TABLE
    if is_path(name):
        return name, _BY_PATH
    raise DataError(f"{unknown('data set', name, SOURCES)}; name one of these, or pass the path of your own images")


def _table(source: Any, value_kind: ValueKind, columns: ColumnKinds | None = None, **options: Any) -> Dataset:
    return load_table(source, name=source if isinstance(source, str) else "table", kinds=columns, **options)


def _returned(function: Callable[..., Dataset], value_kind: ValueKind, **options: Any) -> Dataset:
    """Call the user's function for a data set; it gets `value_kind` if it has such a parameter."""
    name = getattr(function, "__qualname__", repr(function))
    try:
        signature = inspect.signature(function)
        if "value_kind" in signature.parameters:
            options["value_kind"] = value_kind
        signature.bind(**options)
    except ValueError:
        raise DataError(f"{name} must be a function that returns a vaekit.data.Dataset") from None
    except TypeError as error:
        raise ConfigError(f"{name}: {error}; leave the option out, or let the function take it") from None
    data = function(**options)
    if not isinstance(data, Dataset):
        raise DataError(f"{name} must return a vaekit.data.Dataset, got {type(data).__name__}")
    return data


def _kind_of(source: Any) -> str:
    return "a Dataset" if isinstance(source, Dataset) else f"a table of type {type(source).__name__}"


_DATASET = _Opener(lambda data, value_kind: data, ())
_NAMED = _Opener(lambda name, value_kind, **options: load_by_name(name, **options), ("validation", "root"))
_TABLE = _Opener(_table, ("validation", "test", "memory", "columns"))
_BY_PATH = _Opener(load_by_path, ("validation", "test", "size", "memory", "kind"))
_FUNCTION = _Opener(_returned, tuple(_PURPOSES))
