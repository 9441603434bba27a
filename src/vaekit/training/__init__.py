"""Training: `fit`, for any model, any loss and any loader.

    step.py          one step: all players' gradients, then their optimizers, then the count
    meter.py         what is counted on the device
    progress.py      where a training stands
    state.py         what is saved and restored
    trainer.py       a model, its loss and its optimizer, and where their training stands
    validation.py    the value of a loss over a loader
    checkpointer.py  when to save which state, in memory and in the run folder
    noise.py         the noise of some rows of a batch
    ranks.py         several processes that train as one
    launch.py        the processes that torchrun has started
    refusals.py      what several processes do not train
    clock.py         when a training is checked
    signals.py       how it is asked to stop
    devices.py       devices by name, and their memory
    precision.py     in which precision networks multiply
    processor.py     what it does with tiny numbers, and on how many threads
    optimizers.py    optimizers by name
    loop.py          the loop

Not for: reading configs or writing pictures (`runs`).
"""

from .devices import find_device
from .launch import joined
from .loop import Listener, fit
from .progress import Progress
from .ranks import ALONE, Ranks
from .signals import Interrupted, stop_requests
from .trainer import Record, Trainer
from .validation import validate

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
