"""`vae sample` of a table: new rows, with given values in some columns."""

from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError
from .common import print_files
from .drawing_options import Drawing


def sample_table(drawing: Drawing, count: int, where: Sequence[str], label: str | None) -> None:
    """Write new rows of a table, with given values in some columns.

    Arguments:
        drawing: A run on a table, and the file to write.
        count: How many rows.
        where: Texts "column=value".
        label: Class of all rows, for a conditional model; None draws each class in turn.
    """
    from ..data.table.table_files import check_writable, write_frame
    from ..evaluation.missing.conditional import draw_table
    from ..store.files import slug

    run, values = drawing.run, _values(where)
    given = [*([] if label is None else [f"class {label}"]), *(text.replace("=-", "=minus ") for text in where)]
    name = "-".join(map(slug, ("sample", str(drawing.seed), *given)))
    path = drawing.output or run.path_to_write(f"samples/{name}.csv")
    check_writable(path, drawing.data_record.columns or ())
    drawing.check_output(path)
    model, _ = drawing.model()
    c = drawing.classes(model, label, count)
    if c is not None and values:
        raise ConfigError("--where is for unconditional models, and this one is conditional; use --class")
    drawn = draw_table(drawing.restored, model, count, where=values, c=c, seed=drawing.seed)
    write_frame(drawn.frame, path)
    record: dict[str, Any] = {"run": str(run.path), "rows": count}
    notes: list[tuple[str, str]] = []
    if drawn.effective_samples is not None:
        record["effective_samples"] = drawn.effective_samples
        size = f"effective sample size {drawn.effective_samples:.0f}"
        notes.append(("latents", f"{size}: about this many of the drawn latents fit {', '.join(where)}"))
    notes += [("beware", sentence) for sentence in drawn.warnings]
    print_files(path, notes=notes, **record)


def _values(where: Sequence[str]) -> dict[str, str]:
    """Values by column, from texts "column=value".

    Raises:
        ConfigError: A text is not of this form.
    """
    values: dict[str, str] = {}
    for text in where:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--where takes COLUMN=VALUE, got {text!r}")
        if values.setdefault(name, value) != value:
            raise ConfigError(f"--where gives column {name!r} two values, {values[name]!r} and {value!r}; give one")
    return values
