"""Names in files of older run folders, which said images of rows of every kind.

Not for: configs (`runs.migration`) and checkpoints (`checkpoint`).
"""

from collections.abc import Mapping
from typing import Any

EARLIER = {"images": "rows", "images_per_second": "rows_per_second", "per image": "per row"}


def renamed(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table of an older run folder under the present names.

    >>> renamed({"images": 5, "how": {"images": 3}})
    {'rows': 5, 'how': {'rows': 3}}
    """
    return {EARLIER.get(k, k): renamed(v) if isinstance(v, dict) else v for k, v in table.items()}
