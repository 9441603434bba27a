"""What a loaded data set is: records of tensors, without any behaviour."""

from dataclasses import dataclass

from torch import Tensor

from vae.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Arguments:
        images: (N, C, H, W), uint8.
        labels: (N,), int64.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dim() != 4:
            raise DataError(f"images must be (N, C, H, W), got {tuple(self.images.shape)}")
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(f"labels must be ({len(self.images)},), one per image, got {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three parts.

    Arguments:
        name: what it is called.
        train: what to learn from.
        validation: what to choose by; may be empty.
        test: what to report on.
        classes: class names; label i means `classes[i]`.
        checksum: SHA-256 over the content (hexadecimal), whatever the number of validation images.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    checksum: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)
