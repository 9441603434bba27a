"""Read the recipe or the run that a command works on, as --trust allows; `ChosenRun`: a run, --device and --seed."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from .common import device_option, is_default, run_argument, runs_option, seed_option, trust_option, trusted

if TYPE_CHECKING:
    import torch

    from ..config import Config
    from ..config.recipe import Recipe
    from ..data import Split
    from ..model import LatentVariableModel
    from ..runs.data_record import DataRecord
    from ..runs.restore import RestoredRun
    from ..store import Run


@dataclass(frozen=True)
class ChosenRun:
    """The run that the command names, with the device and the seed for its model.

    Arguments:
        restored: The restored run.
        device: Device of the model.
        seed: Seed of the noise.
    """

    restored: "RestoredRun"
    device: str = "auto"
    seed: int = 0

    @property
    def run(self) -> "Run":
        """The run itself."""
        return self.restored.run

    @property
    def data_record(self) -> "DataRecord":
        """What the run recorded about its data."""
        return self.restored.data_record

    def model(self) -> "tuple[LatentVariableModel, torch.Generator]":
        """The run's model, and a random generator with the seed."""
        import torch

        return self.restored.model(device=self.device), torch.Generator().manual_seed(self.seed)

    def check_output(self, *paths: Path, data_name: str | Path | None = None) -> None:
        """Refuse to write over the data that are read, by default the run's own: a file, or any file in a folder.

        Arguments:
            paths: Every file that the command writes.
            data_name: Name or path of the data; None for the run's.

        Raises:
            ConfigError: One of the paths is the file of the data, or is in the folder of the data but not of the run.
        """
        config = self.restored.recipe.config.data
        names = [config.name, config.test] if data_name is None else [data_name]
        sources = [Path(name).expanduser().resolve() for name in names if isinstance(name, str | Path)]
        for path in filter(Path.exists, paths):
            file = path.resolve()
            if any(source.is_file() and file.samefile(source) for source in sources):
                raise ConfigError(f"{path} is the file of the data, which would be lost; choose another name with -o")
            if any(map(file.is_relative_to, sources)) and not file.is_relative_to(self.run.path.resolve()):
                raise ConfigError(
                    f"{path} is in the folder of the data, and would be lost; choose another name with -o"
                )

    def spread_test_rows(self, count: int) -> "Split":
        """`count` evenly spread test rows; all of them if the command's -n was left out and there are fewer.

        Raises:
            DataError: There are fewer than -n.
        """
        test = self.restored.dataset().test
        if count > len(test) and not is_default("count"):
            rows = f"{len(test)} test {self.data_record.row_word}s"
            numbers = f"; they are numbered 0 to {len(test) - 1}" if len(test) else ""
            raise DataError(f"there are {rows}, got -n {count}{numbers}")
        return test.thinned(min(count, len(test)))


def resolved(config: "Config") -> "Recipe":
    """The recipe of a config; with --trust the config may name code of the user."""
    from ..config.recipe import Recipe

    return Recipe.resolve(config, trust=trusted())


def restored_run(run: "Run | str | None", root: Path) -> "RestoredRun":
    """Restore a run, the newest by default; with --trust its config may name code of the user."""
    from ..runs.restore import RestoredRun

    return RestoredRun.of(run, root=root, trust=trusted())


def takes_run(
    record: type[ChosenRun],
    name: str,
    options: Iterable[Callable[..., Any]] = (),
    *,
    seeded: bool = True,
    computes: bool = True,
) -> Callable[..., Callable[..., Any]]:
    """Give a command the argument RUN and the options of a run, which it takes as one record.

    Arguments:
        record: Class of the record.
        name: Name of the command's parameter that takes the record.
        options: Options for the other fields of the record.
        seeded: Whether there is --seed.
        computes: Whether there is --device.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_record(run: str | None, root: Path, **arguments: Any) -> Any:
            values = {field.name: arguments.pop(field.name) for field in fields(record) if field.name in arguments}
            return command(**{name: record(restored_run(run, root), **values)}, **arguments)

        common = [*([seed_option] if seeded else []), *([device_option] if computes else []), trust_option, runs_option]
        for option in reversed([run_argument, *options, *common]):
            with_record = option(with_record)
        return with_record

    return decorate


run_options = takes_run(ChosenRun, "chosen")
unseeded_run_options = takes_run(ChosenRun, "chosen", seeded=False)
