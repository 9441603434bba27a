"""How estimators go over rows: batch by batch, in slices that fit a memory limit, resumable after each batch.

Each batch is encoded at once and has its own random stream. So the result depends neither on the memory limit nor on
where an evaluation was interrupted.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.overrides import TorchFunctionMode

from ..data import Batch
from ..distributions import log_prob_observed
from ..errors import ConfigError, DataError, is_whole
from ..model import LatentVariableModel, modes
from ..objectives.base import draw_of
from ..rng import generator_of, seeded
from ..training.cpu import keep_freed_blocks
from .batch_cache import BatchCache
from .values import StageListener

BATCH_ROWS = 100  # with DECODED_SAMPLES latents of each row, matrices are tall enough for the processor's full speed
DECODED_SAMPLES = 20
GIB = 1 << 30
LEAST_MEMORY = 1 << 20  # bytes
CPU_CACHE = 16 << 20  # bytes that a CPU decodes at a time: decoding within its cache costs a fifth less
SAVE_EVERY = 10.0  # seconds
# A pass without gradients holds this many tensors of the largest size: operands, result and two temporaries.
_HELD = 4


@contextmanager
def estimating(model: LatentVariableModel) -> Iterator[None]:
    """Within the block the model is in evaluation mode, and no gradient is recorded unless asked for."""
    keep_freed_blocks()
    with modes.evaluating(model):
        yield


def stream_of(seed: int, stage: str, index: int) -> torch.Generator:
    """The random stream of one batch of one stage."""
    generator_of(seed)  # refuses what is not a seed
    digest = hashlib.sha256(f"{seed}/{stage}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def rows_as_batch(rows: Tensor | Batch) -> Batch:
    """The rows of an estimator, as one batch: a batch as it is, or values of shape (N, *event)."""
    return rows if isinstance(rows, Batch) else Batch(rows)


def context_of(model: LatentVariableModel, rows: Batch) -> Tensor | None:
    """The context of rows, shape (B, C); None for an unconditional model, whatever the rows have."""
    if not model.context_size:
        return None
    return model.context(rows.labels if rows.c is None else rows.c, len(rows))


def batch_of(model: LatentVariableModel, rows: Batch, index: int, size: int = BATCH_ROWS) -> Batch:
    """One batch of rows as the model takes them, on its device: missing values are 0, and c is the context.

    Arguments:
        model: The model.
        rows: All rows.
        index: Number of the batch, from 0.
        size: Rows in a batch.
    """
    part = rows.rows(slice(index * size, (index + 1) * size))
    observed = None if part.observed is None else part.observed.to(model.device)
    return Batch(model.checked(part.zero_filled, observed), c=context_of(model, part), observed=observed)


def log_likelihood(model: LatentVariableModel, z: Tensor, rows: Batch) -> Tensor:
    """Log p(x | z, c) of the observed values, shape (K, B), for z of shape (K, B, *latent)."""
    p = model.likelihood(z, rows.c)
    return p.log_prob(rows.x) if rows.observed is None else log_prob_observed(p, rows.x, rows.observed)


def to_float64(values: Tensor) -> Tensor:
    """The values in double precision, or in single precision on a device without double precision."""
    return values.float() if values.device.type == "mps" else values.double()


def over_batches(
    stage: str,
    count: int,
    compute: Callable[[int], dict[str, Tensor]],
    *,
    size: int = BATCH_ROWS,
    cache: BatchCache | None = None,
    listener: StageListener | None = None,
) -> dict[str, Tensor]:
    """The results of all batches, in order; batches in the cache are not computed again.

    Arguments:
        stage: Name of the stage, for the cache and the listener.
        count: N, the number of rows.
        compute: From the number of a batch, from 0, to tensors (B, …) for its B rows.
        size: Rows in a batch.
        cache: Keeps finished batches; an interruption loses at most `SAVE_EVERY` seconds.
        listener: Called with the stage, the batches done and the total.

    Returns:
        Tensors (N, …), on the CPU.
    """
    finished = cache.load(stage) if cache is not None else None
    parts = [finished] if finished else []
    total, done = -(-count // size), -(-len(next(iter(finished.values()))) // size) if finished else 0
    saved = time.monotonic()
    try:
        for index in range(done, total):
            parts.append({name: value.cpu() for name, value in compute(index).items()})
            if listener is not None:
                listener(stage, index + 1, total)
            if cache is not None and time.monotonic() - saved > SAVE_EVERY:
                cache.save(stage, _joined(parts))
                saved = time.monotonic()
    finally:
        if cache is not None and len(parts) > bool(finished):
            cache.save(stage, _joined(parts))
    return _joined(parts)


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Slice:
    """Rows of a batch that are decoded together, and the prior of their latents."""

    rows: slice
    batch: Batch
    prior: Distribution


def slices(
    model: LatentVariableModel, rows: Batch, samples: int, memory: int, *, gradient: bool = False
) -> list[Slice]:
    """Cut a batch into slices of at least one row.

    Decoding `samples` latents for each row of one slice takes at most about `memory` bytes.

    Arguments:
        model: The model.
        rows: The rows as the model takes them.
        samples: Latents for each row.
        memory: Bytes.
        gradient: Whether to take the gradient with respect to z, which keeps every intermediate result.
    """
    if rows.x.device.type == "cpu" and not gradient:
        memory = min(memory, CPU_CACHE)
    most = max(1, memory // (samples * _bytes_per_row(model, rows.rows(slice(1)), gradient)))
    count = -(-len(rows) // most)
    edges = [round(i * len(rows) / count) for i in range(count + 1)]
    cuts = [slice(a, b) for a, b in pairwise(edges)]
    parts = [rows.rows(cut) for cut in cuts]
    return [Slice(cut, part, model.prior(part.c)) for cut, part in zip(cuts, parts, strict=True)]


def check_memory_limit(memory: int) -> None:
    """Refuse a limit of the memory below 1 MiB.

    Raises:
        ConfigError: The limit is smaller.
    """
    if not is_whole(memory) or memory < LEAST_MEMORY:
        raise ConfigError(f"memory must be at least {LEAST_MEMORY} bytes (1 MiB), a whole number, got {memory!r:.60}")


def check_evaluable(model: LatentVariableModel, rows: Batch, memory: int) -> None:
    """Refuse rows or a model that cannot be evaluated, before the work begins.

    Raises:
        DataError: There are 0 rows, or the rows or the context do not fit the model.
        ConfigError: The memory is less than 1 MiB, or the posterior has no density.
    """
    if not len(rows):
        raise DataError("there are 0 rows to evaluate; choose a split that has some")
    check_memory_limit(memory)
    for start in range(0, len(rows), 1000):  # all now: the last might be refused after hours
        part = rows.rows(slice(start, start + 1000))
        model.checked(part.zero_filled, part.observed)
    first = batch_of(model, rows.rows(slice(1)), 0)
    with seeded(torch.Generator().manual_seed(0)):
        draw_of(model, first).log_w  # noqa: B018  (raises without a density)


def _bytes_per_row(model: LatentVariableModel, row: Batch, gradient: bool) -> int:
    """Bytes that the densities of one latent of one row take."""
    prior = model.prior(row.c)
    z = torch.zeros(1, 1, *prior.event_shape, dtype=row.x.dtype, device=row.x.device)
    allocations = _Allocations()
    with torch.no_grad(), allocations:
        prior.log_prob(z)
        log_likelihood(model, z, row)
    return max(1, 2 * allocations.total if gradient else _HELD * allocations.largest)


class _Allocations(TorchFunctionMode):
    """Measures the storages that a block allocates, in bytes: the largest one, and the total. Views allocate nothing.

    Memory that a function allocates and frees inside is not counted. The torch mode that counts it takes a second to
    import.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        old = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in old:
                size = tensor.untyped_storage().nbytes()
                self.largest = max(self.largest, size)
                self.total += size
        return out
