"""How a training looks in a terminal: a live bar, or one plain line an epoch where there is no terminal."""

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .training import Listener, Record
from .training import Progress as Reached


@contextmanager
def shown(epochs: int) -> Iterator[Listener]:
    """A listener that shows the progress on stderr for the length of a block."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _Lines(console, epochs)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[means]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        yield _Bar(console, epochs, bar)


class Replicates:
    """Shows the trainings of a series on stderr: each by itself, or, of those that go on at once, mean ± sd.

    Arguments:
        epochs: Of each.
        count: How many there are.
    """

    def __init__(self, epochs: int, count: int) -> None:
        self.epochs, self.count = epochs, count
        self.going_on = 0
        self.listener: Listener
        self.records: list[Record] = []  # of one epoch

    @contextmanager
    def announce(self, i: int, seed: int, run: str) -> Iterator[Listener]:
        """A listener to the training of replicate `i`, which lasts as long as the block."""
        at_once = ", in the same steps" if self.going_on else ""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"replicate {i + 1} of {self.count}: seed {seed}, run {run}{at_once}"
        )
        self.going_on += 1
        try:
            with shown(self.epochs) if self.going_on == 1 else nullcontext(self.listener) as self.listener:
                yield self
                self._tell()
        finally:
            self.going_on -= 1

    def step(self, reached: Reached, batches: int | None, means: Mapping[str, float]) -> None:
        """Show any of them: they stand side by side."""
        self.listener.step(reached, batches, means)

    def epoch(self, record: Record) -> None:
        """Show an epoch when all have told of it, or one of them of the next."""
        if self.records and self.records[0]["epoch"] != record["epoch"]:
            self._tell()
        self.records.append(record)
        if len(self.records) == self.going_on:
            self._tell()

    def _tell(self) -> None:
        records, self.records = self.records, []
        if len(records) < 2:
            for record in records:
                self.listener.epoch(record)
            return
        each = {key: [record[key] for record in records] for key in records[0]}
        merged: Record = {key: statistics.mean(values) for key, values in each.items()}
        merged |= {"epoch": records[0]["epoch"], "images_per_second": sum(each["images_per_second"])}
        if "validation_neg_elbo" in each:
            merged["sd"] = statistics.stdev(each["validation_neg_elbo"])
        self.listener.epoch(merged | {"replicates": len(records)})


class _Lines:
    """One line an epoch."""

    def __init__(self, console: Console, epochs: int) -> None:
        self.console, self.epochs = console, epochs

    def step(self, reached: Reached, batches: int | None, means: Mapping[str, float]) -> None:
        """Nothing: only whole epochs are told."""

    def epoch(self, record: Record) -> None:
        width = len(str(self.epochs))
        line = f"epoch {record['epoch']:{width}d}/{self.epochs}  {_means(record)}"
        if "validation_neg_elbo" in record:
            line += f"  validation −ELBO {record['validation_neg_elbo']:.2f}"
        if "sd" in record:
            line += f" ± {record['sd']:.2f}"
        if "replicates" in record:
            line += f"  (mean of {record['replicates']})"
        if record.get("skipped"):
            line += f"  {record['skipped']:.0f} steps skipped"
        self.console.print(f"{line}  {record['images_per_second']:,.0f} images/s  {record['seconds']:.1f} s")


class _Bar(_Lines):
    """The same lines above a live bar."""

    def __init__(self, console: Console, epochs: int, bar: Progress) -> None:
        super().__init__(console, epochs)
        self.bar = bar
        self.task = bar.add_task(f"epoch 1/{epochs}", total=epochs, means="")

    def step(self, reached: Reached, batches: int | None, means: Mapping[str, float]) -> None:
        part = reached.batch / batches if batches else 0.0
        speed = means["images"] / reached.seconds if reached.seconds else 0.0
        self.bar.update(
            self.task,
            completed=reached.epoch + part,
            description=f"epoch {reached.epoch + 1}/{self.epochs}",
            means=f"{_means(means)}  {speed:,.0f} images/s",
        )

    def epoch(self, record: Record) -> None:
        super().epoch(record)
        self.bar.update(self.task, completed=record["epoch"])


def _means(means: Mapping[str, float]) -> str:
    return f"−ELBO {means['neg_elbo']:.2f} (rate {means['rate']:.2f}, distortion {means['distortion']:.2f})"
