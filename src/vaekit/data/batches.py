"""`Batches`: minibatches of tensors or of rows on disk, in place of a sampler, workers and a collate function."""

import math
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, DeviceError, check_count, is_whole, one_of, reason
from ..rng import check_generator
from .batch import Batch, as_tensor, described
from .dataset import Split
from .ondisk import Stored
from .pixels import BINARIZATIONS, binarized, draw_binary, to_floats
from .value_kinds import VALUE_KINDS, ValueKind


class Batches:
    """Minibatches of a data set, epoch after epoch. Rows on disk are read ahead in the background.

    Each `iter()` is an epoch, in a new order if shuffled, and yields one `Batch` at a time. Bytes are stored as bytes
    and served as float32 in [0, 1], x = byte / 255. Floating-point values are served unchanged; values that are not
    observed are 0. Bytes that are counts are served as floats 0 to 255.

    Binarization: "threshold" serves x > 0.5. "per-epoch" draws b ~ Bernoulli(x) anew whenever a row is served.
    "fixed" draws once, with a constant seed of this package: the same tensor gives everybody the same binary rows.
    Salakhutdinov & Murray (2008) fixed one draw; Burda et al. (2015, arXiv:1509.00519) draw anew. The draw of a row on
    disk is seeded with its index in the file or folder, so it differs from the draw of the same row in memory.

    Epochs resume exactly, as with torchdata's `StatefulDataLoader`. After `load_state_dict(state)` the next `iter()`
    serves the batches that remained when `state_dict()` was called. A state taken at the last batch counts the
    epoch as served. Later epochs equal the epochs of the uninterrupted run. The state describes the newest
    iterator. Nothing else may use the generator.

    Arguments:
        data: A `Split`, or rows (N, …), uint8 or floating-point, as a tensor or an array.
        labels: Classes of the rows, shape (N,); None without labels. A `Split` has its own.
        batch_size: Rows of a batch; the last batch may have fewer. A single row at the end joins the batch before it:
            batch norm, and losses that compare rows, need two.
        shuffle: Serve each epoch in a new random order.
        generator: Source of order and noise, on any device; by default a new one, seeded from torch's global stream.
        device: Device of the batches. Data moves there at once if it takes at most half of the free memory, else
            batch by batch.
        binarize: "none", "threshold", "per-epoch" or "fixed".
        value_kind: Meaning of the numbers in x: "pixels", "counts", "real" or "table", whose columns are
            encoded numbers, as they are. Binarized values are always 0 or 1.

    Raises:
        ConfigError: `batch_size` is not a whole number of at least 1, `binarize` or `value_kind` is unknown, or
            `generator` is not a generator.
        DeviceError: This machine does not have the device.
        DataError: The rows have another type, the labels do not match the rows or accompany a `Split`, or a value to
            binarize lies outside [0, 1].

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
        value_kind: ValueKind = "pixels",
    ) -> None:
        split = _split(data, labels)
        check_count("batch_size", batch_size)
        one_of("binarization", binarize, BINARIZATIONS)
        one_of("value_kind", value_kind, VALUE_KINDS)
        check_generator(generator)
        if binarize != "none" and not _in_unit(split):
            raise DataError("to binarize x, its values must be in [0, 1]; scale x or use binarize='none'")
        x = binarized(split.x, binarize)
        self.device = x.device if device is None else _device(device)
        self.x = x.to(self.device) if isinstance(x, Tensor) and _fits(x, self.device) else x
        self.labels = None if split.labels is None else split.labels.to(self.x.device)
        mask = split.observed
        self.observed = mask.to(self.x.device) if isinstance(mask, Tensor) else mask
        self.c = None if split.c is None else split.c.to(self.x.device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.binarize = binarize
        self.are_counts = value_kind == "counts" and binarize == "none"
        self.generator = generator or _new_generator(seeded=shuffle or binarize == "per-epoch")
        self._epoch_start: Tensor | None = None  # the generator's state when the epoch began; None between epochs
        self._position = 0  # batches served in this epoch
        self._resumed = False

    def __repr__(self) -> str:
        order = ", shuffled" if self.shuffle else ""
        return f"Batches({described(self.x)}; batches of {self.batch_size}{order})"

    @property
    def num_rows(self) -> int:
        """The number of rows, served or not."""
        return len(self.x)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return num_batches(self.num_rows, self.batch_size)

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

    def select(self, rows: Tensor) -> "Batches":
        """Batches of the rows with these indices, read into memory now; they begin an epoch. Binary rows stay binary.

        The order and the noise come from a copy of the generator.
        """
        subset = copy(self)
        batch = self._read(torch.as_tensor(rows, device=self.x.device))
        for name in ("x", "labels", "observed", "c"):
            setattr(subset, name, getattr(batch, name))
        subset.generator = self.generator.clone_state()
        subset._epoch_start = None
        subset._position = 0
        subset._resumed = False
        return subset

    def rows(self, rows: Tensor) -> Batch:
        """The rows with these indices, as an epoch serves them. Noise is drawn from torch's global stream."""
        return self._serve(self._read(torch.as_tensor(rows, device=self.x.device)), None)

    def _read(self, rows: Tensor) -> Batch:
        # index_select: five times as fast as x[rows] on a CPU, and always a copy, safe to write to
        def selected(values: Tensor | Stored | None) -> Tensor | None:
            return None if values is None else values.index_select(0, rows)

        c, observed, labels = selected(self.c), selected(self.observed), selected(self.labels)
        return Batch(self.x.index_select(0, rows), c=c, observed=observed, labels=labels)

    def state_dict(self) -> dict[str, Tensor | int]:
        """The state of the epoch: two generator states (uint8 tensors) and the number of batches served."""
        now = self.generator.get_state()
        start = now if self._epoch_start is None else self._epoch_start
        return {"generator": start.clone(), "generator_now": now.clone(), "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict()` was called, on the same data with the same options.

        Raises:
            DataError: The state does not belong to these batches; nothing is changed.
        """
        before = self.generator.get_state()
        try:
            start, now, position = state["generator"], state["generator_now"], state["position"]
            if not (is_whole(position) and 0 <= position <= len(self)):
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
        """The order of the new or resumed epoch."""
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
        """Rows as they are served, without noise: bytes as x / 255, or unscaled if they are counts."""
        return to_floats(x, "counts" if self.are_counts else "pixels")

    def _serve(self, stored: Batch, generator: torch.Generator | None) -> Batch:
        batch = stored.to(self.device)
        values = replace(batch, x=self.to_floats(batch.x)).zero_filled
        return replace(batch, x=draw_binary(values, generator) if self.binarize == "per-epoch" else values)


def num_batches(rows: int, batch_size: int) -> int:
    """The number of batches in an epoch: a single row at the end joins the batch before it.

    >>> num_batches(6, 4), num_batches(5, 4)
    (2, 1)
    """
    full, rest = divmod(rows, batch_size)
    return full + (rest > 1 or (rest == 1 and not full))


def as_one_batch(data: Split, *, value_kind: ValueKind = "pixels", binarize: str = "none") -> Batch:
    """All rows of a split as one batch, in order, on the CPU.

    Arguments:
        data: The split.
        value_kind: Meaning of its numbers.
        binarize: Binarization of grey values; see `Batches`.

    Raises:
        DataError: The split has no rows.
    """
    if not len(data):
        raise DataError("there are 0 rows, and a batch needs at least 1; choose a split that has some")
    return next(iter(Batches(data, batch_size=len(data), value_kind=value_kind, binarize=binarize)))


def rows_to_start_from(split: Split, *, value_kind: ValueKind) -> tuple[Tensor, Tensor | None]:
    """Rows as the model sees them, and their labels: all, or of a large split every n-th.

    Of a large split they are 10,000 to 20,000 rows, or fewer if these would take more than 1 GiB. A value that is not
    observed is replaced by the mean of the observed ones at its place.
    """
    most = min(10_000, (512 << 20) // (4 * math.prod(split.event_shape)))
    step = max(1, len(split) // max(1, most))
    batch = as_one_batch(split.rows(slice(None, None, step)), value_kind=value_kind)
    if batch.observed is None:
        return batch.x, batch.labels
    means = batch.x.sum(0) / batch.observed.sum(0).clamp_min(1)  # values that are not observed are 0
    return batch.x.where(batch.observed, means), batch.labels


def _split(data: Any, labels: Any) -> Split:
    if isinstance(data, Split):
        if labels is not None:
            raise DataError("a Split brings its own labels; leave labels= out, or pass Split(x, labels)")
        return data
    data = data if isinstance(data, Stored) else as_tensor(data, "x")
    if len(data.shape) == 0 or not (data.dtype == torch.uint8 or data.is_floating_point()):
        raise DataError(f"x must be (N, …), uint8 or floating-point, got {tuple(data.shape)} {data.dtype}")
    labels = None if labels is None else as_tensor(labels, "labels")
    if labels is not None and labels.ndim and len(labels) != len(data):
        raise DataError(f"there must be one label per row, got {len(labels)} labels for {len(data)} rows")
    return Split(data, labels)


def _in_unit(split: Split) -> bool:
    x = split.x
    if isinstance(x, Stored) or not x.is_floating_point():  # stored rows are checked when they are read
        return True
    inside = (x >= 0) & (x <= 1)
    return bool((inside if split.observed_in_memory is None else inside | ~split.observed_in_memory).all())


def _fits(x: Tensor, device: torch.device) -> bool:
    if device.type != "cuda" or x.device == device:
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return x.nbytes <= free // 2


def _device(device: torch.device | str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise DeviceError(f"device {device!r:.60} is not here ({reason(error):.80})") from None
    return place


def _new_generator(*, seeded: bool) -> torch.Generator:
    """A generator, seeded from torch's global stream if `seeded`; else it leaves that stream alone."""
    generator = torch.Generator()
    return generator.manual_seed(int(torch.randint(2**63 - 1, ()))) if seeded else generator
