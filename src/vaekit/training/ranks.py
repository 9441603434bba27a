"""Ranks: the processes that torchrun starts for one training, each with a shard of the rows of every batch.

N ranks give the result of one: all hold the same weights, the same order and the same random streams. Each takes its
rows of a batch, with the noise that these rows get where the whole batch is drawn, and the gradients are added up. A
single rank does nothing of this.

Not for: when a training is checked or saved (`loop`, `checkpointer`).
"""

import io
import os
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data import Batch, as_batch
from ..errors import ConfigError, DeviceError, RankError, VAEError
from ..model import LatentVariableModel
from ..objectives import OfDraw
from .noise import NoiseOfRows

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """The rows of one batch that one rank takes.

    Attributes:
        batch: Those rows.
        total: Rows of the whole batch.
        noise: Context in which they are drawn.
        counts: False for a rank for which no row was left. It computes the first row, and its result is dropped.
    """

    batch: Batch
    total: int
    noise: AbstractContextManager[Any]
    counts: bool = True

    def counted(self, value: Tensor) -> Tensor:
        """A sum over the rows, which is nothing where there are none."""
        return value if self.counts else 0 * value


@dataclass(frozen=True)
class Ranks:
    """All processes of a training, seen from one of them.

    Attributes:
        rank: Which one this is. Only the first, 0, writes; the others are workers.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    def check(self, model: LatentVariableModel, loss: object) -> None:
        """Refuse what several ranks would not compute as one does.

        Raises:
            ConfigError: a loss or a network that looks at several rows at once, or a loss with opponents.
            DeviceError: a device on which ranks cannot reach each other.
        """
        if self.world == 1:
            return
        if model.device.type not in ("cpu", "cuda"):
            raise DeviceError(
                f"{self.world} ranks need a CPU or CUDA devices, this is {model.device.type!r}; use 'cpu'"
            )
        name = loss.name if isinstance(loss, OfDraw) else type(loss).__name__
        if hasattr(loss, "opponents"):
            raise ConfigError(f"{name} brings opponents, which several ranks do not train; train with one rank")
        if getattr(loss, "couples_rows", False):
            raise ConfigError(
                f"{name} compares the rows of a batch with one another, and {self.world} ranks see only their own; "
                "train with one rank, or choose another objective"
            )
        if model.device.type == "cpu" and any(isinstance(module, _BatchNorm) for module in model.modules()):
            raise ConfigError(
                f"batch normalization over {self.world} ranks needs CUDA, this is 'cpu'; train with one, or choose "
                "another norm, such as 'layer'"
            )

    def synchronize(self, model: LatentVariableModel) -> None:
        """Let batch normalization see the rows of all ranks; weights and their names stay what they are."""
        if self.world > 1:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def shard(self, item: Any, samples: int) -> Shard:
        """This rank's part of a batch, of which K samples are drawn: consecutive rows, as many as others or one more.

        Arguments:
            item: A batch as the loader gives it; all ranks have the same.
            samples: K.
        """
        batch = as_batch(item)
        total = len(batch)
        if self.world == 1:
            return Shard(batch, total, nullcontext())
        start, stop = total * self.rank // self.world, total * (self.rank + 1) // self.world
        counts = stop > start
        rows = slice(start, stop) if counts else slice(0, 1)
        return Shard(batch.rows(rows), total, NoiseOfRows(samples, rows, total), counts)

    def all_reduce(self, sums: Tensor, parameters: Iterable[nn.Parameter] = ()) -> Tensor:
        """The sums over all ranks, and with them in the same message those of the gradients, in place.

        Arguments:
            sums: Shape (n,).
            parameters: Whose gradients are to be added up; the same ones have one on each rank.
        """
        if self.world == 1:
            return sums
        given = [(p, p.grad) for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for _, grad in given] + [sums])
        with self._reaching_all():
            dist.all_reduce(flat)
        *grads, total = torch.split(flat, [p.numel() for p, _ in given] + [len(sums)])
        for (p, grad), added in zip(given, grads, strict=True):
            # a view where that has the layout which the optimizer expects: one copy less
            p.grad = added.view_as(p).to(p.dtype) if p.is_contiguous() else grad.copy_(added.view_as(p))
        return total

    def broadcast(self, value: T) -> T:
        """The value that the first rank gives, on all ranks."""
        if self.world == 1:
            return value
        packed = io.BytesIO()
        torch.save(value, packed)  # pickle alone does not know tensors of every type
        box = [packed.getvalue()]
        with self._reaching_all():
            dist.broadcast_object_list(box)
        return cast("T", torch.load(io.BytesIO(box[0]), weights_only=False)) if self.rank else value

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank."""
        return flag if self.world == 1 else self._greatest([float(flag)]) == [1.0]

    def check_in_step(self, model: LatentVariableModel) -> None:
        """Check that the random streams and the model's buffers are still the same on all ranks.

        Raises:
            ConfigError: they are not.
        """
        if self.world == 1:
            return
        stream = float(zlib.crc32(torch.get_rng_state().numpy().data))
        if model.device.type == "cuda":
            stream += zlib.crc32(torch.cuda.get_rng_state(model.device).numpy().data)
        buffers = sum(float(buffer.double().sum()) for buffer in model.buffers())
        high_and_low = self._greatest([stream, -stream, buffers, -buffers])
        if high_and_low[::2] != [-low for low in high_and_low[1::2]]:
            raise ConfigError(
                f"the {self.world} ranks have drifted apart: the model, the loader or a listener draws noise whose "
                "shape does not begin with the rows, or keeps what depends on them; train with one rank"
            )

    @contextmanager
    def raise_together(self) -> Iterator[None]:
        """If the block fails on one rank, it fails on all of them, with the error of the first that failed."""
        mine: list[VAEError | None] = [None]
        try:
            yield
        except VAEError as error:
            mine = [error]
        errors = mine * self.world
        if self.world > 1:
            with self._reaching_all():
                dist.all_gather_object(errors, mine[0])
        for rank, found in enumerate(errors):
            if found is not None:
                raise type(found)(f"rank {rank}: {found}") if rank else found

    def wait(self) -> None:
        """Wait until all ranks are here or the first has ended."""
        if self.world > 1:
            with suppress(RuntimeError):
                dist.barrier()

    def _greatest(self, numbers: Sequence[float]) -> list[float]:
        found = torch.tensor(numbers, dtype=torch.float64)
        with self._reaching_all():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.tolist()

    @contextmanager
    def _reaching_all(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("] ")[2].partition(". ")[0] or str(error)  # without where in gloo's source
            raise RankError(f"a rank died or cannot be reached any more ({' '.join(reason.split()):.200})") from error


ALONE = Ranks()
MOST = 1 << 20  # ranks


class CheckClock:
    """When to check a training: every so many seconds, or when it is to stop; on all ranks after the same step.

    Arguments:
        ranks: All ranks.
        every: Seconds between two checks.
        stop: Not empty when this rank is asked to stop.
    """

    def __init__(self, ranks: Ranks, every: float, stop: Sequence[float]) -> None:
        self.ranks = ranks
        self.every = every
        self.stop = stop
        self.last = time.perf_counter()
        self.steps = 0
        self.wait = 1

    def due(self) -> bool:
        """Whether to check after this step."""
        self.steps += 1
        now = time.perf_counter()
        if not (self.stop or now - self.last >= self.every if self.ranks.world == 1 else self.steps >= self.wait):
            return False
        pace = self.steps * self.every / max(now - self.last, 1e-9)
        self.wait = max(1, min(int(pace), 2 * self.steps))
        self.last = now
        self.steps = 0
        return True

    def stopping(self) -> bool:
        """Whether any rank is asked to stop."""
        return self.ranks.any(bool(self.stop))

    def end(self) -> None:
        """End a check: the first rank, after what it alone does, says after how many steps the next one is."""
        self.wait = self.ranks.broadcast(self.wait)


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that torchrun has started, this process among them; where it has not, one alone.

    Each rank sees one GPU, that of its number on its machine; none, where there are fewer than ranks.
    """
    started = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    world = _number("WORLD_SIZE", 1, MOST) if started else 1
    rank = _number("RANK", 0, world - 1) if started else 0
    if world == 1:
        yield ALONE
        return
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if _see_one_gpu() else "gloo")
    except (RuntimeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise RankError(
            f"the other ranks cannot be reached ({reason:.200}); start all of them with torchrun"
        ) from error
    yield Ranks(rank, world)
    dist.destroy_process_group()


def _number(name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number that torchrun gives in the environment.

    Raises:
        ConfigError: It is not one, or out of range.
    """
    text = os.environ.get(name, str(default))
    if text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high:
        return int(text)
    raise ConfigError(f"{name} must be a whole number from {low} to {high}, got {text!r:.80}; start with torchrun")


def _see_one_gpu() -> bool:
    """Hide all GPUs of this machine but this rank's own, or all where they are too few; CUDA must not have started."""
    devices = torch.cuda.device_count()
    ranks = _number("LOCAL_WORLD_SIZE", 1, MOST, default=1)
    number = _number("LOCAL_RANK", 0, ranks - 1, default=0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if len(visible) == devices and visible[0] else [str(i) for i in range(devices)]
    enough = devices >= ranks
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number] if enough else ""
    if devices and not enough:
        message = f"{ranks} ranks on a machine with {devices} GPU(s) train on its CPU; start one rank for each GPU"
        warnings.warn(message, stacklevel=4)
    return bool(devices) and enough
