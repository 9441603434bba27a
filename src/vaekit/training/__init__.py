"""Training: `fit`, for any model, any objective and any loader.

    validation.py    batches as a model wants them; the true −ELBO over a loader
    trainer.py       a model, its optimizer and where they stand: one step, one look, one state to save
    keeper.py        when to keep which state, in memory and in the run folder
    noise.py         the noise of some rows of a batch
    ranks.py         several processes that train as one
    loop.py          the loop

Not for: reading configs or writing pictures (`experiment`).
"""

from .loop import Interrupted, Listener, fit, stop_requests
from .ranks import ALONE, Ranks, joined
from .trainer import Progress, Record, Trainer
from .validation import find_device, validate

__all__ = [
    "ALONE",
    "Interrupted",
    "Listener",
    "Progress",
    "Ranks",
    "Record",
    "Trainer",
    "find_device",
    "fit",
    "joined",
    "stop_requests",
    "validate",
]
