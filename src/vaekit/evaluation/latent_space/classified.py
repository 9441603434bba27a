"""The error rate of the classifier that was trained with a model.

Not for: classifiers that judge samples (`classifier`) or that read latents (`latent_statistics`).
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ...model import LatentVariableModel
from ...model.modes import evaluating
from ...objectives import Loss, module_of
from .. import batchwise
from ..measure_contract import Findings, Measure, MeasureInput
from ..values import StageListener, Value, share_of


@runtime_checkable
class HasClassifier(Protocol):
    """A loss with a classifier."""

    def log_q(self, x: Tensor) -> Tensor:
        """Log q(y | x) for each class, shape (B, C)."""


def classification_error(
    model: LatentVariableModel,
    loss: Loss | None,
    rows: Tensor,
    labels: Tensor,
    *,
    listener: StageListener | None = None,
) -> Value | None:
    """The share of rows with a known class that a loss's q(y | x) gets wrong, in percent.

    None where the loss has no classifier, or where no class is known.

    Arguments:
        model: The model.
        loss: The loss that the model was trained with, or None; a loss with a classifier is a module and
            `HasClassifier`.
        rows: Shape (N, *event).
        labels: Classes of the rows, shape (N,); −1 where unknown.
        listener: Called with the stage, the batches done and the total.
    """
    known = labels >= 0
    module = None if loss is None else module_of(loss)
    if module is None or not isinstance(module, HasClassifier) or not known.any():
        return None
    rows, labels, classify = rows[known], labels[known], module.log_q

    def compute(index: int) -> dict[str, Tensor]:
        part = slice(index * batchwise.BATCH_ROWS, (index + 1) * batchwise.BATCH_ROWS)
        return {"class": classify(model.as_rows(rows[part])).argmax(-1)}

    with evaluating(model, module), torch.no_grad():
        predicted = batchwise.over_batches("classes", len(rows), compute, listener=listener)["class"]
    return share_of("classification error", predicted != labels)


def measure_classifier(inputs: MeasureInput) -> Findings:
    """The error of the classifier that was trained with the model, if there is one."""
    labels = inputs.stored_rows.labels
    if labels is None:
        return Findings()
    error = classification_error(inputs.model, inputs.loss, inputs.rows.zero_filled, labels, listener=inputs.listener)
    return Findings([] if error is None else [error])


CLASSIFIED = Measure(measure_classifier)
