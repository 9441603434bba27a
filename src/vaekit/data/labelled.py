"""Few labels: a data set in which only some training rows have a class."""

from dataclasses import replace

import torch

from ..errors import ConfigError
from .dataset import Dataset

SEED = 1406_5298  # the same number of labels always keeps the same rows


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
        raise ConfigError(f"data.labelled = {labelled} keeps some labels, but {data.name!r} has none")
    if labelled < classes:
        raise ConfigError(f"data.labelled must be at least {classes}, one row of each class, got {labelled}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SEED))
    remaining = torch.full_like(labels, -1)
    for label in range(classes):
        share = labelled // classes + (label < labelled % classes)
        rows = order[labels[order] == label]
        if len(rows) < share:
            raise ConfigError(
                f"data.labelled = {labelled} keeps {share} labels of each class, but class {data.classes[label]!r} "
                f"has {len(rows)} training rows"
            )
        remaining[rows[:share]] = label
    return replace(data, train=replace(data.train, labels=remaining))
