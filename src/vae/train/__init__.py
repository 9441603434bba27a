"""Training: `fit`, for any model, any objective and any loader.

    validation.py    batches as a model wants them; the true −ELBO over a loader
    graph.py         a step as one CUDA graph
    trainer.py       a model, its optimizer and where they stand: one step, one look, one state to save
    keeper.py        when to keep which state, in memory and in the run folder
    noise.py         the noise of some rows of a batch
    ranks.py         several processes that train as one
    loop.py          the loop

Not for: reading configs or writing pictures (`experiment`).
"""

from .graph import find_graphs
from .loop import Interrupted, Listener, fit
from .ranks import ALONE, Ranks, joined
from .trainer import Progress, Record
from .validation import find_device, validate

__all__ = [
    "ALONE",
    "Interrupted",
    "Listener",
    "Progress",
    "Ranks",
    "Record",
    "find_device",
    "find_graphs",
    "fit",
    "joined",
    "validate",
]
