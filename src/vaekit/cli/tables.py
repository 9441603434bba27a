"""Tables and lists for a terminal of 80 columns.

A long cell continues on the next line, so that nothing is lost; with --long a row is one line. No library
is imported, so that listings answer at once. Not for: tables in documents (`evaluation.several_runs.comparison_table`).
"""

from collections.abc import Mapping, Sequence
from textwrap import fill, wrap
from typing import Any

import click

from ..store.escape import visible
from .printing import out, out_lines

TABLE_WIDTH = 80
INDENT = 12  # column where the text of an entry begins below a result
CELL_GAP = 2  # columns between two cells
NARROWEST_CELL = 8

long_option = click.option("--long", is_flag=True, help="Print everything, one line per row, however wide.")


def print_table(rows: Sequence[Mapping[str, Any]], *, long: bool = False) -> None:
    """Print rows as aligned columns.

    Arguments:
        rows: Cells by column name; all rows have the same columns.
        long: One line per row, however wide.
    """
    if rows:
        print_rows([list(rows[0]), *(list(row.values()) for row in rows)], long=long)


def print_rows(rows: Sequence[Sequence[Any]], *, long: bool = False) -> None:
    """Print rows of cells as aligned columns; the first row is the headings."""
    for line in table_lines(rows, None if long else TABLE_WIDTH):
        out(line)


def print_entry(name: str, text: str, indent: int) -> None:
    """Print a name and a text about it, within 80 columns.

    Arguments:
        name: The name.
        text: The text.
        indent: Column where the text begins on every line.
    """
    first, rest = visible(name).ljust(indent), " " * indent
    out_lines(
        fill(visible(text), TABLE_WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False) + "\n"
    )


def print_protocol(protocol: Mapping[str, Any]) -> None:
    """Print how numbers were measured: the settings that are not None, and no checksum."""
    settings = {key: value for key, value in protocol.items() if key != "checksum" and value is not None}
    print_entry("protocol", "; ".join(f"{key}: {value}" for key, value in settings.items()), INDENT)


def table_lines(rows: Sequence[Sequence[Any]], width: int | None = TABLE_WIDTH) -> list[str]:
    """The lines of a table; its first row is the headings.

    >>> table_lines([["name", "what"], ["vae", "it draws digits"]], 16)
    ['name  what', 'vae   it draws', '      digits']
    """
    texts = [[visible(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    if width is not None:
        widths = [min(column_width, width) for column_width in widths]
    while width is not None and sum(widths) + CELL_GAP * (len(widths) - 1) > width and max(widths) > NARROWEST_CELL:
        widths[widths.index(max(widths))] -= 1
    return [line for row in texts for line in _row_lines(row, widths)]


def _row_lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of one row."""
    parts = [
        [cell] if len(cell) <= width else wrap(cell, width, break_on_hyphens=False)
        for cell, width in zip(cells, widths, strict=True)
    ]
    padded = [part + [""] * (max(map(len, parts)) - len(part)) for part in parts]
    return [
        (" " * CELL_GAP).join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*padded, strict=True)
    ]
