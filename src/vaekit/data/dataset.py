"""What a loaded data set is: records of images and labels."""

import re
from dataclasses import dataclass

from torch import Tensor

from ..errors import DataError
from .stored import Stored


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Arguments:
        images: (N, C, H, W), uint8 or, of one's own only, float32 in [0, 1]; `Stored` where they stay on disk, which is
            indexed by rows like a tensor: `images[:100]`.
        labels: (N,), int64.
    """

    images: Tensor | Stored
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.images.shape) != 4:
            raise DataError(f"images must be (N, C, H, W), got {tuple(self.images.shape)}")
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(f"labels must be ({len(self.images)},), one per image, got {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    def in_memory(self, most: int) -> "Split":
        """The same images as a tensor: all that are in memory now, or as many, evenly spread, as take `most` bytes."""
        if isinstance(self.images, Tensor):
            return self
        step = max(1, -(-self.images.nbytes // most))
        return Split(self.images[::step], self.labels[::step])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three parts.

    Arguments:
        name: what it is called, or the path that it was loaded from.
        train: what to learn from.
        validation: what to choose by; may be empty.
        test: what to report on.
        classes: class names; label i means `classes[i]`.
        checksum: SHA-256 over the content (hexadecimal), whatever the number of validation images. Of one's own
            images: over names, sizes, and at most 16 MiB of the content.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    checksum: str

    @property
    def slug(self) -> str:
        """The name as a part of file names."""
        return re.sub(r"[^\w.-]+", "-", self.name).strip("-.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)
