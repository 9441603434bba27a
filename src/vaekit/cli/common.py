"""Shared by several verbs: options, the opening of a run, and the printing of results and messages."""

import os
import re
import sys
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from ..store.metrics import ROWS_KEY, stored_test
from .printing import note, out, out_json
from .tables import INDENT, print_entry, print_table

if TYPE_CHECKING:
    from ..store import Run


MOST_COUNTED = 1_000_000  # greatest count that an option takes


class HomePath(click.Path):
    """A path, or the name of data; a leading ~ is the home folder, which shells leave to us in --data=~/d.csv."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path that a word stands for, with the home folder in full.

        Raises:
            click.BadParameter: It is a folder where a file is expected, or the other way around.
        """
        return super().convert(os.path.expanduser(value), param, ctx)


DATA = HomePath()
FILE = HomePath(dir_okay=False, path_type=Path)
FOLDER = HomePath(file_okay=False, path_type=Path)

runs_option = click.option(
    "--runs",
    "root",
    type=FOLDER,
    default=Path("runs"),
    envvar="VAE_RUNS",
    show_default=True,
    help="Folder of all runs.",
)


class WholeNumber(click.types.IntParamType):
    """A whole number within bounds. The bounds limit memory and time; --help does not show them.

    Arguments:
        least: The least number.
        most: The greatest number.
    """

    def __init__(self, least: int, most: int = MOST_COUNTED) -> None:
        self.least = least
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number that a word stands for.

        Raises:
            click.BadParameter: The word is not a whole number, or the number is out of bounds.
        """
        number: int = super().convert(value, param, ctx)
        if number > self.most:
            self.fail(f"must be at most {self.most}, got {number}", param, ctx)
        if number < self.least:
            self.fail(f"must be at least {self.least}, got {number}", param, ctx)
        return number


class WithFormerName(click.Option):
    """An option of several spellings: --help shows the first, and the former ones still work."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The spellings and the help of the option."""
        shown = copy(self)
        shown.opts = self.opts[:1]
        return click.Option.get_help_record(shown, ctx)


COUNT = WholeNumber(1)
SEED_NUMBER = WholeNumber(0, (1 << 63) - 1)
seed_option = click.option("--seed", type=SEED_NUMBER, default=0, show_default=True, help="Seed of the noise.")
device_option = click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps …")
tensorboard_option = click.option(
    "--tensorboard", is_flag=True, help="Also write logs for TensorBoard into the run folder."
)
run_argument = click.argument("run", required=False)
data_option = click.option(
    "--data", "data_name", type=DATA, help="Table, .npy, .npz, folder of images or data set.  [default: the run's]"
)
split_option = click.option(
    "--split", help="Rows of the run's data or of a data set: test, validation or train.  [default: test]"
)
_TRUST, _JSON = f"{__name__}.trust", f"{__name__}.json"  # keys in a command's context: whether the option was given


def _allow_own_code(context: click.Context, option: click.Parameter, allowed: bool) -> None:
    """Record --trust, and let imports find modules in the working directory, as `python -m` does."""
    context.meta[_TRUST] = allowed
    if allowed and not context.resilient_parsing and "" not in sys.path:
        sys.path.insert(0, "")


trust_option = click.option(
    "--trust",
    is_flag=True,
    expose_value=False,
    callback=_allow_own_code,
    help="Allow code of your own: parts given as module:Name.",
)


def _note_json(context: click.Context, option: click.Parameter, is_given: bool) -> None:
    context.meta[_JSON] = is_given


json_option = click.option("--json", is_flag=True, expose_value=False, callback=_note_json, help="Print JSON.")


def trusted() -> bool:
    """Whether --trust was given: this command may then import the user's code."""
    return bool(click.get_current_context().meta.get(_TRUST, False))


def wants_json() -> bool:
    """Whether --json was given: this command then prints one line of JSON."""
    return bool(click.get_current_context().meta.get(_JSON, False))


def is_default(parameter: str) -> bool:
    """Whether an option of this command, by the name of its parameter, was left out."""
    return click.get_current_context().get_parameter_source(parameter) is ParameterSource.DEFAULT


def print_files(*paths: Path, notes: Sequence[tuple[str, str]] = (), **record: Any) -> None:
    """Print the notes, each a name and a text, and a line for each written file, relative to the working directory.

    With --json, print one record: the paths as they were given under `files`, and the entries of `record`.
    """
    if wants_json():
        out_json({"files": [str(path) for path in paths], **record})
        return
    for name, text in notes:
        print_entry(name, text, INDENT)
    for path in paths:
        out(relative(path))


def print_records(records: Sequence[dict[str, Any]], cells: Sequence[dict[str, Any]], long: bool) -> None:
    """Print a table of cells; with --json the records that they show, with all of their values."""
    if wants_json():
        out_json(records)
    else:
        print_table(cells, long=long)


def open_run(run: str | None, root: Path) -> "Run":
    """A run by its name or folder, the newest by default."""
    from ..store import Run

    return Run.open(run, root=root)


def test_of(run: "Run") -> dict[str, Any]:
    """The numbers measured on the test rows at the end of a training.

    Raises:
        RunError: The numbers are missing or damaged.
    """
    test = stored_test(run)
    return run.read_json("test.json") if test is None else test


def terms_of(test: dict[str, Any]) -> list[str]:
    """Names of the numbers measured on the test rows, the headline first."""
    return [name for name in test if name not in (ROWS_KEY, "samples", "unit")]


def headline(test: dict[str, Any]) -> str:
    """The first number of test.json, with its name and unit."""
    name, *_ = terms_of(test)
    unit = test.get("unit", "nats per image")
    return f"test {'−ELBO' if name == 'neg_elbo' else name} {two_decimals(test[name])} {unit}"


def two_decimals(value: float | None) -> str:
    """A number with two decimals; a dash for None, which JSON stores for a number that is not finite."""
    return "—" if value is None else f"{value:.2f}"


def is_worker() -> bool:
    """Whether torchrun has started this process and it is not the first; only the first one prints."""
    rank = os.environ.get("RANK", "0")
    return "MASTER_ADDR" in os.environ and rank.isdecimal() and int(rank) > 0


def say(message: str) -> None:
    """Print a line on stderr."""
    if not is_worker():
        note(f"vae: {message}")


def exit_after_interrupt(message: str) -> NoReturn:
    """End the command after Ctrl-C: say how to continue, and exit with status 130."""
    say(message)
    raise click.exceptions.Exit(130) from None


def relative(path: Path) -> str:
    """A path relative to the working directory, if it is inside."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:  # the working directory was removed
        return str(path)


def file_stem(name: str) -> str:
    """The name or the path of data as part of a file name, without the suffix of a file of rows."""
    from ..store import files

    return files.slug(re.sub(r"\.(np[yz]|[ct]sv|parquet)$", "", name)) or "rows"
