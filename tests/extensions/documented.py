"""The five parts of docs/extending.md, exactly as they stand there."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def write(folder: Path) -> None:
    """Write the examples that name a file into a folder."""
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        name = code.splitlines()[0].removeprefix("# ")
        if name.endswith(".py"):
            (folder / name).write_text(code)
