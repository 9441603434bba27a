"""The processes that torchrun has started: their ranks, and the GPU that each of them sees."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from ..errors import ConfigError, RankError, reason
from .ranks import ALONE, Ranks, joining

MOST_RANKS = 1 << 20  # ranks


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that torchrun has started, this process among them; without torchrun, one rank alone.

    Within the block `vaekit.fit` trains with all of them; each rank makes the same calls.
    Each rank sees one GPU, by its number on its machine; it sees none if there are fewer GPUs than ranks.
    """
    started = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    world_size = _number("WORLD_SIZE", 1, MOST_RANKS) if started else 1
    rank = _number("RANK", 0, world_size - 1) if started else 0
    if world_size == 1:
        yield ALONE
        return
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if _see_one_gpu() else "gloo")
    except (RuntimeError, ValueError, OverflowError) as error:
        raise RankError(
            f"the other ranks cannot be reached ({reason(error)}); start all of them with torchrun"
        ) from error
    ranks = Ranks(rank, world_size)
    with joining(ranks):
        yield ranks
    dist.destroy_process_group()  # not after an error: it would wait for ranks that are dead


def _number(name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number that torchrun gives in the environment.

    Raises:
        ConfigError: The value is not a whole number, or is out of range.
    """
    text = os.environ.get(name, str(default))
    if text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high:
        return int(text)
    raise ConfigError(f"{name} must be a whole number from {low} to {high}, got {text!r:.80}; start with torchrun")


def _see_one_gpu() -> bool:
    """Hide all GPUs of this machine but this rank's own, or all if there are too few; return whether it has one.

    CUDA must not have started.
    """
    devices = torch.cuda.device_count()
    ranks = _number("LOCAL_WORLD_SIZE", 1, MOST_RANKS, default=1)
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
