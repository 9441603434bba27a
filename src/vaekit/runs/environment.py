"""The surroundings of a run: enough to repeat it, or to see why a repetition came out differently.

Not for: the config, which says what a run is (`config`).
"""

import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..config import Config
from ..data import Dataset
from ..model import LatentVariableModel
from ..store import Run
from ..training.cpu import flushed, flushes, threads
from .commit import commit
from .data_record import DataRecord

# Facts that may change the last bits of a result, beside the config and the data.
SETUP = (
    "vaekit",
    "torch",
    "numpy",
    "python",
    "platform",
    "device",
    "device_name",
    "capability",
    "threads",
    "precision",
    "flush_denormal",
    "deterministic",
    "ranks",
    "git",
)


def made_with(config: Config, data: Dataset, model: LatentVariableModel, ranks: int = 1) -> dict[str, Any]:
    """The entries of `environment.json`, without those that `Run.create` adds."""
    return {
        **setup(config, model.device, ranks),
        "command": [Path(sys.argv[0]).name.replace("__main__.py", "vae"), *sys.argv[1:]],
        "data": DataRecord.of_dataset(data, model.value_kind).to_json(),
        "parameters": model.num_parameters,
        "seed": config.train.seed,
    }


def setup(config: Config, device: torch.device, ranks: int = 1) -> dict[str, Any]:
    """Versions, machine, device and all else that may change the last bits of a result: the keys `SETUP`."""
    if device.type == "cuda":
        name, capability = torch.cuda.get_device_name(device), str(torch.cuda.get_device_capability(device))
    else:
        name, capability = _processor(), torch.backends.cpu.get_cpu_capability()
    sha = commit()
    return {
        "vaekit": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": name,
        "capability": capability,
        "threads": torch.get_num_threads(),
        "precision": config.train.precision,
        "flush_denormal": flushes(),
        "deterministic": config.train.deterministic,
        "ranks": ranks,
        "git": None if sha is None else {"commit": sha},
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The differences of two set-ups, by key."""
    before = {"ranks": 1, "flush_denormal": False, **before}  # the first runs lack these keys
    differing = {key: (before.get(key), now.get(key)) for key in SETUP if before.get(key) != now.get(key)}
    first, second = _checksum(before), _checksum(now)
    if None not in (first, second) and first != second:
        differing["data"] = (f"checksum {first!s:.12}", f"checksum {second!s:.12}")
    return differing


def _checksum(record: Mapping[str, Any]) -> Any:
    """The checksum of the data in an environment; None in a set-up alone."""
    data = record.get("data")
    return data.get("checksum") if isinstance(data, Mapping) else None


@contextmanager
def computing_as(run: Run, ranks: int = 1) -> Iterator[None]:
    """Within the block, use the threads and the denormal setting that the run began with; the last bits depend on both.

    Arguments:
        run: The run; it recorded its number of threads, and whether tiny numbers counted as 0.
        ranks: Number of processes that train it now. With several, torchrun chooses the number of threads.
    """
    began = run.environment.get("threads")
    count = began if ranks == 1 and type(began) is int else None
    with threads(count), flushed(bool(run.environment.get("flush_denormal"))):
        yield


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
