"""Few labels: a data set of which only some training rows have a class."""

from dataclasses import replace

import torch

from ..errors import ConfigError
from .dataset import Dataset

SEED = 1406_5298  # so that the same number of labels is always of the same rows


def keep_labels(data: Dataset, labelled: int) -> Dataset:
    """A data set of which only some training rows keep their class, equally many of each; −1, unknown, for the others.

    Arguments:
        data: A data set with labels.
        labelled: How many training rows keep their label.

    Raises:
        ConfigError: There are no classes, or fewer rows of one of them.
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
