"""The command, given what a stranger made, over and over: python tests/generators.py SECONDS [SEED].

Three kinds of tries, each of the real command in this process: a run folder with a harmed file and any verb; a damaged
data file; an odd command line. Each must end with status 0, or with 2 and one line that says why: no traceback, within
10 seconds, and the process within 1.5 GB. Prints how many tries there were and how they ended, as JSON.
"""

import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fuzz import mutated
from vaekit import cli
from vaekit.evaluation import stored  # noqa: F401  # torch is imported before a try is timed

SECONDS, MEMORY = 10.0, 1 << 30
SMALL = ("--set", "encoder.hidden=[8]", "--set", "decoder.hidden=[8]", "--set", "model.latent_size=2")
VERBS: tuple[tuple[str, ...], ...] = (
    ("info", "a"),
    ("info", "a", "--json"),
    ("runs",),
    ("runs", "--long"),
    ("runs", "--json"),
    ("runs", "--clean", "damaged", "--yes"),
    ("sample", "a", "-n", "2", "-o", "o.npy"),
    ("sample", "a", "-n", "2", "-o", "o.png"),
    ("interpolate", "a", "--rows", "1", "--steps", "2", "-o", "o.npy"),
    ("reconstruct", "a", "-n", "2", "-o", "o.npy"),
    ("traverse", "a", "-o", "o.png"),
    ("encode", "a", "-o", "o.npy"),
    ("compare", "a", "b"),
    ("compare", "a", "b", "--format", "markdown"),
    ("resume", "a", "--set", "train.epochs=2"),
    ("export", "a", "-o", "o"),
    ("report", "a", "-o", "o.html"),
)
ODD = (
    "",
    "-1",
    "0",
    "1e999",
    "nan",
    "9" * 30,
    "a" * 300,
    "\x1b[31m",
    "\udc80",
    "../..",
    "/dev/null",
    "[",
    "{",
    "=",
    "é" * 9,
)
OPTIONS = (
    *(
        "--runs",
        "--seed",
        "-n",
        "-o",
        "--device",
        "--set",
        "--name",
        "--data",
        "--epochs",
        "--seeds",
        "--jobs",
        "--samples",
    ),
    *(
        "--images",
        "--split",
        "--format",
        "--column",
        "--group",
        "--class",
        "--json",
        "--long",
        "--help",
        "--rows",
        "--lr",
    ),
)


def template(folder: Path) -> Path:
    """Make x.npy and a small run on it, a, which is evaluated."""
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (200, 8, 8), "u1"))
    for arguments in (
        ("train", "standard-vae", "--data", "x.npy", "--epochs", "1", *SMALL, "--device", "cpu", "--name", "a"),
        ("evaluate", "--samples", "2"),
    ):
        subprocess.run([sys.executable, "-m", "vaekit", *arguments], cwd=folder, check=True, capture_output=True)
    return doubled(folder)


def doubled(folder: Path) -> Path:
    """A folder with x.npy and a run on it, a, and now another, b."""
    shutil.copytree(folder / "runs/a", folder / "runs/b")
    config = folder / "runs/b/config.toml"
    config.write_text(re.sub("learning_rate = .*", "learning_rate = 0.5", config.read_text()))
    for picture in (folder / "runs").glob("*/samples/*.*"):
        picture.unlink()  # which nothing reads
    return folder


def command(*arguments: str) -> tuple[int, str]:
    """Status and messages of the command, in this process.

    Raises:
        AssertionError: it takes too long, or says more than one line of error.
    """
    sys.argv = ["vae", *arguments]
    begun, err, before = time.monotonic(), io.StringIO(), peak_memory(anew=True)
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("default")  # pytest makes errors of them, which the command only says
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
    said = err.getvalue()
    assert time.monotonic() - begun < SECONDS, (arguments, "took too long")
    assert status in (0, 2), (arguments, status, said)
    assert "Traceback" not in said, (arguments, said)
    if status == 2:
        errors = [line for line in said.splitlines() if line.startswith("vae: error: ")]
        assert len(errors) == 1 and said.rstrip("\n").endswith(errors[0]), (arguments, said)
    assert peak_memory() - before < MEMORY, (arguments, "took too much memory")
    return status, said


def peak_memory(*, anew: bool = False) -> int:
    """The most memory that this process held, in bytes; counted from now on where it is counted anew."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def hostile_run(place: Path, pick: random.Random) -> int:
    """One verb on a copy of the runs of which one file is harmed."""
    folder = place / "runs/a"
    kept = place / "kept"
    if not kept.exists():
        shutil.copytree(place / "runs", kept)
    shutil.rmtree(place / "runs")
    shutil.copytree(kept, place / "runs")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = pick.choice(files)
    harm(path, pick)
    return command(*pick.choice(VERBS))[0]


def harm(path: Path, pick: random.Random) -> None:
    """Make a file another one: changed, of no length, sparse, or not a file at all."""
    match pick.randrange(10):
        case 0:
            path.unlink()
        case 1:
            os.truncate(path, pick.choice([0, 1, 1 << 40]))
        case 2:
            path.unlink()
            pick.choice([lambda: os.mkfifo(path), path.mkdir, lambda: path.symlink_to("/etc/passwd")])()
        case 3:
            other = pick.choice(sorted(one for one in path.parent.glob("*") if one.is_file()))
            path.write_bytes(other.read_bytes())
        case _:
            path.write_bytes(mutated(path.read_bytes(), pick))


def odd_data(place: Path, pick: random.Random) -> int:
    """Latents of a damaged data file."""
    picture = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), "u1")).save(picture, "PNG")
    archive = io.BytesIO()
    np.savez(archive, images=np.zeros((9, 8, 8), "u1"), labels=np.arange(9) % 3)
    path = place / "odd" / pick.choice(["x.npy", "x.npz", "x.png", "x.csv", "x.jpg"])
    path.parent.mkdir(exist_ok=True)
    good = {".npy": (place / "x.npy").read_bytes(), ".npz": archive.getvalue(), ".csv": b"a,b\n1,2\n3,\n" * 9}
    path.write_bytes(mutated(good.get(path.suffix, picture.getvalue()), pick))
    data = str(path.parent if path.suffix in (".png", ".jpg") else path)
    try:
        return command("encode", "b", "--data", data, "-o", "o.npy")[0]
    finally:
        shutil.rmtree(path.parent)


def odd_line(place: Path, pick: random.Random) -> int:
    """A verb with options and values that need not fit."""
    verbs = ["info", "runs", "sample", "encode", "compare", "presets", "data", "interpolate", "reconstruct", "train"]
    words = [pick.choice([*verbs, "nothing", "help"])]
    words += [pick.choice([*OPTIONS, *ODD, "a", "b"]) for _ in range(pick.randint(0, 4))]
    if words[0] == "train":
        words += ["--epochs", pick.choice(ODD)]  # refused, whatever the rest is
    return command(*words)[0]


KINDS: dict[str, Callable[[Path, random.Random], int]] = {
    "hostile runs": hostile_run,
    "odd data": odd_data,
    "odd command lines": odd_line,
}


def main() -> None:
    """Try until the time is over."""
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    faults: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        place = template(Path(folder))
        os.chdir(place)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for kind, attempt in KINDS.items():
                number = f"{seed}-{kind}-{counts[kind].total()}"
                try:
                    counts[kind]["read" if attempt(place, random.Random(number)) == 0 else "refused"] += 1
                except Exception as error:
                    counts[kind]["faults"] += 1
                    faults.append((number, f"{type(error).__name__}: {error}"[:500]))
        os.chdir("/")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"counts": counts, "faults": faults[:40], "seconds": seconds, "peak_MiB": memory}, indent=1))


if __name__ == "__main__":
    main()
