"""`load`: a data set by its name, by the path of the user's files, or from the user's function."""

import hashlib
import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError, DataError, RunError, unknown
from ..store import files
from .batch import is_array
from .dataset import Dataset, Split
from .kinds import Told
from .labelled import keep_labels
from .own import is_path, load_own
from .registry import SOURCES, Source, known_as, resolve_root
from .sources import shapes, vision
from .sources.frames import is_frame
from .sources.idx import as_array, md5_of, unpack
from .tables import is_table, load_table
from .values import Values


def load(
    name: Any,
    *,
    validation: int | None = None,
    test: int | str | None = None,
    size: int | None = None,
    memory: float | None = None,
    root: str | os.PathLike[str] | None = None,
    values: Values = "pixels",
    columns: Told | None = None,
    labelled: int | None = None,
) -> Dataset:
    """A data set by its name, unpacked or downloaded on first use; one's own by path, as a frame or array; a function.

    By name: the last `validation` training images become the validation set. MNIST comes with this package. Letters of
    `emnist` (the "balanced" split) are turned upright. `celeba` is what most papers use: the central 148 × 148 pixels
    of the aligned faces, reduced to 64 × 64 (Larsen et al. 2016, arXiv:1512.09300); its label is the attribute
    "Smiling", the most balanced one (48 %), since its identities are not shared between training and test images.
    `shapes` is drawn by this package: three shapes in three colours, three sizes, eight directions and 36 places.

    By path: `NAME.npy`, images (N, H, W), (N, C, H, W) or (N, H, W, C), or a table (N, D), with labels in
    `NAME-labels.npy` if there are any; `NAME.npz` with `images` or `x`, and maybe `labels` or `y`, or with Keras's
    `x_train`, `y_train`, `x_test` and `y_test`, or SciPy's sparse matrix of counts; or a folder of images, whose
    subfolders are classes. Numbers in arrays are uint8, bool, uint16 (divided by 65535) or floats in [0, 1]; with other
    `values` they are counts or real numbers. NaN is a missing value. Classes are the labels that occur; without labels
    all images are of one class, "all". What is held out is drawn at random, always the same of as many images. More
    than `memory` stays on disk and is read when it is needed.

    A table is `.csv`, `.tsv` or `.parquet`, a frame of pandas, or an array (N, D); or a folder of train.csv, val.csv
    and test.csv. Its columns get a kind each from their types, which `columns` overrides; an empty cell or NaN is
    missing. With `values="table"` a `.npy` (N, D) is one, too. One row in ten is for validation, one in ten for tests.

    By a function: what it returns, a `Dataset`; it is given those options that are not None. In a config it is named by
    its import path, `data.name = "my_module:my_function"`.

    Arguments:
        name: One of `vaekit.data.NAMES`, a path, a frame, an array (N, D), a function, or a `Dataset`, which is
            returned.
        validation: How many training images to hold out; by default a data set's own number (MNIST: 5,000), and 5 % of
            one's own images, at most 5,000.
        test: How many of the user's own rows to test on; 10 %, at most 10,000, by default; or the path of a table to
            test on.
        size: Crop the images of a folder to their central square and resize that to size × size pixels.
        memory: GiB up to which the user's own images are read into memory; 1 by default, 0 always reads them from disk.
        root: Folder of the data sets, laid out as torchvision's; the user's cache by default. It need not be
            writable for what is there already, nor exist for MNIST.
        values: What the numbers in an array by path mean: "pixels", "counts" or "real". A training reads them as its
            likelihood takes them.
        columns: Kinds of a table's columns by name: "real", "positive", "count", "ordinal", "categorical", "bernoulli",
            "size-factor", "label" or "ignore"; or the levels of an ordinal one in order. "*" stands for all others.
        labelled: How many training rows keep their label, as many of each class; the others get −1, unknown. It is
            always the same rows. All keep theirs by default.

    Raises:
        DataError: Unknown name; files missing and not to be fetched; files damaged; images that differ in kind or size.
        ConfigError: The option is out of range, or does not apply to a named data set or to the function.
    """
    if labelled is not None:
        options = {"validation": validation, "test": test, "size": size, "memory": memory, "root": root}
        return keep_labels(load(name, **options, values=values, columns=columns), labelled)  # type: ignore[arg-type]
    if isinstance(name, Dataset):
        return name
    if is_frame(name) or (is_array(name) and len(name.shape) == 2):
        return load_table(name, validation=validation, test=test, told=columns)
    if callable(name):
        return _from_function(name, validation=validation, test=test, size=size, memory=memory, root=root)
    if not isinstance(name, (str, os.PathLike)):
        raise DataError(
            f"load takes the name or the path of a data set, a frame or an array (N, D), got {type(name).__name__}; "
            "other arrays and tensors go to fit as they are, or into Split(x, labels)"
        )
    name = os.fspath(name)
    name = name if os.path.lexists(name) else known_as(name)
    if name not in SOURCES and is_table(name, values):
        return load_table(name, name=name, validation=validation, test=test, told=columns)
    if columns is not None:
        raise ConfigError(f"data.columns is for tables, such as table.csv; leave it out with {name!r}")
    if isinstance(test, str):
        raise ConfigError(f"data.test is the path of a table ({test}), but {name!r} is not a table; give a number")
    if name not in SOURCES and is_path(name):
        return load_own(name, validation=validation, test=test, size=size, memory=memory, values=values)
    if name not in SOURCES:
        raise DataError(f"{unknown('data set', name, SOURCES)}; or the path of your own images")
    for option, value in (("test", test), ("size", size), ("memory", memory)):
        if value is not None:
            raise ConfigError(f"data.{option} is for images of your own, by path; leave it out with {name!r}")
    source, place = SOURCES[name], resolve_root(root)
    held_out = source.validation if validation is None else validation
    if not 0 <= held_out < source.train:
        raise ConfigError(
            f"validation must be from 0 to {source.train - 1} of the {source.train} training images of {name!r}, "
            f"got {held_out}"
        )
    if source.present_in(place) is None:
        vision.fetch(source, place)
    content = _READERS.get(name, _read_idx_files)(source, place)
    _check(source, content.train, source.train)
    _check(source, content.test, source.test)
    x, labels, kept = content.train.x, content.train.known_labels(), source.train - held_out
    return Dataset(
        name=name,
        train=Split(x[:kept], labels[:kept]),
        validation=Split(x[kept:], labels[kept:]),
        test=content.test,
        classes=source.classes,
        checksum=content.checksum,
    )


def _from_function(function: Callable[..., Dataset], **options: object) -> Dataset:
    given = {option: value for option, value in options.items() if value is not None}
    name = getattr(function, "__qualname__", repr(function))
    try:
        inspect.signature(function).bind(**given)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}; leave the option out, or let the function take it") from None
    data = function(**given)
    if not isinstance(data, Dataset):
        raise DataError(f"{name} must return a vaekit.data.Dataset, got {type(data).__name__}")
    return data


def _check(source: Source, split: Split, count: int) -> None:
    expected, x = (count, *source.shape), split.x
    if x.shape != expected or x.dtype != torch.uint8:
        raise DataError(f"{source.name}: images are {tuple(x.shape)} {x.dtype} instead of {expected} uint8")
    labels = split.known_labels()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(source.classes):
        raise DataError(f"{source.name}: labels are from {low} to {high} instead of 0 to {len(source.classes) - 1}")


def _read_idx_files(source: Source, root: Path | None) -> vision.Content:
    size = source.shape[1:]
    shapes = ((source.train, *size), (source.train,), (source.test, *size), (source.test,))
    arrays, digests = [], []
    for file, shape in zip(source.files, shapes, strict=True):
        content, path = _intact_copy(source, file, root)
        array = as_array(content, str(path))
        if array.shape != shape or array.dtype != "u1":
            raise DataError(f"{path}: {array.dtype} of shape {array.shape} instead of uint8 of shape {shape}")
        arrays.append(torch.from_numpy(array))
        digests.append(source.files[file] or md5_of(content))
    images, labels, test_images, test_labels = arrays
    return vision.Content(
        train=Split(images.unsqueeze(1), labels.long()),
        test=Split(test_images.unsqueeze(1), test_labels.long()),
        checksum=hashlib.sha256("".join(digests).encode()).hexdigest(),
    )


def _read_emnist(source: Source, root: Path | None) -> vision.Content:
    train, test, checksum = _read_idx_files(source, root)  # whose images are stored transposed
    train, test = (Split(split.x[:].mT.contiguous(), split.labels) for split in (train, test))
    return vision.Content(train, test, checksum)


def _read_shapes(source: Source, root: Path | None) -> vision.Content:
    return shapes.read_shapes(source.train)


_READERS: dict[str, Callable[[Source, Path | None], vision.Content]] = {
    "emnist": _read_emnist,
    "cifar10": vision.read_cifar10,
    "svhn": vision.read_svhn,
    "celeba": vision.read_celeba,
    "shapes": _read_shapes,
}


def _intact_copy(source: Source, file: str, root: Path | None) -> tuple[bytearray, Path]:
    """The unpacked content of the first copy that is whole; what had to be unpacked is kept below the root."""
    problem = f"{file}: no such file"
    for path in source.copies(file, root):
        try:
            content = unpack(path, md5=source.files[file])
        except DataError as error:
            problem = str(error)
            continue
        if path.suffix == ".gz" and root is not None:
            _keep(content, root / source.folder / file)
        return content, path
    remedy = "delete it and load again to fetch it anew" if source.torchvision else "install vaekit again"
    raise DataError(f"{problem}; {remedy}")


def _keep(content: bytearray, path: Path) -> None:
    """Put content at a path in one step; a folder that cannot be written only costs time on the next run."""
    with suppress(OSError, RunError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, bytes(content))
