"""Ranks: the processes that torchrun starts for one training, each with a shard of the rows of every batch.

N ranks give the result of one: all hold the same weights, the same order and the same random streams. Each takes its
rows of a batch, with the same noise as in a draw of the whole batch, and the gradients are added up. A single rank does
none of this.

Not for: starting them (`launch`), or when a training is checked (`clock`).
"""

import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data import Batch, as_batch
from ..errors import ConfigError, DeviceError, RankError, VAEError
from ..model import LatentVariableModel
from ..objectives import Loss, Player
from ..objectives.base import name_of
from .noise import NoiseOfRows

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """The rows of one batch that one rank takes.

    Attributes:
        batch: The rows.
        total: Number of rows of the whole batch.
        noise: Context for drawing the noise of these rows.
        counts: False for a rank without rows. It computes the first row, and drops the result.
    """

    batch: Batch
    total: int
    noise: AbstractContextManager[Any]
    counts: bool = True

    def zero_if_empty(self, value: Tensor) -> Tensor:
        """A sum over the rows; 0 for a rank without rows."""
        return value if self.counts else 0 * value


@dataclass(frozen=True)
class Ranks:
    """All processes of a training, seen from one of them.

    Attributes:
        rank: Number of this process. Only the first, 0, writes; the others are workers.
        world_size: Number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def convert_batch_norm(self, model: LatentVariableModel) -> None:
        """Make batch normalization see the rows of all ranks; weights and their names stay as they are."""
        if self.world_size > 1:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def shard(self, item: Any, samples: int) -> Shard:
        """This rank's shard of a batch with K samples per row: consecutive rows, at most one more than any other's.

        Arguments:
            item: A batch as the loader gives it; all ranks have the same.
            samples: K.
        """
        batch = as_batch(item)
        total = len(batch)
        if self.world_size == 1:
            return Shard(batch, total, nullcontext())
        start, stop = total * self.rank // self.world_size, total * (self.rank + 1) // self.world_size
        counts = stop > start
        rows = slice(start, stop) if counts else slice(0, 1)
        return Shard(batch.rows(rows), total, NoiseOfRows(samples, rows, total), counts)

    def all_reduce(self, sums: Tensor, parameters: Iterable[nn.Parameter] = ()) -> Tensor:
        """The sums over all ranks. The same all_reduce sums the gradients.

        Arguments:
            sums: Shape (n,).
            parameters: Parameters with gradients to add up; the same ones have a gradient on each rank.
        """
        if self.world_size == 1:
            return sums
        with_gradient = [(p, p.grad) for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for _, grad in with_gradient] + [sums])
        with self._reaching_all():
            dist.all_reduce(flat)
        *grads, total = torch.split(flat, [p.numel() for p, _ in with_gradient] + [len(sums)])
        for (p, grad), added in zip(with_gradient, grads, strict=True):
            # a view saves a copy, if it has the layout that the optimizer expects
            p.grad = added.view_as(p).to(p.dtype) if p.is_contiguous() else grad.copy_(added.view_as(p))
        return total

    def broadcast(self, value: T) -> T:
        """The first rank's value, on all ranks."""
        if self.world_size == 1:
            return value
        packed = io.BytesIO()
        torch.save(value, packed)  # pickle alone does not know tensors of every type
        box = [packed.getvalue()]
        with self._reaching_all():
            dist.broadcast_object_list(box)
        return cast("T", torch.load(io.BytesIO(box[0]), weights_only=False)) if self.rank else value

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is true on any rank."""
        return flag if self.world_size == 1 else self._greatest([float(flag)]) == [1.0]

    def check_in_step(self, model: LatentVariableModel) -> None:
        """Check that the random streams and the model's buffers are still the same on all ranks.

        Raises:
            ConfigError: The streams or the buffers differ between ranks.
        """
        if self.world_size == 1:
            return
        stream = float(zlib.crc32(torch.get_rng_state().numpy().data))
        if model.device.type == "cuda":
            stream += zlib.crc32(torch.cuda.get_rng_state(model.device).numpy().data)
        finite = (buffer.double().nan_to_num() for buffer in model.buffers())  # a NaN differs from itself
        buffers = sum(float(buffer.sum()) for buffer in finite)
        high_and_low = self._greatest([stream, -stream, buffers, -buffers])
        if high_and_low[::2] != [-low for low in high_and_low[1::2]]:
            raise ConfigError(
                f"the {self.world_size} ranks have drifted apart: the model, the loader or a listener draws noise "
                "whose shape does not begin with the rows, or keeps values that depend on them; train with one rank"
            )

    @contextmanager
    def raise_together(self) -> Iterator[None]:
        """If the block raises a `VAEError` on a rank, it raises on all ranks the error of the lowest such rank."""
        own_error: list[VAEError | None] = [None]
        try:
            yield
        except VAEError as error:
            own_error = [error]
        errors = own_error * self.world_size
        if self.world_size > 1:
            with self._reaching_all():
                dist.all_gather_object(errors, own_error[0])
        for rank, failure in enumerate(errors):
            if failure is not None:
                raise failure.with_message(f"rank {rank}: {failure}") if rank else failure

    def wait(self) -> None:
        """Wait until all ranks are here or the first has ended."""
        if self.world_size > 1:
            with suppress(RuntimeError):
                dist.barrier()

    def _greatest(self, numbers: Sequence[float]) -> list[float]:
        greatest = torch.tensor(numbers, dtype=torch.float64)
        with self._reaching_all():
            dist.all_reduce(greatest, dist.ReduceOp.MAX)
        return greatest.tolist()

    @contextmanager
    def _reaching_all(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("] ")[2].partition(". ")[0] or str(error)  # without gloo's line number
            raise RankError(f"a rank died or cannot be reached any more ({' '.join(reason.split()):.200})") from error


ALONE = Ranks()
_joined: ContextVar[Ranks] = ContextVar("ranks", default=ALONE)


@contextmanager
def joining(ranks: Ranks) -> Iterator[None]:
    """Within the block a training in this process is shared by all ranks."""
    token = _joined.set(ranks)
    try:
        yield
    finally:
        _joined.reset(token)


def joined_ranks() -> Ranks:
    """The ranks of the `with joined():` around this call; one rank alone outside of such a block."""
    return _joined.get()


def check_ranks(ranks: Ranks, model: LatentVariableModel, loss: Loss, opponents: Sequence[Player] = ()) -> None:
    """Refuse a training that several ranks would not compute as one does.

    Arguments:
        ranks: All ranks.
        model: The model.
        loss: The model's loss.
        opponents: The players that the loss brings.

    Raises:
        ConfigError: The loss or a network looks at several rows at once, or the loss has opponents.
        DeviceError: Ranks cannot reach each other on this device.
    """
    n = ranks.world_size
    if n == 1:
        return
    device = model.device.type
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"{n} ranks need a CPU or CUDA devices, this is {device!r}; use 'cpu'")
    if opponents:
        raise ConfigError(f"{name_of(loss)} brings opponents, which several ranks do not train; train with one rank")
    if loss.couples_rows:
        raise ConfigError(
            f"{name_of(loss)} compares the rows of a batch with one another, and {n} ranks see only their own; "
            "train with one rank, or choose another objective"
        )
    for module in model.modules():
        if getattr(module, "couples_rows", False):
            raise ConfigError(
                f"{type(module).__name__} learns from whole batches, and {n} ranks see only their own rows; train with "
                "one rank, or choose another part, such as the posterior 'fsq', or set scale = 'shared'"
            )
    if device == "cpu" and any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise ConfigError(
            f"batch normalization over {n} ranks needs CUDA, this is 'cpu'; train with one rank, or choose another "
            "norm, such as 'layer'"
        )
