"""Rows with their numbers as a CSV, the file of `vae encode` and `vae score`."""

import csv
import io
from typing import TYPE_CHECKING

from ..store.escape import to_csv

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.single_rows.named_rows import NamedRows


def csv_of(rows: "NamedRows", columns: "dict[str, Tensor]") -> bytes:
    """A CSV with a line for each row: its name, its class, and a number from each column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([rows.row_word, "class", *columns])
    values = [[f"{value:.7g}" for value in column.tolist()] for column in columns.values()]
    texts = [list(map(to_csv, column)) for column in (rows.names, rows.classes)]
    writer.writerows(zip(*texts, *values, strict=True))
    return text.getvalue().encode(errors="surrogateescape")
