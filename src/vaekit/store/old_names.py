"""Names in files of older run folders, which called rows of every kind images.

Not for: configs (`runs.run_config`) and checkpoints (`checkpoint`).
"""

from collections.abc import Mapping
from typing import Any

OLD_NAMES = {"images": "rows", "images_per_second": "rows_per_second", "per image": "per row"}


def with_current_names(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table of an older run folder under the current names.

    >>> with_current_names({"images": 5, "how": {"images": 3}})
    {'rows': 5, 'how': {'rows': 3}}
    """
    return {OLD_NAMES.get(k, k): with_current_names(v) if isinstance(v, dict) else v for k, v in table.items()}
