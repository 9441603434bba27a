"""The codes that a model uses: how many, and how evenly.

Not for: the rate, which depends on the prior over codes (`bounds`).
"""

import torch
from torch import Tensor

from ...data import Batch
from ...model import LatentVariableModel
from ...posteriors.quantized import perplexity
from .. import batchwise
from ..values import StageListener, Value
from .ex_post import codes_posterior_of


def code_usage(model: LatentVariableModel, rows: Batch, *, listener: StageListener | None = None) -> list[Value]:
    """Codes in use and their perplexity, over all rows and places; nothing for a model without codes.

    Arguments:
        model: Any model.
        rows: All rows, with the context or the labels that a conditional model needs.
        listener: Called with the stage, the batches done and the total.
    """
    posterior = codes_posterior_of(model)
    if posterior is None:
        return []

    def compute(index: int) -> dict[str, Tensor]:
        q = model.posterior_of(batchwise.batch_of(model, rows, index))
        return {"codes": posterior.index_of(q.mean).flatten(1)}

    with batchwise.estimating(model):
        codes = batchwise.over_batches("codes", len(rows), compute, listener=listener)["codes"]
    counts = codes.flatten().bincount(minlength=posterior.num_codes).double()
    return [
        Value("codes in use", float(torch.count_nonzero(counts)), None, f"of {posterior.num_codes}"),
        Value("perplexity of codes", perplexity(counts).item(), None, f"of {posterior.num_codes}"),
    ]
