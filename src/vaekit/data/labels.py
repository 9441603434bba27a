"""Data sets with few labels; labels renumbered for a model."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import ConfigError, DataError, unknown
from .dataset import Dataset

LABEL_SEED = 1406_5298  # the same number of labels always keeps the same rows


def keep_labels(data: Dataset, labelled: int) -> Dataset:
    """Keep the labels of some training rows, equally many of each class. The other rows get −1, unknown.

    Arguments:
        data: A data set with labels.
        labelled: Number of training rows that keep their label.

    Raises:
        ConfigError: There are no classes, `labelled` is below their number, or a class has too few rows.
    """
    classes = data.num_classes
    labels = data.train.labels
    if labels is None or classes < 2:
        raise ConfigError(f"labelled = {labelled} keeps some labels, but {data.name!r} has none")
    if labelled < classes:
        raise ConfigError(f"labelled must be at least {classes}, one row of each class, got {labelled}")
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


def renumbered(labels: Tensor, classes: Sequence[str], known: Sequence[str]) -> Tensor:
    """Labels in another numbering, by the names of the classes; −1, unknown, stays −1.

    Arguments:
        labels: Classes, shape (N,), int64; label i means `classes[i]`.
        classes: Names of the classes.
        known: Names of the classes in the other numbering.

    Raises:
        DataError: A row is of a class that is not known.

    >>> renumbered(torch.tensor([0, 1, -1]), ["dog", "cat"], ["bird", "cat", "dog"])
    tensor([ 2,  1, -1])
    """
    labels_of = {name: i for i, name in enumerate(known)}
    for label in labels.unique().tolist():
        if label >= 0 and classes[label] not in labels_of:
            raise DataError(unknown("class", classes[label], known))
    return torch.tensor([*(labels_of.get(name, -1) for name in classes), -1])[labels]
