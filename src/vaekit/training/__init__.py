"""Training: `fit`, for any model, any objective and any loader.

    validation.py    batches as a model wants them; the true −ELBO over a loader
    graph.py         a step as one CUDA graph
    together.py      several trainings in this process that take turns
    trainer.py       a model, its optimizer and where they stand: one step, one look, one state to save
    keeper.py        when to keep which state, in memory and in the run folder
    noise.py         the noise of some rows of a batch, or of some of several replicates
    stack.py         the steps of several trainings at once
    ranks.py         several processes that train as one
    loop.py          the loop

Not for: reading configs or writing pictures (`experiment`).
"""

from .graph import find_graphs
from .loop import Interrupted, Listener, fit, stop_requests
from .ranks import ALONE, Ranks, joined
from .stack import Steps, agrees, can_stack, is_faster
from .together import Peer, in_turns
from .trainer import Progress, Record, Trainer
from .validation import find_device, validate

__all__ = [
    "ALONE",
    "Interrupted",
    "Listener",
    "Peer",
    "Progress",
    "Ranks",
    "Record",
    "Steps",
    "Trainer",
    "agrees",
    "can_stack",
    "find_device",
    "find_graphs",
    "fit",
    "in_turns",
    "is_faster",
    "joined",
    "stop_requests",
    "validate",
]
