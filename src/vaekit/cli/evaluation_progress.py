"""How an evaluation looks in a terminal: a live bar for each stage, or one plain line where there is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID

from ..evaluation.record import Listener


@contextmanager
def shown() -> Iterator[Listener]:
    """A listener that shows the progress on stderr for the length of a block."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    with Progress(console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
                bar.reset(tasks[stage], completed=done - 1, total=total)  # what was kept took no time
            bar.update(tasks[stage], completed=done)

        yield update


def _lines(console: Console) -> Listener:
    begun = time.monotonic()

    def update(stage: str, done: int, total: int) -> None:
        if done == total:
            console.print(f"{stage}: done after {time.monotonic() - begun:.1f} s")

    return update
