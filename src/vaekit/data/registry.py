"""The data sets by name and the places of their files: plain records. It imports no torch and reads no file.

All files live below one root folder with the layout of torchvision's `root`. So an existing torchvision folder serves
as `root` here, and the other way round.

Letters of `emnist` (its split "balanced") are turned upright. `celeba` is as in most papers: the central 148 × 148
pixels of the aligned faces, reduced to 64 × 64 (Larsen et al. 2016, arXiv:1512.09300). Its label is the attribute
"Smiling", the most balanced one (48 %), since its identities are not shared between training and test images.
`shapes` is drawn by this package: three shapes in three colours, three sizes, eight directions and 36 places.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """A data set that can be loaded by name.

    Arguments:
        name: Name of the data set for `vaekit.data.load`.
        shape: (C, H, W) of one image.
        train: Number of training images, the validation images included.
        test: Number of test images.
        validation: Default number of training images, the last ones, held out for validation.
        classes: Class names; label i means `classes[i]`.
        folder: Folder of the files, below the root.
        files: File name → MD5 of the file (IDX: of the unpacked file), or None if no reference value is published.
            Data sets in IDX format list training images, training labels, test images, test labels, in that order.
        torchvision: Name of the class in `torchvision.datasets` that downloads it; None if it needs no download.
        arguments: That class's arguments for the training set and for the test set.
        elsewhere: Other folders that may hold the files, gzipped.
        drawn: Whether this package draws the images; there are no files.
    """

    name: str
    shape: tuple[int, int, int]
    train: int
    test: int
    validation: int
    classes: tuple[str, ...]
    folder: str
    files: Mapping[str, str | None]
    torchvision: str | None = None
    arguments: tuple[Mapping[str, Any], ...] = ({"train": True}, {"train": False})
    elsewhere: tuple[Path, ...] = ()
    drawn: bool = False

    def copies(self, file: str, root: Path | None) -> Iterator[Path]:
        """Paths of a file, the quickest to read first."""
        below_root = [root / self.folder / file, root / self.folder / f"{file}.gz"] if root is not None else []
        for path in (*below_root, *(folder / f"{file}.gz" for folder in self.elsewhere)):
            if os.path.exists(path):  # unlike Path.exists, not an error in a folder that may not be searched
                yield path

    def present_in(self, root: Path | None) -> Path | None:
        """The folder with the files, or None if one is missing."""
        folder = Path(__file__).parent if self.drawn else None
        for file in self.files:
            copy = next(self.copies(file, root), None)
            if copy is None:
                return None
            folder = folder or copy.parent
        return folder


@dataclass(frozen=True)
class Listing:
    """A line of `vae data`: sizes under the default split, shape (C, H, W), and where the files are or would go."""

    name: str
    train: int
    validation: int
    test: int
    shape: tuple[int, int, int]
    num_classes: int
    present: bool
    where: Path | None


_DIGIT_CLASSES = tuple("0123456789")

_ALL = (
    Source(
        name="mnist",
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        validation=5_000,
        classes=_DIGIT_CLASSES,
        folder="MNIST/raw",
        files={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        elsewhere=(Path(__file__).parent / "mnist",),
    ),
    Source(
        name="fashion-mnist",
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        validation=5_000,
        classes=("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
        folder="FashionMNIST/raw",
        files={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        torchvision="FashionMNIST",
        elsewhere=(Path("/usr/share/datasets/fashion-mnist"),),  # Debian's package dataset-fashion-mnist
    ),
    Source(
        name="kmnist",
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        validation=5_000,
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        folder="KMNIST/raw",
        files=dict.fromkeys(
            f"{part}-{content}-ubyte" for part in ("train", "t10k") for content in ("images-idx3", "labels-idx1")
        ),
        torchvision="KMNIST",
    ),
    Source(
        name="emnist",  # the "balanced" split; its authors, too, hold out the last 18,800 (Cohen et al. 2017)
        shape=(1, 28, 28),
        train=112_800,
        test=18_800,
        validation=18_800,
        classes=(*_DIGIT_CLASSES, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *"abdefghnqrt"),
        folder="EMNIST/raw",
        files=dict.fromkeys(
            f"emnist-balanced-{part}-{content}-ubyte"
            for part in ("train", "test")
            for content in ("images-idx3", "labels-idx1")
        ),
        torchvision="EMNIST",
        arguments=({"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    ),
    Source(
        name="cifar10",
        shape=(3, 32, 32),
        train=50_000,
        test=10_000,
        validation=5_000,
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        folder="cifar-10-batches-py",
        files=dict.fromkeys((*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")),
        torchvision="CIFAR10",
    ),
    Source(
        name="svhn",
        shape=(3, 32, 32),
        train=73_257,
        test=26_032,
        validation=5_000,
        classes=_DIGIT_CLASSES,
        folder="svhn",
        files=dict.fromkeys(("train_32x32.mat", "test_32x32.mat")),
        torchvision="SVHN",
        arguments=({"split": "train"}, {"split": "test"}),
    ),
    Source(
        name="celeba",  # the last 19,867 rows outside the test set are its authors' own validation set
        shape=(3, 64, 64),
        train=182_637,
        test=19_962,
        validation=19_867,
        classes=("not smiling", "smiling"),
        folder="celeba",
        files={
            "list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668",
            "list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
            "img_align_celeba": None,
        },
        torchvision="CelebA",
        arguments=({"split": "all"},),
    ),
    Source(
        name="shapes",  # every combination of six factors once, for disentanglement
        shape=(3, 32, 32),
        train=6_480,
        test=1_296,
        validation=480,
        classes=("triangle", "half-disc", "L"),
        folder="",
        files={},
        drawn=True,
    ),
)

SOURCES = {source.name: source for source in _ALL}
DATASET_NAMES = tuple(SOURCES)


def known_as(name: str) -> str:
    """The registered spelling of a data set's name; any other name, and a path, unchanged.

    >>> known_as("FashionMNIST"), known_as("CIFAR-10"), known_as("photos"), known_as("./mnist")
    ('fashion-mnist', 'cifar10', 'photos', './mnist')
    """
    if name in DATASET_NAMES:
        return name
    if os.path.lexists(name) or {os.sep, os.altsep or os.sep} & set(name):
        return name

    def letters(text: str) -> str:
        return "".join(filter(str.isalnum, text.lower()))

    return next((known for known in DATASET_NAMES if letters(known) == letters(name)), name)


def cache_folder() -> Path | None:
    """The user's cache folder for data by the platform's conventions (XDG_CACHE_HOME); None without a home folder."""
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("vaekit", appauthor=False)
    except RuntimeError:  # no home; older versions of platformdirs answer "~/.cache/vaekit"
        return None
    return folder / "data" if folder.is_absolute() else None


def resolve_root(root: str | os.PathLike[str] | None) -> Path | None:
    """The root folder of data sets: `root`, or by default the user's cache."""
    return cache_folder() if root is None else Path(os.path.expanduser(root))


def available(root: str | os.PathLike[str] | None = None) -> list[Listing]:
    """Every data set that can be loaded by name, with its sizes, and whether its files are on this machine.

    Arguments:
        root: Folder of the data sets; the user's cache by default.

    >>> [listing.name for listing in available() if listing.name.endswith("mnist")]
    ['mnist', 'fashion-mnist', 'kmnist', 'emnist']
    """
    place = resolve_root(root)
    return [_listing(source, place) for source in SOURCES.values()]


def _listing(source: Source, root: Path | None) -> Listing:
    folder = source.present_in(root)
    return Listing(
        name=source.name,
        train=source.train - source.validation,
        validation=source.validation,
        test=source.test,
        shape=source.shape,
        num_classes=len(source.classes),
        present=folder is not None,
        where=folder or (root / source.folder if root is not None else None),
    )
