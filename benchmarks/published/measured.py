"""What the scripts about tables share: contenders that are measured several times, and their record in a JSON.

A record is one figure of one contender: {"data", "task", "contender", "metric", "published", "values", "mean", "sd",
"seconds", "command", "versions", "hardware", "date"}.
"""

import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
SAME = ("data", "task", "contender", "metric")


def processor() -> str:
    """What the machine computes with."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def measured(function: Callable[[int], float | dict[str, float]], seeds: Sequence[int]) -> tuple[list[Any], float]:
    """What a function of a seed gives for each of several, and the seconds that one took in the mean."""
    began = time.perf_counter()
    values = [function(seed) for seed in seeds]
    return values, (time.perf_counter() - began) / len(seeds)


def recorded(file: str, **what: Any) -> list[dict[str, Any]]:
    """The records of a JSON beside this file that are of some data, task, contender or metric."""
    path = HERE / file
    known: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return [one for one in known if all(one.get(key) == value for key, value in what.items())]


def record(file: str, values: Sequence[float], seconds: float, **what: Any) -> None:
    """Put a record into a JSON beside this file, in place of an earlier one of the same figure."""
    path = HERE / file
    known = recorded(file)
    made = {
        **what,
        "values": [round(float(value), 5) for value in values],
        "mean": round(statistics.fmean(values), 5),
        "sd": round(statistics.stdev(values), 5) if len(values) > 1 else None,
        "seconds": round(seconds, 2),
        "command": shlex.join(["python", f"benchmarks/published/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("torch", "scikit-learn")},
        "hardware": f"{processor()}, {torch.get_num_threads()} thread(s) of {os.cpu_count()} cores, shared",
        "date": time.strftime("%Y-%m-%d"),
    }
    same = [made.get(key) for key in SAME]
    kept = [old for old in known if [old.get(key) for key in SAME] != same]
    path.write_text(json.dumps([*kept, made], indent=1, ensure_ascii=False) + "\n")
    print(
        f"{' '.join(str(value) for value in same)}: {made['mean']:.3f} ± {made['sd'] or 0:.3f}, {seconds:.0f} s",
        flush=True,
    )
