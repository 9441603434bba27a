"""What environment.json records about the data that a run was trained on.

Not for: loading the data (`restore.RestoredRun`), or whether they have changed since (`environment.differences`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ..data import Dataset
from ..data.dataset import SPLITS, DataKind, row_word, shows_images
from ..data.table.columns import Column
from ..data.value_kinds import ValueKind
from ..errors import DataError, RunError
from ..store import Run


@dataclass(frozen=True)
class DataRecord:
    """The data of a run, without their rows.

    Attributes:
        name: Name or path of the data set.
        checksum: Checksum of the data, as in `Dataset`.
        kind: Kind of the data, as in `Dataset`.
        value_kind: What the numbers in x mean to the model.
        event_shape: Shape of one row.
        num_classes: The number of classes.
        classes: Names of the classes.
        columns: The columns of a table, one for each value of a row; None for other data.
        counts: The number of rows in each split.
    """

    name: str
    checksum: str
    kind: DataKind
    value_kind: ValueKind
    event_shape: tuple[int, ...]
    num_classes: int
    classes: tuple[str, ...]
    columns: tuple[Column, ...] | None
    counts: Mapping[str, int]

    @classmethod
    def of(cls, run: Run) -> "DataRecord":
        """What a run recorded. The first runs have no kind and no values: their data are images of pixels.

        Raises:
            RunError: environment.json lacks an entry, or is damaged.
        """
        if "data" not in run.environment:
            raise RunError(
                f"run {run.name} does not record its data and its model, as the training of a preset does; load its "
                "weights into your model: model.load_state_dict(run.load_checkpoint('best').part('model'))"
            )
        table = run.recorded("data", kind=dict)
        where = run.path / "environment.json"
        shape = run.recorded("data", "shape", kind=list)
        num_classes = run.recorded("data", "num_classes", kind=int)
        if not shape or not all(type(n) is int and n > 0 for n in shape):
            raise RunError(f"{where} is damaged: the shape of its data is {shape!r:.200}")
        if num_classes < 1:
            raise RunError(f"{where} is damaged: the number of its classes is {num_classes}")
        kind, value_kind = table.get("kind", "image"), table.get("values", "pixels")
        if kind not in get_args(DataKind) or value_kind not in get_args(ValueKind):
            raise RunError(
                f"{where} is damaged: the kind of its data is {kind!r:.40}, of its values {value_kind!r:.40}"
            )
        counts = run.recorded("data", "rows" if "rows" in table else "images", kind=dict)  # in older run folders
        if not all(type(counts.get(name)) is int for name in SPLITS):
            raise RunError(f"{where} is damaged: the numbers of its rows are {counts!r:.200}")
        return cls(
            name=str(run.recorded("data", "name")),
            checksum=str(run.recorded("data", "checksum")),
            kind=kind,
            value_kind=value_kind,
            event_shape=tuple(shape),
            num_classes=num_classes,
            classes=tuple(map(str, run.recorded("data", "classes", kind=list))),
            columns=columns_from(table.get("columns"), shape, where),
            counts={name: counts[name] for name in SPLITS},
        )

    @classmethod
    def of_dataset(cls, data: Dataset, value_kind: ValueKind) -> "DataRecord":
        """What to record for a run on a data set.

        Arguments:
            data: The data set.
            value_kind: What its numbers mean to the model.
        """
        assert data.kind is not None  # `Dataset` fills it in
        return cls(
            name=data.name,
            checksum=data.checksum,
            kind=data.kind,
            value_kind=value_kind,
            event_shape=data.event_shape,
            num_classes=data.num_classes,
            classes=data.classes,
            columns=data.columns,
            counts={name: len(split) for name, split in data.splits.items()},
        )

    @property
    def shows_images(self) -> bool:
        """Whether the rows are images that a picture can show: grey, or in colours."""
        return shows_images(self.kind, self.event_shape)

    @property
    def row_word(self) -> str:
        """The word for one row: "image" or "row"."""
        return row_word(self.kind)

    @property
    def wiring(self) -> dict[str, Any]:
        """What the parts of a model depend on: the shape of a row, the classes and the columns."""
        return {
            "event_shape": self.event_shape,
            "num_classes": self.num_classes,
            "columns": self.columns,
            "class_names": self.classes,
        }

    def to_json(self) -> dict[str, Any]:
        """The record as the table `data` of environment.json."""
        return {
            "name": self.name,
            "checksum": self.checksum,
            "kind": self.kind,
            "values": self.value_kind,
            "shape": list(self.event_shape),
            "num_classes": self.num_classes,
            "classes": list(self.classes),
            **({} if self.columns is None else {"columns": [column.to_json() for column in self.columns]}),
            "rows": dict(self.counts),
        }


def columns_from(tables: Any, shape: Sequence[int], where: Path) -> tuple[Column, ...] | None:
    """The columns from a JSON file, or None.

    Arguments:
        tables: Tables from the file, one for each column; or None.
        shape: Shape of a row.
        where: The file.

    Raises:
        RunError: The file is damaged.
    """
    if tables is None:
        return None
    try:
        columns = tuple(Column.from_json(table) for table in tables)
    except (TypeError, DataError) as error:
        raise RunError(f"{where} is damaged: its columns ({error})") from None
    if len(columns) != shape[0]:
        raise RunError(f"{where} is damaged: it has {len(columns)} columns, but rows of {shape[0]}")
    return columns
