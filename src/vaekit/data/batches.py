"""`Batches`: minibatches of tensors or of rows on disk, in place of a sampler, workers and a collate function."""

import math
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, DataError, unknown
from .batch import Batch, as_tensor
from .dataset import Split
from .ondisk import Stored
from .pixels import BINARIZATIONS, binarized, draw_binary, to_floats
from .values import Values


class Batches:
    """Minibatches of a data set, over and over; what is not in memory is read ahead in the background.

    Each `iter()` is an epoch, with a new order if shuffled, and gives a `Batch` at a time. Bytes are kept as they
    are and become float32 in [0, 1] batch by batch, x = byte / 255; floating-point values are served unchanged,
    but for those that are not observed, which are 0. Bytes that are counts become floats as they are, 0 to 255.

    Binarization: "threshold" serves x > 0.5; "per-epoch" draws b ~ Bernoulli(x) anew whenever a row is served;
    "fixed" draws once, with a seed that is a constant of this package, so that everybody gets the same binary rows
    from the same tensor. Salakhutdinov & Murray (2008) fixed one such draw; Burda et al. (2015, arXiv:1509.00519) draw
    anew. The draw of a row on disk is seeded with its number in the file or folder, so it is another one than that
    of the same row in memory.

    Epochs resume exactly, as with torchdata's `StatefulDataLoader`: after `load_state_dict(state)` the next `iter()`
    serves the batches that were left when `state_dict()` was called (none, if it was called after the last one and
    before the loop ended), and the epochs after it are those of the uninterrupted run. The state is that of the newest
    iterator, and the generator must be used by nothing else.

    Arguments:
        data: A `Split`, or rows (N, …), uint8 or floating-point, as a tensor or an array.
        labels: (N,), with rows; None where there are none. A `Split` brings its own.
        batch_size: Rows of a batch; the last one may have fewer. A single row at the end joins the batch before it:
            batch norm, and losses that compare rows, need two.
        shuffle: Serve each epoch in a new random order.
        generator: Source of order and noise, on any device; by default a new one, seeded from torch's global one.
        device: Device of the batches. Data moves there at once if it takes at most half of the free memory, else
            batch by batch.
        binarize: "none", "threshold", "per-epoch" or "fixed".
        values: What the numbers in x mean: "pixels", "counts" or "real". What is binarized is 0 or 1 in any case.

    Raises:
        ConfigError: `batch_size` is below 1, or `binarize` is unknown.
        DataError: Rows of another type, labels that do not match them or come beside a `Split`, or values outside
            [0, 1] to binarize.

    >>> x = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    >>> [labels.tolist() for _, labels in Batches(x, torch.arange(6), batch_size=4)]
    [[0, 1, 2, 3], [4, 5]]
    """

    def __init__(
        self,
        data: Any,
        labels: Any = None,
        *,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        binarize: str = "none",
        values: Values = "pixels",
    ) -> None:
        split = _split(data, labels)
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        if binarize not in BINARIZATIONS:
            raise ConfigError(unknown("binarization", binarize, BINARIZATIONS))
        if binarize != "none" and not _in_unit(split):
            raise DataError("to binarize x, its values must be in [0, 1]; scale x or use binarize='none'")
        x = binarized(split.x, binarize)
        self.device = x.device if device is None else torch.device(device)
        self.x = x.to(self.device) if isinstance(x, Tensor) and _fits(x, self.device) else x
        self.labels = None if split.labels is None else split.labels.to(self.x.device)
        self.observed = None if split.observed is None else split.observed.to(self.x.device)
        self.context = None if split.context is None else split.context.to(self.x.device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.binarize = binarize
        self.are_counts = values == "counts" and binarize == "none"
        self.generator = generator or _new_generator(seeded=shuffle or binarize == "per-epoch")
        self._epoch_start: Tensor | None = None  # the generator's state then; None between epochs
        self._position = 0  # batches served in this epoch
        self._resumed = False

    @property
    def num_rows(self) -> int:
        """The number of rows, served or not."""
        return len(self.x)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        full, rest = divmod(self.num_rows, self.batch_size)
        return full + (rest > 1 or (rest == 1 and not full))

    def __iter__(self) -> Iterator[Batch]:
        size = self.batch_size
        order = self._begin()
        ends = [*range(size, len(self) * size, size), self.num_rows]
        batches = (order[position * size : ends[position]] for position in range(self._position, len(self)))
        each = self.x.ahead if isinstance(self.x, Stored) else map
        for position, batch in enumerate(each(self._read, batches), self._position + 1):
            served = self._serve(batch, self.generator)
            self._position = position
            yield served
        self._epoch_start = None
        self._position = 0

    def only(self, rows: Tensor) -> "Batches":
        """Batches of some rows, by number, which are read into memory now; rows that are binary here stay so."""
        few = copy(self)
        batch = self._read(rows.to(self.x.device))
        few.x = batch.x
        few.labels = batch.labels
        few.observed = batch.observed
        few.context = batch.c
        return few

    def rows(self, rows: Tensor) -> Batch:
        """Some rows, by number, as an epoch serves them; noise is drawn from torch's global stream."""
        return self._serve(self._read(rows.to(self.x.device)), None)

    def _read(self, rows: Tensor) -> Batch:
        # index_select: five times as fast as x[rows] on a CPU, and always a copy, safe to write to
        def some(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.index_select(0, rows)

        return Batch(self.x.index_select(0, rows), some(self.context), some(self.observed), some(self.labels))

    def state_dict(self) -> dict[str, Tensor | int]:
        """The state of the epoch: two generator states (uint8 tensors) and the number of batches served."""
        now = self.generator.get_state()
        start = now if self._epoch_start is None else self._epoch_start
        return {"generator": start.clone(), "generator_now": now.clone(), "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict()` was called, on the same data with the same options.

        Raises:
            DataError: Not a state of these batches; nothing is changed.
        """
        before = self.generator.get_state()
        try:
            start, now, position = state["generator"], state["generator_now"], state["position"]
            if not 0 <= position <= len(self):
                raise DataError(f"position must be from 0 to {len(self)} batches, got {position}")
            self.generator.set_state(start)
            self.generator.set_state(now)
        except (KeyError, TypeError, RuntimeError) as error:
            self.generator.set_state(before)
            raise DataError(f"not a state of Batches on this kind of generator ({error})") from error
        self._resumed = position > 0
        self._epoch_start = start.clone() if self._resumed else None
        self._position = position

    def _begin(self) -> Tensor:
        """The order of the epoch that begins, or of the one that is resumed."""
        now = self.generator.get_state()
        if not self._resumed or self._epoch_start is None:
            self._epoch_start = now
            self._position = 0
            return self._order()
        self._resumed = False
        self.generator.set_state(self._epoch_start)
        order = self._order()
        self.generator.set_state(now)
        return order

    def _order(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.num_rows, device=self.x.device)
        order = torch.randperm(self.num_rows, generator=self.generator, device=self.generator.device)
        return order.to(self.x.device)

    def to_floats(self, x: Tensor) -> Tensor:
        """Rows as they are served, but for noise: bytes as x / 255, or as they are where they are counts."""
        return to_floats(x, "counts" if self.are_counts else "pixels")

    def _serve(self, stored: Batch, generator: torch.Generator | None) -> Batch:
        batch = stored.to(self.device)
        values = replace(batch, x=self.to_floats(batch.x)).known
        return replace(batch, x=draw_binary(values, generator) if self.binarize == "per-epoch" else values)


def whole(data: Split, *, values: Values = "pixels", binarize: str = "none") -> Batch:
    """All rows of a split as one batch, in order, on the CPU.

    Arguments:
        data: The split.
        values: What its numbers are.
        binarize: How grey values become binary ones, as for `Batches`.

    Raises:
        DataError: The split has no rows.
    """
    if not len(data):
        raise DataError("there are 0 rows, and a batch needs at least 1; choose a split that has some")
    return next(iter(Batches(data, batch_size=len(data), values=values, binarize=binarize)))


def some_rows(split: Split, *, values: Values) -> tuple[Tensor, Tensor | None]:
    """About 10,000 rows, evenly spread, as the model sees them, and their labels; fewer, if they take over 512 MiB.

    What is not observed is the mean of what is.
    """
    most = min(10_000, (512 << 20) // (4 * math.prod(split.event_shape)))
    step = max(1, len(split) // max(1, most))
    batch = whole(split.rows(slice(None, None, step)), values=values)
    if batch.observed is None:
        return batch.x, batch.labels
    known = batch.x.sum(0) / batch.observed.sum(0).clamp_min(1)  # what is not observed is 0
    return batch.x.where(batch.observed, known), batch.labels


def _split(data: Any, labels: Any) -> Split:
    if isinstance(data, Split):
        if labels is not None:
            raise DataError("a Split brings its own labels; leave labels= out, or pass Split(x, labels)")
        return data
    data = data if isinstance(data, Stored) else as_tensor(data, "x")
    if len(data.shape) == 0 or not (data.dtype == torch.uint8 or data.is_floating_point()):
        raise DataError(f"x must be (N, …), uint8 or floating-point, got {tuple(data.shape)} {data.dtype}")
    if labels is not None:
        labels = as_tensor(labels, "labels")
        if len(labels) != len(data):
            raise DataError(f"there must be one label per row, got {len(labels)} labels for {len(data)} rows")
    return Split(data, labels)


def _in_unit(split: Split) -> bool:
    x = split.x
    if isinstance(x, Stored) or not x.is_floating_point():  # the former are checked as they are read
        return True
    inside = (x >= 0) & (x <= 1)
    return bool((inside if split.observed is None else inside | ~split.observed).all())


def _fits(x: Tensor, device: torch.device) -> bool:
    if device.type != "cuda" or x.device == device:
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return x.nbytes <= free // 2


def _new_generator(*, seeded: bool) -> torch.Generator:
    """A generator that follows torch's global seed; the global stream is left alone where no randomness is needed."""
    generator = torch.Generator()
    return generator.manual_seed(int(torch.randint(2**63 - 1, ()))) if seeded else generator
