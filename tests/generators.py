"""The command, given what a stranger made, over and over: python tests/generators.py SECONDS [SEED [FILE]].

Three kinds of tries, each of the real command in this process: a run folder with a harmed file and any verb; a damaged
data file; an odd command line. Each must end with status 0, or with 2 and one line that says why: no traceback, within
10 seconds, beside those for which other processes held the processor, and with at most 1 GiB more memory than before. A fourth kind starts
processes: a series of trainings that is stopped at a random moment and continued ends with the weights of one that
was not. There are 10,000 tries of the first kinds, or as many as the time allows, and then a few of the last. How many there
were and how they ended is printed as JSON at the end, and written into FILE every minute.
"""

import contextlib
import hashlib
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
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
import pandas
from PIL import Image

import tiny
from fuzz import changed, mutated
from vaekit import cli
from vaekit.evaluation import run_evaluation  # noqa: F401  # torch is imported before a try is timed
from vaekit.store import list_runs

SECONDS, MEMORY = 10.0, 1 << 30
TRIES, SERIES = 10_000, 6
SMALL = ("--set", "encoder.hidden=[8]", "--set", "decoder.hidden=[8]", "--set", "model.latent_size=2")
VERBS: tuple[tuple[str, ...], ...] = (
    ("info", "RUN"),
    ("info", "RUN", "--json"),
    ("runs",),
    ("runs", "--long"),
    ("runs", "--json"),
    ("runs", "--clean", "damaged", "--yes"),
    ("sample", "RUN", "-n", "2", "-o", "o.npy"),
    ("sample", "RUN", "-n", "2", "-o", "o.png"),
    ("sample", "RUN", "-n", "2", "-o", "o.csv"),
    ("interpolate", "RUN", "--walks", "1", "--steps", "2", "-o", "o.npy"),
    ("reconstruct", "RUN", "-n", "2", "-o", "o.npy"),
    ("traverse", "RUN", "-o", "o.png"),
    ("encode", "RUN", "-o", "o.npy"),
    ("score", "RUN", "--samples", "2", "-o", "o.csv"),
    ("evaluate", "RUN", "--samples", "2", "--images", "4"),
    ("impute", "RUN", "--samples", "2", "-o", "o.csv"),
    ("compare", "RUN", "b"),
    ("compare", "RUN", "b", "--format", "markdown"),
    ("compare", "RUN", "b", "--format", "latex"),
    ("resume", "RUN", "--set", "train.epochs=2"),
    ("export", "RUN", "-o", "o"),
    ("report", "RUN", "-o", "o.html"),
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
    "train.epochs=0",
    "encoder.hidden=[99999999]",
    "likelihood.scale=1e-300",
    "objective.beta={schedule=1}",
    "data.columns.x=real",
)
OPTIONS = re.findall(
    r"\S+",
    "--runs --seed -n -o --device --set --name --data --epochs --seeds --jobs --samples --images --split --format "
    "--column --group --class --json --long --help --rows --lr --config --labels --by-class --steps --walk --trust "
    "--memory --precision --draws --hide --all --clean --yes",
)


def template(folder: Path) -> Path:
    """Make x.npy and t.csv, and small runs on them, a and t, which are evaluated."""
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (200, 8, 8), "u1"))
    (folder / "t.csv").write_bytes(TABLE)
    for arguments in (
        ("train", "standard-vae", "--data", "x.npy", "--epochs", "1", *SMALL, "--device", "cpu", "--name", "a"),
        ("evaluate", "a", "--samples", "2"),
        ("train", "table-vae", "--data", "t.csv", "--epochs", "1", *SMALL, "--device", "cpu", "--name", "t"),
        ("evaluate", "t", "--samples", "2"),
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
    shutil.copytree(folder / "runs", folder / "kept")
    return folder


WORST: dict[str, tuple[float, Any]] = {"seconds": (0.0, None), "MiB": (0.0, None), "MiB more": (0.0, None)}


def command(*arguments: str) -> tuple[int, str]:
    """Status and messages of the command, in this process.

    Raises:
        AssertionError: it takes too long, or says more than one line of error.
    """
    sys.argv = ["vae", *arguments]
    begun, err = busy(), io.StringIO()
    before = peak_memory(anew=True)
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("default")  # pytest makes errors of them, which the command only says
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
    said = err.getvalue()
    after = peak_memory()
    costs = {"seconds": busy() - begun, "MiB": after / (1 << 20), "MiB more": (after - before) / (1 << 20)}
    for unit, cost in costs.items():
        WORST[unit] = max(WORST[unit], (round(cost, 2), arguments), key=lambda worst: worst[0])
    assert costs["seconds"] < SECONDS, (arguments, "took too long")
    assert status in (0, 2), (arguments, status, said)
    assert "Traceback" not in said, (arguments, said)
    if status == 2:
        errors = [line for line in said.splitlines() if line.startswith("vae: error: ")]
        assert len(errors) == 1 and said.rstrip("\n").endswith(errors[0]), (arguments, said)
    assert all(line.isprintable() for line in said.splitlines()), (arguments, said)
    assert after - before < MEMORY, (arguments, "took too much memory")
    return status, said


def busy() -> float:
    """Seconds on a clock that stands still while this process could run but another one has the processor."""
    schedule = Path("/proc/thread-self/schedstat")
    waited = int(schedule.read_text().split()[1]) if schedule.exists() else 0
    return time.monotonic() - waited / 1e9


def peak_memory(*, anew: bool = False) -> int:
    """The most memory that this process held, in bytes; counted from now on where it is counted anew."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


# -- hostile runs -----------------------------------------------------------------------------------------------------


def hostile_run(place: Path, pick: random.Random) -> int:
    """One verb on a copy of the runs of which one file is harmed."""
    shutil.rmtree(place / "runs")
    shutil.copytree(place / "kept", place / "runs")
    run = pick.choice([path.name for path in sorted((place / "runs").iterdir()) if path.name in "at"])
    path = pick.choice(sorted(path for path in (place / "runs" / run).rglob("*") if path.is_file()))
    harm(path, pick)
    return command(*(run if word == "RUN" else word for word in pick.choice(VERBS)))[0]


def harm(path: Path, pick: random.Random) -> None:
    """Make a file another one: changed, of no length, sparse, or not a file at all."""
    match pick.randrange(10):
        case 0:
            path.unlink()
        case 1:
            os.truncate(path, pick.choice([0, 1, 1 << 40]))
        case 2:
            path.unlink()
            targets = ["/etc/passwd", "/dev/zero", path.name, str(path.parent)]
            pick.choice([lambda: os.mkfifo(path), path.mkdir, lambda: path.symlink_to(pick.choice(targets))])()
        case 3:
            other = pick.choice(sorted(one for one in path.parent.glob("*") if one.is_file()))
            path.write_bytes(other.read_bytes())
        case _:
            path.write_bytes(changed(path.read_bytes(), pick))
            if pick.random() < 0.7:
                believed(path)


def believed(path: Path) -> None:
    """Put the checksum of a changed file into the manifest of its checkpoint, so that it is read all the same."""
    listing = path.with_name("manifest.json")
    with contextlib.suppress(FileNotFoundError, KeyError, TypeError, ValueError):
        table = json.loads(listing.read_text())
        data = path.read_bytes()
        table["files"][path.name] |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        listing.write_text(json.dumps(table))


# -- odd data ---------------------------------------------------------------------------------------------------------

TABLE = b"age,sex,born,visits,note\n" + b"".join(
    f"{i % 50 + i / 7:.2f},{'mf'[i % 2]},20{i % 20 + 10}-0{i % 9 + 1}-01,{i % 5},{['', 'low', 'high'][i % 3]}\n".encode()
    for i in range(120)
)
PICTURES = {"x.png": "PNG", "x.jpg": "JPEG", "x.gif": "GIF", "x.bmp": "BMP", "x.webp": "WEBP", "x.tif": "TIFF"}
NAMES = ("x.npy", "x.npz", *PICTURES, "x.csv", "x.tsv", "x.parquet", "x-labels.npy", "x.idx")
OF_IMAGES: tuple[tuple[str, ...], ...] = (
    ("encode", "b", "--data", "DATA", "-o", "o.npy"),
    ("score", "b", "--data", "DATA", "--samples", "2", "-o", "o.csv"),
    ("evaluate", "b", "--data", "DATA", "--samples", "2", "--images", "4"),
    ("reconstruct", "b", "--data", "DATA", "-n", "2", "-o", "o.npy"),
)
OF_TABLES: tuple[tuple[str, ...], ...] = (
    ("data", "DATA"),
    ("data", "DATA", "--set", "data.columns.note=categorical"),
    ("encode", "t", "--data", "DATA", "-o", "o.npy"),
    ("score", "t", "--data", "DATA", "--samples", "2", "-o", "o.csv"),
    ("impute", "t", "--data", "DATA", "--samples", "2", "-o", "o.csv"),
    ("evaluate", "t", "--data", "DATA", "--samples", "2", "--images", "4"),
)


def odd_data(place: Path, pick: random.Random) -> int:
    """A verb that reads a damaged data file."""
    folder = place / "odd"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    name = pick.choice(NAMES)
    path = folder / (name if name in PICTURES or pick.random() < 0.9 else name.replace("x", "x\x1b[31m\n\udc80", 1))
    path.write_bytes(mutated(good(name, pick), pick))
    if name == "x-labels.npy":
        shutil.copy(place / "x.npy", folder)
        path = folder / "x.npy"
    if pick.random() < 0.03:
        path.unlink()
        pick.choice([lambda: os.mkfifo(path), lambda: path.symlink_to(path.name), path.mkdir])()
    of_table = path.suffix in (".csv", ".tsv", ".parquet") and (place / "runs/t").exists()
    data = str(path.parent if name in PICTURES else path)
    return command(*(data if word == "DATA" else word for word in pick.choice(OF_TABLES if of_table else OF_IMAGES)))[0]


def good(name: str, pick: random.Random) -> bytes:
    """A file of a kind that can be read."""
    file = io.BytesIO()
    if name in PICTURES:
        mode = pick.choice(["L", "RGB"] if PICTURES[name] in ("JPEG", "WEBP") else ["L", "RGB", "1", "P"])
        Image.fromarray(np.zeros((8, 8), "u1")).convert(mode).save(file, PICTURES[name])
    elif name == "x.npz":
        save = pick.choice([np.savez, np.savez_compressed])
        save(file, images=np.zeros((9, 8, 8), "u1"), labels=np.arange(9) % 3)
    elif name == "x.parquet":
        pandas.read_csv(io.BytesIO(TABLE)).to_parquet(file)
    elif name.endswith(".npy"):
        kind = pick.choice(["u1", "f4", "<i8", "?", "f2", ">u2", "U3", "c8"])
        np.save(file, np.ones((200, *((8, 8) if name == "x.npy" else ())), kind))
    elif name == "x.idx":
        file.write(b"\0\0\x08\x03\0\0\0\x09\0\0\0\x08\0\0\0\x08" + bytes(576))
    else:
        text = TABLE if name == "x.csv" else TABLE.replace(b",", b"\t")
        file.write(text.decode().encode(pick.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])))
    return file.getvalue()


# -- odd command lines ------------------------------------------------------------------------------------------------


def odd_line(place: Path, pick: random.Random) -> int:
    """A verb with options and values that need not fit."""
    verbs = (
        "info runs sample encode compare presets data interpolate reconstruct traverse map latents score impute report"
    )
    words = [pick.choice([*verbs.split(), "export", "train", "train", "nothing", "help"])]
    words += [pick.choice([*OPTIONS, *ODD, "a", "b", "t"]) for _ in range(pick.randint(0, 5))]
    if words[0] == "train":
        words += ["--epochs", pick.choice(["", "-1", "0", "nan", "9" * 30])]  # refused, whatever the rest is
    return command(*words)[0]


KINDS: dict[str, Callable[[Path, random.Random], int]] = {
    "hostile runs": hostile_run,
    "odd data": odd_data,
    "odd command lines": odd_line,
}


# -- interrupted series -----------------------------------------------------------------------------------------------

LONG = ("train", "standard-vae", "--data", "x.npy", "--epochs", "60", *SMALL, "--device", "cpu", "--set")
LONG = (*LONG, "train.checkpoint_every=0.02", "--set", "data.binarize=per-epoch", "--seeds", "2", "--jobs", "2")


def series(place: Path, root: Path) -> "subprocess.Popen[bytes]":
    """Begin a series of two trainings side by side, or continue it."""
    line = [sys.executable, "-m", "vaekit", *LONG, "--name", "s", "--runs", str(root)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True}
    return subprocess.Popen(line, cwd=place, env=os.environ | {"OMP_NUM_THREADS": "1"}, **silent)  # type: ignore[call-overload, no-any-return]


def outcome(place: Path, root: Path) -> dict[str, Any]:
    """What a series comes to that is now run to its end."""
    process = series(place, root)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return {run.name: tiny.outcome(run) for run in list_runs(root)}


def interrupted_series(place: Path, pick: random.Random, whole: dict[str, Any], seconds: float) -> str:
    """Stop a series at a random moment, once or twice, and continue it: it comes to the same. Returns how it ended."""
    root = Path(tempfile.mkdtemp(dir=place))
    ways = [
        pick.choice(["SIGKILL", "SIGKILL to all", "SIGTERM", "SIGINT", "SIGHUP"]) for _ in range(pick.randint(1, 2))
    ]
    for way in ways:
        process = series(place, root)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds * pick.random())
        send = os.killpg if way.endswith("all") else os.kill
        with contextlib.suppress(ProcessLookupError):
            send(process.pid, signal.Signals[way.split()[0]])
        _, said = process.communicate(timeout=60)
        assert b"Traceback" not in said, (way, said)
    assert outcome(place, root) == whole, ways
    shutil.rmtree(root)
    return ", ".join(ways)


# -- all of them ------------------------------------------------------------------------------------------------------


class Record:
    """What was tried, and how it ended."""

    def __init__(self, seed: int, file: Path | None) -> None:
        self.seed = seed
        self.file = file
        self.begun = self.written = time.monotonic()
        self.counts: dict[str, Counter[str]] = {kind: Counter() for kind in ("interrupted series", *KINDS)}
        self.faults: list[tuple[str, str]] = []

    def attempt(self, kind: str, run: Callable[[random.Random], str]) -> None:
        """Count how a try ends, which is told apart from all others by its number."""
        number = f"{self.seed}-{kind}-{self.counts[kind].total()}"
        try:
            self.counts[kind][run(random.Random(number))] += 1
        except Exception as error:
            self.counts[kind]["faults"] += 1
            self.faults.append((number, f"{type(error).__name__}: {error}"[:900]))
        if self.file is not None and time.monotonic() > self.written + 60:
            self.written = time.monotonic()
            self.file.write_text(self.text())

    def text(self) -> str:
        """All of it, as JSON."""
        totals = {"tries": sum(counts.total() for counts in self.counts.values()), "faults": len(self.faults)}
        seconds = round(time.monotonic() - self.begun)
        table = {"seed": self.seed, **totals, "counts": self.counts, "seconds": seconds, "worst": WORST}
        return json.dumps(table | {"faults_seen": self.faults[:60]}, indent=1)


def main() -> None:
    """Try until the time is over, or all are done."""
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    record = Record(seed, Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else None)
    with tempfile.TemporaryDirectory() as folder:
        place = template(Path(folder))
        os.chdir(place)
        deadline = time.monotonic() + seconds
        for kind, _ in zip(itertools.cycle(KINDS), range(TRIES), strict=False):
            if time.monotonic() > deadline:
                break
            record.attempt(kind, lambda pick, kind=kind: "refused" if KINDS[kind](place, pick) else "read")  # type: ignore[misc]
        begun = time.monotonic()
        whole = outcome(place, place / "whole")
        took = time.monotonic() - begun
        for _ in range(SERIES):
            record.attempt("interrupted series", lambda pick: interrupted_series(place, pick, whole, took) and "same")
        os.chdir("/")
    if record.file is not None:
        record.file.write_text(record.text())
    print(record.text())


if __name__ == "__main__":
    main()
