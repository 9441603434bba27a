"""`vae sample` of a table: new rows, with given values in some columns."""

from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError
from .common import print_files
from .drawing_options import Drawing

FEW = 100  # effective samples; with fewer, rows are much alike


def sample_table(drawing: Drawing, count: int, where: Sequence[str], label: str | None) -> None:
    """Write new rows of a table, with given values in some columns.

    Arguments:
        drawing: A run on a table, and the file to write.
        count: How many rows.
        where: Texts "column=value".
        label: Class of all rows, for a conditional model; None draws each class in turn.
    """
    from ..data.table.frames import frame_of
    from ..data.table.table_files import check_writable, write_frame
    from ..evaluation.missing.conditional import rows_where
    from ..store.files import slug

    run = drawing.run
    columns = drawing.facts.columns or ()
    values = _values(where)
    path = drawing.output or run.place(
        f"samples/sample-{drawing.seed}{''.join(f'-{slug(text)}' for text in where)}.csv"
    )
    check_writable(path)
    model, generator = drawing.model()
    c = drawing.classes(model, label, count)
    if c is not None and values:
        raise ConfigError("--where is for unconditional models, and this one is conditional; use --class")
    facts: dict[str, Any] = {"run": str(run.path), "rows": count}
    notes: list[tuple[str, str]] = []
    if values:
        x, ess = rows_where(model, columns, count, values, seed=drawing.seed)
        facts["effective_samples"] = ess
        wanted = ", ".join(where)
        fit = f"effective sample size {ess:.0f}: about this many of the drawn latents fit {wanted}"
        notes.append(("latents", fit))
        if ess < FEW:
            notes.append(("beware", f"fewer than {FEW}: the rows are much alike, since {wanted} is rare"))
    else:
        x = model.sample(count, c, generator=generator, noise=True)
    frame = frame_of(x.cpu().numpy(), columns)
    classes = drawing.restored.label
    if c is not None and classes is not None:
        frame[classes.name] = [classes.classes[number] for number in c.tolist()]
    write_frame(frame.drop(columns=[column.name for column in columns if column.computed]), path)
    print_files(path, notes=notes, **facts)


def _values(where: Sequence[str]) -> dict[str, str]:
    """Values by column, from texts "column=value".

    Raises:
        ConfigError: A text is not of this form.
    """
    values = {}
    for text in where:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--where takes COLUMN=VALUE, got {text!r}")
        values[name] = value
    return values
