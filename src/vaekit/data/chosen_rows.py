"""Rows chosen at random, the same ones for the same counts: those held out, and those that keep their labels."""

import random
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, is_whole
from .dataset import Dataset
from .ondisk import Remainder

# Seed of the held-out rows. Never change it, or runs are tested on images that they learned from.
SPLIT_SEED = 20_131_220
LABEL_SEED = 1406_5298  # the same number of labels always keeps the same rows
MOST_VALIDATION, MOST_TEST = 5_000, 10_000


def drawn(count: int, n: int) -> NDArray[np.int64]:
    """Draw n of the indices 0 … count − 1, in random order, always the same.

    The last rows would be of the last classes only: folders are sorted by class.
    """
    return np.array(random.Random(SPLIT_SEED).sample(range(count), n), np.int64)


def held_out(
    name: str,
    count: int,
    validation: int | None,
    test: int | None,
    *,
    row_word: str = "image",
    has_own_test: bool = False,
    one_in: int = 20,
) -> tuple[Remainder, NDArray[np.int64], NDArray[np.int64]]:
    """The indices of the rows to train on, to validate with and to test on.

    Arguments:
        name: Name of the data, for messages.
        count: Number of rows.
        validation: Rows to hold out; one in `one_in`, at most 5,000, by default.
        test: Rows to test on; 10 %, at most 10,000, by default.
        row_word: The word for one row, for messages.
        has_own_test: Whether the data have test rows of their own; then none is taken from these.
        one_in: See `validation`.

    Raises:
        DataError: There are fewer than two rows.
        ConfigError: A number is out of range, or no row is left to train on.
    """
    if count < 2 and not has_own_test:
        raise DataError(f"{name}: at least one {row_word} to train on and one to test on are needed, got {count}")
    test = 0 if has_own_test else max(1, min(count // 10, MOST_TEST)) if test is None else test
    validation = min(count // one_in, MOST_VALIDATION) if validation is None else validation
    if has_own_test and not 0 <= validation < count:
        raise ConfigError(
            f"validation must be from 0 to {count - 1} of the {count} {row_word}s of {name}, got {validation}"
        )
    if (test < 1 and not has_own_test) or validation < 0 or test + validation >= count:
        raise ConfigError(
            f"test must be at least 1, and validation + test less than the {count} {row_word}s of {name}, "
            f"got {validation} + {test}"
        )
    tested = drawn(count, test)
    rest = Remainder(count, tested)
    validated = rest[drawn(len(rest), validation)]
    return Remainder(count, np.concatenate((tested, validated))), validated, tested


def keep_labels(data: Dataset, labelled: int) -> Dataset:
    """Keep the labels of some training rows, equally many of each class. The other rows get −1, unknown.

    Arguments:
        data: A data set with labels.
        labelled: Number of training rows that keep their label.

    Raises:
        ConfigError: There are no labels or fewer than two classes, `labelled` is less than the number of classes, or a
            class has too few rows.
    """
    classes = data.num_classes
    labels = data.train.labels
    if labels is None or classes < 2:
        raise ConfigError(f"labelled = {labelled} keeps some labels, but {data.name!r} has none")
    if not is_whole(labelled) or labelled < classes:
        whole = "" if is_whole(labelled) else "a whole number, "
        raise ConfigError(f"labelled must be {whole}at least {classes}, one row of each class, got {labelled!r:.60}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(LABEL_SEED))
    remaining = torch.full_like(labels, -1)
    for label in range(classes):
        share = labelled // classes + (label < labelled % classes)
        rows = order[labels[order] == label]
        if len(rows) < share:
            raise ConfigError(
                f"labelled = {labelled} keeps {share} labels of each class, but class {data.classes[label]!r} "
                f"has {len(rows)} training rows"
            )
        remaining[rows[:share]] = label
    return replace(data, train=replace(data.train, labels=remaining))
