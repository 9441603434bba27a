"""Training: `train_epochs`, for any model, any loss and any loader.

| file | what |
|---|---|
| `loop`, `step` | the loop; one step: gradients of all players, optimizers, count |
| `trainer` | a training from step to step and from epoch to epoch |
| `trained_parts`, `players` | what a training changes: model, loss and players; the players and their optimizers |
| `progress`, `averages` | the progress of a training; averages of its weights |
| `learning_rate`, `listener` | the factor on the learning rate; listeners to the progress |
| `state`, `meter` | the state to save and restore; the counts on the device |
| `validation` | the value of a loss over a loader |
| `checkpointer` | when to save the state, in memory and in the run folder |
| `data_checks` | whether rows and classes suit the model, and a batch its losses |
| `optimizers`, `eager`, `schedule_free` | optimizers by name; torch's without its compiler; AdamW without a schedule |
| `precision`, `cpu`, `devices` | precision of networks; threads and tiny numbers; devices by name |
| `ranks`, `launch`, `noise` | several processes that train as one, how they start, and their noise |
| `clock`, `signals` | when a training is checked, and how it is asked to stop |

Not for: `vaekit.fit`, which takes data of any kind; reading configs; or writing pictures (`runs`).
"""

from .devices import find_device
from .launch import joined
from .listener import Listener
from .loop import TrainingPlan, train_epochs
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
    "TrainingPlan",
    "find_device",
    "joined",
    "stop_requests",
    "train_epochs",
    "validate",
]
