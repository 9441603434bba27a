"""The progress of a training or an evaluation in a terminal: a live bar, or plain lines where there is no terminal."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ..model.elbo_terms import ELBO_TERMS, is_neg_elbo, other_means
from ..store.escape import visible
from ..store.metrics import ROWS_KEY
from ..training import Listener, Progress, Record

LINE_WIDTH = 80
COLUMNS = (  # of the live bar: at most 80 characters
    TextColumn("{task.description}", markup=False),
    BarColumn(bar_width=16),
    TextColumn("{task.fields[means]}", markup=False),
    TimeRemainingColumn(),
)
STAGES = (  # of the bars of an evaluation, which name files and folders
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    TaskProgressColumn(),
    TimeRemainingColumn(),
)


def is_watched() -> bool:
    """Whether progress is seen as it comes: stderr is a terminal, or this is a notebook."""
    console = _console()
    return console.is_terminal or console.is_jupyter


@contextmanager
def training_progress(epochs: int | None, *, introduced: bool = True) -> Iterator[Listener]:
    """A listener that shows the progress on stderr within a block.

    Arguments:
        epochs: Number of epochs of the training; None if its length is in steps.
        introduced: Whether to print first what is trained.
    """
    console = _console()
    if not console.is_terminal:
        yield _Lines(console, epochs, introduced=introduced)
        return
    with rich.progress.Progress(*COLUMNS, console=console) as bar:
        yield _Bar(console, epochs, bar, introduced=introduced)


class Replicates:
    """Shows the trainings of a series on stderr.

    Arguments:
        epochs: Number of epochs of each training; None if its length is in steps.
        count: Number of trainings.
        side_by_side: Whether several are trained at the same time; then each epoch is one line that names the seed.
    """

    def __init__(self, epochs: int | None, count: int, *, side_by_side: bool = False) -> None:
        self.epochs = epochs
        self.count = count
        self.side_by_side = side_by_side
        self.introduced = False

    @contextmanager
    def announce(self, i: int, seed: int, run: str) -> Iterator[Listener]:
        """Print a heading for replicate `i`, and give a listener to its training for the block."""
        console = _console()
        console.print(f"replicate {i + 1} of {self.count}: seed {seed}, run {run}")
        first, self.introduced = not self.introduced, True
        if self.side_by_side:
            yield _Lines(console, self.epochs, prefix=f"seed {seed}  ", introduced=first)
            return
        with training_progress(self.epochs, introduced=first) as listener:
            yield listener


def _console() -> Console:
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def _total(epochs: int | None) -> str:
    """A slash and the number of epochs; empty where the length is given in steps."""
    return "" if epochs is None else f"/{epochs}"


class _Lines(Listener):
    """One line per epoch."""

    def __init__(self, console: Console, epochs: int | None, *, prefix: str = "", introduced: bool = True) -> None:
        self.console = console
        self.epochs = epochs
        self.prefix = prefix
        self.introduced = introduced

    def begin(self, description: Sequence[str]) -> None:
        if self.introduced:
            self.console.print(packed([visible(line) for line in description], gap=", "))

    def epoch(self, record: Record) -> None:
        width = len(str(self.epochs or ""))
        pieces = [
            f"{self.prefix}epoch {record['epoch']:{width}d}{_total(self.epochs)}",
            *_means(record, brief=bool(self.prefix)),
        ]
        if "validation_neg_elbo" in record:
            pieces.append(f"validation {record['validation_neg_elbo']:.2f}")
        if "validation_loss" in record and not is_neg_elbo(record, "validation_"):
            pieces.append(f"validation loss {record['validation_loss']:.2f}")
        if record.get("skipped"):
            pieces.append(f"{record['skipped']:.0f} steps skipped")
        text = packed(pieces)
        duration = f"  {record['seconds']:.{0 if record['seconds'] >= 10 else 1}f} s"
        self.console.print(text + duration if len(text.splitlines()[-1] + duration) <= LINE_WIDTH else text)

    def slower(self, factor: float) -> None:
        self.console.print(
            f"steps take {factor:.0f} times as long as they did: another program uses the processors; "
            "train.threads = 1 reduces the slowdown"
        )


class _Bar(_Lines):
    """One line per epoch, above a live bar."""

    def __init__(
        self, console: Console, epochs: int | None, bar: rich.progress.Progress, *, introduced: bool = True
    ) -> None:
        super().__init__(console, epochs, introduced=introduced)
        self.bar = bar
        self.task = bar.add_task(f"epoch 1{_total(epochs)}", total=epochs, means="")

    def step(self, reached: Progress, batches: int | None, means: Mapping[str, float]) -> None:
        part = reached.batch / batches if batches else 0.0
        speed = means[ROWS_KEY] / reached.seconds if reached.seconds else 0.0
        self.bar.update(
            self.task,
            completed=reached.epoch + part,
            description=f"epoch {reached.epoch + 1}{_total(self.epochs)}",
            means=f"{_first(means)}  {speed:,.0f} rows/s",
        )

    def epoch(self, record: Record) -> None:
        super().epoch(record)
        self.bar.update(self.task, completed=record["epoch"])


def _first(means: Mapping[str, float]) -> str:
    """The loss, the one number that fits into the live bar of 80 columns."""
    if "neg_elbo" in means:
        return f"−ELBO {means['neg_elbo']:.2f}"
    return f"loss {means['loss']:.2f}" if "loss" in means else ""


def _means(means: Mapping[str, float], *, brief: bool) -> list[str]:
    """The means of an epoch, a few words each; if brief, without the terms of an ELBO."""
    words = [f"{name} {value:.2f}" for name, value in other_means(means).items()]
    if all(name in means for name in ELBO_TERMS):
        terms = f" (rate {means['rate']:.1f}, distortion {means['distortion']:.1f})"
        return [f"−ELBO {means['neg_elbo']:.2f}{'' if brief else terms}", *words]
    return words + [f"{name} {means[name]:.1f}" for name in ELBO_TERMS if name in means]


def packed(pieces: Iterable[str], *, gap: str = "  ", indent: str = "    ") -> str:
    """Join pieces into lines of at most 80 columns, without breaking a piece."""
    lines = [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1] + gap + piece + gap.rstrip()) > LINE_WIDTH:
            lines[-1] += gap.rstrip()
            lines.append(indent + piece)
        else:
            lines[-1] += (gap if lines[-1] else "") + piece
    return "\n".join(lines)


# -- evaluations ------------------------------------------------------------------------------------------------------


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A listener that shows the stages of an evaluation: call it with the stage, the batches done and the total."""
    console = _console()
    if not console.is_terminal:
        yield _stage_lines(console)
        return
    with rich.progress.Progress(*STAGES, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(visible(stage), total=total)
                bar.reset(tasks[stage], completed=done - 1, total=total)  # stored batches took no time
            bar.update(tasks[stage], completed=done)

        yield update


def _stage_lines(console: Console) -> Callable[[str, int, int], None]:
    begun = time.monotonic()

    def update(stage: str, done: int, total: int) -> None:
        if done == total:
            console.print(f"{visible(stage)}: done after {time.monotonic() - begun:.1f} s")

    return update
