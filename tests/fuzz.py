"""Every reader, given damaged input over and over: python tests/fuzz.py INPUTS [SEED].

Each input is a good file with one to three random changes. It must end in success or in a `VAEError` of one line, within
5 seconds, without more memory than twice its size, 4 MiB for what a parser needs, and of JSON what Python's parser makes
of it. Prints how many were read and how many refused, as JSON.
"""

import gzip
import io
import json
import random
import struct
import sys
import tempfile
import time
import tomllib
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from PIL import Image

from tiny import dataset, tiny
from vaekit import config, load
from vaekit.config import Fit, recipe
from vaekit.config.building import build
from vaekit.data import Batches
from vaekit.data.sources import torchvision_sets
from vaekit.data.sources.archives import open_npz
from vaekit.data.sources.arrays import OpenedPath, open_npy
from vaekit.data.sources.idx import read_idx
from vaekit.errors import VAEError
from vaekit.evaluation import Evaluation, Value, compare
from vaekit.evaluation.batch_cache import _RunCache
from vaekit.evaluation.batchwise import over_batches
from vaekit.store import Checkpoint, Run, files
from vaekit.store.state_dict import read_state_dict
from vaekit.store.summaries import details_of, summaries
from vaekit.store.tensors import pack, unpack
from vaekit.training.checkpointer import Checkpointer
from vaekit.training.players import players_of
from vaekit.training.trained_parts import TrainedParts
from vaekit.training.trainer import Trainer

MARKS = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\0", b"\xff", b"-1", b"1e999", b"NaN", b"null", b"9" * 400]
SECONDS, SLACK = 5.0, 4 << 20


def mutated(data: bytes, pick: random.Random) -> bytes:
    """One to three random changes: bits, cut, doubled or dropped pieces, tokens, large numbers."""
    for _ in range(pick.randint(1, 3)):
        i, j = sorted((pick.randint(0, len(data)), pick.randint(0, len(data))))
        match pick.randrange(7):
            case 0 if data:
                at = pick.randrange(len(data))
                data = data[:at] + bytes([data[at] ^ 1 << pick.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:i]
            case 2:
                data = data[:i] + data[j:]
            case 3:
                data = data[:j] + data[i:j] * pick.choice([1, 2, 50]) + data[j:]
            case 4:
                data = data[:i] + pick.choice(MARKS) + data[i:]
            case 5:
                data = data[:i] + struct.pack("<Q", pick.choice([0, 2**31, 2**63, 2**64 - 1])) + data[i + 8 :]
            case 6:
                data = data[:i] + pick.randbytes(j - i) + data[j:]
    return data


ODD = [
    None,
    True,
    -1,
    0,
    1e308,
    2**70,
    "",
    "x" * 300,
    "../x",
    "\0",
    [],
    {},
    [[[[]]]],
    {"a": {"b": 1}},
    [None],
    ["a", 1],
]


def twisted(value: Any, pick: random.Random) -> Any:
    """A table in which one value, at any depth, has become another, or has another name."""
    if isinstance(value, dict) and value and pick.random() < 0.9:
        name = pick.choice(list(value))
        if pick.random() < 0.1:
            return {("odd" if key == name else key): item for key, item in value.items()}
        return value | {name: twisted(value[name], pick)}
    if isinstance(value, list) and value and pick.random() < 0.7:
        at = pick.randrange(len(value))
        return [*value[:at], twisted(value[at], pick), *value[at + 1 :]]
    return pick.choice(ODD)


def changed(data: bytes, pick: random.Random) -> bytes:
    """Other bytes; or, of a table, the same with another value in it."""
    if pick.random() < 0.5:
        with suppress(ValueError):
            return json.dumps(twisted(json.loads(data), pick)).encode()
        with suppress(ValueError, TypeError, AttributeError):
            return tomli_w.dumps(twisted(tomllib.loads(data.decode()), pick)).encode()
    return mutated(data, pick)


def repacked(archive: bytes, data: bytes) -> bytes:
    """A file of `torch.save` with another pickle in it, checksums and all."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith(".pkl") else old.read(name))
    return packed.getvalue()


def saved(value: object) -> bytes:
    packed = io.BytesIO()
    torch.save(value, packed)
    return packed.getvalue()


def picture(form: str) -> bytes:
    packed = io.BytesIO()
    Image.effect_noise((178, 218), 50).convert("RGB").save(packed, form)
    return packed.getvalue()


class Place:
    """A file, and a run folder with one checkpoint of the tiny model, to put damaged content into."""

    def __init__(self, root: Path) -> None:
        self.file = root / "file"
        environment = {
            "data": {
                "name": "mnist",
                "checksum": "0",
                "shape": [1, 8, 8],
                "num_classes": 1,
                "classes": ["0"],
                "rows": {"train": 64, "validation": 16, "test": 16},
            },
            "sessions": [{"settings": ["train.epochs=4"], "epochs": 4}],
        }
        self.run = Run.create("run", preset="vae", config=tiny().to_toml(), environment=environment, root=root)
        self.run.append_metrics({"epoch": 1, "validation_neg_elbo": 3.5})
        self.run.save_checkpoint(training().last_good.tensors, {"epoch": 1})
        self.run.set_status("finished")
        found = evaluated().to_json()
        found["details"]["per row"] = "evaluation/per-row.safetensors"
        for name, run in (("run", self.run), ("other", None)):
            run = run or Run.create(name, preset="vae", config=tiny(ema=0.5).to_toml(), environment={}, root=root)
            run.write_json("evaluation.json", found)
            run.write_bytes("evaluation/per-row.safetensors", pack({"L_10": torch.rand(16)}))
            run.release()

    def written(self, data: bytes, name: str | None = None) -> Path:
        path = self.file if name is None else self.run.path / name
        path.write_bytes(data)
        return path

    def read(self, data: bytes, name: str) -> None:
        """All that the command line reads of a run, with other content in one of its files."""
        path = self.run.path / name
        good = path.read_bytes()
        path.write_bytes(data)
        try:
            summaries(self.run.path.parent)
            run = Run.open(self.run.path)
            details_of(run)
            if "evaluation" in name:
                table = compare([run, Run.open(self.run.path.with_name("other"))])
                json.dumps(table.to_json()), table.to_markdown(), table.to_latex(), table.to_csv()
            else:
                load(run).sample(2)
        finally:
            path.write_bytes(good)

    def gone_on(self, data: bytes) -> None:
        """An evaluation that goes on with other content in the file of its finished batches."""
        cache = _RunCache(self.run, "key")
        self.written(data, cache._path("stage"))
        found = over_batches("stage", 16, lambda index: {"L": torch.ones(4)}, size=4, cache=cache)
        assert found["L"].sum() in (16, 8)  # none or all of what was finished, never something else


def evaluated() -> Evaluation:
    values = [
        Value("nll", 90.0, 0.3, "nats", "upper bound", depends_on=("samples",), likelihood=True),
        Value("class entropy", 2.1, 0.1, "nats", noise=0.1, depends_on=("classifier",), maximum=2.3),
    ]
    protocol = {"data": "mnist", "checksum": "0", "split": "test", "rows": 16, "samples": 10, "annealing": None}
    details = {"samples": {"classifier": {"sha256": "a" * 64}}, "classes": {"0": {"precision": 1.0}}}
    return Evaluation(values, protocol, ["beware"], details)


def training() -> Checkpointer:
    """A training that has just begun, of the tiny model on the tiny data."""
    given = tiny()
    model = build(given, event_shape=(1, 8, 8))
    made = recipe.Recipe.resolve(given)
    loss = made.loss(model, dataset_size=64)
    options = Fit(epochs=3, ema=0.9)
    trainer = Trainer(TrainedParts(model, loss, players_of(model, loss, made.optimizer)), options)
    return Checkpointer(trainer, Batches(dataset().train, batch_size=8, shuffle=True), None, 1.0)


def readers(place: Place) -> dict[str, tuple[list[bytes], Callable[[bytes], object]]]:
    """Name → good inputs, and what reads one."""
    idx = bytes([0, 0, 8, 2, 0, 0, 0, 20, 0, 0, 0, 30]) + bytes(range(200)) * 3
    state = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(4).double()}
    archive = saved(state)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        pickled = opened.read(next(name for name in opened.namelist() if name.endswith(".pkl")))
    configs = [config.preset_text(name).encode() for name in config.preset_names()]
    settings = [b"train.epochs=3", b"encoder.hidden=[3, 4]", b"objective.beta={schedule='linear', epochs=3}"]
    tensors = pack({"a": torch.ones(3, 4), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.ones(0, 2)})

    kept = _RunCache(place.run, "key")
    with place.run.lock():
        kept.save("stage", {"L": torch.zeros(8)})
    finished = place.run.path / kept._path("stage")

    def stored(name: str) -> tuple[list[bytes], Callable[[bytes], object]]:
        return [(place.run.path / name).read_bytes()], lambda data: place.read(data, name)

    def faces(data: bytes) -> object:
        return torchvision_sets._decode_faces([place.written(data)])

    def images(opener: Callable[[Path], OpenedPath]) -> Callable[[bytes], object]:
        def first_two(data: bytes) -> object:
            found = opener(place.written(data))
            return found.reader.read(np.arange(min(2, found.count)))

        return first_two

    array = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, array)
    np.savez_compressed(npz, images=array, labels=np.arange(3))
    begun = training()
    begun.trainer.step(torch.rand(8, 1, 8, 8), 0.0)
    begun.snapshot()

    def resumed(data: bytes) -> None:
        training()._restore(Checkpoint(begun.last_good.tensors, files.parse_json(data, "state.json")))

    inside = (
        "environment.json",
        "config.toml",
        "metrics.jsonl",
        "status.json",
        "lock",
        "checkpoints/last/manifest.json",
        "evaluation.json",
        "evaluation/per-row.safetensors",
    )
    return {
        "IDX": ([idx], read_idx),
        "IDX, gzipped": ([gzip.compress(idx, mtime=0)], read_idx),
        "npy": ([npy.getvalue()], images(open_npy)),
        "npz": ([npz.getvalue()], images(open_npz)),
        "config TOML": (configs, lambda data: config.read(file=place.written(data)).to_toml()),
        "--set": (settings, lambda data: config.read(settings=[data.decode("utf-8", "replace")]).to_toml()),
        "safetensors behind its checksum": ([tensors], lambda data: unpack(data, Path("x"))),
        "JSON behind its checksum": ([b'{"a": [1, 2.5, null, "x"]}'], lambda data: files.parse_json(data, "x")),
        "TOML of a run": (configs, lambda data: files.parse_toml(data, "x")),
        "state_dict": ([archive], lambda data: read_state_dict(place.written(data))),
        "state_dict, the pickle in it": (
            [pickled],
            lambda data: read_state_dict(place.written(repacked(archive, data))),
        ),
        "state of a training": ([json.dumps(begun.last_good.state).encode()], resumed),
        "finished batches of an evaluation": ([finished.read_bytes()], place.gone_on),
        "JPEG and PNG": ([picture("jpeg"), picture("png")], faces),
        **{name: stored(name) for name in inside},
    }


def main(inputs: int, seed: int) -> dict[str, Any]:
    """So many inputs for each reader."""
    pick, found = random.Random(seed), {}
    random.seed(seed)  # which the state of a training holds
    with tempfile.TemporaryDirectory() as root, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (good, read) in readers(Place(Path(root))).items():
            for data in good:
                read(data)  # nothing here is refused for nothing
            found[name] = {"read": 0, "refused": 0}
            for _ in range(inputs):
                outcome = tried(read, changed(pick.choice(good), pick), name)
                found[name][outcome] += 1
    return {"inputs": inputs * len(found), "readers": found}


def tried(read: Callable[[bytes], object], data: bytes, name: str) -> str:
    tracemalloc.start()
    start = time.process_time()  # of this process alone, however busy the machine is
    try:
        read(data)
        return "read"
    except VAEError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            raise AssertionError(f"{name}: {data!r}: {error}") from None
        return "refused"
    except BaseException:
        print(name, repr(data), file=sys.stderr)
        raise
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.process_time() - start < SECONDS, (name, f"{data[:2000]!r}", len(data))
        assert peak <= 2 * len(data) + SLACK + parsed(data), (name, f"{data[:2000]!r}", len(data), peak)


def parsed(data: bytes) -> int:
    """Bytes that Python's parser takes for JSON: up to 20 for one, of brackets; 0 for anything else."""
    tracemalloc.start()
    try:
        json.loads(data)
        return tracemalloc.get_traced_memory()[1]
    except (ValueError, RecursionError):
        return 0
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0), ensure_ascii=False))
