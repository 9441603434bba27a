"""Images of one's own: what is read from which files, the same from memory and from disk, and what is refused."""

import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vaekit
from tiny import SECTIONS, outcome
from vaekit import config
from vaekit.data import Batches, Split, Stored, by_path, load, ondisk
from vaekit.errors import ConfigError, DataError, RunError
from vaekit.evaluation.model_evaluation import evaluate_model
from vaekit.evaluation.run_evaluation import evaluate_run
from vaekit.runs import job, lifecycle
from vaekit.store import Run
from vaekit.training import Listener

COUNT = 60
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 6, 3), np.uint8)  # (N, H, W, C)
CLASSES = np.arange(COUNT) * 3 // COUNT  # sorted, as in a folder


def save_folder(folder: Path, pixels: np.ndarray, labels: np.ndarray | None = None) -> Path:
    for i, image in enumerate(pixels):
        place = folder / ("" if labels is None else "abc"[labels[i]])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:03d}.png")
    return folder


def save(path: Path, pixels: np.ndarray, labels: np.ndarray | None = CLASSES) -> Path:
    np.save(path, pixels)
    if labels is not None:
        np.save(path.with_name(f"{path.stem}-labels.npy"), labels)
    return path


def everything(dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels, in one order whatever the splits."""
    splits = (dataset.train, dataset.validation, dataset.test)
    images, labels = torch.cat([split.x[:] for split in splits]), torch.cat([split.labels for split in splits])
    order = sorted(range(len(images)), key=lambda i: images[i].tolist())
    return images[order], labels[order]


# what is read


@pytest.mark.parametrize("memory", [None, 0])
def test_every_format_and_layout_gives_the_same_images(tmp_path, memory):
    files = [
        save(tmp_path / "last.npy", PIXELS),
        save(tmp_path / "first.npy", np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2))),
        save(tmp_path / "fortran.npy", np.asfortranarray(PIXELS)),
        save_folder(tmp_path / "folder", PIXELS, CLASSES),
    ]
    for name, keys in (("a.npz", ("images", "labels")), ("b.npz", ("x", "y"))):
        np.savez_compressed(tmp_path / name, **dict(zip(keys, (PIXELS, CLASSES), strict=True)))
        files.append(tmp_path / name)
    expected = torch.from_numpy(PIXELS).movedim(3, 1)
    order = sorted(range(COUNT), key=lambda i: expected[i].tolist())
    for file in files:
        data = load(file, memory=memory)
        images, labels = everything(data)
        assert torch.equal(images, expected[order]), file
        assert torch.equal(labels, torch.from_numpy(CLASSES)[order])
        assert (data.image_shape, data.num_classes) == ((3, 8, 6), 3)
        assert isinstance(data.train.x, torch.Tensor) is (memory is None)
        assert data.train.x[:5].is_contiguous()
        assert [len(part) for part in (data.train, data.validation, data.test)] == [51, 3, 6]
    assert load(files[3]).classes == ("a", "b", "c")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_floats_are_served_as_float32(tmp_path, dtype):
    floats = (PIXELS[..., 0] / 255).astype(dtype)
    data = load(save(tmp_path / "x.npy", floats, None), memory=0)
    images, _ = everything(data)
    assert images.dtype == torch.float32
    assert sorted(images[:, 0].flatten().tolist()) == sorted(floats.astype("f4").ravel().tolist())
    assert data.classes == ("all",)
    assert not data.train.labels.any()


def test_grey_and_mixed_modes_and_sizes(tmp_path):
    grey = load(save_folder(tmp_path / "grey", PIXELS[..., 0]))
    assert grey.image_shape == (1, 8, 6)
    mixed = save_folder(tmp_path / "mixed", PIXELS[:8])
    Image.fromarray(PIXELS[8, ..., 0]).save(mixed / "grey.png")
    Image.fromarray(np.full((8, 6), 7, np.uint8)).convert("P").save(mixed / "palette.gif")
    Image.fromarray(PIXELS[9]).convert("RGBA").save(mixed / "alpha.PNG")
    (mixed / ".hidden.png").write_bytes(b"")
    (mixed / "notes.txt").write_text("no image")
    images, _ = everything(load(mixed))
    assert images.shape == (11, 3, 8, 6)
    for expected in (np.stack([PIXELS[8, ..., 0]] * 3, -1), np.full((8, 6, 3), 7, np.uint8), PIXELS[9]):
        assert any(np.array_equal(image.movedim(0, 2).numpy(), expected) for image in images)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_size_crops_the_centre_and_resizes(tmp_path, suffix):
    wide = np.zeros((80, 160, 3), np.uint8)
    wide[:, 40:120] = 200  # the central square
    for i in range(4):
        Image.fromarray(wide if i else wide.transpose(1, 0, 2)).save(tmp_path / f"{i}.{suffix}")
    with pytest.raises(DataError, match=r"1\.\w+: 160×80 pixels, but 0\.\w+, the first image, has 80×160; size = 80"):
        load(tmp_path)
    data = load(tmp_path, size=16)
    assert data.image_shape == (3, 16, 16)
    assert (everything(data)[0][:, :, 2:-2, 2:-2] - 200.0).abs().max() <= 2


# what is held out


def test_held_out_images_are_drawn_and_always_the_same(tmp_path):
    pixels = np.arange(COUNT, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    path = save(tmp_path / "x.npy", pixels)
    data, again = load(path), load(path, memory=0)
    numbers = {name: getattr(data, name).x[:][:, 0, 0, 0].tolist() for name in ("train", "validation", "test")}
    assert numbers["test"] == [50, 27, 38, 4, 2, 47]  # a constant of this package
    assert numbers["validation"] == [56, 30, 42]
    assert sorted(itertools.chain.from_iterable(numbers.values())) == list(range(COUNT))
    assert again.test.x[:][:, 0, 0, 0].tolist() == numbers["test"]
    assert load(path, validation=20).test.x[:][:, 0, 0, 0].tolist() == numbers["test"]
    assert set(data.test.labels.tolist()) == {0, 1, 2}  # the tail would be of one class
    assert [len(load(path, validation=0, test=1).train), len(load(path, validation=57, test=2).train)] == [59, 1]
    for held_out in ({"validation": 59}, {"test": 60}, {"test": 0}, {"validation": -1}):
        with pytest.raises(ConfigError, match="less than the 60 images"):
            load(path, **held_out)


def test_defaults_are_shares_with_a_cap(tmp_path):
    path = tmp_path / "many.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (250_000, 1, 1)).flush()
    data = load(path)
    assert (len(data.train), len(data.validation), len(data.test)) == (235_000, 5_000, 10_000)


@given(st.sets(st.integers(0, 40)), st.integers(41, 50))
def test_remainder_is_what_is_left(without, n):
    rest = ondisk.Remainder(n, np.array(sorted(without, reverse=True), np.int64))
    assert rest[np.arange(len(rest))].tolist() == sorted(set(range(n)) - without)


# the checksum


def test_checksum_is_the_one_that_earlier_runs_recorded(tmp_path):
    """A run resumes, repeats and is evaluated on its data only while their checksum stays what it was."""
    np.save(tmp_path / "x.npy", (np.arange(640) % 251).astype("u1").reshape(40, 4, 4))
    recorded = "11247900f9e2d34428e93193903172c2ba4cba5644118101c8bab16e12fce37f"  # by version b8d842f
    assert load(tmp_path / "x.npy").checksum == load(tmp_path / "x.npy", test=4).checksum == recorded


def test_checksum_sees_what_changes(tmp_path):
    path = save(tmp_path / "x.npy", PIXELS)
    folder = save_folder(tmp_path / "folder", PIXELS)
    seen = {load(path).checksum, load(folder).checksum}
    assert {load(path, memory=0, validation=1).checksum, load(folder, memory=0).checksum} == seen
    seen |= {load(path, test=3).checksum, load(folder, size=4).checksum}
    changed = PIXELS.copy()
    changed[17, 3, 2, 1] ^= 1
    seen.add(load(save(tmp_path / "x.npy", changed)).checksum)
    seen.add(load(save(tmp_path / "x.npy", PIXELS, CLASSES[::-1])).checksum)
    (folder / "000.png").rename(folder / "zzz.png")
    seen.add(load(folder).checksum)
    assert len(seen) == 7


def test_checksum_reads_a_fixed_share_of_what_is_large(tmp_path, monkeypatch):
    monkeypatch.setattr(by_path, "_BLOCK", 16)
    monkeypatch.setattr(by_path, "_BLOCKS", 8)
    read = []

    class Counting(io.FileIO):
        def read(self, size=-1):
            read.append(size)
            return super().read(size)

    monkeypatch.setattr(by_path, "open_file", Counting)
    path = save(tmp_path / "x.npy", PIXELS, None)
    before = load(path).checksum
    assert sum(read) <= 9 * 16
    content = bytearray(path.read_bytes())
    for offset, seen in ((3, True), (17, False)):  # from the start of a block of 16 bytes
        content[3 * (len(content) // 8) + offset] ^= 1
        path.write_bytes(content)
        assert (load(path).checksum != before) is seen
        before = load(path).checksum


# batches from disk


OPTIONS = [{"binarize": b, "shuffle": s} for b in ("none", "per-epoch", "threshold") for s in (True, False)]


def batches(data, seed=0, **options):
    return Batches(data.train, batch_size=8, generator=torch.Generator().manual_seed(seed), **options)


def same(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) for pair in zip(ours, theirs, strict=True) for a, b in zip(*pair, strict=True)
    )


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("own")
    np.savez(folder / "x.npz", images=PIXELS / 255, labels=CLASSES)
    return {
        "npy": save(folder / "x.npy", PIXELS),
        "npz": folder / "x.npz",
        "folder": save_folder(folder / "images", PIXELS, CLASSES),
    }


@pytest.mark.parametrize("kind", ["npy", "npz", "folder"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_disk_serves_what_memory_serves_and_resumes_exactly(paths, kind, options):
    data, kept = load(paths[kind], memory=0), load(paths[kind])
    assert isinstance(data.train.x, Stored)
    loader = batches(data, **options)
    epochs = [list(loader) for _ in range(3)]
    in_memory = batches(kept, **options)
    assert all(same(found, list(in_memory)) for found in epochs)
    for position in (0, 1, len(loader)):
        interrupted, resumed = batches(data, **options), batches(data, seed=9, **options)
        list(interrupted)
        iterator = iter(interrupted)
        for _ in range(position):
            next(iterator)
        resumed.load_state_dict(interrupted.state_dict())
        assert same(list(resumed), epochs[1][position:])
        assert same(list(resumed), epochs[2])
        assert same(list(iterator), epochs[1][position:])


def test_fixed_draw_from_disk_is_one_draw_of_each_image(paths):
    data = load(paths["npy"], memory=0)
    first, second = (batches(data, seed, binarize="fixed", shuffle=True) for seed in (0, 1))
    ordered, _ = next(iter(Batches(data.train, batch_size=51, binarize="fixed")))
    for loader in (first, second):
        served = torch.cat([x for x, _ in loader])
        assert sorted(served.flatten(1).tolist()) == sorted(ordered.flatten(1).tolist())
    p = data.train.x[:] / 255
    assert set(ordered.unique().tolist()) == {0.0, 1.0}
    z = (ordered - p).sum() / (p * (1 - p)).sum().sqrt()
    assert abs(z) < 5
    assert ((ordered - 0.5) * (p - 0.5)).mean() > 0.05  # bright pixels are 1
    noise = (ordered - p)[:-1].flatten(1), (ordered - p)[1:].flatten(1)
    assert abs((noise[0] * noise[1]).sum() / (noise[0] * noise[1]).square().sum().sqrt()) < 5  # no seed is used twice


def test_indexing_is_that_of_a_tensor(paths):
    images, tensor = load(paths["folder"], memory=0).train.x, load(paths["folder"]).train.x
    assert images.shape == tensor.shape
    assert images.nbytes == tensor.nbytes
    for index in (slice(None), slice(3, 40, 7), slice(-4, None), slice(5, 5), torch.tensor([7, 0, 7])):
        assert torch.equal(images[index], tensor[index])
    assert torch.equal(images[-1], tensor[-1])
    assert len(list(images)) == len(tensor)
    with pytest.raises(IndexError, match="rows must be from 0 to 50"):
        images[torch.tensor([51])]


def test_reads_ahead_within_bounds_and_leaves_no_thread():
    started, lock = [], threading.Lock()

    def work(item):
        with lock:
            started.append(item)
        return item

    iterator = ondisk.ahead(work, iter(range(1000)), threads=3)
    assert next(iterator) == 0
    time.sleep(0.05)
    assert 1 < len(started) <= 6  # in the background, and not all of it
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vae-data")]
    assert len(started) <= 6


def test_a_failure_in_the_background_arrives_in_its_place():
    iterator = ondisk.ahead(lambda n: 1 // (3 - n), range(9), threads=2)
    assert [next(iterator) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(iterator)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """20 GiB, of which nothing is on the disk: the process takes as much as for 2 MiB, and 16 bytes per image."""
    for name, count in (("large", (20 << 30) // (64 * 64 * 3)), ("small", 200)):
        with open(tmp_path / f"{name}.npy", "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, 64, 64, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + count * 64 * 64 * 3)
    code = """
import itertools, sys, vaekit
data = vaekit.data.load(sys.argv[1], memory=0)
batches = vaekit.data.Batches(data.train, batch_size=32, shuffle=True)
assert all(x.shape[1:] == (3, 64, 64) for x, _ in itertools.islice(batches, 50))
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) // 1024)
"""
    mebibytes = {}
    for name in ("small", "large"):
        command = [sys.executable, "-c", code, tmp_path / f"{name}.npy"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        mebibytes[name] = int(found.stdout)
    assert mebibytes["large"] - mebibytes["small"] < 80


# whole runs


def tiny(path: Path, **data: object) -> config.Config:
    sections = SECTIONS | {"data": {"name": str(path), "binarize": "per-epoch", "validation": 8, **data}}
    return config.read("standard-vae", sections=sections | {"model": {"latent_size": 2, "output_bias": "data"}})


class Stop(Listener):
    """Asks for a stop in the second epoch."""

    def step(self, progress, batches, means):
        if progress.step == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    def epoch(self, record):
        pass


@pytest.mark.parametrize(("kind", "binarize"), [("npy", "none"), ("npz", "threshold"), ("folder", "per-epoch")])
def test_a_run_from_disk_is_that_from_memory_even_if_interrupted(paths, kind, binarize, tmp_path, monkeypatch):
    monkeypatch.setitem(job.train_epochs.__globals__, "CHECK_EVERY", 0.0)
    monkeypatch.setattr(job, "draw_pictures", lambda *_, **__: [])
    memory = 0 if binarize == "per-epoch" else None  # whose validation has another fixed draw from disk
    whole = lifecycle.train_run(tiny(paths[kind], binarize=binarize, memory=memory), name="whole", root=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        lifecycle.train_run(tiny(paths[kind], binarize=binarize, memory=0), name="part", root=tmp_path, listener=Stop())
    assert outcome(lifecycle.resume_run(Run.open("part", root=tmp_path))) == outcome(whole)


def test_resume_refuses_other_images(tmp_path):
    path = save(tmp_path / "x.npy", PIXELS)
    run = lifecycle.train_run(tiny(path), name="run", root=tmp_path)
    save(tmp_path / "x.npy", PIXELS[::-1])
    with pytest.raises(RunError, match="are not those that run run began with"):
        lifecycle.resume_run(run, sections={"train": {"epochs": 5}})


@pytest.mark.parametrize("memory", [None, 0])
def test_a_run_is_evaluated_on_its_images(paths, tmp_path, memory, monkeypatch):
    run = lifecycle.train_run(tiny(paths["folder"], memory=memory), name="run", root=tmp_path)
    monkeypatch.setattr(Split, "fitting", partialmethod(shrunk, Split.fitting))
    result = evaluate_run(run, vaekit.load(run), samples=10)
    assert result.protocol["data"] == str(paths["folder"])
    assert ("of the 46 training rows on disk 34, evenly spread, fit in `memory`" in result.warnings) is (memory == 0)
    assert not any("are not those" in sentence for sentence in result.warnings)
    other = evaluate_run(run, vaekit.load(run), samples=10, data_name=str(paths["npy"]))
    assert f"evaluated on {paths['npy']}, but the run was trained on {paths['folder']}" in other.warnings
    assert len(list(run.path.glob("evaluation-on-*x.npy-????????.json"))) == 1


def shrunk(split, fitting, memory):
    """As if --memory were 5,000 bytes, which is less than may be asked for."""
    return fitting(split, 5000)


def test_an_evaluation_of_some_rows_reads_no_others(paths, monkeypatch):
    stored, kept = load(paths["folder"], memory=0), load(paths["folder"])
    model = vaekit.build("vae", event_shape=stored.event_shape, latent_size=2)
    read = []
    reader = type(stored.test.x.reader)
    whole_read = reader.read
    monkeypatch.setattr(reader, "read", lambda self, rows: read.extend(rows.tolist()) or whole_read(self, rows))

    def figures(data, **options):
        return [value.to_json() for value in evaluate_model(model, data, samples=2, judge=False, **options).values]

    unlabelled = {name: replace(split, labels=None) for name, split in stored.splits.items()}
    assert figures(replace(stored, **unlabelled), rows=2)
    assert sorted(read) == sorted(stored.test.x.rows[np.array([0, len(stored.test) // 2])].tolist())
    read.clear()
    assert figures(stored, rows=4) == figures(kept, rows=4)
    assert len(read) == 4 + len(stored.train)  # of which classifiers of latents learn, read once
    read.clear()
    assert figures(stored, split="train") == figures(kept, split="train") and len(read) == len(stored.train)


def test_a_class_condition_needs_labels(tmp_path):
    path = save(tmp_path / "x.npy", PIXELS, None)
    settings = config.changed(tiny(path), {"condition": "class"})
    with pytest.raises(DataError, match=r"needs rows of several classes, but .*x.npy has no labels"):
        lifecycle.train_run(settings, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


# what is refused


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def npy(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


BAD_ARRAYS = {
    "objects": (npy(np.array([{}, []], dtype=object), allow_pickle=True), "Python objects in dtype"),
    "truncated": (npy(PIXELS)[:-1], r"has 8767 bytes, but its header promises 8768: it is cut short; bring the whole"),
    "no header": (npy(PIXELS)[:40], "cannot be read as .npy"),
    "no file": (b"", "cannot be read as .npy"),
    "integers": (npy(PIXELS.astype(int)), "must be uint8, or floats in .0, 1., got int64; use astype"),
    "flat": (npy(PIXELS.reshape(-1)), r"must be .N, H, W., .* got .8640,."),
    "two channels": (npy(PIXELS[..., :2]), r"C = 1 or 3, .* got .60, 8, 6, 2."),
    "none": (npy(PIXELS[:0]), r"with C = 1 or 3, .* got \(0, 8, 6, 3\)"),
    "one": (npy(PIXELS[:1]), "are needed, got 1"),
    "huge": (
        npy(PIXELS).replace(b"(60, 8,", b"(99, 8,"),
        "has 8768 bytes, but its header promises 14384: it is cut short",
    ),
    "no number": (npy(np.full((4, 2, 2), np.nan)), "row 0 has only NaN; leave it out"),
    "one number": (npy(np.array(3.0)), "has one number and no rows"),
    "too large": (npy(PIXELS.astype("f4")), r"goes from .* to 2\d\d; scale the images, or save 0 … 255 as uint8"),
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_bad_arrays_are_refused_in_one_line(tmp_path, what):
    content, message = BAD_ARRAYS[what]
    path = write(tmp_path / "x.npy", content)
    with pytest.raises(DataError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (CLASSES[1:], r"must be 60 integers, one per row, got int64 .59,."),
        (CLASSES / 1, "must be 60 integers"),
        (CLASSES - 2, "from 0 to 65535, −1 if unknown, got -2 to 0"),
        (CLASSES * 10**9, "got 0 to 2000000000; renumber them"),
    ],
)
def test_bad_labels(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        load(save(tmp_path / "x.npy", PIXELS, labels))


def test_the_archives_of_keras_bring_their_own_test_rows(tmp_path):
    grey = PIXELS[..., 0]
    parts = {"x_train": grey[:45], "y_train": CLASSES[:45, None], "x_test": grey[45:], "y_test": CLASSES[45:, None]}
    np.savez(tmp_path / "k.npz", **parts)
    data = load(tmp_path / "k.npz", validation=5)
    assert [len(split) for split in data.splits.values()] == [40, 5, 15]
    assert torch.equal(data.test.x[:, 0], torch.from_numpy(grey[45:]))
    assert torch.equal(data.test.labels, torch.from_numpy(CLASSES[45:]))
    with pytest.raises(ConfigError, match="has its own test rows"):
        load(tmp_path / "k.npz", test=3)
    with pytest.raises(DataError, match="save x_train and x_test as two files"):
        load(tmp_path / "k.npz", value_kind="table")
    np.savez(tmp_path / "k.npz", x_train=grey, y_train=CLASSES, x_test=grey[:, :3])
    with pytest.raises(DataError, match="x_train and x_test must be alike"):
        load(tmp_path / "k.npz")


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_a_sparse_matrix_of_counts_is_read_in_full(tmp_path, form):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.random.default_rng(0).poisson(0.4, (COUNT, 7)).astype(np.int32)
    path = tmp_path / "counts.npz"
    sparse.save_npz(path, sparse.csr_matrix(dense).asformat(form))
    read = by_path.open_all(str(path), value_kind="counts").split.x[:]
    assert torch.equal(read, torch.from_numpy(dense).float())
    members = dict(np.load(path))
    np.savez(path, **members | {"indices": members["indices"] + 100})
    with pytest.raises(DataError, match="is not a sparse matrix of shape 60 × 7"):
        load(path, value_kind="counts")
    sparse.save_npz(path, sparse.coo_matrix(dense))
    with pytest.raises(DataError, match="it has: 'row'"):
        load(path, value_kind="counts")


def test_latents_that_were_encoded_are_data(tmp_path):
    z, names = np.random.default_rng(0).normal(size=(COUNT, 3)).astype("f4"), np.array(["one", "two", "ten"])[CLASSES]
    np.savez(tmp_path / "z.npz", z=z, images=np.arange(COUNT).astype(str), classes=names)
    read = by_path.open_all(str(tmp_path / "z.npz"), value_kind="real")
    assert torch.equal(read.split.x[:], torch.from_numpy(z))
    assert [read.classes[label] for label in read.split.labels] == names.tolist()


def test_pixels_that_are_nan_are_missing(tmp_path):
    x = np.random.default_rng(0).random((COUNT, 4, 4)).astype("f4")
    gaps = np.random.default_rng(1).random(x.shape) < 0.2
    path = save(tmp_path / "x.npy", np.where(gaps, np.nan, x), None)
    whole = by_path.open_all(str(path)).split
    assert torch.equal(whole.observed[:, 0], ~torch.from_numpy(gaps))
    assert torch.equal(whole.x[:, 0], torch.from_numpy(np.where(gaps, 0, x)))
    data = load(path)
    assert sum(int((~split.observed).sum()) for split in data.splits.values()) == gaps.sum()
    with pytest.raises(DataError, match=r"row \d+ has NaN, a missing value, which only rows in memory can have"):
        load(path, memory=0).train.x[:]


def test_bad_archives(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    for arrays, message in (
        ({"pictures": PIXELS}, "under the key 'images' or 'x', it has: 'pictures'"),
        ({"two\nlines": PIXELS}, r"it has: 'two\\nlines'"),
        ({"x": PIXELS, "y": CLASSES[1:]}, "y: labels must be 60 integers"),
        ({"x": np.array([None, {}])}, "Object arrays cannot be loaded"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a header that promises more than there is
        archive.writestr("x.npy", npy(PIXELS).replace(b"(60, 8,", b"(99, 8,"))
    with pytest.raises(DataError, match=r"x is truncated, 8768 bytes instead of 14384"):
        load(path)
    np.savez_compressed(path, x=np.zeros((2000, 10, 10), np.uint8))
    monkeypatch.setattr("vaekit.data.sources.archives._NPZ_LIMIT", 1999)
    with pytest.raises(
        DataError, match=r"200128 bytes, but an .npz is unpacked into memory, at most 1999; save .* as .npy"
    ):
        load(path)


def test_bad_folders(tmp_path):
    def refused(message, **options):
        with pytest.raises(DataError, match=message) as error:
            load(tmp_path / "images", **options)
        assert "\n" not in str(error.value)

    folder = tmp_path / "images"
    folder.mkdir()
    refused(r"no images .\*.png, \*.jpg")
    save_folder(folder, PIXELS)
    good = (folder / "031.png").read_bytes()
    write(folder / "031.png", good[:-40])
    refused(r"031.png: cannot be read as an image .*; mend it or move it away")
    data = load(folder, memory=0)  # found when it is read
    with pytest.raises(DataError, match=r"031.png: cannot be read"):
        list(Batches(data.train, batch_size=8))
    write(folder / "031.png", b"")
    refused("031.png: cannot be read")
    Image.fromarray(PIXELS[0, :7]).save(folder / "031.png")
    refused("031.png: 6×7 pixels, but 000.png, the first image, has 6×8; size = 6 would crop")
    Image.fromarray(np.zeros((8, 6), np.uint16)).save(folder / "031.png")
    refused("031.png: its mode 'I;16' is not one of 8 bits")
    write(folder / "031.png", good)
    (folder / "broken.png").symlink_to(folder / "nowhere")
    refused("cannot be searched for images .*broken.png")
    (folder / "broken.png").unlink()
    save_folder(folder / "more", PIXELS[:1])
    refused("000.png lies beside the subfolder 'more', but subfolders are classes")


def test_splits_are_not_taken_for_classes(tmp_path):
    for name in ("train", "test"):
        save_folder(tmp_path / name, PIXELS, CLASSES)
    with pytest.raises(DataError, match=r"the subfolders test, train look like splits, .* pass one of them"):
        load(tmp_path)
    assert load(tmp_path / "train").classes == ("a", "b", "c")


def test_colour_among_grey_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("vaekit.data.sources.image_folder._SAMPLED_FILES", 2)
    folder = save_folder(tmp_path / "x", PIXELS[..., 0])
    Image.fromarray(PIXELS[7]).save(folder / "007.png")
    with pytest.raises(DataError, match=r"007.png: in colour, but a sample of up to 2 images"):
        load(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path):
    path = save(tmp_path / "x.npy", PIXELS)
    path.chmod(0)
    with pytest.raises(DataError, match=r"Permission denied"):
        load(path)


def test_paths_and_options_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.npy: no such file or directory; nor is it a data set by name"):
        load(tmp_path / "nowhere.npy")
    with pytest.raises(DataError, match=r"must be a folder of images, .npy or .npz"):
        load(write(tmp_path / "x.doc", b"1,2"))
    with pytest.raises(
        DataError, match=r"unknown data set 'mnits'; did you mean 'mnist'.*or pass the path of your own images"
    ):
        load("mnits")
    with pytest.raises(ConfigError, match=r"^size = 4 resizes the images of a folder"):
        load(save(tmp_path / "x.npy", PIXELS), size=4)
    with pytest.raises(ConfigError, match=r"^size, in pixels, must be at least 1, got 0"):
        load(tmp_path, size=0)
    words = {
        "test": "rows of your own that are not split yet",
        "size": "images of your own, by path",
        "memory": "rows of your own, by path",
    }
    for option, word in words.items():
        with pytest.raises(ConfigError, match=rf"^{option} is for {word}; leave it out with"):
            load("mnist", **{option: 4})


SEEDS = {"x.npy": npy(PIXELS[:4, :2, :2]), "x.npz": b""}
_STREAM = io.BytesIO()
np.savez_compressed(_STREAM, x=PIXELS[:4, :2, :2], y=CLASSES[:4])
SEEDS["x.npz"] = _STREAM.getvalue()


@pytest.mark.parametrize("name", SEEDS)
def test_mutated_files_are_read_or_refused(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("fuzz")

    @settings(max_examples=400, deadline=None, database=None)
    @given(st.data())
    def check(data):
        content = bytearray(SEEDS[name])
        for _ in range(data.draw(st.integers(1, 4))):
            i = data.draw(st.integers(0, len(content) - 1))
            content[i : i + data.draw(st.integers(0, 2))] = data.draw(
                st.binary(max_size=3) | st.sampled_from([b"9", b"-", b"(", b"O"])
            )
        path = folder / name
        path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
        try:
            found = load(path, validation=0, test=1)
        except (ConfigError, DataError) as error:
            found = str(error)
        if isinstance(found, str):
            assert str(path) in found
            assert "\n" not in found
            return
        images = found.train.x[:]
        assert images.shape[1:] == found.image_shape
        assert images.dtype == torch.uint8 or bool(((images >= 0) & (images <= 1)).all())

    check()


def test_labels_of_minus_one_are_unknown(tmp_path: Path) -> None:
    labels = np.array([-1, 7, 3, -1, 3] * 4)
    np.savez(tmp_path / "some.npz", images=np.zeros((20, 1, 8, 8), "f4"), labels=labels)
    data = load(tmp_path / "some.npz", validation=2, test=2)
    known = torch.cat([split.required_labels() for split in data.splits.values()])
    assert data.classes == ("3", "7") and sorted(known.tolist()) == [-1] * 8 + [0] * 8 + [1] * 4
    for wrong, message in ((labels - 1, "−1 if unknown, got -2 to 6"), (np.full(20, -1), "all labels are −1")):
        np.savez(tmp_path / "wrong.npz", images=np.zeros((20, 1, 8, 8), "f4"), labels=wrong)
        with pytest.raises(DataError, match=message):
            load(tmp_path / "wrong.npz", validation=2, test=2)
