"""What verbs do with tables: draw new rows, list columns, and tell which columns make a row unusual.

Not for: filling gaps (`impute`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError, unknown
from .common import load_model, print_files, relative, slug

if TYPE_CHECKING:
    from torch import Tensor

    from ..config.recipe import Recipe
    from ..data.columns import Column
    from ..evaluation.named_rows import NamedRows
    from ..model import LatentVariableModel
    from ..store import Run

FEW = 100  # effective samples, with fewer of which rows are much alike


def draw(
    run: "Run",
    recipe: "Recipe",
    count: int,
    given: Sequence[str],
    output: Path | None,
    seed: int,
    device: str,
) -> None:
    """Write new rows of a table, with given values in some columns.

    Arguments:
        run: A run on a table.
        recipe: What its config means.
        count: How many rows.
        given: Texts "column=value".
        output: Where to write.
        seed: Of everything random.
        device: Where to compute.
    """
    from ..data.sources.frames import frame_of, write_frame
    from ..data.tables import TOTAL
    from ..evaluation.conditional import rows_given
    from ..runs.restore import columns_of

    columns = columns_of(run) or ()
    values, observed = condition(columns, given)
    path = output or run.place(f"samples/sample-{seed}{''.join(f'-{slug(one)}' for one in given)}.csv")
    model, generator = load_model(run, recipe, device, seed)
    facts: dict[str, Any] = {"run": str(run.path), "rows": count}
    notes: list[str] = []
    if given:
        x, ess = rows_given(model, count, values.to(model.device), observed.to(model.device), seed=seed)
        facts["effective_samples"] = ess
        notes = [f"effective sample size {ess:.0f}: of the latents that were drawn, so many go with {', '.join(given)}"]
        if ess < FEW:
            notes.append(f"beware      fewer than {FEW}: the rows are much alike, since {', '.join(given)} is rare")
    else:
        x = model.sample(count, generator=generator, noise=True)
    frame = frame_of(x.cpu().numpy(), columns)
    write_frame(frame.drop(columns=TOTAL) if _is_computed(columns) else frame, path)
    print_files(relative(path), notes=notes, **facts)


def _is_computed(columns: "Sequence[Column]") -> bool:
    from ..data.tables import TOTAL

    return any(column.name == TOTAL and column.kind == "size-factor" for column in columns)


def condition(columns: "Sequence[Column]", given: Sequence[str]) -> "tuple[Tensor, Tensor]":
    """The values that texts "column=value" say, and which columns have one, both of shape (D,).

    Raises:
        ConfigError: Not of this form, or of a column or a level that does not exist.
    """
    import torch

    names = [column.name for column in columns]
    values, observed = torch.zeros(len(columns)), torch.zeros(len(columns), dtype=torch.bool)
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--where takes COLUMN=VALUE, got {text!r}")
        if name not in names:
            raise ConfigError(unknown("column", name, names))
        i = names.index(name)
        values[i] = number(columns[i], value)
        observed[i] = True
    return values, observed


def number(column: "Column", text: str) -> float:
    """What a text says of a column, as the model's number.

    Raises:
        ConfigError: It says nothing that the column can be.
    """
    import numpy as np

    if column.has_levels:
        levels = [str(level) for level in column.levels]
        if text not in levels:
            raise ConfigError(f"column {column.name!r}: {unknown('level', text, levels)}")
        return float(levels.index(text))
    try:
        value: Any = np.datetime64(text) if column.dtype in ("date", "datetime") else float(text)
        return float(column.encode(np.array([value]), np.array([False]))[0])
    except (ValueError, DataError) as error:
        raise ConfigError(f"column {column.name!r} cannot be {text!r} ({error})") from None


def explained(
    run: "Run", model: "LatentVariableModel", images: "NamedRows", recipe: "Recipe", samples: int, seed: int
) -> "tuple[dict[str, Tensor], Callable[[int], dict[str, str]]]":
    """Scores of each column of a table by name, and for row i the columns that are most unusual.

    A column's score is compared with those of the run's test rows. Both are empty for other data.
    """
    from ..evaluation.conditional import value_scores
    from ..evaluation.named_rows import percentiles, rows_of
    from ..runs.restore import columns_of

    columns = columns_of(run)
    if columns is None:
        return {}, lambda _: {}
    names = [column.name for column in columns]
    scores = value_scores(model, images.batches(model), samples=samples, seed=seed)
    usual = value_scores(model, rows_of(run, recipe=recipe).batches(model), samples=samples, seed=seed)
    ranks = [
        percentiles(score, known[~known.isnan()]).masked_fill(score.isnan(), -1)
        for score, known in zip(scores.T.contiguous(), usual.T, strict=True)
    ]

    def why(i: int) -> dict[str, str]:
        order = sorted(range(len(names)), key=lambda d: -ranks[d][i].item())[:3]
        return {"because of": ", ".join(f"{names[d]} ({ranks[d][i]:.0f} %)" for d in order if ranks[d][i] > 90)}

    return dict(zip(names, scores.T, strict=True)), why


def pixel_scores(model: "LatentVariableModel", images: "NamedRows", *, samples: int, seed: int) -> bytes:
    """A `.npy` of what each pixel costs given the image's latents, nats, shape (N, C, H, W)."""
    import io

    import numpy as np

    from ..evaluation.conditional import value_scores

    content = io.BytesIO()
    scores = value_scores(model, images.batches(model), samples=samples, seed=seed)
    np.save(content, scores.numpy(), allow_pickle=False)
    return content.getvalue()


def describe(columns: "Sequence[Column]", x: Any) -> list[dict[str, Any]]:
    """A row for each column of a table: its kind, how much is missing, and what its values are.

    Arguments:
        columns: The columns.
        x: Encoded values, shape (N, D), NaN where missing.
    """
    import numpy as np

    from ..data.sources.frames import series_of

    rows = []
    for i, column in enumerate(columns):
        known = x[~np.isnan(x[:, i]), i]
        if column.has_levels:
            shown = [str(level) for level in column.levels[:6]] + ["…"] * (len(column.levels) > 6)
            what = f"{len(column.levels)} levels: {', '.join(shown)}"
        else:
            low, middle, high = (
                _short(value) for value in series_of(np.quantile(known, [0, 0.5, 1]).astype(float), column)
            )
            what = f"{low} … {middle} … {high}"
        missing = f"{1 - len(known) / len(x):.0%}"
        rows.append(
            {"column": column.name, "kind": column.kind, "type": column.dtype, "missing": missing, "values": what}
        )
    return rows


def _short(value: Any) -> str:
    return f"{value:%Y-%m-%d}" if hasattr(value, "strftime") else f"{value:.6g}"
