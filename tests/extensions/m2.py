"""Model M2 for semi-supervised learning, written outside of the package: a loss that sees labels, some of them −1.

Reference: Kingma, Rezende, Mohamed and Welling 2014, arXiv:1406.5298, eq. 6, 7 and 9.
"""

import math
from dataclasses import replace

import torch
from torch import nn

import tiny
from vaekit import LatentVariableModel, elbo, one_hot
from vaekit.data import Batch, Dataset, Split
from vaekit.objectives import Terms


class M2(nn.Module):
    """−ELBO of log p(x, y) where the class y is known; where it is not, y is summed out with a classifier q(y | x)."""

    def __init__(self, event_shape: tuple[int, ...], num_classes: int, *, alpha: float = 10.0, hidden: int = 8) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.alpha = alpha
        size = math.prod(event_shape)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def forward(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """The loss of each row; a uniform prior p(y) makes the constant log C."""
        assert batch.labels is not None
        known = batch.labels >= 0
        log_q = self.classifier(batch.x).log_softmax(-1)  # (B, C)
        bounds = [elbo(model.draw(batch.x, self.context(batch, y))) for y in range(self.num_classes)]
        bound = torch.stack(bounds, -1) - math.log(self.num_classes)  # (B, C)
        index = batch.labels.clamp_min(0).unsqueeze(-1)
        supervised = bound.gather(-1, index).squeeze(-1)
        unsupervised = (log_q.exp() * (bound - log_q)).sum(-1)
        cross_entropy = torch.where(known, -log_q.gather(-1, index).squeeze(-1), 0.0)
        neg_elbo = -torch.where(known, supervised, unsupervised)
        logged = {"neg_elbo": neg_elbo, "cross_entropy": cross_entropy, "known": known.float()}
        return Terms(neg_elbo + self.alpha * cross_entropy, {name: value.detach() for name, value in logged.items()})

    def context(self, batch: Batch, label: int) -> torch.Tensor:
        """One class for all rows."""
        return one_hot(torch.full((len(batch),), label, device=batch.x.device), self.num_classes)


def dataset(**options: object) -> Dataset:
    """The tiny data set; of the training images three in four have an unknown class."""
    data = tiny.dataset()
    labels = data.train.labels.where(torch.arange(len(data.train)) % 4 == 0, -1)
    return replace(data, train=Split(data.train.x, labels))
