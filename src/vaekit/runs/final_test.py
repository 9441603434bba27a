"""The means on the test rows at the end of a training, in test.json.

Not for: `vaekit.evaluate`, which takes more samples and measures more (`evaluation`).
"""

import math
import warnings

from torch import Tensor

from ..data import Batches
from ..model import Draw, LatentVariableModel
from ..objectives import Loss, OfDraw
from ..store import Run
from ..store.metrics import ROWS_KEY
from ..training import validate


def write_test(run: Run, model: LatentVariableModel, loss: Loss, rows: Batches, *, row_word: str) -> None:
    """Measure the test rows, and write test.json.

    It has the terms of a draw and, for any other loss than `OfDraw`, what it logs. A mean that is not finite is null
    in the file; a warning says so.

    Arguments:
        run: The run folder.
        model: The trained model.
        loss: The loss that it was trained with.
        rows: The test rows, in order.
        row_word: The word for one row.
    """
    means = validate(model, rows, OfDraw(negative_distortion))
    if not isinstance(loss, OfDraw):
        means |= validate(model, rows, loss)
    del means["loss"]
    bad = [name for name, mean in means.items() if not math.isfinite(mean)]
    if bad:
        warnings.warn(
            f"{', '.join(bad)} of the test rows is not finite: the model gives at least one of them no density, though "
            "it trained well; look for test rows unlike the training rows, or try a lower train.learning_rate",
            stacklevel=2,
        )
    run.write_json("test.json", {**means, ROWS_KEY: rows.num_rows, "samples": 1, "unit": f"nats per {row_word}"})


def negative_distortion(draw: Draw) -> Tensor:
    """The negative distortion, which every draw has; `OfDraw` logs it with the other terms."""
    return -draw.distortion
