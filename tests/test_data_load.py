"""Named data sets: MNIST from the package, the cache, and the others from small files in their own formats."""

import dataclasses
import gzip
import hashlib
import http.client
import io
import os
import pickle
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch

import vaekit.data
from vaekit.data import DATASET_NAMES, available, load
from vaekit.data.registry import SOURCES, cache_folder
from vaekit.errors import ConfigError, DataError

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
LABELS = "t10k-labels-idx1-ubyte"  # the smallest file, so the quickest to damage
PACKAGED = SOURCES["mnist"].elsewhere[0]
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A root with MNIST unpacked."""
    root = tmp_path_factory.mktemp("root")
    load("mnist", root=root)
    return root


@pytest.fixture
def nearly_warm(warm, tmp_path):
    """A root where one file is not unpacked: the others are links, which costs no time."""
    folder = tmp_path / "root" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in set(MD5) - {LABELS}:
        (folder / name).symlink_to(warm / "MNIST" / "raw" / name)
    return tmp_path / "root"


@pytest.fixture
def change(monkeypatch):
    """Change a data set's record for one test."""

    def changed(name, **fields):
        monkeypatch.setitem(SOURCES, name, dataclasses.replace(SOURCES[name], **fields))
        return SOURCES[name]

    return changed


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_small(folder, source, rng, suffix=""):
    """Random files in IDX format for a small version of a data set; returns the arrays."""
    shapes = [(source.train, 28, 28), (source.train,), (source.test, 28, 28), (source.test,)]
    arrays = [rng.integers(0, 256 if len(s) > 1 else len(source.classes), s, dtype="u1") for s in shapes]
    for file, array in zip(source.files, arrays, strict=True):
        write_idx(folder / f"{file}{suffix}", array)
    return [torch.from_numpy(array) for array in arrays]


# MNIST


def test_mnist_is_mnist(warm):
    data = load("mnist", root=warm)
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    assert data.image_shape == (1, 28, 28)
    assert data.classes == tuple("0123456789")
    assert data.num_classes == 10
    for split in (data.train, data.validation, data.test):
        assert split.x.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.x.shape == (len(split), 1, 28, 28)
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = load("mnist", validation=0, root=warm).train.x.float() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)  # the constants that every tutorial normalizes by
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)


def test_validation_is_the_end_of_the_training_images(warm):
    whole, default, one = (load("mnist", validation=v, root=warm) for v in (0, None, 59_999))
    assert len(whole.train) == 60_000
    assert len(whole.validation) == 0
    assert len(one.train) == 1
    for part in ("x", "labels"):
        halves = getattr(default.train, part)[:], getattr(default.validation, part)[:]
        assert torch.equal(torch.cat(halves), getattr(whole.train, part)[:])
    assert whole.checksum == default.checksum == one.checksum
    assert default.checksum == hashlib.sha256("".join(MD5.values()).encode()).hexdigest()


def test_parts_share_the_memory_of_what_was_read(warm):
    data = load("mnist", root=warm)
    start, end = data.train.x.data_ptr(), data.validation.x.data_ptr()
    assert end - start == 55_000 * 784
    assert data.train.x.untyped_storage().nbytes() <= 60_000 * 784 + 16


@pytest.mark.parametrize("validation", [-1, 60_000, 10**9])
def test_validation_out_of_range(warm, validation):
    with pytest.raises(ConfigError, match=rf"validation must be from 0 to 59999 .* got {validation}"):
        load("mnist", validation=validation, root=warm)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(DataError, match="unknown data set 'mnits'; did you mean 'mnist'"):
        load("mnits")


# the cache


def test_unpacked_files_are_the_authors_and_serve_torchvision(warm):
    datasets = pytest.importorskip("torchvision.datasets")
    folder = warm / "MNIST" / "raw"
    assert {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.iterdir()} == MD5
    assert datasets.MNIST(warm, train=False)[0][1] == 7


def test_warm_load_does_not_touch_the_package(warm, change):
    change("mnist", elsewhere=())
    assert len(load("mnist", root=warm).test) == 10_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],  # a valid file, one wrong label
        lambda content: b"",
        lambda content: b"not IDX",
    ],
)
def test_damaged_cache_is_unpacked_anew(warm, nearly_warm, damage):
    folder = nearly_warm / "MNIST" / "raw"
    (folder / LABELS).write_bytes(damage((warm / "MNIST" / "raw" / LABELS).read_bytes()))
    data = load("mnist", root=nearly_warm)
    assert torch.equal(data.test.labels, load("mnist", root=warm).test.labels)
    assert hashlib.md5((folder / LABELS).read_bytes()).hexdigest() == MD5[LABELS]
    assert {path.name for path in folder.iterdir()} == set(MD5)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda packed: packed[:-1], "damaged gzip"),
        (lambda packed: gzip.decompress(packed)[:-1], "promises"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-1] + b"\x03"), "MD5"),
        (lambda packed: b"<html>404</html>", "not an IDX file"),
    ],
)
def test_damaged_package_is_an_error_naming_the_file(nearly_warm, tmp_path, change, damage, reason):
    package = tmp_path / "package"
    shutil.copytree(PACKAGED, package)
    path = package / f"{LABELS}.gz"
    path.write_bytes(damage(path.read_bytes()))
    change("mnist", elsewhere=(package,))
    with pytest.raises(DataError, match=reason) as caught:
        load("mnist", root=nearly_warm)
    assert str(path) in str(caught.value)
    assert "install vaekit again" in str(caught.value)
    assert not (nearly_warm / "MNIST" / "raw" / LABELS).exists()


def test_missing_package_files_are_an_error(tmp_path, change):
    change("mnist", elsewhere=(tmp_path,))
    with pytest.raises(DataError, match="install vaekit again"):
        load("mnist", root=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="XDG is Linux's convention")
def test_cache_honours_xdg(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vaekit" / "data"
    assert available()[0].where == PACKAGED
    load("mnist")
    assert (tmp_path / "vaekit" / "data" / "MNIST" / "raw" / LABELS).is_file()
    assert available()[0].where == tmp_path / "vaekit" / "data" / "MNIST" / "raw"


def homeless(*args, **kwargs):
    """As platformdirs answers where there is no home."""
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("reason", ["unwritable", "no home", "no home (older platformdirs)", "disk full"])
def test_mnist_loads_without_a_cache(tmp_path, monkeypatch, reason):
    monkeypatch.chdir(tmp_path)
    if reason == "unwritable":  # below a file nobody can make a folder, not even root
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    elif "no home" in reason:
        old = "older" in reason
        monkeypatch.setattr(platformdirs, "user_cache_path", (lambda *a, **k: Path("~/.cache")) if old else homeless)
        assert cache_folder() is None
        assert [listing.where for listing in available()[:2]] == [PACKAGED, DEBIAN if DEBIAN.is_dir() else None]
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

        def full(*args):
            raise OSError("no space left on device")

        monkeypatch.setattr(os, "replace", full)
    assert load("mnist").test.labels[0] == 7
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "file"] == []


# the others


@pytest.mark.parametrize("name", [name for name in DATASET_NAMES if name not in ("mnist", "shapes")])
def test_absent_data_says_what_to_place_where(tmp_path, change, offline, name):
    source = change(name, elsewhere=())
    with pytest.raises(DataError, match=f"{name!r} is not on this machine and could not be fetched") as caught:
        load(name, root=tmp_path)
    message = str(caught.value)
    assert str(tmp_path / source.folder) in message
    assert all(file in message for file in source.files)
    assert "\n" not in message


@pytest.mark.parametrize(
    "error", [TimeoutError("slow"), http.client.IncompleteRead(b""), ValueError(), PermissionError()]
)
def test_whatever_goes_wrong_in_a_download_is_a_data_error(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    before = socket.getdefaulttimeout()
    with pytest.raises(DataError, match="could not be fetched"):
        load("svhn", root=tmp_path)
    assert socket.getdefaulttimeout() == before


def test_no_place_to_download_to(monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_path", homeless)
    with pytest.raises(DataError, match="no cache folder"):
        load("svhn")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_kmnist_from_placed_files(tmp_path, change, suffix):
    source = change("kmnist", train=7, test=3, validation=2)
    arrays = write_small(tmp_path / source.folder, source, np.random.default_rng(0), suffix)
    data = load("kmnist", root=tmp_path)
    assert torch.equal(data.train.x, arrays[0][:5, None])
    assert torch.equal(data.validation.labels, arrays[1][5:].long())
    assert torch.equal(data.test.x, arrays[2][:, None])
    assert torch.equal(data.test.labels, arrays[3].long())
    write_small(tmp_path / source.folder, source, np.random.default_rng(1), suffix)
    if suffix:  # the first load has unpacked them
        assert load("kmnist", root=tmp_path).checksum == data.checksum
    else:
        assert load("kmnist", root=tmp_path).checksum != data.checksum


class Response(io.BytesIO):
    """What urllib answers, as far as torchvision looks at it."""


def test_kmnist_is_downloaded_by_torchvision(tmp_path, monkeypatch, change, capsys):
    datasets = pytest.importorskip("torchvision.datasets")
    source = change("kmnist", train=7, test=3, validation=2)
    arrays = write_small(tmp_path / "mirror", source, np.random.default_rng(0), ".gz")
    files = [(f"{file}.gz", hashlib.md5((tmp_path / "mirror" / f"{file}.gz").read_bytes()).hexdigest())
             for file in source.files]  # fmt: skip
    monkeypatch.setattr(datasets.KMNIST, "resources", files)

    def answer(request):
        content = (tmp_path / "mirror" / Path(request.full_url).name).read_bytes()
        response = Response(content)
        response.url, response.length = request.full_url, len(content)
        return response

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    data = load("kmnist", root=tmp_path / "root")
    assert torch.equal(data.test.x, arrays[2][:, None])
    assert source.present_in(tmp_path / "root") == tmp_path / "root" / "KMNIST" / "raw"
    assert capsys.readouterr().out == ""  # standard output is for results


def test_wrong_shapes_and_labels_name_the_file(tmp_path, change):
    source = change("kmnist", train=7, test=3, validation=2)
    folder = tmp_path / source.folder
    write_small(folder, source, np.random.default_rng(0))
    write_idx(folder / "train-images-idx3-ubyte", np.zeros((7, 27, 28), dtype="u1"))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: uint8 of shape \(7, 27, 28\) instead of"):
        load("kmnist", root=tmp_path)
    write_small(folder, source, np.random.default_rng(0))
    write_idx(folder / "train-labels-idx1-ubyte", np.full(7, 10, dtype="u1"))
    with pytest.raises(DataError, match="kmnist: labels are from 10 to 10 instead of 0 to 9"):
        load("kmnist", root=tmp_path)


def test_emnist_letters_are_upright(tmp_path, change):
    source = change("emnist", train=7, test=3, validation=2)
    arrays = write_small(tmp_path / source.folder, source, np.random.default_rng(0))
    data = load("emnist", root=tmp_path)
    assert torch.equal(data.train.x[:, 0], arrays[0][:5].mT)
    assert data.num_classes == 47
    assert data.classes[10] == "A"
    assert data.classes[-1] == "t"


def test_fashion_mnist_from_another_folder(tmp_path, change):
    rng = np.random.default_rng(0)
    source = change("fashion-mnist", train=7, test=3, validation=2, elsewhere=(tmp_path / "datasets",))
    source = change("fashion-mnist", files=dict.fromkeys(source.files))
    arrays = write_small(tmp_path / "datasets", source, rng, ".gz")
    assert torch.equal(load("fashion-mnist", root=tmp_path).test.x, arrays[2][:, None])


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian(tmp_path):
    data = load("fashion-mnist", root=tmp_path)
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.train.labels[0] == 9
    assert data.classes[9] == "ankle boot"


def write_cifar10(folder, rng):
    """Six pickled batches as the authors made them, and their MD5s."""
    folder.mkdir(parents=True)
    arrays = {}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        batch = {"data": rng.integers(0, 256, (2, 3072), dtype="u1"), "labels": rng.integers(0, 10, 2).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
        arrays[name] = batch
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return arrays, {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_cifar10_from_its_own_files(tmp_path, monkeypatch, change, offline):
    datasets = pytest.importorskip("torchvision.datasets")
    batches, md5 = write_cifar10(tmp_path / "cifar-10-batches-py", np.random.default_rng(0))
    change("cifar10", train=10, test=2, validation=3)
    with pytest.raises(DataError, match=r"'cifar10' in .* is damaged"):  # not the authors' files: never unpickled
        load("cifar10", root=tmp_path)
    monkeypatch.setattr(
        datasets.CIFAR10, "train_list", [[f"data_batch_{i}", md5[f"data_batch_{i}"]] for i in range(1, 6)]
    )
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": md5["batches.meta"]})
    data = load("cifar10", root=tmp_path)
    expected = torch.from_numpy(batches["data_batch_5"]["data"]).view(2, 3, 32, 32)  # stored channel by channel
    assert torch.equal(data.validation.x[1:], expected)
    assert data.validation.x.is_contiguous()
    assert data.test.labels.tolist() == batches["test_batch"]["labels"]
    assert data.image_shape == (3, 32, 32)
    assert len(data.train) == 7


def test_svhn_from_its_own_files(tmp_path, monkeypatch, change, offline):
    datasets = pytest.importorskip("torchvision.datasets")
    scipy_io = pytest.importorskip("scipy.io")
    source, rng = change("svhn", train=5, test=3, validation=1), np.random.default_rng(0)
    (tmp_path / "svhn").mkdir()
    images, splits = {}, {}
    for part, count in (("train", 5), ("test", 3)):
        path = tmp_path / "svhn" / f"{part}_32x32.mat"
        images[part] = rng.integers(0, 256, (32, 32, 3, count), dtype="u1")  # H, W, C, N
        scipy_io.savemat(path, {"X": images[part], "y": np.arange(10, 10 - count, -1, dtype="u1")[:, None]})
        splits[part] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    data = load("svhn", root=tmp_path)
    assert torch.equal(data.test.x, torch.from_numpy(images["test"]).permute(3, 2, 0, 1))
    assert data.test.labels.tolist() == [0, 9, 8]  # a zero's label is 10 in the file
    assert source.present_in(tmp_path) == tmp_path / "svhn"
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"pip install scipy"):
        load("svhn", root=tmp_path)


@pytest.fixture
def celeba(tmp_path, change):
    """Six faces, each half dark and half of a colour of its own, in CelebA's layout: 3 train, 1 validation, 2 test."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    smiles = [1, -1, -1, 1, 1, -1]
    partition, attributes = "", "6\nBald Smiling Young\n"
    for i, smile in enumerate(smiles):
        name = f"{i + 1:06}.jpg"
        face = np.zeros((218, 178, 3), dtype="u1")
        face[:, 89:] = 40 * i + 20
        face[:32] = face[192:] = 255  # beyond the central 148 × 148: must not be seen
        image.fromarray(face).save(folder / "img_align_celeba" / name, quality=100)
        partition += f"{name} {(0, 0, 0, 1, 2, 2)[i]}\n"
        attributes += f"{name} {-smile:2d} {smile:2d} -1\n"
    (folder / "list_eval_partition.txt").write_text(partition)
    (folder / "list_attr_celeba.txt").write_text(attributes)
    files = {
        path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.txt"), reverse=True)
    }
    change("celeba", train=4, test=2, validation=1, files=files | {"img_align_celeba": None})
    return tmp_path


def test_celeba_from_its_own_files(celeba):
    data = load("celeba", root=celeba)
    assert [split.labels.tolist() for split in (data.train, data.validation, data.test)] == [[1, 0, 0], [1], [1, 0]]
    images = torch.cat([data.train.x, data.validation.x, data.test.x])
    assert images.shape == (6, 3, 64, 64)
    assert data.classes == ("not smiling", "smiling")
    for i, image in enumerate(images.int()):
        assert image[..., :30].max() <= 3
        assert (image[..., 36:] - (40 * i + 20)).abs().max() <= 3


def test_damaged_celeba_names_the_file(celeba):
    face = celeba / "celeba" / "img_align_celeba" / "000005.jpg"
    face.write_bytes(b"no JPEG")
    with pytest.raises(DataError, match=r"000005\.jpg: missing or damaged"):
        load("celeba", root=celeba)
    with (celeba / "celeba" / "list_attr_celeba.txt").open("a") as file:
        file.write("000007.jpg 1 1 1\n")
    with pytest.raises(DataError, match=r"list_attr_celeba\.txt: its MD5 is"):
        load("celeba", root=celeba)


# the listing


def test_listing(warm, change):
    change("fashion-mnist", elsewhere=())
    listings = {listing.name: listing for listing in available(warm)}
    assert tuple(listings) == DATASET_NAMES
    mnist = listings["mnist"]
    assert (mnist.train, mnist.validation, mnist.test) == (55_000, 5_000, 10_000)
    assert (mnist.shape, mnist.num_classes, mnist.present) == ((1, 28, 28), 10, True)
    assert mnist.where == warm / "MNIST" / "raw"
    assert not any(listing.present for name, listing in listings.items() if name not in ("mnist", "shapes"))
    assert listings["shapes"].present  # it is drawn
    assert listings["svhn"].where == warm / "svhn"
    assert (listings["celeba"].train, listings["celeba"].validation) == (162_770, 19_867)  # the authors' split


def test_a_set_is_present_only_when_every_file_is(tmp_path, change):
    source = change("kmnist", train=7, test=3, validation=2)
    write_small(tmp_path / source.folder, source, np.random.default_rng(0), ".gz")
    assert source.present_in(tmp_path) == tmp_path / source.folder
    (tmp_path / source.folder / f"{LABELS}.gz").unlink()
    assert source.present_in(tmp_path) is None


def test_listing_needs_neither_torch_nor_numpy():
    code = (
        "import sys, vaekit.data; vaekit.data.available(); "
        "print([m for m in ('torch', 'numpy', 'torchvision', 'matplotlib') if m in sys.modules]); "
        "vaekit.data.load, vaekit.data.Batches; "
        "print([m for m in ('torchvision', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["[]", "[]"]


def test_public_names_exist():
    assert all(hasattr(vaekit.data, name) for name in vaekit.data.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = vaekit.data.nothing
